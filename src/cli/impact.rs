//! `impact`: what something that went wrong has touched, and what is to be done.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::Ended;
use super::client::{Connection, from};
use super::decision_text::printable;
use super::output::{self, Format};
use crate::domain::impact::{Rotation, RotationState, Touched};
use crate::domain::{HexDigest, Name};
use crate::http::ImpactReply;

/// Launches that one request asks for.
const PAGE: u32 = 500;

#[derive(Args)]
#[command(
    after_help = "A secret or a policy: launches that received something. A platform, an image or a workload: launches \
                        that ran, whether they received anything or not"
)]
pub(super) struct Impact {
    #[command(flatten)]
    cause: CauseArguments,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct CauseArguments {
    /// A secret that leaked: who received it, in any version or in one
    #[arg(long, value_name = "NAME[@VERSION]")]
    secret: Option<String>,
    /// A platform that is not to be trusted: fingerprint of its CEK, or of an operator's OCA
    #[arg(long, value_name = "FINGERPRINT")]
    platform: Option<HexDigest>,
    /// An image that is not: its launch digest
    #[arg(long, value_name = "HEX")]
    digest: Option<HexDigest>,
    /// A policy that let too much through: a revision's number or a bundle's digest
    #[arg(long, value_name = "REVISION")]
    policy: Option<String>,
    /// A workload: its name, or its UUID also after it was deleted
    #[arg(long, value_name = "WORKLOAD")]
    workload: Option<String>,
}

/// All that is found, and what is to be done.
#[derive(Serialize)]
struct Found {
    launches: Vec<Touched>,
    rotation: Vec<Rotation>,
}

impl CauseArguments {
    /// As the query has it, and for people.
    fn query(&self) -> (String, String) {
        let digest = |value: &Option<HexDigest>| value.map(|value| value.to_string());
        let given = [
            ("secret", self.secret.clone()),
            ("platform", digest(&self.platform)),
            ("digest", digest(&self.digest)),
            ("policy", self.policy.clone()),
            ("workload", self.workload.clone()),
        ];
        let given = given
            .into_iter()
            .find_map(|(kind, value)| value.map(|v| (kind, v)));
        // The group lets exactly one through.
        let (kind, value) = given.unwrap_or_default();
        (format!("{kind}={}", escaped(&value)), format!("{kind} {value}"))
    }
}

/// What is to be frozen until all is replaced; none: each secret that is due.
fn to_freeze(what: &str) -> Option<&str> {
    match what.split(' ').next() {
        Some("secret") => what.split('@').next(),
        Some("platform" | "workload") => Some(what),
        _ => None,
    }
}

/// A value in a query: what is not a letter, a digit or one of `-._~` is written in hexadecimal (RFC 3986, 2.1).
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

impl Impact {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let (query, what) = self.cause.query();
        let (mut launches, mut rotation, mut cursor) = (Vec::new(), Due::default(), None);
        loop {
            let path = format!("/v1/impact?{query}&limit={PAGE}");
            let page: ImpactReply = client
                .get(&from(&path, cursor.as_ref()))
                .with_context(|| what.clone())?;
            launches.extend(page.items);
            rotation.add(page.rotation);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let found = Found {
            launches,
            rotation: rotation.all(),
        };
        if output::structured(self.output, &found)? {
            return Ok(Ended::Done);
        }
        if found.launches.is_empty() {
            output::line(&format!(
                "Nothing is affected: no recorded decision is about {}.",
                printable(&what)
            ))?;
            return Ok(Ended::Done);
        }
        launched(&found.launches)?;
        rotated(&found.rotation, to_freeze(&what))?;
        Ok(Ended::Done)
    }
}

/// What is to be done, of all pages.
#[derive(Default)]
struct Due(BTreeMap<Name, Rotation>);

impl Due {
    fn add(&mut self, page: Vec<Rotation>) {
        for rotation in page {
            match self.0.entry(rotation.secret.clone()) {
                Entry::Occupied(mut known) => known.get_mut().merge(rotation),
                Entry::Vacant(new) => drop(new.insert(rotation)),
            }
        }
    }

    fn all(self) -> Vec<Rotation> {
        self.0.into_values().collect()
    }
}

fn launched(launches: &[Touched]) -> anyhow::Result<()> {
    let mut table = output::table(&[
        "time", "outcome", "workload", "secrets", "platform", "digest", "host", "decision",
    ]);
    for launch in launches {
        let secrets: Vec<_> = launch
            .secrets
            .iter()
            .map(|secret| format!("{}@{}", secret.name, secret.version))
            .collect();
        let cek = launch
            .platform
            .as_ref()
            .map(|platform| &platform.fingerprints.cek);
        let digest = launch
            .attested
            .as_ref()
            .and_then(|attested| attested.launch_digest.as_ref());
        table.add_row([
            launch.time.to_string(),
            launch.outcome.as_str().to_owned(),
            launch.workload.name.to_string(),
            if secrets.is_empty() {
                "none".to_owned()
            } else {
                secrets.join(", ")
            },
            cek.map_or("-", |cek| short(cek)).to_owned(),
            digest.map_or("-", |digest| short(digest)).to_owned(),
            printable(&launch.address),
            launch.decision.to_string(),
        ]);
    }
    output::line(&table.trim_fmt())?;
    let guests: BTreeSet<_> = launches.iter().filter_map(|launch| launch.launch).collect();
    let received = launches
        .iter()
        .filter(|launch| !launch.secrets.is_empty())
        .count();
    output::line(&format!(
        "\n{}, {}, {received} of them with secrets.",
        counted(guests.len(), "launch", "launches"),
        counted(launches.len(), "decision", "decisions"),
    ))
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn rotated(rotation: &[Rotation], freeze: Option<&str>) -> anyhow::Result<()> {
    if rotation.is_empty() {
        return output::line("Nothing was released to them: there is no secret to replace.");
    }
    let due: Vec<_> = rotation
        .iter()
        .filter(|rotation| rotation.state == RotationState::Due)
        .collect();
    output::line(&format!(
        "{} of {} must be replaced.\n",
        due.len(),
        counted(rotation.len(), "secret", "secrets")
    ))?;
    let mut table = output::table(&["secret", "released", "current", "state"]);
    for rotation in rotation {
        let versions: Vec<_> = rotation.released.iter().map(u64::to_string).collect();
        table.add_row([
            rotation.secret.to_string(),
            versions.join(", "),
            rotation
                .current
                .map_or_else(|| "-".to_owned(), |current| current.to_string()),
            match rotation.state {
                RotationState::Due => "replace it",
                RotationState::Replaced => "was replaced since",
                RotationState::Deleted => "was deleted",
            }
            .to_owned(),
        ]);
    }
    output::line(&table.trim_fmt())?;
    if due.is_empty() {
        return Ok(());
    }
    output::line(
        "\nStop what goes on, register new values, change what the old ones open, and let it go on:\n",
    )?;
    let each = due.iter().map(|due| format!("secret {}", due.secret));
    let frozen: Vec<_> = freeze.map_or_else(|| each.collect(), |what| vec![what.to_owned()]);
    for what in frozen {
        output::line(&format!("  keyward freeze {what} --reason TEXT"))?;
    }
    for rotation in due {
        output::line(&format!(
            "  keyward apply -f MANIFEST     # with a new value of the Secret {}",
            rotation.secret
        ))?;
    }
    output::line("  keyward unfreeze FREEZE --reason TEXT")
}
