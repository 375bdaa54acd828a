//! `freeze` and `unfreeze`: stop releases at once, and let them go on.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Ended;
use super::client::Connection;
use super::decision_text::printable;
use super::limits::waits;
use super::output::{self, Format};
use crate::domain::freeze::{Freeze, Target};
use crate::domain::{HexDigest, Name};
use crate::http::{FreezeBody, FreezeReply, FreezeTarget, LiftReply, ReasonBody};
use crate::sev::Product;

#[derive(Subcommand)]
pub(super) enum FreezeVerb {
    /// Stop every release to a workload
    Workload(OfWorkload),
    /// Stop every release of a secret
    Secret(Named),
    /// Stop every release to platforms with this key
    Platform(Keyed),
    /// Stop every release to platforms of a product
    Product(OfProduct),
    /// Stop every release of an owner: one's own, or any with an administrator's token
    Owner(OfOwner),
    /// Stop every release of the server, with an administrator's token
    Server(Everything),
    /// List freezes, newest first
    List(List),
    /// Show one freeze: what, who, since when, why, and who lifted it
    Show(Show),
}

#[derive(Args)]
pub(super) struct Word {
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct OfWorkload {
    /// Its name or UUID
    name: Name,
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct Named {
    /// Its name
    name: Name,
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct Keyed {
    /// Fingerprint of a CEK, for one chip, or of an OCA, for all of an operator's
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: HexDigest,
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct OfProduct {
    /// naples, rome, milan, genoa or turin
    name: Product,
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct OfOwner {
    /// The owner; left out, the token's own
    name: Option<Name>,
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct Everything {
    #[command(flatten)]
    word: Word,
}

#[derive(Args)]
pub(super) struct List {
    /// Those that were lifted too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Show {
    /// The freeze's id
    id: Uuid,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
#[command(
    after_help = "Who froze something lifts it: an owner with a token of the role owner, by two people \
                        where the owner asks for two; what an administrator froze, an administrator"
)]
pub(super) struct Unfreeze {
    /// The freeze's id, as `freeze list` has it
    id: Uuid,
    #[command(flatten)]
    word: Word,
}

impl FreezeVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Workload(OfWorkload { name, word }) => word.freeze(FreezeTarget::Workload { name }),
            Self::Secret(Named { name, word }) => word.freeze(FreezeTarget::Secret { name }),
            Self::Platform(Keyed { fingerprint, word }) => {
                word.freeze(FreezeTarget::Platform { fingerprint })
            }
            Self::Product(OfProduct { name, word }) => word.freeze(FreezeTarget::Product { name }),
            Self::Owner(OfOwner { name, word }) => word.freeze(FreezeTarget::Owner { name }),
            Self::Server(Everything { word }) => word.freeze(FreezeTarget::Server),
            Self::List(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
        }
    }
}

impl Word {
    fn freeze(self, target: FreezeTarget) -> anyhow::Result<Ended> {
        let what = named(&target);
        let body = FreezeBody {
            target,
            reason: self.reason,
        };
        let client = self.connection.client()?;
        let reply: FreezeReply = client.post("/v1/freezes", &body).context(what)?;
        if output::structured(self.output, &reply)? {
            return Ok(Ended::Done);
        }
        if reply.already {
            output::line("It is frozen already; nothing was changed.\n")?;
        }
        told(&reply.freeze)?;
        Ok(Ended::Done)
    }
}

/// What was named on the command line, for errors.
fn named(target: &FreezeTarget) -> String {
    match target {
        FreezeTarget::Server => "the server".to_owned(),
        FreezeTarget::Owner { name: None } => "the owner".to_owned(),
        FreezeTarget::Owner { name: Some(name) } => format!("owner {name}"),
        FreezeTarget::Workload { name } => format!("workload {name}"),
        FreezeTarget::Secret { name } => format!("secret {name}"),
        FreezeTarget::Platform { fingerprint } => format!("platform {fingerprint}"),
        FreezeTarget::Product { name } => format!("product {name}"),
    }
}

impl Unfreeze {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let Self { id, word } = self;
        let body = ReasonBody { reason: word.reason };
        let client = word.connection.client()?;
        let reply: LiftReply = client
            .post(&format!("/v1/freezes/{id}/lift"), &body)
            .with_context(|| format!("freeze {id}"))?;
        if output::structured(word.output, &reply)? {
            return Ok(Ended::Done);
        }
        match &reply.proposal {
            Some(proposal) => waits(proposal)?,
            None => told(&reply.freeze)?,
        }
        Ok(Ended::Done)
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let freezes: Vec<Freeze> = client.list(&format!("/v1/freezes?limit=1000&in_force={}", !self.all))?;
        if output::structured(self.output, &freezes)? {
            return Ok(Ended::Done);
        }
        if freezes.is_empty() {
            output::line(if self.all {
                "Nothing was ever frozen."
            } else {
                "Nothing is frozen."
            })?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["since", "by", "state", "frozen", "id", "reason"]);
        for freeze in &freezes {
            table.add_row([
                freeze.word.time.to_string(),
                who(freeze),
                if freeze.lifted.is_empty() {
                    "in force"
                } else {
                    "lifted"
                }
                .to_owned(),
                frozen(&freeze.target),
                freeze.id.to_string(),
                printable(&freeze.word.reason),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let freeze: Freeze = client
            .get(&format!("/v1/freezes/{}", self.id))
            .with_context(|| format!("freeze {}", self.id))?;
        if !output::structured(self.output, &freeze)? {
            told(&freeze)?;
        }
        Ok(Ended::Done)
    }
}

/// What is frozen, short enough for a table.
fn frozen(target: &Target) -> String {
    let (kind, name) = match target {
        Target::Workload { name, .. } => ("workload", name.to_string()),
        other => other.key(),
    };
    format!("{kind} {name}").trim_end().to_owned()
}

fn who(freeze: &Freeze) -> String {
    let name = printable(&freeze.word.by.name);
    match freeze.owner {
        Some(_) => name,
        None => format!("{name} (administrator)"),
    }
}

/// A freeze for people.
fn told(freeze: &Freeze) -> anyhow::Result<()> {
    let state = if freeze.lifted.is_empty() {
        "FROZEN"
    } else {
        "LIFTED"
    };
    output::line(&format!("{state}  {}\n", freeze.target))?;
    output::line(&format!("freeze     {}", freeze.id))?;
    if let Target::Workload { uuid, .. } = &freeze.target {
        output::line(&format!("workload   {uuid}"))?;
    }
    output::line(&format!(
        "stops      {}",
        match freeze.owner.as_ref().or(match &freeze.target {
            Target::Owner { name } => Some(name),
            _ => None,
        }) {
            Some(owner) => format!("releases of {owner}"),
            None => "releases of every owner".to_owned(),
        }
    ))?;
    output::line("")?;
    said(&freeze.word, &format!("{} froze it:", who(freeze)))?;
    for word in &freeze.lifted {
        said(word, &format!("{} lifted it:", printable(&word.by.name)))?;
    }
    if freeze.lifted.is_empty() {
        output::line(&format!(
            "\nTo let releases go on: keyward unfreeze {} --reason TEXT",
            freeze.id
        ))?;
    }
    Ok(())
}

fn said(word: &crate::domain::approval::Word, what: &str) -> anyhow::Result<()> {
    output::line(&format!("{}  {what}", word.time))?;
    for line in word.reason.lines() {
        output::line(&format!("  {}", printable(line)))?;
    }
    Ok(())
}
