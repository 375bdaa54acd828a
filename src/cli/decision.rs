//! `decision list|show`: what was decided, and why.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::Ended;
use super::client::{Connection, from};
use super::decision_text::{printable, text, why};
use super::output::{self, Format};
use crate::domain::decision::{Decision, Outcome};
use crate::http::DecisionList;
use crate::release::DecisionExplanation;

#[derive(Subcommand)]
pub(super) enum DecisionVerb {
    /// List decisions, newest first
    List(List),
    /// Show one decision: who asked, what was attested, what every policy said and why
    Show(Show),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only these: released, held, denied or refused
    #[arg(long, value_parser = outcome, value_name = "OUTCOME")]
    outcome: Option<Outcome>,
    /// Only of this workload
    #[arg(long, value_name = "UUID")]
    workload: Option<Uuid>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Show {
    /// The decision's id, as the host was told
    id: Uuid,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    text.parse()
        .map_err(|()| "expected released, held, denied or refused".to_owned())
}

impl DecisionVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let mut decisions: Vec<Decision> = Vec::new();
        let mut cursor = None;
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        while decisions.len() < wanted {
            let rest = wanted - decisions.len();
            let mut path = format!("/v1/decisions?limit={}", rest.min(1000));
            if let Some(outcome) = self.outcome {
                path.push_str(&format!("&outcome={}", outcome.as_str()));
            }
            if let Some(workload) = self.workload {
                path.push_str(&format!("&workload={workload}"));
            }
            let page: DecisionList = client.get(&from(&path, cursor.as_ref()))?;
            decisions.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if output::structured(self.output, &decisions)? {
            return Ok(Ended::Done);
        }
        if decisions.is_empty() {
            output::line("There are no such decisions.")?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["time", "outcome", "workload", "count", "id", "reason"]);
        for decision in &decisions {
            table.add_row([
                decision.time.to_string(),
                decision.outcome.as_str().to_owned(),
                decision.workload.name.to_string(),
                decision.count.to_string(),
                decision.id.to_string(),
                first_words(&decision.reason),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

fn first_words(reason: &str) -> String {
    let reason = printable(reason);
    if reason.chars().count() <= 80 {
        return reason;
    }
    reason.chars().take(79).chain(['…']).collect()
}

/// A decision with its explanation, for programs.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    decision: Decision,
    explanation: DecisionExplanation,
}

impl Show {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let path = format!("/v1/decisions/{}", self.id);
        let what = || format!("decision {}", self.id);
        let decision: Decision = client.get(&path).with_context(what)?;
        let explanation: DecisionExplanation =
            client.get(&format!("{path}/explanation")).with_context(what)?;
        let shown = Shown {
            decision,
            explanation,
        };
        if !output::structured(self.output, &shown)? {
            output::line(&text(&shown.decision))?;
            for line in why(&shown.explanation) {
                output::line(&line)?;
            }
        }
        Ok(Ended::Done)
    }
}
