//! `get`: what is registered, in a table, in JSON, or as manifests that `apply` takes back.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::apply::shortened;
use super::client::{Client, Connection};
use super::kinds::AnyKind;
use super::output::{self, Format};
use super::people::document;
use super::{Ended, changes, token};
use crate::domain::approval::Approvals;
use crate::domain::token::TokenEntry;
use crate::domain::{Clock as _, Labels, Name, SystemClock};
use crate::http::{ObjectList, OwnerEntry};
use crate::release::register::Shown;

#[derive(Args)]
#[command(
    after_help = "-o yaml prints manifests that `apply` takes back. What they can't say stays as it is: the value of a \
                  secret, the bytes of a firmware, the files of a policy bundle."
)]
pub(super) struct Get {
    /// PolicyBundle, Trust, Secret, KeySet, Firmware, Workload, SigningKey, Owner, Token, or `all` of an owner's objects
    #[arg(value_parser = kind, value_name = "KIND")]
    kind: Asked,
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only what has these labels: KEY=VALUE, several with commas
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<Labels>,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Asked {
    All,
    One(AnyKind),
}

fn kind(text: &str) -> Result<Asked, String> {
    if text == "all" {
        return Ok(Asked::All);
    }
    text.parse()
        .map(Asked::One)
        .map_err(|known| format!("{known}, or all"))
}

impl Get {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let (mut items, unseen) = match self.kind {
            Asked::One(AnyKind::Owner) => (owners(&client)?, Vec::new()),
            Asked::One(AnyKind::Token) => (tokens(&client)?, Vec::new()),
            Asked::All => objects(&client, None)?,
            Asked::One(kind) => objects(&client, Some(kind.as_str()))?,
        };
        for name in &self.names {
            let uuid = |shown: &Shown| shown.manifest.get("uuid").and_then(Value::as_str) == Some(name);
            if !items.iter().any(|shown| shown.name == *name || uuid(shown)) {
                bail!("there is no {} {name}", self.kind.word());
            }
        }
        if !self.names.is_empty() {
            items.retain(|shown| {
                let uuid = shown.manifest.get("uuid").and_then(Value::as_str);
                self.names
                    .iter()
                    .any(|name| shown.name == *name || uuid == Some(name))
            });
        }
        if let Some(selector) = &self.selector {
            items.retain(|shown| shown.labels.have(selector));
        }
        match self.output {
            Format::Json => output::line(&serde_json::to_string_pretty(&items)?)?,
            Format::Yaml => {
                let documents: Vec<_> = items
                    .iter()
                    .map(|shown| changes::yaml(&shown.manifest))
                    .collect::<Result<_, _>>()?;
                output::line(documents.join("---\n").trim_end())?;
            }
            Format::Table => {
                output::line(&table(&items))?;
                if !unseen.is_empty() {
                    output::line(&format!("\nNot for this token's role: {}", unseen.join(", ")))?;
                }
            }
        }
        Ok(Ended::Done)
    }
}

impl Asked {
    fn word(self) -> &'static str {
        match self {
            Self::All => "object",
            Self::One(kind) => kind.as_str(),
        }
    }
}

/// The objects of a kind, or all; and the kinds that the token's role does not see.
fn objects(client: &Client, kind: Option<&str>) -> anyhow::Result<(Vec<Shown>, Vec<String>)> {
    let ObjectList {
        mut items, unseen, ..
    } = client.get("/v1/objects")?;
    let Some(kind) = kind else {
        return Ok((items, unseen));
    };
    if unseen.iter().any(|unseen| unseen == kind) {
        bail!("the token's role does not see objects of kind {kind}");
    }
    items.retain(|shown| shown.kind == kind);
    Ok((items, Vec::new()))
}

/// An administrator sees all owners, an owner its own.
fn owners(client: &Client) -> anyhow::Result<Vec<Shown>> {
    if let Some(list) = client.list_allowed::<OwnerEntry>("/v1/owners")? {
        let owners = list.into_iter();
        return Ok(owners
            .map(|owner| shown("Owner", &owner.name, [], json!({})))
            .collect());
    }
    let ObjectList { owner, .. } = client.get("/v1/objects")?;
    let approvals: Approvals = client.get("/v1/approvals")?;
    let required = json!(approvals.approvals_required);
    Ok(vec![shown(
        "Owner",
        &owner,
        [("approvals_required", required)],
        json!({}),
    )])
}

/// The valid ones.
fn tokens(client: &Client) -> anyhow::Result<Vec<Shown>> {
    let now = SystemClock.now();
    let mut tokens = client.list::<TokenEntry>("/v1/tokens")?;
    tokens.retain(|entry| token::is_valid(entry, now));
    let shown = tokens.into_iter().map(|entry| {
        let members = [
            ("role", json!(entry.role)),
            ("owner", json!(entry.owner)),
            ("expires", json!(entry.expires)),
        ];
        let status = json!({"id": entry.id, "created": entry.created, "last_used": entry.last_used});
        shown("Token", &entry.name, members, status)
    });
    Ok(shown.collect())
}

fn shown<const N: usize>(kind: &str, name: &Name, members: [(&str, Value); N], status: Value) -> Shown {
    Shown {
        kind: kind.to_owned(),
        name: name.to_string(),
        labels: Labels::default(),
        manifest: document(kind, name, members),
        status,
    }
}

fn table(items: &[Shown]) -> String {
    let mut table = output::table(&["kind", "name", "labels", "detail"]);
    for shown in items {
        table.add_row([
            shown.kind.clone(),
            shortened(&shown.name).to_owned(),
            shown.labels.to_string(),
            detail(shown),
        ]);
    }
    table.trim_fmt()
}

/// What people want to see of an object first.
fn detail(shown: &Shown) -> String {
    let said = |part: &Value, member: &str| match part.get(member) {
        Some(Value::String(text)) => Some(shortened(text).to_owned()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let parts: Vec<_> = match shown.kind.as_str() {
        "Secret" => vec![("version", said(&shown.status, "version"))],
        "Firmware" => vec![("sha256", said(&shown.manifest, "sha256"))],
        "Workload" => vec![("uuid", said(&shown.manifest, "uuid"))],
        "Trust" => vec![("platforms", said(&shown.manifest, "platforms"))],
        "PolicyBundle" => vec![("revision", said(&shown.status, "revision"))],
        "SigningKey" => vec![("", said(&shown.manifest, "algorithm"))],
        "Token" => vec![
            ("role", said(&shown.manifest, "role")),
            ("of", said(&shown.manifest, "owner")),
            ("until", said(&shown.manifest, "expires")),
        ],
        "Owner" => vec![("approvals", said(&shown.manifest, "approvals_required"))],
        _ => Vec::new(),
    };
    let said = parts
        .into_iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", value?).trim().to_owned()));
    said.collect::<Vec<_>>().join(", ")
}
