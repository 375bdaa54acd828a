//! `decision list|show`: what was decided, and why.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Ended;
use super::client::Connection;
use super::output::{self, Format};
use crate::domain::decision::{Decision, Outcome};
use crate::http::DecisionList;

#[derive(Subcommand)]
pub(super) enum DecisionVerb {
    /// List decisions, newest first
    List(List),
    /// Show one decision: who asked, what was attested, what every policy said
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
        let mut before = None;
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        while decisions.len() < wanted {
            let rest = wanted - decisions.len();
            let mut path = format!("/v1/decisions?limit={}", rest.min(1000));
            if let Some(before) = before {
                path.push_str(&format!("&before={before}"));
            }
            if let Some(outcome) = self.outcome {
                path.push_str(&format!("&outcome={}", outcome.as_str()));
            }
            if let Some(workload) = self.workload {
                path.push_str(&format!("&workload={workload}"));
            }
            let page: DecisionList = client.get(&path)?;
            decisions.extend(page.items);
            before = page.next;
            if before.is_none() {
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

impl Show {
    fn run(self) -> anyhow::Result<Ended> {
        let decision: Decision = self
            .connection
            .client()?
            .get(&format!("/v1/decisions/{}", self.id))
            .with_context(|| format!("decision {}", self.id))?;
        if !output::structured(self.output, &decision)? {
            output::line(&text(&decision))?;
        }
        Ok(Ended::Done)
    }
}

/// The columns that a decision is written in.
const WIDTH: usize = 100;

/// The highest limit, by which `keyward.workload` says that there is none.
const NO_LIMIT: u64 = 1 << 53;

/// A decision for people.
pub(super) fn text(decision: &Decision) -> String {
    let names = |names: &[crate::domain::Name]| {
        names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let outcome = decision.outcome.as_str().to_uppercase();
    let mut lines = wrapped(&format!("{outcome}  "), &headline(decision));
    lines.extend([
        String::new(),
        row("decision", &decision.id.to_string()),
        row("time", &decision.time.to_string()),
        row(
            "workload",
            &format!("{} ({})", decision.workload.name, decision.workload.uuid),
        ),
        row("host", &decision.address),
    ]);
    if decision.count > 1 {
        lines.push(row("requests", &format!("{} in this minute", decision.count)));
    }
    if !decision.secrets.is_empty() {
        lines.push(row("asked for", &names(&decision.secrets)));
    }
    if !decision.released.is_empty() {
        let released = decision
            .released
            .iter()
            .map(|s| format!("{} (version {})", s.name, s.version));
        lines.push(row("released", &released.collect::<Vec<_>>().join(", ")));
    }
    if let Some(hold) = decision.hold {
        lines.push(row("hold", &hold.to_string()));
    }
    if decision.danger_weak_policy {
        lines.push(row("danger", "the workload lets weak SEV policies pass"));
    }
    if let Some(input) = &decision.input {
        lines.push(String::new());
        lines.extend(facts(input));
    }
    if !decision.policies.is_empty() {
        lines.push(String::new());
        lines.push("policies".to_owned());
    }
    for bound in &decision.policies {
        let mark = if bound.verdict.allow { "allows" } else { "DENIES" };
        let on = match (&bound.secret, bound.binding.name.as_str()) {
            (Some(secret), _) => format!("{} {secret}", bound.binding.kind.as_str()),
            (None, _) => bound.binding.kind.as_str().to_owned(),
        };
        let limit = bound
            .verdict
            .release_limit
            .filter(|limit| *limit < NO_LIMIT)
            .map(|n| format!(", limit {n}"))
            .unwrap_or_default();
        lines.push(format!(
            "  {mark}  {} (bound to {on}{limit})",
            bound.verdict.policy
        ));
        if !bound.verdict.allow {
            lines.extend(wrapped("          ", &bound.verdict.reason));
        }
    }
    lines.join("\n")
}

/// Why, in a line. What each policy said follows further down, so that here it is named only.
fn headline(decision: &Decision) -> String {
    let mut denying: Vec<&str> = decision
        .policies
        .iter()
        .filter(|bound| !bound.verdict.allow)
        .map(|bound| bound.verdict.policy.as_str())
        .collect();
    denying.dedup();
    if decision.outcome == Outcome::Denied && !denying.is_empty() {
        format!("by {}", denying.join(", "))
    } else {
        decision.reason.clone()
    }
}

/// A text after a first part, broken into lines that a terminal holds; the rest is indented as far.
fn wrapped(first: &str, text: &str) -> Vec<String> {
    let indent = " ".repeat(first.chars().count());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(first)
        .subsequent_indent(&indent)
        .break_words(false);
    let text = printable(text);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// A text without control characters: part of it may be a host's own words, and a terminal obeys them.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_control() {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            }
        })
        .collect()
}

fn facts(input: &crate::policy::Input) -> Vec<String> {
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
    let platform = &input.platform;
    let mut lines = vec![
        row(
            "platform",
            &format!(
                "{} under root {}",
                or_unknown(platform.product.clone()),
                platform.root
            ),
        ),
        row("chip", &or_unknown(platform.chip_id.clone())),
    ];
    if let (Some(digest), Some(policy)) = (&input.attested.launch_digest, input.attested.policy) {
        let version = |n: Option<u8>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        lines.push(row(
            "attested",
            &format!(
                "API {}.{} build {}, SEV policy {policy:#x}, {}",
                version(input.attested.api_major),
                version(input.attested.api_minor),
                version(input.attested.build_id),
                scheme(input.scheme),
            ),
        ));
        lines.push(row("digest", digest));
        if let Some(image) = &input.attested.image.name {
            let vcpus = input
                .attested
                .image
                .vcpus
                .map(|n| format!(", {n} vCPUs"))
                .unwrap_or_default();
            lines.push(row("image", &format!("{image}{vcpus}")));
        }
    }
    if let Some(count) = input.claimed.cpu_count {
        lines.push(row("claimed", &format!("{count} vCPUs")));
    }
    lines
}

fn scheme(scheme: crate::policy::Scheme) -> &'static str {
    match scheme {
        crate::policy::Scheme::AmdSev => "amd-sev",
        crate::policy::Scheme::AmdSevEs => "amd-sev-es",
    }
}

fn row(label: &str, value: &str) -> String {
    format!("{label:<10} {value}")
}
