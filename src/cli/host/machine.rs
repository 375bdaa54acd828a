//! A QEMU that is started here: its command, its folder, its end.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use uuid::Uuid;

use super::leave::{Behind, Leave};
use crate::cli::output::Misused;

/// The longest path that a UNIX socket can have.
const LONGEST_SOCKET: usize = 107;
/// How often a process is looked at that is about to end.
const LOOKED_EACH: Duration = Duration::from_millis(20);

/// A folder of this run alone, removed with it where it is empty then.
pub(super) struct RunFolder {
    path: PathBuf,
    socket: PathBuf,
}

impl RunFolder {
    /// In this folder; or where systemd, or the user's session, has one for such things. With a socket's name in it.
    pub(super) fn new(parent: Option<&Path>, socket: &str, leave: &Leave) -> anyhow::Result<Self> {
        let named = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let parent = parent
            .map(Path::to_owned)
            .or_else(|| named("RUNTIME_DIRECTORY"))
            .or_else(|| named("XDG_RUNTIME_DIR"))
            .unwrap_or_else(std::env::temp_dir);
        let (name, _) = Uuid::new_v4().as_u64_pair();
        // QEMU is told of it, in whatever folder it runs.
        let path = std::path::absolute(parent.join(format!("keyward-{name:016x}")))?;
        let socket = path.join(socket);
        if socket.as_os_str().len() > LONGEST_SOCKET {
            bail!(
                "{} is too long for a socket's path: name a shorter folder with --out",
                path.display()
            );
        }
        leave.during(|behind| {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("folder {}", path.display()))?;
            behind.folder(&path, &socket);
            Ok(Self { path, socket })
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where QEMU is to listen.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // One in which somebody still has a socket stays.
        let _ = fs::remove_dir(&self.path);
    }
}

/// What stands in a command's placeholders.
pub(super) struct Words<'a> {
    pub(super) qmp: &'a Path,
    pub(super) dh_cert: &'a Path,
    pub(super) session: &'a Path,
    pub(super) policy: u32,
    pub(super) cbitpos: Option<u32>,
    pub(super) reduced_phys_bits: Option<u32>,
}

impl Words<'_> {
    /// QEMU's object, complete but for `kernel-hashes`; none: nobody said where the encryption bit is.
    pub(super) fn sev_guest(&self) -> Option<String> {
        Some(format!(
            "sev-guest,id=sev0,policy={:#x},cbitpos={},reduced-phys-bits={},dh-cert-file={},session-file={}",
            self.policy,
            self.cbitpos?,
            self.reduced_phys_bits?,
            quoted(self.dh_cert),
            quoted(self.session),
        ))
    }

    /// The command with its placeholders filled in.
    pub(super) fn fill(&self, command: &[String]) -> anyhow::Result<Vec<String>> {
        let number = |value: Option<u32>| value.map(|value| value.to_string());
        let words = [
            ("{qmp}", Some(quoted(self.qmp))),
            ("{dh-cert}", Some(quoted(self.dh_cert))),
            ("{session}", Some(quoted(self.session))),
            ("{policy}", Some(format!("{:#x}", self.policy))),
            ("{cbitpos}", number(self.cbitpos)),
            ("{reduced-phys-bits}", number(self.reduced_phys_bits)),
            ("{sev-guest}", self.sev_guest()),
        ];
        let mut filled = Vec::new();
        for word in command {
            let mut word = word.clone();
            for (name, value) in &words {
                match value {
                    Some(value) => word = word.replace(name, value),
                    None if word.contains(name) => bail!(Misused(format!(
                        "{name}: only QEMU says where the encryption bit is: name it with --probe, or write cbitpos and reduced-phys-bits yourself"
                    ))),
                    None => {}
                }
            }
            filled.push(word);
        }
        Ok(filled)
    }
}

/// Whether a command has a place for all that QEMU must be told; what is missing, if not.
pub(super) fn check(command: &[String]) -> anyhow::Result<()> {
    let has = |name: &str| command.iter().any(|word| word.contains(name));
    let told = has("{sev-guest}") || (has("{dh-cert}") && has("{session}"));
    if !told {
        bail!(Misused(
            "the command must tell QEMU of the launch: -object {sev-guest}, or one of your own with dh-cert-file={dh-cert},session-file={session}".to_owned()
        ));
    }
    // Also in one word with others, where a shell starts it.
    let paused = |word: &str| word.split_whitespace().any(|part| matches!(part, "-S" | "--S"));
    if !command.iter().any(|word| paused(word)) {
        bail!(Misused(
            "the command must start QEMU paused, or its guest runs without its secrets: -S".to_owned()
        ));
    }
    if !has("{qmp}") {
        bail!(Misused(
            "the command must tell QEMU where to listen: -qmp unix:{qmp},server=on,wait=off".to_owned()
        ));
    }
    Ok(())
}

/// A path inside of one of QEMU's options, where a comma is written twice.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A process that was started here. Dropped it lives on.
pub(super) struct Child {
    process: std::process::Child,
    leave: Leave,
}

impl Child {
    pub(super) fn start(mut command: Command, leave: &Leave) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        // What it prints is for people: standard output is for what this command prints.
        command.stdout(std::io::stderr());
        let process = leave.during(|behind| {
            let process = command.spawn().with_context(|| program.display().to_string())?;
            behind.started(pid(&process));
            anyhow::Ok(process)
        })?;
        Ok(Self {
            process,
            leave: leave.clone(),
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Nothing; or how it ended.
    pub(super) fn lives(&mut self) -> anyhow::Result<()> {
        match self.reaped()? {
            None => Ok(()),
            Some(status) => bail!("QEMU ended before it could be asked ({status})"),
        }
    }

    /// Waits for its end, however long that takes.
    pub(super) fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = pid(&self.process) {
            // Without reaping it: until then its number is nobody else's, and a signal can be passed on.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        }
        self.leave.during(|behind| {
            let status = self.process.wait()?;
            behind.ended();
            Ok(status)
        })
    }

    /// How it ended, if it has.
    fn reaped(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.leave.during(|behind| {
            let status = self.process.try_wait()?;
            if status.is_some() {
                behind.ended();
            }
            Ok(status)
        })
    }

    /// Leaves it to others.
    pub(super) fn release(&self) {
        self.leave.during(Behind::released);
    }

    /// Waits so long for it to end by itself, and ends it then.
    pub(super) fn end(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while Instant::now() < until {
            match self.reaped() {
                Ok(None) => std::thread::sleep(LOOKED_EACH),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        // Of one that has ended these say so and do nothing.
        self.leave.during(|behind| {
            let _ = self.process.kill();
            let _ = self.process.wait();
            behind.ended();
        });
    }
}

fn pid(process: &std::process::Child) -> Option<Pid> {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw)
}
