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
use crate::release::{Service, Standing};

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
    /// Records that the server begins, on a log that continues what was seen outside, or on an older copy of it that
    /// is accepted with `accept_rollback`.
    ///
    /// # Errors
    /// When it does neither, or that can't be recorded or signed.
    pub(super) fn begin(
        service: Arc<Service>,
        config: &Config,
        accept_rollback: bool,
    ) -> anyhow::Result<Self> {
        let file = config.audit.checkpoint_file.clone();
        let seen = match &file {
            Some(file) => outside(file)?,
            None => Vec::new(),
        };
        if let (Some(file), true, false) = (&file, seen.is_empty(), accept_rollback)
            && let Some(newest) = service.store().log_checkpoint()?
        {
            bail!(
                "checkpoint file {} is missing or empty, and the audit log has a checkpoint of {} records: put the file back, or its volume; if there never was one, begin it with `keyward audit checkpoint --data-dir DIR > {0}`",
                file.display(),
                newest.size
            );
        }
        let standing = service.standing(&seen).with_context(|| {
            format!(
                "the database is not the one that the checkpoints in {} are of, or its log was rewritten; no option lets it be served",
                shown(file.as_deref())
            )
        })?;
        let mut outside = Outside {
            file,
            unwritten: String::new(),
        };
        // What was released after the last note outside is in neither: of a restored copy a person knows better.
        let restored = service.store().restored_copy()?.is_some();
        match (standing, accept_rollback) {
            (Standing::Continues | Standing::Unseen, false) => {}
            (Standing::Behind { seen, size }, false) => bail!(
                "the database was rolled back: its audit log has {size} records, and a checkpoint of {seen} records is in {}; a log never shrinks. Put the newest copy of the database in place. If there is none, `keyward serve --accept-rollback` serves this one once, and holds every release that has a limit until a person resets its count",
                shown(outside.file.as_deref())
            ),
            (Standing::Continues, true) if !restored => bail!(
                "there is no rollback to accept: the audit log continues the last checkpoint in {}; start the server without --accept-rollback",
                shown(outside.file.as_deref())
            ),
            (_, true) => {
                let seen = match standing {
                    Standing::Behind { seen, .. } => seen,
                    Standing::Continues | Standing::Unseen => 0,
                };
                // An acceptance whose note does not get outside would look like a fork at the next start.
                outside.writable()?;
                let accepted = service
                    .accept_rollback(seen)
                    .context("the rollback could not be accepted")?;
                log::warn!(
                    "an older copy of the database was accepted: every release that has a limit is held until its count is reset; freezes and lists of platforms are those of the copy"
                );
                // Only now: a note outside of what was not accepted would let it be served.
                outside.take(Some(accepted))?;
            }
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
            outside: Arc::new(Mutex::new(outside)),
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
        let taken = outside.take(note);
        let fault = taken.as_ref().err().map(|error| format!("{error:#}"));
        self.service.checkpoint_left(fault);
        taken
    }
}

impl Outside {
    /// Whether notes can be appended now.
    fn writable(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).open(file);
        opened
            .and_then(|file| file.sync_all())
            .with_context(|| format!("checkpoint file {}", file.display()))
    }

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
                let before = file.metadata()?.len();
                let written = file.write_all(self.unwritten.as_bytes());
                written.and_then(|()| file.sync_all()).inspect_err(|_| {
                    // What is there by half would be read as the beginning of the next note.
                    if let Err(error) = file.set_len(before) {
                        log::error!("the checkpoint file can't be cut back: {error}");
                    }
                })
            })
            .with_context(|| format!("checkpoint file {}", file.display()))?;
        self.unwritten.clear();
        Ok(())
    }
}

/// The whole notes of a file; none: there is no file, or it is empty.
fn outside(file: &Path) -> anyhow::Result<Vec<String>> {
    let what = || format!("checkpoint file {}", file.display());
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file).with_context(what)?;
    let whole = whole(&text);
    if whole.len() < text.len() {
        log::warn!(
            "checkpoint file {}: the last note was cut off while it was written, and is taken out",
            file.display()
        );
        let opened = OpenOptions::new().write(true).open(file);
        let cut = opened.and_then(|opened| {
            opened.set_len(whole.len().try_into().unwrap_or(u64::MAX))?;
            opened.sync_all()
        });
        cut.with_context(what)?;
    }
    notes(whole).with_context(what)
}

/// The notes that were written whole: of the server's own, each ends with an empty line. A note that somebody put
/// there alone needs none.
pub(super) fn whole(text: &str) -> &str {
    const END: &str = "\n\n";
    let ends: Vec<usize> = text.match_indices(END).map(|(at, _)| at + END.len()).collect();
    // An empty line ends the body, another the signatures.
    let last = ends.chunks_exact(2).next_back().and_then(|pair| pair.last());
    match last {
        Some(end) => text.get(..*end).unwrap_or(text),
        None => text,
    }
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string())
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
