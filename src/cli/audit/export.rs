//! `audit export`: every record up to the newest checkpoint, and the checkpoints between them.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::opa::{self, Mask};
use super::source::{Place, Source};
use crate::audit::export;
use crate::audit::key::VerifierKey;
use crate::audit::note::Note;
use crate::cli::{Ended, output};
use crate::http::KeptCheckpoint;

#[derive(Args)]
#[command(
    after_help = "A server shows a token's owner that owner's records; all others are in the export as their \
                        hashes, without which it could not be verified. --data-dir has them all"
)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    place: Place,
    /// File to write. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the decisions instead, newest first, as OPA's decision log events. `audit verify` does not read them
    #[arg(long)]
    opa: bool,
    /// Leave this out of each event, and say so in its `erased`: a JSON pointer, such as /input/host/address
    #[arg(long, value_name = "POINTER", requires = "opa")]
    mask: Vec<Mask>,
}

/// What was written.
#[derive(Default)]
pub(in crate::cli) struct Written {
    pub(in crate::cli) records: u64,
    bare: u64,
    pub(in crate::cli) checkpoints: u64,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let source = self.place.open()?;
        let Some(path) = &self.output else {
            let out = BufWriter::new(std::io::stdout().lock());
            return match self.write(&source, out) {
                // A reader that has gone ends it without a word.
                Err(error) if !gone(&error) => Err(error),
                _ => Ok(Ended::Done),
            };
        };
        let what = || path.display().to_string();
        let file = File::create(path).with_context(what)?;
        let written = self.write(&source, BufWriter::with_capacity(1 << 16, &file))?;
        file.sync_all().with_context(what)?;
        output::line(&format!("{}: {written}", path.display()))?;
        Ok(Ended::Done)
    }

    /// What was written, in words.
    fn write(&self, source: &Source, out: impl Write) -> anyhow::Result<String> {
        if self.opa {
            let events = opa::write(source, &self.mask, out)?;
            return Ok(format!("{events} events"));
        }
        let written = write(source, out)?;
        Ok(format!(
            "{} records ({} as their hashes only), {} checkpoints",
            written.records, written.bare, written.checkpoints
        ))
    }
}

fn gone(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The log up to its newest checkpoint, as `audit verify` reads it.
pub(in crate::cli) fn write(source: &Source, mut out: impl Write) -> anyhow::Result<Written> {
    let newest = source.checkpoint()?;
    let key: VerifierKey = newest.key.parse().context("the log's key")?;
    let bar = bar(newest.size);
    writeln!(out, "{}", export::header(key.name()))?;
    let mut checkpoints = Checkpoints::new(source);
    let mut written = Written::default();
    while written.records < newest.size {
        let page = source.entries(written.records)?;
        if page.is_empty() {
            bail!(
                "the log has no record {} though its checkpoint counts {}: it is damaged",
                written.records,
                newest.size
            );
        }
        let left = newest.size - written.records;
        for entry in page.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            match &entry.record {
                Some(record) => {
                    writeln!(
                        out,
                        "{}",
                        export::stored_record(entry.index, &entry.leaf, record.get())
                    )?;
                }
                None => {
                    writeln!(out, "{}", export::bare_leaf(entry.index, &entry.leaf))?;
                    written.bare += 1;
                }
            }
            written.records += 1;
            if let Some(note) = checkpoints.at(written.records)? {
                writeln!(out, "{}", export::checkpoint(&Note::parse(&note)?))?;
                written.checkpoints += 1;
            }
        }
        bar.set_position(written.records);
    }
    out.flush()?;
    bar.finish_and_clear();
    Ok(written)
}

/// The checkpoints in their order, read as they are needed.
struct Checkpoints<'a> {
    source: &'a Source,
    page: std::vec::IntoIter<KeptCheckpoint>,
    next: Option<KeptCheckpoint>,
    seen: u64,
}

impl<'a> Checkpoints<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            page: Vec::new().into_iter(),
            next: None,
            seen: 0,
        }
    }

    /// The checkpoint of this size, asked for in rising order.
    fn at(&mut self, size: u64) -> anyhow::Result<Option<String>> {
        while self.next.as_ref().is_none_or(|next| next.size < size) {
            self.next = self.page.next();
            if self.next.is_none() {
                self.page = self.source.checkpoints(self.seen)?.into_iter();
                self.next = self.page.next();
            }
            match &self.next {
                Some(next) => self.seen = next.size,
                None => return Ok(None),
            }
        }
        let found = self.next.take_if(|next| next.size == size);
        Ok(found.map(|found| found.checkpoint))
    }
}

/// A bar over so many records; on a terminal only.
fn bar(records: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(records);
    match ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} records  {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
