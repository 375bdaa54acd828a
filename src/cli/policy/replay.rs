//! `policy replay`: what a change would have done.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::Serialize;

use super::recorded::Recorded;
use super::replay_report::Report;
use super::{OWNER, all_workers, bundle, loaded, parallel, refused};
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::domain::decision::Decision;
use crate::release::replay::{Answer, Candidate, Effect, Unanswered};

#[derive(Args)]
pub(in crate::cli) struct Replay {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    recorded: Recorded,
    /// Time that one policy may take, in milliseconds, as a server's `policy.time_limit_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_limit_ms: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Replayed<'a> {
    bundle: String,
    #[serde(flatten)]
    report: &'a Report,
}

impl Replay {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        self.recorded.one_source()?;
        let bundle = bundle(&self.folder)?.map_err(refused)?;
        let (workers, threads) = all_workers(Duration::from_millis(self.time_limit_ms));
        let (archived, facts) = loaded(&workers, &bundle, Some(&self.folder))?;
        let candidate = Candidate {
            evaluator: &workers,
            owner: OWNER,
            bundle: &archived,
            facts: &facts,
        };
        let for_people = self.output == Format::Table;
        let report = compared(&self.recorded, threads, for_people, |decision| {
            let before = Answer {
                effect: Effect::recorded(decision),
                reason: decision.reason.clone(),
            };
            Ok((before, candidate.decide(decision)?))
        })?;
        let replayed = Replayed {
            bundle: bundle.digest_hex(),
            report: &report,
        };
        if !output::structured(self.output, &replayed)? {
            output::line(&format!("bundle {}", replayed.bundle))?;
            output::line(&report.text(["recorded", "now"]))?;
        }
        if report.is_empty() {
            bail!("there is no such decision: nothing can be told from that");
        }
        Ok(if report.is_unchanged() {
            Ended::Done
        } else {
            Ended::Denied
        })
    }
}

/// Compares two answers to each recorded decision.
pub(super) fn compared(
    recorded: &Recorded,
    threads: usize,
    for_people: bool,
    answers: impl Fn(&Decision) -> Result<(Answer, Answer), Unanswered> + Sync,
) -> anyhow::Result<Report> {
    let report = Mutex::new(Report::new(for_people));
    parallel::for_each(recorded, threads, |decision| {
        let answers = answers(decision);
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        match answers {
            Ok((before, after)) => report.replayed(decision, before, after),
            Err(Unanswered::Record(why)) => report.not_replayed(why),
            Err(Unanswered::Evaluator(why)) => return Err(anyhow!("decision {}: {why}", decision.id)),
        }
        Ok(())
    })?;
    Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner))
}
