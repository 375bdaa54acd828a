//! `limits`: how often secrets were released, and the only way to lower a count.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::Ended;
use super::client::{Connection, from};
use super::decision_text::printable;
use super::output::{self, Format, Misused};
use crate::domain::Name;
use crate::domain::approval::{Change, Proposal, Reset};
use crate::domain::decision::NO_LIMIT;
use crate::domain::launch::{Binding, BindingKind};
use crate::http::{LimitList, ResetBody, ResetReply};

#[derive(Subcommand)]
pub(super) enum LimitsVerb {
    /// List counts with their limits, what was confirmed beyond them, and who lowered one
    List(List),
    /// Lower a count: recorded for ever, with who and why
    Reset(ResetVerb),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct ResetVerb {
    /// What the count counts in: owner, workload:UUID, keyset:NAME or secret:NAME
    #[arg(long, value_name = "BINDING")]
    binding: String,
    /// The secret
    #[arg(long, value_name = "NAME")]
    secret: Name,
    /// The new count, lower than it is; of a count that is not known after a rollback, what a person knows it to be
    #[arg(long, value_name = "N", default_value_t = 0)]
    to: u64,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl LimitsVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::List(verb) => verb.run(),
            Self::Reset(verb) => verb.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let mut list: LimitList = client.get("/v1/limits")?;
        while let Some(cursor) = list.next.take() {
            let page: LimitList = client.get(&from("/v1/limits", Some(&cursor)))?;
            list.items.extend(page.items);
            list.next = page.next;
        }
        if output::structured(self.output, &list)? {
            return Ok(Ended::Done);
        }
        if list.items.is_empty() {
            output::line("Nothing was counted yet.")?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["secret", "counted in", "released", "limit", "confirmed"]);
        for count in &list.items {
            // The highest limit is that of `keyward.workload`, which says so that there is none.
            let limit = count.limit.filter(|limit| *limit < NO_LIMIT);
            table.add_row([
                count.secret.to_string(),
                written(&count.binding),
                match count.unknown {
                    false => count.released.to_string(),
                    true => format!("{} or more", count.released),
                },
                limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string()),
                count.confirmed.to_string(),
            ]);
        }
        output::line(&table.trim_fmt())?;
        for reset in &list.resets {
            output::line("")?;
            was_reset(reset)?;
        }
        for proposal in &list.proposals {
            output::line("")?;
            waits(proposal)?;
        }
        Ok(Ended::Done)
    }
}

impl ResetVerb {
    fn run(self) -> anyhow::Result<Ended> {
        let body = ResetBody {
            binding: binding(&self.binding)?,
            secret: self.secret,
            to: self.to,
            reason: self.reason,
        };
        let what = format!("the count of {} in {}", body.secret, self.binding);
        let reply: ResetReply = self
            .connection
            .client()?
            .post("/v1/limits/reset", &body)
            .context(what)?;
        if output::structured(self.output, &reply)? {
            return Ok(Ended::Done);
        }
        if let Some(reset) = &reply.reset {
            was_reset(reset)?;
        }
        if let Some(proposal) = &reply.proposal {
            waits(proposal)?;
        }
        Ok(Ended::Done)
    }
}

fn was_reset(reset: &Reset) -> anyhow::Result<()> {
    output::line(&format!(
        "{}  reset {}: {} in {}, from {} to {}",
        reset.time,
        reset.number,
        reset.secret,
        written(&reset.binding),
        reset.before,
        reset.after
    ))?;
    for word in &reset.words {
        output::line(&format!(
            "  {}: {}",
            printable(&word.by.name),
            printable(&word.reason)
        ))?;
    }
    Ok(())
}

/// What waits for another person, and how it is made so.
pub(super) fn waits(proposal: &Proposal) -> anyhow::Result<()> {
    let what = match &proposal.change {
        Change::ResetLimit { binding, secret, to } => {
            format!("to lower the count of {secret} in {} to {to}", written(binding))
        }
        Change::ApprovalsRequired { people, policies } => format!(
            "to ask for {people} people{}",
            if *policies {
                ", also where policies are registered"
            } else {
                ""
            }
        ),
        Change::Register { digest } => format!("to register what has the digest {digest}"),
        Change::EnrolPlatform { cek } => format!("to enrol the platform {cek}"),
        Change::AcceptPlatforms { accepted } => format!("to accept {} platforms", accepted.as_str()),
        Change::Unfreeze { freeze } => format!("to lift the freeze {freeze}"),
    };
    output::line(&format!(
        "{}  {} proposed {what}; another person makes it so with the same command until {}",
        proposal.word.time,
        printable(&proposal.word.by.name),
        proposal.expires
    ))?;
    output::line(&format!("  {}", printable(&proposal.word.reason)))
}

fn written(binding: &Binding) -> String {
    if binding.name.is_empty() {
        return binding.kind.as_str().to_owned();
    }
    format!("{}:{}", binding.kind.as_str(), binding.name)
}

fn binding(text: &str) -> anyhow::Result<Binding> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let kind = match (kind, name.is_empty()) {
        ("owner", true) => BindingKind::Owner,
        ("workload", false) => BindingKind::Workload,
        ("keyset", false) => BindingKind::KeySet,
        ("secret", false) => BindingKind::Secret,
        _ => {
            return Err(Misused(format!(
                "--binding {text:?}: expected owner, workload:UUID, keyset:NAME or secret:NAME"
            ))
            .into());
        }
    };
    Ok(Binding {
        kind,
        name: name.to_owned(),
    })
}
