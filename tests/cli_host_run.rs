//! `host run`, from QEMU's greeting to the resumed guest, and whatever can go wrong on QEMU's side of it.

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;

use keyward::psp::Platform;
use keyward::sev::secret_table;
use serde_json::{Value, json};

use crate::support::cli::{KEYWARD, Ran, Server, ran};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest};
use crate::support::qemu::{Fault, Machine, Script};
use crate::support::{Shell, platform};

/// A hypervisor: a served workload, and a QEMU that plays a script.
pub(crate) struct House {
    pub(crate) shell: Shell,
    pub(crate) server: Server,
    pub(crate) machine: Machine,
    qemu: String,
}

impl House {
    pub(crate) fn new(script: Script) -> Self {
        Self::with(script, "")
    }

    /// With rules added to the policy.
    pub(crate) fn with(script: Script, rules: &str) -> Self {
        let mut shell = Shell::initialised();
        let platform = platform();
        shell.write("data/ark.cert", platform.ark());
        shell.write(
            "data/keyward.yaml",
            "listen: 127.0.0.1:0\nkds: {url: ''}\nlaunch: {hold_retry_seconds: 1}\n\
             danger_extra_roots: [{name: test, file: ark.cert}]\n",
        );
        let server = shell.served();
        shell.write("policy/release/any.rego", format!("{ALLOW}\n{rules}\n"));
        let reviewed = digest(IMAGE);
        shell.write(
            "m.yaml",
            format!(
                "kind: PolicyBundle\npath: policy\n---\n\
                 kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
                 kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{reviewed}]\nsecrets: [disk]\n"
            ),
        );
        shell.run(&["apply", "-f", "m.yaml"]).done();
        shell.write("run/.keep", "");
        std::fs::remove_file(shell.path("run/.keep")).unwrap();
        let machine = Machine::new(platform, script);
        machine.installed(&shell, "qemu");
        Self {
            shell,
            server,
            machine,
            qemu: "qemu".to_owned(),
        }
    }

    /// The same with another QEMU.
    fn again(&mut self, name: String, script: Script) {
        self.machine = Machine::new(Platform::clone(self.machine.platform()), script);
        self.machine.installed(&self.shell, &name);
        self.qemu = name;
    }

    /// The command's words, with these options before QEMU's.
    pub(crate) fn words(&self, options: &[&str]) -> Vec<String> {
        let mut words = vec!["host", "run", "--workload", WORKLOAD, "--out", "run"];
        words.extend(options);
        words.push("--");
        let qemu = self.shell.path(&self.qemu).to_str().unwrap().to_owned();
        let mut words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        words.push(qemu);
        words.extend(["-S", "-object", "{sev-guest},kernel-hashes=on", "-qmp"].map(str::to_owned));
        words.push("unix:{qmp},server=on,wait=off".to_owned());
        words
    }

    pub(crate) fn run(&self, options: &[&str]) -> Ran {
        ran(self.shell.command(KEYWARD).args(self.words(options)))
    }

    /// What the guest has: GUIDs and bytes.
    pub(crate) fn injected(&self) -> Option<Vec<u8>> {
        let seen = self.machine.seen.lock().unwrap();
        let table = seen.injected.as_ref()?;
        let entries = secret_table::parse(table).unwrap();
        assert_eq!(entries.len(), 1);
        Some(entries[0].data.to_vec())
    }

    pub(crate) fn running(&self) -> bool {
        self.machine.seen.lock().unwrap().running
    }

    /// Whatever went wrong, nothing is left in the folder.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        assert_eq!(self.shell.list("run"), [""; 0]);
    }

    /// How many releases the owner has on record.
    pub(crate) fn released(&self) -> usize {
        let listed = self.shell.run(&["decision", "list", "-o", "json"]).json();
        let outcome = |decision: &&Value| decision["outcome"] == "released";
        listed.as_array().unwrap().iter().filter(outcome).count()
    }
}

