//! `policy log` and `policy fetch`: what was active, since when and why.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::push::which;
use crate::cli::Ended;
use crate::cli::client::{Client, Connection, from};
use crate::cli::decision_text::printable;
use crate::cli::output::{self, Format};
use crate::domain::revision::Which;
use crate::http::RevisionList;
use crate::policy::opa;

/// How much of a message the table shows, in characters.
const SHOWN: usize = 60;

#[derive(Args)]
pub(in crate::cli) struct Revisions {
    /// At most this many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Revisions {
    pub(super) fn newest(client: &Client, limit: u32) -> anyhow::Result<RevisionList> {
        let wanted = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        let path = |rest: usize| format!("/v1/revisions?limit={}", rest.min(1000));
        let mut list: RevisionList = client.get(&path(wanted))?;
        while let Some(cursor) = list.next.take_if(|_| list.items.len() < wanted) {
            let rest = wanted - list.items.len();
            let page: RevisionList = client.get(&from(&path(rest), Some(&cursor)))?;
            list.items.extend(page.items);
            list.next = page.next;
        }
        Ok(list)
    }

    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let list = Self::newest(&self.connection.client()?, self.limit)?;
        if output::structured(self.output, &list)? {
            return Ok(Ended::Done);
        }
        if list.items.is_empty() {
            output::line("No bundle was ever active")?;
            return Ok(Ended::Done);
        }
        let columns = [
            "",
            "revision",
            "bundle",
            "activated",
            "by",
            "action",
            "key",
            "source",
            "message",
        ];
        let mut table = output::table(&columns);
        for item in &list.items {
            let active = list.active == Some(item.number);
            let digest = item.digest.to_string();
            let action = match item.of {
                Some(of) => format!("{} to {of}", item.action.as_str()),
                None => item.action.as_str().to_owned(),
            };
            let text = |text: &Option<String>| first_line(text.as_deref().unwrap_or("-"));
            table.add_row([
                if active { "*" } else { "" }.to_owned(),
                item.number.to_string(),
                digest.get(..12).unwrap_or(&digest).to_owned(),
                item.activated.to_string(),
                item.by
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |by| first_line(&by.name)),
                action,
                text(&item.key),
                text(if item.source.is_some() {
                    &item.source
                } else {
                    &item.revision
                }),
                text(&item.message),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

/// The first line of a text, escaped and cut to what a table holds.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let more = text.trim().lines().count() > 1;
    let mut shown: String = line.chars().take(SHOWN).collect();
    if more || line.chars().count() > SHOWN {
        shown.push('…');
    }
    printable(&shown)
}

#[derive(Args)]
pub(in crate::cli) struct Fetch {
    /// The revision: its number, or the bundle's digest, which is in every decision taken under it
    #[arg(value_name = "N|DIGEST", value_parser = which)]
    revision: Which,
    /// Where to write it: a file that ends in .tar.gz, or a folder that is not there yet
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

impl Fetch {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let shown = self.path.display();
        if self.path.exists() {
            bail!("{shown} is there already; name another path");
        }
        let what = match self.revision {
            Which::Number(number) => format!("revisions/{number}"),
            Which::Digest(digest) => format!("bundles/{digest}"),
        };
        let client = self.connection.client()?;
        let packed = client.download(&format!("/v1/{what}/archive"))?;
        let files = opa::unpack(&packed).map_err(|found| anyhow::anyhow!("{found}"))?;
        if shown.to_string().ends_with(".gz") {
            std::fs::write(&self.path, packed).with_context(|| format!("{shown}"))?;
        } else {
            for (path, content) in &files {
                let file = self.path.join(path);
                let folder = file.parent().unwrap_or(&self.path);
                std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
                std::fs::write(&file, content).with_context(|| format!("{}", file.display()))?;
            }
        }
        output::line(&format!("{shown}: {} files", files.len()))?;
        Ok(Ended::Done)
    }
}
