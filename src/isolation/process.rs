//! One worker process and the pipe to it.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Launcher;
use super::turns::Fit;
use crate::policy::worker::{self, Answer, Loaded, Request};
use crate::policy::{Archived, Limits};

/// When a worker is ended: the engine's own timer has ended the evaluation by then, unless it hangs in a built-in.
/// The caller has its denial within twice the time.
fn patience(time: Duration) -> Duration {
    time.saturating_add(time / 4 * 3)
}

/// A worker, ended when dropped.
pub(super) struct Process {
    child: Child,
    pipe: BufReader<Timed>,
    /// Bundles that it was given, and what each takes by estimate. It may have forgotten some.
    holds: HashMap<[u8; 32], usize>,
    /// What bundles may take.
    room: usize,
}

/// Why a worker gave no answer. It is of no use any more.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not answer in time.
    TimedOut,
    /// It ended, in this way.
    Died(String),
}

impl Failure {
    pub(super) fn text(&self) -> String {
        match self {
            Self::TimedOut => "it took too long".to_owned(),
            Self::Died(how) => format!("its worker died ({how})"),
        }
    }
}

impl Process {
    pub(super) fn start(launcher: &Launcher) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&launcher.program)
            .arg0("keyward")
            .args([
                "policy",
                "worker",
                "--memory-mib",
                &launcher.memory_mib.to_string(),
            ])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = Timed {
            stream: ours,
            end: Instant::now(),
            read: Duration::ZERO,
            write: Duration::ZERO,
        };
        Ok(Self {
            child,
            pipe: BufReader::new(pipe),
            holds: HashMap::new(),
            room: worker::room(u64::from(launcher.memory_mib) << 20),
        })
    }

    /// Itself, unless it has ended while nobody asked it anything.
    pub(super) fn alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// How well this bundle fits it.
    pub(super) fn fits(&self, bundle: &Archived) -> Fit {
        if self.holds.contains_key(&bundle.digest) {
            return Fit::Held;
        }
        let taken = self.holds.values().sum::<usize>();
        if taken.saturating_add(worker::cost(&bundle.bytes)) > self.room {
            Fit::Full
        } else {
            Fit::Room
        }
    }

    pub(super) fn load(
        &mut self,
        bundle: &Archived,
        trial: bool,
        limits: &Limits,
    ) -> Result<Loaded, Failure> {
        let request = Request::Load {
            digest: bundle.digest,
            trial,
            limits: limits.clone(),
        };
        let loaded: Loaded = self.call(&request, &bundle.bytes, limits.load_time)?;
        if loaded.is_ok() {
            self.holds.insert(bundle.digest, worker::cost(&bundle.bytes));
        }
        Ok(loaded)
    }

    /// Asks about a bundle, by a request that may take so long.
    pub(super) fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        digest: &[u8; 32],
        request: &Request,
        input: &[u8],
        time: Duration,
    ) -> Result<Answer<T>, Failure> {
        let answer = self.call(request, input, time)?;
        if matches!(answer, Answer::NotLoaded) {
            self.holds.remove(digest);
        }
        Ok(answer)
    }

    fn call<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        body: &[u8],
        time: Duration,
    ) -> Result<T, Failure> {
        let pipe = self.pipe.get_mut();
        pipe.end = Instant::now() + patience(time);
        let answered = worker::send(pipe, request, body).and_then(|()| worker::receive(&mut self.pipe));
        match answered {
            Ok((answer, _)) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::TimedOut),
            Err(error) => Err(Failure::Died(self.end(&error))),
        }
    }

    /// How it ended, or what was wrong with what it said.
    fn end(&mut self, error: &io::Error) -> String {
        // It closed its end, so that it is on its way out; what goes on talking nonsense is helped along.
        let _ = self.child.kill();
        let status = self.child.wait();
        let signal = status.as_ref().ok().and_then(|status| status.signal());
        match (signal, status) {
            (Some(signal), _) if error.kind() != io::ErrorKind::InvalidData => format!("signal {signal}"),
            (_, Ok(status)) if status.code().is_some_and(|code| code != 0) => status.to_string(),
            _ => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream on which nothing is waited for beyond a point in time.
struct Timed {
    stream: UnixStream,
    end: Instant,
    /// The time-outs that the system was told last.
    read: Duration,
    write: Duration,
}

/// Whether what the system was told still serves: it waits a sixteenth longer at most, so that one message after
/// another needs no telling, and the caller still has its denial in time.
fn serves(told: Duration, left: Duration) -> bool {
    left <= told && told - left <= told / 16
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(left)
        }
    }
}

/// The system's word for a time-out is that it would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        if !serves(self.read, left) {
            self.read = left + left / 32;
            self.stream.set_read_timeout(Some(self.read))?;
        }
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        if !serves(self.write, left) {
            self.write = left + left / 32;
            self.stream.set_write_timeout(Some(self.write))?;
        }
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
