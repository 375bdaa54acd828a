//! Which recorded decisions are looked at: those of a file or of a server, within a time, of a workload.

use std::io::{BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Span, SpanRelativeTo};
use uuid::Uuid;

use super::records::{self, Sink};
use crate::cli::client::{Client, OptionalConnection, from};
use crate::cli::output::Misused;
use crate::domain::decision::Decision;
use crate::domain::{Clock as _, SystemClock, Time};
use crate::http::DecisionList;

/// Decisions that a server is asked for at once.
const PAGE: u32 = 1000;

#[derive(Args)]
pub(super) struct Recorded {
    /// Recorded decisions, as `decision list -o json` prints them or one a line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
    #[command(flatten)]
    pub(super) connection: OptionalConnection,
    /// Only decisions since then: 2026-01-31T12:00:00Z, or so long ago, such as 7d or 12h
    #[arg(long, value_parser = moment, value_name = "TIME")]
    since: Option<Time>,
    /// Only decisions before then
    #[arg(long, value_parser = moment, value_name = "TIME")]
    until: Option<Time>,
    /// Only of this workload
    #[arg(long, value_name = "UUID")]
    workload: Option<Uuid>,
}

/// A point in time, or how long ago it is.
fn moment(text: &str) -> Result<Time, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = text.parse::<Span>().ok();
    let ago = ago.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match ago.and_then(|ago| Duration::try_from(ago).ok()) {
        Some(ago) => Ok(SystemClock.now().before(ago)),
        None => {
            Err("expected a time such as 2026-01-31T12:00:00Z, or a duration such as 7d or 12h".to_owned())
        }
    }
}

impl Recorded {
    /// Whether decisions were named where the command was called.
    pub(super) fn is_named(&self) -> bool {
        self.decisions.is_some() || self.connection.is_named()
    }

    /// Refuses a file and a server at once, where a server is for nothing but its decisions.
    pub(super) fn one_source(&self) -> anyhow::Result<()> {
        if self.decisions.is_some() && self.connection.is_named() {
            bail!(Misused(
                "decisions are those of a file or of a server: give --decisions or --server".to_owned()
            ));
        }
        Ok(())
    }

    /// Gives each decision to `sink`, in the order in which they are found.
    pub(super) fn each(&self, sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let mut sink = |decision: Decision| {
            let wanted = self.since.is_none_or(|since| decision.time >= since)
                && self.until.is_none_or(|until| decision.time < until)
                && self.workload.is_none_or(|uuid| decision.workload.uuid == uuid);
            if wanted { sink(decision) } else { Ok(()) }
        };
        match &self.decisions {
            Some(file) => from_file(file, &mut sink),
            None if !self.is_named() && !self.connection.has_token() => bail!(Misused(
                "which decisions? Name a file of them with --decisions, or a server with --server and --token-file"
                    .to_owned()
            )),
            None => self.pages_of(&self.connection.client()?, &mut sink),
        }
    }

    fn pages_of(&self, client: &Client, sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let bar = progress(None);
        let mut cursor = None;
        loop {
            let mut path = format!("/v1/decisions?limit={PAGE}");
            if let Some(workload) = self.workload {
                path.push_str(&format!("&workload={workload}"));
            }
            let page: DecisionList = client.get(&from(&path, cursor.as_ref()))?;
            // The newest come first, in the order of their records, which is nearly that of their times.
            let over = self
                .since
                .is_some_and(|since| page.items.iter().all(|decision| decision.time < since));
            for decision in page.items {
                bar.inc(1);
                sink(decision)?;
            }
            cursor = page.next;
            if cursor.is_none() || over {
                bar.finish_and_clear();
                return Ok(());
            }
        }
    }
}

fn from_file(path: &Path, sink: &mut Sink<'_>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        let bar = progress(None);
        let mut counted = |decision| {
            bar.inc(1);
            sink(decision)
        };
        return records::read(std::io::stdin().lock(), &mut counted).context("standard input");
    }
    let shown = || path.display().to_string();
    let file = std::fs::File::open(path).with_context(shown)?;
    let bar = progress(Some(file.metadata().with_context(shown)?.len()));
    let read = records::read(BufReader::with_capacity(1 << 16, bar.wrap_read(file)), sink);
    bar.finish_and_clear();
    read.with_context(shown)
}

/// A bar over so many bytes, or a count where the end is not known; on a terminal only.
fn progress(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {bytes}/{total_bytes}  {eta} left",
        ),
        None => (ProgressBar::no_length(), "{spinner} {human_pos} decisions"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
