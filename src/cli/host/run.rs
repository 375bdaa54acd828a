//! `host run`: from the platform's certificates to the resumed guest.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::call::{self, Server};
use super::launch::{self, Asked};
use super::leave::{END_WITHIN, Leave};
use super::machine::{self, Child, RunFolder, Words};
use super::platform::Source;
use super::validate::{Claims, inject, resume};
use super::{HostConnection, duration, print, say};
use crate::cli::Ended;
use crate::cli::output::{Format, Misused};
use crate::host::{Capabilities, LaunchFiles, Qemu, QemuError, Qmp, QmpError, ready};
use crate::http::LaunchReply;

#[derive(Args)]
#[command(after_help = "\
With a command, QEMU is started once the launch's files are there, and waited for to its end. The command says where
they go; {sev-guest} is all of sev-guest but kernel-hashes, and QEMU must start paused (-S):

  keyward host run --workload UUID -- qemu-system-x86_64 -S -machine q35,confidential-guest-support=sev0 \\
      -object {sev-guest},kernel-hashes=on -qmp unix:{qmp},server=on,wait=off …

Other placeholders are {dh-cert}, {session}, {policy}, {cbitpos} and {reduced-phys-bits}. Without a command, --out and
--qmp say where somebody else's QEMU will read the files and listen; READY=1 tells systemd when it may start.

Exit codes: 0 the guest has its secrets and runs (or ran, and QEMU ended well), 2 the server said no, 1 anything else.")]
pub(in crate::cli) struct Run {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    claims: Claims,
    #[command(flatten)]
    connection: HostConnection,
    /// Folder for dh-cert.b64 and session.b64. With a command: in which a folder of its own is made
    #[arg(long, value_name = "DIR", required_unless_present = "command")]
    out: Option<PathBuf>,
    /// Let the folder's group read the files, where QEMU runs as another user
    #[arg(long, conflicts_with = "command")]
    group_readable: bool,
    /// QMP socket of a QEMU that somebody else starts; it may appear later
    #[arg(
        long,
        value_name = "SOCKET",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    qmp: Option<PathBuf>,
    /// What becomes of the guest where it gets no secrets: left paused, or ended. As a rule one that was started here
    /// is ended
    #[arg(long, value_enum, value_name = "leave|quit")]
    on_failure: Option<OnFailure>,
    /// How long QEMU may take to listen, to measure the guest, and to answer
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    qemu_timeout: Duration,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// QEMU's command
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    Leave,
    Quit,
}

