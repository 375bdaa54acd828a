//! `audit verify`: an export, on a machine that has nothing of the server's but the log's public key.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::source::key_file;
use crate::audit::export::MAX_LINE;
use crate::audit::verify::{Fault, Verified, Verifier, VerifyError};
use crate::cli::Ended;
use crate::cli::checkpoints::notes;
use crate::cli::output::{self, Format};
use crate::domain::HexDigest;

#[derive(Args)]
#[command(
    after_help = "Exits 0: the export is what the log signed, up to its last checkpoint; 2: it is not. \
                        A log that was rolled back as a whole and signed again is told by --seen alone: keep \
                        checkpoints where the server can't reach them"
)]
pub(in crate::cli) struct Verify {
    /// The export; - for standard input
    file: PathBuf,
    /// The log's public key, as `audit key` prints it; from a place that you trust
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Checkpoints that were kept from earlier: one, or a file that many were appended to
    #[arg(long, value_name = "FILE", num_args = 1..)]
    seen: Vec<PathBuf>,
    /// Refuse records from this index on that are there only as their hashes
    #[arg(long, value_name = "INDEX")]
    contents_from: Option<u64>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Answer {
    verifies: bool,
    /// Who is to blame: `given`, `export` or `log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bare: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<HexDigest>,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let key = key_file(&self.key)?;
        let mut seen = Vec::new();
        for path in &self.seen {
            let what = || format!("checkpoint {}", path.display());
            let text = std::fs::read_to_string(path).with_context(what)?;
            seen.extend(notes(&text).with_context(what)?);
        }
        let verified = Verifier::new(key, &seen).map(|verifier| match self.contents_from {
            Some(index) => verifier.contents_from(index),
            None => verifier,
        });
        let verified = match verified {
            Ok(verifier) => self.read(verifier)?,
            Err(error) => Err(error),
        };
        if !output::structured(self.output, &answer(&verified))? {
            output::line(&text(&verified))?;
        }
        Ok(match &verified {
            Ok(_) => Ended::Done,
            Err(error) if error.fault() == Fault::Given => Ended::Failed,
            Err(_) => Ended::Denied,
        })
    }

    /// The outer error: the file can't be read; the inner one: it does not verify.
    fn read(&self, verifier: Verifier) -> anyhow::Result<Result<Verified, VerifyError>> {
        let what = || self.file.display().to_string();
        if self.file == Path::new("-") {
            return lines(std::io::stdin().lock(), verifier).with_context(what);
        }
        let file = File::open(&self.file).with_context(what)?;
        let bar = bar(file.metadata().with_context(what)?.len());
        let read = BufReader::with_capacity(1 << 16, bar.wrap_read(file));
        let verified = lines(read, verifier).with_context(what);
        bar.finish_and_clear();
        verified
    }
}

/// The outer error: the lines can't be read; the inner one: they do not verify.
pub(in crate::cli) fn lines(
    mut read: impl BufRead,
    mut verifier: Verifier,
) -> std::io::Result<Result<Verified, VerifyError>> {
    // One byte more than a line and its newline: what is longer is found to be.
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(2);
    let mut line = Vec::new();
    loop {
        line.clear();
        if read.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(verifier.finish());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        // What is no UTF-8 has other bytes then, and does not verify.
        if let Err(error) = verifier.line(&String::from_utf8_lossy(&line)) {
            return Ok(Err(error));
        }
    }
}

fn answer(verified: &Result<Verified, VerifyError>) -> Answer {
    let verified_ref = verified.as_ref();
    let (ok, error) = (verified_ref.ok(), verified_ref.err());
    Answer {
        verifies: ok.is_some(),
        fault: error.map(|error| match error.fault() {
            Fault::Given => "given",
            Fault::Export => "export",
            Fault::Log => "log",
        }),
        first: error.and_then(VerifyError::first),
        error: error.map(ToString::to_string),
        log: ok.map(|ok| ok.checkpoint.origin().to_owned()),
        records: ok.map(|ok| ok.checkpoint.head().size),
        bare: ok.map(|ok| ok.bare),
        checkpoints: ok.map(|ok| ok.checkpoints),
        seen: ok.map(|ok| ok.seen),
        root: ok.map(|ok| ok.checkpoint.head().root),
    }
}

fn text(verified: &Result<Verified, VerifyError>) -> String {
    match verified {
        Ok(ok) => {
            let head = ok.checkpoint.head();
            let mut text = format!(
                "The export is what the log {} signed.\n\n\
                 Records      {}, {} of them as their hashes only\n\
                 Checkpoints  {} in the export, {} seen before\n\
                 Root         {}",
                ok.checkpoint.origin(),
                head.size,
                ok.bare,
                ok.checkpoints,
                ok.seen,
                head.root
            );
            if ok.seen == 0 {
                text.push_str(
                    "\n\nNo checkpoint from earlier was given (--seen): that the log was not rolled back is not shown.",
                );
            }
            text
        }
        Err(error) => {
            let who = match error.fault() {
                Fault::Given => "Nothing was verified, as what was given can't be used",
                Fault::Export => "The export does not verify",
                Fault::Log => "The log contradicts itself",
            };
            match error.first() {
                Some(first) => format!("{who}. First record that does not fit: {first}\n\n{error}"),
                None => format!("{who}.\n\n{error}"),
            }
        }
    }
}

/// A bar over so many bytes; on a terminal only.
fn bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