#[test]
fn from_greeting_to_resumed_guest() {
    let house = House::new(Script {
        still_loading: 2,
        ..Script::default()
    });
    let ran = house.run(&[
        "-o",
        "json",
        "--secret",
        "disk",
        "--cpu-count",
        "4",
        "--description",
        "node-7",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(house.injected().unwrap(), b"hunter2");
    assert!(house.running());
    house.nothing_left();
    let printed: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(printed["policy"], 3);
    let decision = house.shell.run(&[
        "decision",
        "show",
        printed["decision"].as_str().unwrap(),
        "-o",
        "json",
    ]);
    let decision = decision.json();
    assert_eq!(decision["input"]["claimed"]["cpu_count"], 4);
    assert_eq!(decision["input"]["claimed"]["description"], "node-7");
    // A probe first, then the guest; each negotiates before it says anything.
    let seen = house.machine.seen.lock().unwrap();
    assert_eq!(
        seen.commands,
        [
            "qmp_capabilities",
            "query-sev-capabilities",
            "quit",
            "qmp_capabilities",
            "query-sev",
            "query-sev",
            "query-sev",
            "query-status",
            "query-sev-launch-measure",
            "query-sev",
            "query-status",
            "sev-inject-launch-secret",
            "cont",
        ]
    );
    let object = &seen.arguments[2];
    assert!(
        object.starts_with("sev-guest,id=sev0,policy=0x3,cbitpos=51,reduced-phys-bits=1,dh-cert-file=/")
            && object.ends_with("session.b64,kernel-hashes=on"),
        "{object}"
    );
}

/// What must be in the message, the exit code, and whether the guest has its secret.
type Case = (&'static str, Fault, i32, &'static str, bool);

#[test]
fn whatever_qemu_does_at_any_step_it_ends_with_a_clear_message_and_no_guest_without_its_secret_is_resumed() {
    let generic = |desc| Fault::Error("GenericError", desc);
    let sev = |changes: Value| {
        let mut info = json!({
            "enabled": true, "api-major": 1, "api-minor": 55, "build-id": 8, "policy": 3, "state": "launch-secret", "handle": 1,
        });
        info.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        Fault::Returns(info)
    };
    let mut cases: Vec<Case> = Vec::new();
    let steps = [
        ("probe greeting", "QMP greeting"),
        ("probe qmp_capabilities", "qmp_capabilities"),
        ("probe query-sev-capabilities", "query-sev-capabilities"),
        ("greeting", "QMP greeting"),
        ("qmp_capabilities", "qmp_capabilities"),
        ("query-sev", "query-sev"),
        ("query-status", "query-status"),
        ("query-sev-launch-measure", "query-sev-launch-measure"),
        ("sev-inject-launch-secret", "sev-inject-launch-secret"),
    ];
    for (step, named) in steps {
        cases.push((step, Fault::Gone, 1, named, false));
        cases.push((step, Fault::Garbage, 1, named, false));
        if !step.ends_with("greeting") {
            cases.push((
                step,
                generic("it is broken"),
                1,
                "QEMU answered GenericError: it is broken",
                false,
            ));
        }
    }
    cases.extend([
        (
            "query-sev",
            Fault::NoObject,
            1,
            "query-sev: expected a JSON object, got «[1]»",
            false,
        ),
        (
            "query-sev",
            Fault::Endless,
            1,
            "a line of more than 1048576 bytes",
            false,
        ),
        (
            "greeting",
            Fault::Returns(json!({"hello": 1})),
            1,
            "expected QEMU's greeting, got «{\"hello\":1}»",
            false,
        ),
        (
            "probe query-sev-capabilities",
            Fault::Returns(json!({})),
            1,
            "missing field `pdh`",
            false,
        ),
        (
            "probe query-sev-capabilities",
            Fault::Error("CommandNotFound", "?"),
            1,
            "QEMU (8.2.2) does not know query-sev-capabilities",
            false,
        ),
        (
            "query-sev",
            sev(json!({"enabled": false})),
            1,
            "the guest is not protected by SEV",
            false,
        ),
        (
            "query-sev",
            sev(json!({"sev-type": "sev-snp"})),
            1,
            "of type sev-snp",
            false,
        ),
        (
            "query-sev",
            sev(json!({"policy": 1})),
            1,
            "with SEV policy 0x1, and the launch is for 0x3",
            false,
        ),
        (
            "query-sev",
            sev(json!({"state": "running"})),
            1,
            "the guest is running",
            false,
        ),
        (
            "query-sev",
            sev(json!({"state": "send-update"})),
            1,
            "in state send-update",
            false,
        ),
        (
            "query-status",
            Fault::Returns(json!({"status": "running"})),
            1,
            "start QEMU with -S",
            false,
        ),
        // A build that the PSP did not measure with: the MAC does not hold.
        (
            "query-sev",
            sev(json!({"build-id": 9})),
            2,
            "The measurement does not match",
            false,
        ),
        (
            "query-sev-launch-measure",
            Fault::Returns(json!({"data": "AAAA"})),
            1,
            "expected standard base64 of 48 bytes",
            false,
        ),
        (
            "query-sev-launch-measure",
            generic("SEV launch measurement is not available"),
            1,
            "is not available",
            false,
        ),
        // The PSP did it and the answer was lost, or the other way round: nobody knows, so nobody resumes it.
        (
            "sev-inject-launch-secret",
            Fault::GoneAfter,
            1,
            "whether they are in the guest is not known",
            true,
        ),
        (
            "sev-inject-launch-secret",
            generic("SEV: failed"),
            1,
            "are not in the guest, and it was not resumed",
            false,
        ),
        ("cont", Fault::Gone, 1, "the guest has all its secrets", true),
        ("cont", Fault::Garbage, 1, "the guest has all its secrets", true),
        (
            "cont",
            generic("no"),
            1,
            "cont: QEMU answered GenericError: no; the guest has all its secrets",
            true,
        ),
    ]);
    let mut house = House::new(Script::default());
    for (number, (step, fault, code, message, has_it)) in cases.into_iter().enumerate() {
        house.again(format!("qemu-{number}"), Script::with(step, fault));
        let ran = house.run(&[]);
        let shown = format!("{step}, {message}: {}", ran.err);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{shown}");
        let last = ran
            .err
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_default();
        assert!(last.contains(message), "{shown}");
        assert_eq!(house.injected().is_some(), has_it, "{shown}");
        assert!(!house.running(), "{shown}");
        house.nothing_left();
    }
}

#[test]
fn a_qemu_that_says_nothing_is_not_waited_for_longer_than_allowed() {
    let house = House::new(Script::with("query-sev-launch-measure", Fault::Silence));
    let ran = house.run(&["--qemu-timeout", "10s"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("error: query-sev-launch-measure: QEMU did not answer within 10 s\n"),
        "{}",
        ran.err
    );
    // One that is mute is told nothing more: its last command is the one that it did not answer.
    let seen = house.machine.seen.lock().unwrap();
    assert_eq!(
        seen.commands.last().map(String::as_str),
        Some("query-sev-launch-measure")
    );
    drop(seen);
    house.nothing_left();
}

#[test]
fn a_qemu_that_ends_before_it_listens_and_one_that_is_not_there_are_told_apart() {
    let house = House::new(Script {
        stillborn: true,
        ..Script::default()
    });
    let ran = house.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("QEMU ended before it could be asked (exit status: 1)"),
        "{}",
        ran.err
    );
    house.nothing_left();

    let mut words = house.words(&["--probe", "nowhere"]);
    let said = crate::support::cli::ran(house.shell.command(KEYWARD).args(&words)).failed();
    assert_eq!(said, "error: nowhere: No such file or directory (os error 2)\n");
    let at = words.iter().position(|word| word == "--").unwrap();
    words[at + 1] = "nowhere".to_owned();
    words[at - 1] = house.shell.path("qemu").to_str().unwrap().to_owned();
    let ran = crate::support::cli::ran(house.shell.command(KEYWARD).args(&words));
    assert!(
        ran.err
            .ends_with("error: nowhere: No such file or directory (os error 2)\n"),
        "{}",
        ran.err
    );
    house.nothing_left();
}

#[test]
fn another_image_is_refused_and_the_guest_quits_or_is_left_as_asked() {
    let tampered = || Script {
        image: Some(b"an image that nobody has reviewed, 48 bytes long"),
        ..Script::default()
    };
    for (options, quits) in [
        (&[][..], true),
        (&["--on-failure", "quit"], true),
        (&["--on-failure", "leave"], false),
    ] {
        let house = House::new(tampered());
        let ran = house.run(options);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(
            ran.err.contains("error: The measurement does not match"),
            "{}",
            ran.err
        );
        assert_eq!(ran.err.contains("QEMU was ended"), quits, "{}", ran.err);
        let seen = house.machine.seen.lock().unwrap();
        assert_eq!(
            seen.commands.iter().filter(|command| *command == "quit").count(),
            1 + usize::from(quits)
        );
        assert!(seen.injected.is_none() && !seen.running);
    }
}

#[test]
fn a_guest_that_was_started_without_s_gets_nothing() {
    let house = House::new(Script {
        runs: true,
        ..Script::default()
    });
    let ran = house.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("only one that has never run gets secrets: start QEMU with -S"),
        "{}",
        ran.err
    );
    assert!(house.injected().is_none());
}

#[test]
fn somebody_who_resumes_the_guest_while_it_waits_leaves_it_without_secrets() {
    let house = House::new(Script::with("query-sev-launch-measure", Fault::Resumed));
    let ran = house.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("somebody resumed the guest"), "{}", ran.err);
    assert!(house.injected().is_none());
    house.nothing_left();
}

