//! A QEMU that is a script: real QMP on a UNIX socket, with a software PSP behind it.
//!
//! Started by the command under test, it is a shell script that says over a FIFO what it was started with and lives until
//! the test lets it end; the machine itself is a thread of the test. So the files are read where QEMU reads them, the
//! measurement is real, and what was injected is what the PSP unwrapped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use keyward::domain::Base64Bytes;
use keyward::psp::{Guest, GuestState, Platform};
use serde_json::{Value, json};

use super::Shell;
use super::cli::ran;
use super::host::IMAGE;

/// What goes wrong when a command comes in.
#[derive(Clone)]
pub(crate) enum Fault {
    /// QEMU is gone, before it did anything.
    Gone,
    /// It does what it is told, and is gone before it answers.
    GoneAfter,
    /// A line that is not JSON.
    Garbage,
    /// JSON, but no object.
    NoObject,
    /// A line without end, of more than a mebibyte.
    Endless,
    /// An error of this class.
    Error(&'static str, &'static str),
    /// This in place of what the command returns.
    Returns(Value),
    /// This in place of what the command returns, from its second time on.
    Later(Value),
    /// Nothing at all.
    Silence,
    /// Somebody else resumes the guest.
    Resumed,
}

/// How this QEMU differs from a good one.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// By command, or `greeting`, which comes before all of them; with `probe ` before it, of the QEMU that is asked
    /// what platform it is on.
    pub(crate) faults: BTreeMap<&'static str, Fault>,
    /// What is loaded in place of the reviewed image.
    pub(crate) image: Option<&'static [u8]>,
    /// It ends before it listens.
    pub(crate) stillborn: bool,
    /// It was started without `-S`.
    pub(crate) runs: bool,
    /// Looks at which the guest is not measured yet.
    pub(crate) still_loading: u32,
}

impl Script {
    pub(crate) fn with(command: &'static str, fault: Fault) -> Self {
        Self {
            faults: BTreeMap::from([(command, fault)]),
            ..Self::default()
        }
    }
}

/// What became of the machine.
#[derive(Default)]
pub(crate) struct Seen {
    /// Commands, in their order.
    pub(crate) commands: Vec<String>,
    /// The words it was started with.
    pub(crate) arguments: Vec<String>,
    /// What the PSP unwrapped.
    pub(crate) injected: Option<Vec<u8>>,
    /// Whether the guest runs.
    pub(crate) running: bool,
    /// The client's connection.
    client: Option<UnixStream>,
}

