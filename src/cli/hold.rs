//! `hold`: releases that wait for a person's word, and the word.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Ended;
use super::client::{Connection, from};
use super::decision_text::printable;
use super::output::{self, Format};
use crate::domain::HexDigest;
use crate::domain::approval::Word;
use crate::domain::hold::{Approval, Held, Hold, HoldState};
use crate::http::{ConfirmBody, HoldList, ReasonBody};

#[derive(Subcommand)]
pub(super) enum HoldVerb {
    /// List holds, newest first
    List(List),
    /// Show one hold: what was attested, which counts are in the way, who said what
    Show(Show),
    /// Let some releases be made beyond the limit; the policies run again for each
    Confirm(Confirm),
    /// Refuse the hold's launches any release beyond the limit
    Reject(Say),
    /// Take back what is left of a confirmation
    Withdraw(Say),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only these: open, pending, confirmed, rejected or closed
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<HoldState>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Show {
    /// The hold's id, as the host was told
    id: Uuid,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Confirm {
    /// The hold's id
    id: Uuid,
    /// How many releases beyond the limit
    #[arg(long, value_name = "N")]
    additional: u64,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For any guest of the workload, not only for the attested one
    #[arg(long, conflicts_with_all = ["launch_digest", "cek"])]
    any: bool,
    /// For the guest with this launch digest, where the hold lists several
    #[arg(long, value_name = "HEX")]
    launch_digest: Option<HexDigest>,
    /// For the guest on the chip with this CEK, where the hold lists several
    #[arg(long, value_name = "HEX")]
    cek: Option<HexDigest>,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Say {
    /// The hold's id
    id: Uuid,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

fn state(text: &str) -> Result<HoldState, String> {
    text.parse()
        .map_err(|()| "expected open, pending, confirmed, rejected or closed".to_owned())
}

impl HoldVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::List(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
            Self::Confirm(verb) => verb.run(),
            Self::Reject(verb) => verb.run("reject"),
            Self::Withdraw(verb) => verb.run("withdraw"),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let (mut holds, mut cursor): (Vec<Hold>, _) = (Vec::new(), None);
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        while holds.len() < wanted {
            let mut path = format!("/v1/holds?limit={}", (wanted - holds.len()).min(1000));
            if let Some(state) = self.state {
                path.push_str(&format!("&state={}", state.as_str()));
            }
            let page: HoldList = client.get(&from(&path, cursor.as_ref()))?;
            holds.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if output::structured(self.output, &holds)? {
            return Ok(Ended::Done);
        }
        if holds.is_empty() {
            output::line("There are no such holds.")?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&[
            "last try", "state", "workload", "launches", "requests", "id", "secrets",
        ]);
        for hold in &holds {
            table.add_row([
                hold.last_try.to_string(),
                hold.state.as_str().to_owned(),
                hold.workload.name.to_string(),
                hold.launches.to_string(),
                hold.requests.to_string(),
                hold.id.to_string(),
                names(hold),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let hold: Hold = client
            .get(&format!("/v1/holds/{}", self.id))
            .with_context(|| format!("hold {}", self.id))?;
        told(self.output, &hold)
    }
}

impl Confirm {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let body = ConfirmBody {
            additional: self.additional,
            any: self.any,
            launch_digest: self.launch_digest,
            cek: self.cek,
            reason: self.reason,
        };
        let hold: Hold = client
            .post(&format!("/v1/holds/{}/confirm", self.id), &body)
            .with_context(|| format!("hold {}", self.id))?;
        told(self.output, &hold)
    }
}

impl Say {
    fn run(self, verb: &str) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let body = ReasonBody { reason: self.reason };
        let hold: Hold = client
            .post(&format!("/v1/holds/{}/{verb}", self.id), &body)
            .with_context(|| format!("hold {}", self.id))?;
        told(self.output, &hold)
    }
}

fn told(format: Format, hold: &Hold) -> anyhow::Result<Ended> {
    if !output::structured(format, hold)? {
        for line in text(hold) {
            output::line(line.trim_end())?;
        }
    }
    Ok(Ended::Done)
}

fn names(hold: &Hold) -> String {
    let names: Vec<&str> = hold.secrets.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}

/// A hold for people.
pub(super) fn text(hold: &Hold) -> Vec<String> {
    let row = |name: &str, value: &str| format!("{name:<11}{value}");
    let mut lines = vec![
        format!(
            "{}  {}",
            hold.state.as_str().to_uppercase(),
            printable(&hold.reason)
        ),
        String::new(),
        row("hold", &hold.id.to_string()),
        row(
            "workload",
            &format!("{} ({})", hold.workload.name, hold.workload.uuid),
        ),
        row("secrets", &names(hold)),
        row("launches", &hold.launches.to_string()),
        row("requests", &hold.requests.to_string()),
        row("first", &hold.created.to_string()),
        row("last", &hold.last_try.to_string()),
    ];
    if let Some(closed) = hold.closed {
        lines.push(row("closed", &format!("{closed}: there was room again")));
    }
    for held in &hold.attested {
        lines.push(String::new());
        lines.extend(attested(held));
    }
    let words = hold
        .approvals
        .iter()
        .map(|approval| (said(approval), &approval.word));
    let rejected = hold.rejected.iter().map(|word| ("rejected it".to_owned(), word));
    let withdrawn = hold
        .withdrawn
        .iter()
        .map(|word| ("took back what was left".to_owned(), word));
    let words: Vec<(String, &Word)> = words.chain(rejected).chain(withdrawn).collect();
    if !words.is_empty() {
        lines.push(String::new());
    }
    for (what, word) in words {
        lines.push(format!("{}  {} {what}:", word.time, printable(&word.by.name)));
        lines.extend(word.reason.lines().map(|line| format!("  {}", printable(line))));
    }
    if hold.state == HoldState::Pending {
        lines.push("Another person must confirm the same.".to_owned());
    }
    if !hold.allowances.is_empty() {
        lines.push(String::new());
    }
    for allowance in &hold.allowances {
        let kind = allowance.binding.kind.as_str();
        lines.push(format!(
            "{} within {}: {} of {} additional releases are left",
            allowance.secret,
            if allowance.binding.name.is_empty() {
                kind.to_owned()
            } else {
                format!("{kind} {}", allowance.binding.name)
            },
            allowance.left(),
            allowance.additional
        ));
    }
    lines
}

fn attested(held: &Held) -> Vec<String> {
    let row = |name: &str, value: &str| format!("{name:<11}{value}");
    let mut lines = vec![
        row("digest", &held.of.launch_digest.to_string()),
        row("CEK", &held.of.cek.to_string()),
    ];
    if let Some(name) = held.image.as_ref().and_then(|image| image.name.as_ref()) {
        lines.push(row("image", name));
    }
    if let Some(platform) = &held.platform {
        let product = platform.product.as_deref().unwrap_or("not known");
        lines.push(row(
            "platform",
            &format!("{product} under root {}", platform.root),
        ));
    }
    lines.push(row("launches", &held.launches.to_string()));
    lines
}

fn said(approval: &Approval) -> String {
    let whom = match &approval.guest {
        Some(guest) => {
            let digest = guest.launch_digest.to_string();
            format!("digest {}", digest.get(..12).unwrap_or(&digest))
        }
        None => "any guest".to_owned(),
    };
    format!("confirmed {} additional for {whom}", approval.additional)
}