#[test]
fn a_qemu_that_systemd_starts_is_told_when_and_waited_for() {
    let house = House::new(Script::default());
    let notify = house.shell.path("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let socket = house.shell.path("run/vm.qmp");
    // What an earlier QEMU left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let shell = &house.shell;
    shell.write("chain", house.machine.platform().full_chain());
    let token = [
        "token",
        "create",
        "--name",
        "node-7",
        "--role",
        "host",
        "--token-out",
        "node.token",
    ];
    assert_eq!(shell.run(&token).code, 0);
    // The unit's own command, with this folder in the place of the machine's.
    let unit = include_str!("../deploy/systemd/keyward-host@.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = line.to_owned();
    for (theirs, ours) in [
        ("/usr/bin/keyward ", ""),
        ("${WORKLOAD}", WORKLOAD),
        ("${SERVER}", &house.server.url),
        ("${QMP}", socket.to_str().unwrap()),
        ("${TIMEOUT}", "1m"),
        ("%d/token", "node.token"),
        ("%d/chain", "chain"),
        ("/run/keyward-host/%i", "run"),
    ] {
        assert!(words.contains(theirs), "{theirs}: {line}");
        words = words.replace(theirs, ours);
    }
    let mut command = shell.command(KEYWARD);
    command
        .env("NOTIFY_SOCKET", &notify)
        .args(words.split_whitespace())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut message = [0; 256];
    let length = manager.recv(&mut message).unwrap();
    let message = String::from_utf8_lossy(&message[..length]);
    assert_eq!(
        message,
        "READY=1\nSTATUS=the launch's files are there; waiting for QEMU"
    );
    let files = ["dh-cert.b64", "session.b64"].map(|name| house.shell.path(&format!("run/{name}")));
    for file in &files {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }
    let machine = house.machine.clone();
    let listens: PathBuf = socket.clone();
    std::thread::spawn(move || machine.guest(&listens, &files, 3));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(out.ends_with("and runs\n"), "{out}");
    assert_eq!(house.injected().unwrap(), b"hunter2");
    assert!(house.running());
    assert_eq!(house.shell.list("run"), ["vm.qmp"]);
}
