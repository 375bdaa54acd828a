//! `sev secret`: what is sent to a guest once it is measured.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::check::Check;
use super::files::{self, PRIVATE};
use super::validate::check_and_wrap;
use super::wrap::{Wrapping, named, table};
use crate::cli::Ended;
use crate::cli::output::{self, Format, Misused};
use crate::domain::Base64Bytes;
use crate::sev::secret_table::{self, ALIASES, DEFAULT_AREA};

#[derive(Subcommand)]
pub(in crate::cli) enum SecretVerb {
    /// Check a measurement and wrap secrets for that one guest. Exit code 2: it does not hold, nothing is written
    Wrap(Box<Wrap>),
    /// Build the table of secrets in clear, as the guest will see it
    Table(Build),
    /// Show what is in a table of secrets
    Show(Show),
    /// List the GUIDs that guests are known to look for, and their aliases
    Guids(Guids),
}

impl SecretVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Wrap(verb) => verb.run(),
            Self::Table(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
            Self::Guids(verb) => verb.run(),
        }
    }
}

#[derive(Args)]
pub(in crate::cli) struct Wrap {
    #[command(flatten)]
    check: Check,
    #[command(flatten)]
    wrapping: Wrapping,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Wrap {
    fn run(&self) -> anyhow::Result<Ended> {
        if !self.wrapping.is_wanted() {
            let why = "nothing to wrap: give --secret, --secret-header and --secret-payload";
            return Err(Misused(why.to_owned()).into());
        }
        check_and_wrap(&self.check, &self.wrapping, self.output)
    }
}

#[derive(Args)]
pub(in crate::cli) struct Build {
    /// A secret: its GUID, or an alias of `sev secret guids`, and the file; several may be given
    #[arg(long = "secret", value_name = "GUID|ALIAS:FILE", value_parser = named, required = true)]
    secrets: Vec<(Uuid, PathBuf)>,
    /// Where the table is written, for your eyes only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Size of the firmware's area for secrets in bytes
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_AREA)]
    secret_area: usize,
}

impl Build {
    fn run(&self) -> anyhow::Result<Ended> {
        let table = table(&self.secrets, self.secret_area)?;
        files::write_together(&[(&self.out, &table, PRIVATE)])?;
        output::line(&format!(
            "{}: {} bytes, not encrypted",
            self.out.display(),
            table.len()
        ))?;
        Ok(Ended::Done)
    }
}

#[derive(Args)]
pub(in crate::cli) struct Show {
    /// The table, such as `sev secret table` makes or a guest finds it
    table: PathBuf,
    /// Print the secrets themselves, base64
    #[arg(long)]
    values: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Shown {
    guid: Uuid,
    alias: Option<&'static str>,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Base64Bytes>,
}

impl Show {
    fn run(&self) -> anyhow::Result<Ended> {
        let what = || self.table.display().to_string();
        let bytes = files::read_text_or_bytes(&self.table)?;
        let entries = secret_table::parse(&bytes).with_context(what)?;
        let shown: Vec<Shown> = entries
            .iter()
            .map(|entry| Shown {
                guid: entry.guid,
                alias: alias(entry.guid),
                bytes: entry.data.len(),
                value: self.values.then(|| Base64Bytes(entry.data.to_vec())),
            })
            .collect();
        if output::structured(self.output, &shown)? {
            return Ok(Ended::Done);
        }
        for entry in shown {
            let alias = entry.alias.unwrap_or("-");
            let value = entry.value.map(|value| format!("  {value}")).unwrap_or_default();
            output::line(&format!("{}  {alias}  {} bytes{value}", entry.guid, entry.bytes))?;
        }
        Ok(Ended::Done)
    }
}

#[derive(Args)]
pub(in crate::cli) struct Guids {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Known {
    alias: &'static str,
    guid: Uuid,
}

impl Guids {
    fn run(&self) -> anyhow::Result<Ended> {
        let known: Vec<Known> = ALIASES
            .iter()
            .map(|(alias, guid)| Known { alias, guid: *guid })
            .collect();
        if !output::structured(self.output, &known)? {
            for Known { alias, guid } in known {
                output::line(&format!("{guid}  {alias}"))?;
            }
        }
        Ok(Ended::Done)
    }
}

fn alias(guid: Uuid) -> Option<&'static str> {
    ALIASES
        .iter()
        .find(|(_, known)| *known == guid)
        .map(|(alias, _)| *alias)
}
