//! `store`: the database behind a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::output::{self, Format};
use super::{Ended, database, serve};
use crate::domain::{Clock as _, HexDigest, SystemClock};
use crate::store::migrate;

#[derive(Subcommand)]
pub(super) enum Store {
    /// Move everything from the data folder's SQLite database into an empty PostgreSQL database
    Migrate(Migrate),
}

impl Store {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Migrate(migrate) => migrate.run(),
        }
    }
}

#[derive(Args)]
#[command(
    after_help = "The configuration says which PostgreSQL database (`store.postgres`). Stop the server first. Every \
                        row is compared after it was copied; the file stays as it is, marked as one that is no longer \
                        served."
)]
pub(super) struct Migrate {
    /// Folder that `init` made
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Configuration. Default: keyward.yaml in the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it is moved from
    #[arg(long, value_enum, value_name = "ENGINE")]
    from: From,
    /// What it is moved to
    #[arg(long, value_enum, value_name = "ENGINE")]
    to: To,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    Sqlite,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Postgres,
}

#[derive(Serialize)]
struct Answer {
    rows: u64,
    tables: std::collections::BTreeMap<&'static str, u64>,
    records: u64,
    root: HexDigest,
}

impl Migrate {
    fn run(self) -> anyhow::Result<Ended> {
        // There is one of each so far.
        let (From::Sqlite, To::Postgres) = (self.from, self.to);
        let config = serve::configuration(&self.data_dir, self.config.as_deref())?;
        let Some(postgres) = &config.store.postgres else {
            bail!(
                "the configuration names no PostgreSQL database: say which with `store: {{postgres: {{url: …}}}}`"
            );
        };
        let options = database::options(postgres)?;
        let copied = Arc::new(AtomicU64::new(0));
        let done = AtomicBool::new(false);
        let moved = std::thread::scope(|scope| {
            scope.spawn(|| show(&copied, &done));
            let moved = migrate::migrate(&self.data_dir, &options, SystemClock.now(), copied.clone());
            done.store(true, Ordering::SeqCst);
            moved
        })?;
        let answer = Answer {
            rows: moved.tables.iter().map(|(_, rows)| rows).sum(),
            tables: moved.tables.into_iter().collect(),
            records: moved.records,
            root: moved.root,
        };
        if !output::structured(self.output, &answer)? {
            output::line(&format!(
                "Rows         {} in {} tables, each compared\nAudit log    {} records, root {}\n\n\
                 Next: keyward serve --data-dir {}",
                answer.rows,
                answer.tables.len(),
                answer.records,
                answer.root,
                self.data_dir.display(),
            ))?;
        }
        Ok(Ended::Done)
    }
}

/// Says on a terminal how far it is.
fn show(copied: &AtomicU64, done: &AtomicBool) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} rows copied and compared") {
        bar.set_style(style);
    }
    while !done.load(Ordering::SeqCst) {
        bar.set_position(copied.load(Ordering::Relaxed));
        bar.tick();
        std::thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}