/// What is printed once the guest runs.
#[derive(Serialize)]
struct Running {
    launch: Uuid,
    decision: Uuid,
    policy: u32,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        if !self.command.is_empty() {
            machine::check(&self.command)?;
        }
        if let Some(socket) = &self.qmp {
            nobody_listens(socket)?;
        }
        let leave = Leave::at_signals()?;
        let server = Server::new(&self.connection)?;
        let to_start = self.command.first().map(String::as_str);
        let platform = self.source.platform(to_start, self.qemu_timeout, &leave)?;
        let launched = server.launch(&self.asked.call(&platform), &mut |pause| {
            std::thread::sleep(pause);
            Ok(())
        })?;
        say(&format!(
            "launch {} has policy {:#x} and expires at {}",
            launched.id, launched.policy, launched.expires_at
        ));
        match (&self.qmp, &self.out) {
            (Some(socket), Some(folder)) => {
                // It took a while to get here.
                nobody_listens(socket)?;
                let files = self.files(folder, &launched, &leave)?;
                self.follow(None, socket, &files, &server, &launched)
            }
            _ => {
                let folder = RunFolder::new(self.out.as_deref(), "qmp", &leave)?;
                let socket = folder.socket();
                let files = self.files(folder.path(), &launched, &leave)?;
                let child = self.start(socket, &files, &platform, &launched, &leave)?;
                self.follow(Some(child), socket, &files, &server, &launched)
            }
        }
    }

    /// Writes the files, and tells a service manager that they are there.
    fn files(&self, folder: &Path, launched: &LaunchReply, leave: &Leave) -> anyhow::Result<LaunchFiles> {
        let files = launch::write(folder, launched, self.group_readable, leave)?;
        say(&format!(
            "wrote {} and {}",
            files.dh_cert().display(),
            files.session().display()
        ));
        if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
            ready(&socket, "the launch's files are there; waiting for QEMU").context("NOTIFY_SOCKET")?;
        }
        Ok(files)
    }

    fn start(
        &self,
        socket: &Path,
        files: &LaunchFiles,
        platform: &Capabilities,
        launched: &LaunchReply,
        leave: &Leave,
    ) -> anyhow::Result<Child> {
        let words = Words {
            qmp: socket,
            dh_cert: files.dh_cert(),
            session: files.session(),
            policy: launched.policy,
            cbitpos: platform.cbitpos,
            reduced_phys_bits: platform.reduced_phys_bits,
        };
        let filled = words.fill(&self.command)?;
        let Some((program, arguments)) = filled.split_first() else {
            bail!(Misused("the command is empty".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_remove("NOTIFY_SOCKET");
        Child::start(command, leave)
    }

    /// From QEMU's greeting on; and what becomes of QEMU.
    fn follow(
        &self,
        mut child: Option<Child>,
        socket: &Path,
        files: &LaunchFiles,
        server: &Server,
        launched: &LaunchReply,
    ) -> anyhow::Result<Ended> {
        let mut qemu = None;
        let done = self.secrets(&mut child, &mut qemu, socket, files, server, launched);
        // QEMU has read them, or never will.
        files.written().remove();
        let running = match done {
            Ok(running) => running,
            Err(error) => {
                self.gave_up(child, qemu, socket, &error);
                return Err(error);
            }
        };
        let text = format!(
            "launch {}: the guest has its secrets (decision {}) and runs",
            running.launch, running.decision
        );
        // The guest runs, whoever reads it.
        if let Err(error) = print(self.output, &running, &text) {
            say(&format!("{error:#}"));
        }
        // QEMU serves one at a time: who comes now is to be served.
        drop(qemu);
        let Some(mut child) = child else {
            return Ok(Ended::Done);
        };
        let status = child.wait()?;
        let _ = std::fs::remove_file(socket);
        match status.success() {
            true => Ok(Ended::Done),
            false => bail!("QEMU ended with {status}"),
        }
    }

    fn secrets(
        &self,
        child: &mut Option<Child>,
        connected: &mut Option<Qemu>,
        socket: &Path,
        files: &LaunchFiles,
        server: &Server,
        launched: &LaunchReply,
    ) -> anyhow::Result<Running> {
        let qmp = Qmp::connect(socket, self.qemu_timeout, || match child {
            Some(child) => child.lives(),
            None => Ok(()),
        })?;
        let qemu = connected.insert(Qemu::new(qmp, self.qemu_timeout));
        say(&format!(
            "QEMU {} listens on {}",
            qemu.version(),
            socket.display()
        ));
        let info = qemu.measured(Some(launched.policy))?;
        let measurement = qemu.measurement()?;
        files.written().remove();
        let request = call::request(&info, measurement, &self.claims)?;
        let reply = server.validate(launched.id, &request, &mut |pause| Ok(qemu.pause(pause)?))?;
        inject(qemu, &reply)?;
        resume(qemu, &reply)?;
        Ok(Running {
            launch: launched.id,
            decision: reply.decision,
            policy: launched.policy,
        })
    }

    /// Ends somebody else's QEMU, given that its guest still waits: one that was resumed meanwhile is needed by whoever
    /// did that.
    fn end_paused(&self, qemu: Option<Qemu>) {
        let Some(mut qemu) = qemu else {
            return say("QEMU could not be told to quit: nobody answers");
        };
        match qemu.waits().map(|()| qemu.quit()) {
            Ok(Ok(())) => say("QEMU was told to quit"),
            Ok(Err(error)) => say(&format!("QEMU could not be told to quit: {error}")),
            Err(QemuError::Qmp(QmpError::Gone { .. })) => say("QEMU has ended"),
            Err(error) => say(&format!(
                "QEMU is left as it is: it is not known to be paused: {error}"
            )),
        }
    }

    /// Ends a guest that gets no secrets, or leaves it.
    fn gave_up(&self, child: Option<Child>, qemu: Option<Qemu>, socket: &Path, error: &anyhow::Error) {
        let error = error.downcast_ref::<QemuError>();
        let usual = match child {
            Some(_) => OnFailure::Quit,
            None => OnFailure::Leave,
        };
        match (self.on_failure.unwrap_or(usual), child) {
            (OnFailure::Leave, None) => {}
            // Whoever started that one, or let it run, needs it.
            (OnFailure::Quit, None) if error.is_some_and(QemuError::is_of_another) => {
                say("QEMU is left as it is: it runs, or is not the one that this launch is for");
            }
            (OnFailure::Quit, None) if !error.is_some_and(|error| matches!(error, QemuError::ShutDown)) => {
                self.end_paused(qemu.filter(|_| !error.is_some_and(QemuError::is_mute)));
            }
            (OnFailure::Leave, Some(child)) => {
                say(&format!("QEMU (process {}) is left as it is", child.id()));
                child.release();
            }
            (OnFailure::Quit, child) => {
                let told = qemu
                    .filter(|_| !error.is_some_and(QemuError::is_mute))
                    .map(|mut qemu| qemu.quit());
                match (child, told) {
                    (Some(mut child), told) => {
                        let within = if matches!(told, Some(Ok(()))) {
                            END_WITHIN
                        } else {
                            Duration::ZERO
                        };
                        child.end(within);
                        let _ = std::fs::remove_file(socket);
                        say("QEMU was ended");
                    }
                    (None, Some(Ok(()))) => say("QEMU was told to quit"),
                    (None, Some(Err(error))) => say(&format!("QEMU could not be told to quit: {error}")),
                    (None, None) => say("QEMU could not be told to quit: nobody answers"),
                }
            }
        }
    }
}

/// Where somebody else is to start QEMU: one that listens already was started before this launch's files were there.
fn nobody_listens(socket: &Path) -> anyhow::Result<()> {
    match UnixStream::connect(socket) {
        Ok(_) => bail!(
            "a QEMU already listens on {}; it can't have read this launch's files: end it first",
            socket.display()
        ),
        Err(_) => Ok(()),
    }
}
