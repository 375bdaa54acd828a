//! `platform`: where guests were measured, and what the owner says of each.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use super::Ended;
use super::client::{Connection, from};
use super::decision_text::printable;
use super::limits::waits;
use super::output::{self, Format};
use crate::domain::HexDigest;
use crate::domain::platform::{Accepted, Platform, SeenBuild};
use crate::http::{AcceptedBody, AcceptedReply, PlatformReply, PlatformsReply, ReasonBody};

#[derive(Subcommand)]
pub(super) enum PlatformVerb {
    /// List platforms on which guests were measured, and those that were enrolled or refused
    List(List),
    /// Show one platform: when it was seen, its versions, its operators' keys
    Show(Show),
    /// Let a platform get releases where only enrolled ones do; takes a refusal back
    Enrol(Say),
    /// Let a platform get no releases and begin no launches
    Refuse(Say),
    /// Say which platforms get releases: any that is not refused, or only enrolled ones
    Accept(Accept),
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
pub(super) struct Show {
    /// Fingerprint of its CEK
    #[arg(value_name = "FINGERPRINT")]
    cek: HexDigest,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Say {
    /// Fingerprint of its CEK; it need not have been seen
    #[arg(value_name = "FINGERPRINT")]
    cek: HexDigest,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Any,
    Enrolled,
}

#[derive(Args)]
#[command(
    after_help = "With `enrolled`, a launch may begin on any platform that is not refused and gets nothing until \
                        the platform is enrolled, so that new ones are listed and can be"
)]
pub(super) struct Accept {
    /// Which
    #[arg(value_enum)]
    which: Which,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl PlatformVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::List(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
            Self::Enrol(verb) => verb.run("enrol"),
            Self::Refuse(verb) => verb.run("refuse"),
            Self::Accept(verb) => verb.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let mut all: PlatformsReply = client.get("/v1/platforms?limit=1000")?;
        while let Some(next) = all.next {
            let page: PlatformsReply = client.get(&from("/v1/platforms?limit=1000", Some(&next)))?;
            all.items.extend(page.items);
            (all.next, all.accepted) = (page.next, page.accepted);
        }
        if output::structured(self.output, &all)? {
            return Ok(Ended::Done);
        }
        let accepted = match all.accepted {
            Accepted::Any => "Releases go to any platform that is not refused.",
            Accepted::Enrolled => "Releases go to enrolled platforms only.",
        };
        if all.items.is_empty() {
            output::line(&format!("No guest was measured on any platform yet. {accepted}"))?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&[
            "last seen",
            "standing",
            "product",
            "version",
            "launches",
            "releases",
            "cek",
        ]);
        for platform in &all.items {
            let seen = platform.seen.as_ref();
            let text =
                |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| printable(&value));
            table.add_row([
                text(seen.map(|seen| seen.last.to_string())),
                platform.standing.as_str().to_owned(),
                text(seen.and_then(|seen| seen.product.clone())),
                text(seen.and_then(|seen| seen.builds.first()).map(version)),
                text(seen.map(|seen| seen.launches.to_string())),
                text(seen.map(|seen| seen.releases.to_string())),
                platform.cek.to_string(),
            ]);
        }
        output::line(&table.trim_fmt())?;
        output::line(&format!("\n{accepted}"))?;
        Ok(Ended::Done)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let platform: Platform = client
            .get(&format!("/v1/platforms/{}", self.cek))
            .with_context(|| format!("platform {}", self.cek))?;
        if !output::structured(self.output, &platform)? {
            told(&platform)?;
        }
        Ok(Ended::Done)
    }
}

impl Say {
    fn run(self, verb: &str) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let body = ReasonBody { reason: self.reason };
        let reply: PlatformReply = client
            .post(&format!("/v1/platforms/{}/{verb}", self.cek), &body)
            .with_context(|| format!("platform {}", self.cek))?;
        if output::structured(self.output, &reply)? {
            return Ok(Ended::Done);
        }
        match &reply.proposal {
            Some(proposal) => waits(proposal)?,
            None => told(&reply.platform)?,
        }
        Ok(Ended::Done)
    }
}

impl Accept {
    fn run(self) -> anyhow::Result<Ended> {
        let body = AcceptedBody {
            accepted: match self.which {
                Which::Any => Accepted::Any,
                Which::Enrolled => Accepted::Enrolled,
            },
            reason: self.reason,
        };
        let reply: AcceptedReply = self.connection.client()?.put("/v1/platforms/accepted", &body)?;
        if output::structured(self.output, &reply)? {
            return Ok(Ended::Done);
        }
        match &reply.proposal {
            Some(proposal) => waits(proposal)?,
            None => output::line(match reply.accepted {
                Accepted::Any => "Releases go to any platform that is not refused.",
                Accepted::Enrolled => "Releases go to enrolled platforms only.",
            })?,
        }
        Ok(Ended::Done)
    }
}

fn version(build: &SeenBuild) -> String {
    format!(
        "API {}.{} build {}",
        build.api_major, build.api_minor, build.build_id
    )
}

fn told(platform: &Platform) -> anyhow::Result<()> {
    for line in text(platform) {
        output::line(line.trim_end())?;
    }
    Ok(())
}

/// A platform for people.
fn text(platform: &Platform) -> Vec<String> {
    let row = |name: &str, value: &str| format!("{name:<11}{}", printable(value));
    let mut lines = vec![
        format!("{}  {}", platform.standing.as_str().to_uppercase(), platform.cek),
        String::new(),
    ];
    match &platform.seen {
        None => lines.push("No guest was measured on it yet.".to_owned()),
        Some(seen) => {
            let product = seen.product.as_deref().unwrap_or("not known");
            lines.push(row("product", &format!("{product} under root {}", seen.root)));
            if let Some(chip) = &seen.chip_id {
                lines.push(row("chip", &chip.to_string()));
            }
            lines.push(row("first", &seen.first.to_string()));
            lines.push(row("last", &seen.last.to_string()));
            lines.push(row("launches", &seen.launches.to_string()));
            lines.push(row("releases", &seen.releases.to_string()));
            for build in &seen.builds {
                let when = format!("{}  from {} to {}", version(build), build.first, build.last);
                lines.push(row("version", &when));
            }
            for oca in &seen.ocas {
                let when = format!("{}  from {} to {}", oca.fingerprint, oca.first, oca.last);
                lines.push(row("OCA", &when));
            }
        }
    }
    if let Some(word) = &platform.word {
        let (time, name) = (word.time, printable(&word.by.name));
        lines.push(String::new());
        lines.push(format!("{time}  {name} {} it:", platform.standing.as_str()));
        lines.extend(word.reason.lines().map(|line| format!("  {}", printable(line))));
    }
    lines
}
