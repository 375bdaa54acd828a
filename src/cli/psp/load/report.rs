//! What a run says: a table for people, JSON for scripts.

use serde::Serialize;

use super::Load;
use super::budget::{Budget, Measured};
use super::drive::{Outcome, Plan};
use super::record::Step;
use super::target::{Mode, Target};
use crate::cli::output::{self, Format};

/// A run.
#[derive(Serialize)]
pub(super) struct Report {
    mode: Mode,
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    kind: &'static str,
    /// Requests that were to begin each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    concurrency: usize,
    platforms: usize,
    workloads: usize,
    secrets: Option<u32>,
    digests: Option<u32>,
    /// How long was measured.
    seconds: f64,
    steps: Vec<Step>,
    /// Requests whose time had come and that were never sent.
    unsent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
}

impl Report {
    pub(super) fn new(
        asked: &Load,
        target: &Target,
        plan: &Plan,
        outcome: &Outcome,
        measured: Option<&Measured>,
    ) -> Self {
        let names = target.steps().iter().zip(&outcome.records);
        let steps: Vec<_> = names
            .map(|(step, record)| record.report(step, outcome.measured))
            .collect();
        let achieved = steps.last().map_or(0.0, |step| step.per_second);
        let registered = asked.existing.is_empty();
        Self {
            mode: target.mode,
            kind: if plan.rate.is_some() { "open" } else { "closed" },
            rate: plan.rate,
            concurrency: plan.connections,
            platforms: target.machines.len(),
            workloads: target.workloads.len(),
            secrets: registered.then_some(asked.secrets),
            digests: registered.then_some(asked.digests),
            seconds: outcome.measured.as_secs_f64(),
            steps,
            unsent: outcome.unsent,
            budget: measured.map(|measured| measured.beside(target.mode, achieved)),
        }
    }

    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        if output::structured(format, self)? {
            return Ok(());
        }
        let from = if self.kind == "open" {
            "when each should have begun"
        } else {
            "the sending"
        };
        output::line(&format!(
            "{} loop, {} connections, {} platforms, {} workloads, {:.1} s; latencies in ms from {from}",
            self.kind, self.concurrency, self.platforms, self.workloads, self.seconds
        ))?;
        let columns = [
            "step",
            "done",
            "per second",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "failed",
            "retried",
        ];
        let mut table = output::table(&columns);
        for step in &self.steps {
            let ms = &step.latency_ms;
            let failed: u64 = step.errors.values().sum();
            let mut row = vec![
                step.step.to_owned(),
                step.done.to_string(),
                format!("{:.1}", step.per_second),
            ];
            row.extend([ms.p50, ms.p90, ms.p99, ms.p99_9, ms.max].map(|ms| format!("{ms:.2}")));
            row.extend([failed.to_string(), step.retries.to_string()]);
            table.add_row(row);
        }
        output::line(&table.trim_fmt())?;
        for step in &self.steps {
            for (why, count) in &step.errors {
                output::line(&format!("{}: {count} failed: {}", step.step, reason(why)))?;
            }
        }
        if self.unsent > 0 {
            output::line(&format!(
                "{} were never sent: the server is slower than --rate, or --concurrency too small for it",
                self.unsent
            ))?;
        }
        self.budget.as_ref().map_or(Ok(()), shown)
    }
}

/// What a status means here.
fn reason(why: &str) -> String {
    match why {
        "connection" => "the connection broke or did not come about".to_owned(),
        "429" => "status 429; too many launches wait (launch.pending_per_address, pending_per_pdh, pending_per_workload) or too much was searched"
            .to_owned(),
        "403" => "status 403; `keyward decision list` says why".to_owned(),
        "422" => "status 422; is the platforms' root under `danger_extra_roots`?".to_owned(),
        status => format!("status {status}"),
    }
}

fn shown(budget: &Budget) -> anyhow::Result<()> {
    output::line(&format!(
        "\n{} processors do the cryptography alone of {:.0} launches a second; {:.0} appends a second are durable one by one",
        budget.processors, budget.launch_crypto_per_second, budget.appends_per_second
    ))?;
    if let Some(ratio) = budget.launches_of_possible {
        output::line(&format!(
            "launches: {:.0} % of what the cryptography allows",
            ratio * 100.0
        ))?;
    }
    if let Some(ratio) = budget.validations_of_appends {
        output::line(&format!(
            "validations: {ratio:.1} for each append that is made alone"
        ))?;
    }
    Ok(())
}
