//! What a signal must not leave behind.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use actix_web::rt::signal::unix::{Signal as Stream, SignalKind, signal};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::say;
use crate::host::Written;

/// How long a child may take to end that was told to.
pub(super) const END_WITHIN: Duration = Duration::from_secs(10);
/// How often one is looked at.
const LOOKED_EACH: Duration = Duration::from_millis(20);

/// Files, folders and processes that end with this one. Without a signal they have owners of their own.
#[derive(Clone, Default)]
pub(super) struct Leave(Arc<Mutex<Behind>>);

/// What there is at this moment.
#[derive(Default)]
pub(super) struct Behind {
    files: Vec<Written>,
    /// Folders of this run, and the socket in each.
    folders: Vec<(PathBuf, PathBuf)>,
    child: Option<Pid>,
}

impl Leave {
    /// From now on SIGTERM, SIGINT and SIGHUP pass SIGTERM on to the child, remove files and folders, and end the
    /// program. SIGINT and SIGHUP are left alone where whoever started it had them ignored, as `nohup` has.
    pub(super) fn at_signals() -> anyhow::Result<Self> {
        let leave = Self::default();
        let (told, heard) = mpsc::channel();
        let behind = leave.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async move {
                    let mut streams = match streams() {
                        Ok(streams) => {
                            let _ = told.send(Ok(()));
                            streams
                        }
                        Err(error) => {
                            let _ = told.send(Err(error));
                            return;
                        }
                    };
                    let number = std::future::poll_fn(|context| {
                        for (number, stream) in &mut streams {
                            if stream.poll_recv(context).is_ready() {
                                return std::task::Poll::Ready(*number);
                            }
                        }
                        std::task::Poll::Pending
                    })
                    .await;
                    // Held to the end: nothing new is made, and nobody else ends the program, while it clears up.
                    let mut all = behind.0.lock().unwrap_or_else(PoisonError::into_inner);
                    all.clear();
                    std::process::exit(128 + number);
                });
            })?;
        heard.recv()??;
        Ok(leave)
    }

    /// Makes something and registers it, or ends it and says so, in one: a signal comes before or after.
    pub(super) fn during<T>(&self, what: impl FnOnce(&mut Behind) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Behind {
    /// Files that were written; those of them that somebody keeps are not removed.
    pub(super) fn files(&mut self, files: &Written) {
        self.files.push(files.clone());
    }

    /// A folder that was made, in which there may be a socket.
    pub(super) fn folder(&mut self, folder: &Path, socket: &Path) {
        self.folders.push((folder.to_owned(), socket.to_owned()));
    }

    /// A child that was started.
    pub(super) fn started(&mut self, pid: Option<Pid>) {
        self.child = pid;
    }

    /// It has ended, and its number is another's soon.
    pub(super) fn ended(&mut self) {
        self.child = None;
    }

    /// It is left to others, and its socket with it.
    pub(super) fn released(&mut self) {
        self.child = None;
        self.folders.clear();
    }

    fn clear(&mut self) {
        for files in &self.files {
            files.remove();
        }
        if let Some(pid) = self.child {
            let _ = kill_process(pid, Signal::TERM);
            if !has_ended(pid, END_WITHIN) {
                say(&format!(
                    "QEMU (process {}) has not ended yet",
                    pid.as_raw_nonzero()
                ));
                return;
            }
        }
        for (folder, socket) in &self.folders {
            let _ = std::fs::remove_file(socket);
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Waits so long for a child to end; whoever started it still has to reap it.
fn has_ended(pid: Pid, within: Duration) -> bool {
    let until = Instant::now() + within;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOKED_EACH),
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

/// The signals that end this, by their number.
fn streams() -> std::io::Result<Vec<(i32, Stream)>> {
    let ignored = ignored();
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let heard = |kind: &SignalKind| {
        let bit = 1_u64 << (kind.as_raw_value() - 1);
        *kind == SignalKind::terminate() || ignored & bit == 0
    };
    let streams = kinds.into_iter().filter(heard);
    streams
        .map(|kind| Ok((kind.as_raw_value(), signal(kind)?)))
        .collect()
}

/// The signals that this process was started to ignore, a bit each (`proc(5)`); none where nobody says.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}