/// A machine, from its start to its end.
#[derive(Clone)]
pub(crate) struct Machine {
    platform: Arc<Platform>,
    script: Script,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

/// The QEMU that commands start.
const PROGRAM: &str = r#"#!/bin/sh
trap 'echo TERM > "$0.ended"; rm -f "$0.$$"; exit 143' TERM
mkfifo "$0.$$"
printf '%s\n' "$$" "$@" > "$0.started"
read -r end < "$0.$$"
rm "$0.$$"
exit "$end"
"#;

impl Machine {
    pub(crate) fn new(platform: Platform, script: Script) -> Self {
        Self {
            platform: Arc::new(platform),
            script,
            seen: Arc::default(),
        }
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Puts a program of this name into the shell's folder, and plays it whenever it is started.
    pub(crate) fn installed(&self, shell: &Shell, name: &str) {
        shell.write(name, PROGRAM);
        std::fs::set_permissions(shell.path(name), PermissionsExt::from_mode(0o755)).unwrap();
        let fifo = shell.path(&format!("{name}.started"));
        assert_eq!(ran(shell.command("mkfifo").arg(&fifo)).code, 0);
        let (machine, program) = (self.clone(), shell.path(name));
        std::thread::spawn(move || {
            // The shell's folder goes when its test ends.
            while let Ok(started) = File::open(&fifo) {
                let lines: Vec<_> = BufReader::new(started).lines().map(Result::unwrap).collect();
                let Some((pid, arguments)) = lines.split_first() else {
                    break;
                };
                let alive = program.with_extension(pid);
                // Both ways, so that it never waits for a process that has been ended.
                let Ok(mut alive) = OpenOptions::new().read(true).write(true).open(alive) else {
                    break;
                };
                let code = machine.play(arguments);
                let _ = alive.write_all(format!("{code}\n").as_bytes());
                // The reader has it now, or is gone; either way this end may close.
                std::mem::forget(alive);
            }
        });
    }

    /// One start: reads its arguments, listens, serves. The exit code.
    fn play(&self, arguments: &[String]) -> i32 {
        let after = |name: &str| {
            let at = arguments.iter().position(|word| word == name);
            at.and_then(|at| arguments.get(at + 1)).map(String::as_str)
        };
        let socket = after("-qmp").unwrap();
        let socket = socket.strip_prefix("unix:").unwrap();
        let socket = Path::new(socket.split(',').next().unwrap()).to_owned();
        if after("-machine") == Some("none,accel=kvm") {
            self.serve(&UnixListener::bind(&socket).unwrap(), None);
        } else {
            self.seen.lock().unwrap().arguments = arguments.to_vec();
            if self.script.stillborn {
                return 1;
            }
            let object = after("-object").unwrap();
            let option = |name: &str| {
                let found = object
                    .split(',')
                    .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
                found.unwrap_or_else(|| panic!("{name} in {object}")).to_owned()
            };
            let policy = u32::from_str_radix(option("policy").trim_start_matches("0x"), 16).unwrap();
            let files = [option("dh-cert-file"), option("session-file")].map(PathBuf::from);
            self.guest(&socket, &files, policy);
        }
        let _ = std::fs::remove_file(&socket);
        0
    }

    /// A guest that somebody else starts, with these two files, as soon as it is told to.
    pub(crate) fn guest(&self, socket: &Path, [dh_cert, session]: &[PathBuf; 2], policy: u32) {
        let read = |path: &Path| BASE64_STANDARD.decode(std::fs::read(path).unwrap()).unwrap();
        let mut guest = self
            .platform
            .launch_start(policy, &read(dh_cert), &read(session))
            .unwrap();
        guest
            .launch_update_data(self.script.image.unwrap_or(IMAGE))
            .unwrap();
        let measurement = guest.launch_measure().unwrap();
        if self.script.runs {
            guest.launch_finish().unwrap();
            self.seen.lock().unwrap().running = true;
        }
        let _ = std::fs::remove_file(socket);
        self.serve(&UnixListener::bind(socket).unwrap(), Some((guest, measurement)));
    }

    /// Serves one client, and ends with it: the guest shuts down, or nobody needs it any more.
    fn serve(&self, listener: &UnixListener, mut guest: Option<(Guest, [u8; 48])>) {
        let (stream, _) = listener.accept().unwrap();
        self.seen.lock().unwrap().client = Some(stream.try_clone().unwrap());
        self.converse(stream, &mut guest);
        // Its own end of the connection goes with it.
        self.seen.lock().unwrap().client = None;
    }

    /// Ends QEMU, whatever it is at.
    pub(crate) fn unplug(&self) {
        let client = self.seen.lock().unwrap().client.take();
        client.unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Somebody else resumes the guest, at this moment.
    pub(crate) fn resumed(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.running = true;
        let event = json!({"event": "RESUME", "timestamp": {"seconds": 1767323045, "microseconds": 7}});
        let client = seen.client.as_mut().unwrap();
        client.write_all(format!("{event}\r\n").as_bytes()).unwrap();
    }

    fn converse(&self, mut stream: UnixStream, guest: &mut Option<(Guest, [u8; 48])>) {
        let mut loading = self.script.still_loading;
        let prefix = if guest.is_none() { "probe " } else { "" };
        let fault = |step: &str| self.script.faults.get(format!("{prefix}{step}").as_str());
        let say = |stream: &mut UnixStream, value: &Value| {
            // Who went away is noticed when it is read from.
            let _ = stream.write_all(format!("{value}\r\n").as_bytes());
        };
        let event =
            |name: &str| json!({"event": name, "timestamp": {"seconds": 1767323045, "microseconds": 7}});
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let greeting = json!({"QMP": {
            "version": {"qemu": {"micro": 2, "minor": 2, "major": 8}, "package": "Debian 1:8.2.2"},
            "capabilities": ["oob"],
        }});
        // QEMU 8 may send what an earlier client did not stay for.
        say(&mut stream, &event("NIC_RX_FILTER_CHANGED"));
        match fault("greeting") {
            None => say(&mut stream, &greeting),
            Some(Fault::Returns(value)) => say(&mut stream, value),
            Some(fault) => {
                self.broken(fault, &mut stream, &mut lines);
                return;
            }
        }
        let mut negotiated = false;
        while let Some(Ok(line)) = lines.next() {
            let request: Value = serde_json::from_str(&line).unwrap();
            let (command, id) = (request["execute"].as_str().unwrap(), &request["id"]);
            self.seen.lock().unwrap().commands.push(command.to_owned());
            let refuse = |class: &str, desc: &str| json!({"error": {"class": class, "desc": desc}, "id": id});
            if !negotiated && command != "qmp_capabilities" {
                let desc = format!(
                    "Expecting capabilities negotiation with 'qmp_capabilities' before command '{command}'"
                );
                say(&mut stream, &refuse("CommandNotFound", &desc));
                continue;
            }
            match fault(command) {
                None => {}
                Some(Fault::GoneAfter) => {
                    let _ = self.execute(command, &request["arguments"], guest, &mut loading);
                    return;
                }
                Some(Fault::Returns(value)) => {
                    say(&mut stream, &json!({"return": value, "id": id}));
                    continue;
                }
                Some(Fault::Later(value)) => {
                    let times = |seen: &Seen| seen.commands.iter().filter(|asked| *asked == command).count();
                    if times(&self.seen.lock().unwrap()) > 1 {
                        say(&mut stream, &json!({"return": value, "id": id}));
                        continue;
                    }
                }
                Some(Fault::Error(class, desc)) => {
                    say(&mut stream, &refuse(class, desc));
                    continue;
                }
                Some(Fault::Resumed) => {
                    self.seen.lock().unwrap().running = true;
                    say(&mut stream, &event("RESUME"));
                }
                Some(fault) => {
                    self.broken(fault, &mut stream, &mut lines);
                    return;
                }
            }
            let answer = self.execute(command, &request["arguments"], guest, &mut loading);
            // Events stand between a command and its answer as they like.
            say(&mut stream, &event("RTC_CHANGE"));
            if command == "cont" && answer.is_ok() {
                say(&mut stream, &event("RESUME"));
            }
            match answer {
                Ok(value) => say(&mut stream, &json!({"return": value, "id": id})),
                Err((class, desc)) => say(&mut stream, &refuse(class, &desc)),
            }
            negotiated |= command == "qmp_capabilities";
            if command == "quit" {
                say(&mut stream, &event("SHUTDOWN"));
                return;
            }
        }
    }

    /// What stands in the place of an answer; QEMU ends once the client has had enough of it.
    fn broken(
        &self,
        fault: &Fault,
        stream: &mut UnixStream,
        lines: &mut std::io::Lines<BufReader<UnixStream>>,
    ) {
        let bytes = match fault {
            Fault::Garbage => b"qemu: terminating on signal 15\n".to_vec(),
            Fault::NoObject => b"[1]\n".to_vec(),
            Fault::Endless => vec![b'a'; (1 << 20) + 8193],
            _ => Vec::new(),
        };
        let _ = stream.write_all(&bytes);
        if !matches!(fault, Fault::Gone)
            && let Some(Ok(line)) = lines.next()
        {
            self.seen.lock().unwrap().commands.push(line);
        }
    }

    fn execute(
        &self,
        command: &str,
        arguments: &Value,
        guest: &mut Option<(Guest, [u8; 48])>,
        loading: &mut u32,
    ) -> Result<Value, (&'static str, String)> {
        let generic = |desc: String| ("GenericError", desc);
        match (command, guest) {
            ("qmp_capabilities" | "quit", _) => Ok(json!({})),
            ("query-sev-capabilities", _) => Ok(json!({
                "pdh": Base64Bytes(self.platform.pdh()),
                "cert-chain": Base64Bytes(self.platform.full_chain()),
                "cpu0-id": Base64Bytes(self.platform.chip_id().to_vec()),
                "cbitpos": 51,
                "reduced-phys-bits": 1,
            })),
            ("query-sev", None) => Ok(json!({
                "enabled": false, "api-major": 0, "api-minor": 0, "build-id": 0, "state": "uninit", "policy": 0, "handle": 0,
            })),
            ("query-sev", Some((guest, _))) => {
                let build = guest.build();
                let state = match guest.state() {
                    _ if *loading > 0 => "launch-update",
                    GuestState::Running => "running",
                    GuestState::Secret | GuestState::Update => "launch-secret",
                };
                *loading = loading.saturating_sub(1);
                Ok(json!({
                    "enabled": true,
                    "api-major": build.api_major, "api-minor": build.api_minor, "build-id": build.build_id,
                    "policy": guest.policy().bits(), "state": state, "handle": 1,
                }))
            }
            ("query-status", guest) => {
                let running = guest
                    .as_ref()
                    .is_some_and(|(guest, _)| guest.state() == GuestState::Running);
                let status = if running { "running" } else { "prelaunch" };
                Ok(json!({"status": status, "running": running, "singlestep": false}))
            }
            ("query-sev-launch-measure", Some((_, measurement))) => {
                Ok(json!({"data": Base64Bytes(measurement.to_vec())}))
            }
            ("sev-inject-launch-secret", Some((guest, _))) => {
                let bytes = |name: &str| BASE64_STANDARD.decode(arguments[name].as_str().unwrap()).unwrap();
                let (header, secret) = (bytes("packet-header"), bytes("secret"));
                let table = guest
                    .launch_secret(&header, &secret, secret.len())
                    .map_err(|status| {
                        generic(format!(
                            "SEV: failed to inject secret ret=-5 fw_error={} '{status}'",
                            status.code()
                        ))
                    })?;
                self.seen.lock().unwrap().injected = Some(table.to_vec());
                Ok(json!({}))
            }
            ("cont", Some((guest, _))) => {
                if guest.state() == GuestState::Secret {
                    guest
                        .launch_finish()
                        .map_err(|status| generic(status.to_string()))?;
                }
                self.seen.lock().unwrap().running = true;
                Ok(json!({}))
            }
            (command, _) => Err((
                "CommandNotFound",
                format!("The command {command} has not been found"),
            )),
        }
    }
}
