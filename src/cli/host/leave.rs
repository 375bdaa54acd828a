//! What a signal must not leave behind.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use actix_web::rt::signal::unix::{SignalKind, signal};
use rustix::process::{Pid, Signal, kill_process};

use crate::host::LaunchFiles;

/// Files and processes that end with this one. Without a signal they have owners of their own.
#[derive(Clone, Default)]
pub(super) struct Leave(Arc<Mutex<Behind>>);

#[derive(Default)]
struct Behind {
    files: Vec<PathBuf>,
    child: Option<Pid>,
}

impl Leave {
    /// From now on SIGTERM, SIGINT and SIGHUP remove the files, pass on to the child, and end the program.
    pub(super) fn at_signals() -> anyhow::Result<Self> {
        let leave = Self::default();
        let (told, heard) = mpsc::channel();
        let behind = leave.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async move {
                    let kinds = [
                        SignalKind::terminate(),
                        SignalKind::interrupt(),
                        SignalKind::hangup(),
                    ];
                    let streams: std::io::Result<Vec<_>> = kinds
                        .into_iter()
                        .map(|kind| Ok((kind.as_raw_value(), signal(kind)?)))
                        .collect();
                    let mut streams = match streams {
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
                    behind.clear();
                    std::process::exit(128 + number);
                });
            })?;
        heard.recv()??;
        Ok(leave)
    }

    /// Files that were written.
    pub(super) fn files(&self, files: &LaunchFiles) {
        let paths = vec![files.dh_cert().to_owned(), files.session().to_owned()];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).files = paths;
    }

    /// They are gone, or are to stay.
    pub(super) fn no_files(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .files
            .clear();
    }

    /// A child that was started; none: it has ended, or is left to others.
    pub(super) fn child(&self, pid: Option<Pid>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).child = pid;
    }

    fn clear(&self) {
        let behind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &behind.files {
            let _ = std::fs::remove_file(file);
        }
        if let Some(pid) = behind.child {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}
