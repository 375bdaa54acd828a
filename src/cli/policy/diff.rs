//! `policy diff`: what a change changes.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::diff_text::text;
use super::recorded::Recorded;
use super::replay::compared;
use super::replay_report::Report;
use super::{OWNER, all_workers, loaded, refused, revision};
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::cli::paint::Paint;
use crate::isolation::Workers;
use crate::policy::{Archived, Asked, BundleDiff, BundleFacts, Evaluator as _, Input, Phase, diff};
use crate::release::replay::Candidate;

#[derive(Args)]
pub(in crate::cli) struct Diff {
    /// Folder of a policy repository; or a revision of the server: `active`, its number, or at least 8 digits of its digest
    #[arg(value_name = "A")]
    first: String,
    /// What it is compared with, a folder or a revision too
    #[arg(value_name = "B")]
    second: String,
    #[command(flatten)]
    recorded: Recorded,
    /// Time that one policy may take, in milliseconds, as a server's `policy.time_limit_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_limit_ms: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

/// A policy's limit that is not the same.
#[derive(Serialize)]
pub(super) struct LimitChange {
    pub(super) policy: String,
    pub(super) old: Option<u64>,
    pub(super) new: Option<u64>,
}

/// What differs, and what comes of it.
#[derive(Serialize)]
pub(super) struct Differences {
    pub(super) first: String,
    pub(super) second: String,
    #[serde(flatten)]
    pub(super) bundles: BundleDiff,
    /// Limits as they are for an input that is like most.
    pub(super) limits: Vec<LimitChange>,
    /// What became of recorded decisions, where they were named.
    pub(super) recorded: Option<Report>,
}

impl Diff {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let (workers, threads) = all_workers(Duration::from_millis(self.time_limit_ms));
        let side = |word: &str| {
            let bundle = revision::find(word, &self.recorded.connection)?;
            let (archived, facts) =
                loaded(&workers, &bundle, Some(Path::new(word)).filter(|at| at.is_dir()))?;
            anyhow::Ok((bundle, archived, facts))
        };
        let (first, second) = (side(&self.first)?, side(&self.second)?);
        let candidate = |bundle, facts| Candidate {
            evaluator: &workers,
            owner: OWNER,
            bundle,
            facts,
        };
        let (before, after) = (candidate(&first.1, &first.2), candidate(&second.1, &second.2));
        let recorded = if self.recorded.is_named() {
            let for_people = self.output == Format::Table;
            let report = compared(&self.recorded, threads, for_people, |decision| {
                Ok((before.decide(decision)?, after.decide(decision)?))
            })?;
            Some(report)
        } else {
            None
        };
        let differences = Differences {
            first: first.0.digest_hex(),
            second: second.0.digest_hex(),
            bundles: diff(&first.0, &second.0).map_err(refused)?,
            limits: limits(&workers, (&first.1, &first.2), (&second.1, &second.2)),
            recorded,
        };
        if !output::structured(self.output, &differences)? {
            let names = [self.first.as_str(), self.second.as_str()];
            output::line(&text(&differences, names, Paint::for_stdout()))?;
        }
        let same = differences.first == differences.second;
        Ok(if same { Ended::Done } else { Ended::Denied })
    }
}

/// Limits of the policies that both have, on an input that is like most: a limit is a number in nearly every policy,
/// and read from data in most.
fn limits(
    workers: &Workers,
    first: (&Archived, &BundleFacts),
    second: (&Archived, &BundleFacts),
) -> Vec<LimitChange> {
    let limit = |(bundle, _): (&Archived, &BundleFacts), policy: &str| {
        let asked = Asked {
            policy,
            phase: Phase::Release,
            input: Input::example(Phase::Release),
        };
        let said = workers.ask(OWNER, bundle, vec![asked]);
        said.first().and_then(|verdict| verdict.release_limit)
    };
    let both = first
        .1
        .policies
        .keys()
        .filter(|name| second.1.policies.contains_key(*name));
    let changes = both.map(|name| LimitChange {
        policy: name.clone(),
        old: limit(first, name),
        new: limit(second, name),
    });
    changes.filter(|change| change.old != change.new).collect()
}
