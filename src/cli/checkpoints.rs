//! Checkpoints of the audit log while the server runs: at its start, on a timer and at its end, and to a file outside.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::audit::record::Event;
use crate::config::Config;
use crate::release::Service;

/// Signs what the log says, and hands it outside.
pub(super) struct Checkpoints {
    service: Arc<Service>,
    every: Duration,
    outside: Arc<Mutex<Outside>>,
}

/// The file outside, and what has not reached it yet.
#[derive(Default)]
struct Outside {
    file: Option<PathBuf>,
    unwritten: String,
}

/// Runs until it is dropped.
pub(super) struct Timer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Records that the server begins, on a log that continues what was seen outside.
    ///
    /// # Errors
    /// When it does not, or that can't be recorded or signed.
    pub(super) fn begin(service: Arc<Service>, config: &Config) -> anyhow::Result<Self> {
        let file = config.audit.checkpoint_file.clone();
        if let Some(file) = &file
            && let Some(note) = last_note(file)?
        {
            service.continues(&note).with_context(|| {
                format!(
                    "the database is not the one that the last checkpoint in {} is of, or was rolled back",
                    file.display()
                )
            })?;
        }
        let mut dangers = Vec::new();
        if config.danger_plaintext_http {
            dangers.push("danger_plaintext_http".to_owned());
        }
        if !config.danger_extra_roots.is_empty() {
            dangers.push("danger_extra_roots".to_owned());
        }
        service.record(Event::ServerStarted {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            dangers,
        })?;
        let checkpoints = Self {
            service,
            every: Duration::from_secs(config.audit.checkpoint_seconds.into()),
            outside: Arc::new(Mutex::new(Outside {
                file,
                unwritten: String::new(),
            })),
        };
        checkpoints.now()?;
        Ok(checkpoints)
    }

    /// Makes checkpoints from now on. One that can't be made is said in the log and by `/readyz`.
    pub(super) fn timer(&mut self) -> std::io::Result<Timer> {
        let (stop, stopped) = channel::<()>();
        let (every, this) = (self.every, self.another());
        let thread = std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = this.now() {
                        log::error!("no checkpoint of the audit log: {error:#}");
                    }
                }
            })?;
        Ok(Timer {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Records that the server ended in order, and signs that.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        self.service.record(Event::ServerStopped)?;
        self.now()
    }

    fn another(&self) -> Self {
        Self {
            service: self.service.clone(),
            every: self.every,
            outside: self.outside.clone(),
        }
    }

    fn now(&self) -> anyhow::Result<()> {
        let note = self.service.checkpoint().context("the audit log")?;
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        outside.take(note)
    }
}

impl Outside {
    /// Appends a note with an empty line behind it; what can't be written is written with the next.
    fn take(&mut self, note: Option<String>) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(note) = note {
            self.unwritten.push_str(&note);
            self.unwritten.push('\n');
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).open(file);
        opened
            .and_then(|mut file| {
                file.write_all(self.unwritten.as_bytes())?;
                file.sync_all()
            })
            .with_context(|| format!("checkpoint file {}", file.display()))?;
        self.unwritten.clear();
        Ok(())
    }
}

/// The last whole note of a file of notes; none: there is no file, or it is empty.
fn last_note(file: &Path) -> anyhow::Result<Option<String>> {
    let what = || format!("checkpoint file {}", file.display());
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(file).with_context(what)?;
    Ok(notes(&text).with_context(what)?.pop())
}

/// The notes of a file that checkpoints were appended to, or one note alone.
pub(super) fn notes(text: &str) -> anyhow::Result<Vec<String>> {
    // A note is text, an empty line and signatures; an empty line follows.
    let mut parts = text.split("\n\n").filter(|part| !part.trim().is_empty());
    let mut notes = Vec::new();
    while let Some(body) = parts.next() {
        let Some(signatures) = parts.next() else {
            bail!(
                "expected checkpoints with an empty line after each, the last one has no signature: take it out, if its writing was cut off"
            );
        };
        let body = body.trim_start_matches('\n');
        notes.push(format!("{body}\n\n{}\n", signatures.trim_end_matches('\n')));
    }
    Ok(notes)
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
