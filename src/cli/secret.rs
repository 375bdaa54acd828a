//! `secret versions|purge|rollback`: the history of a secret, never a value.

use clap::{Args, Subcommand};

use super::Ended;
use super::client::Connection;
use super::output::{self, Format};
use crate::domain::Name;
use crate::domain::object::Applied;
use crate::domain::secret_version::SecretVersionInfo;
use crate::http::SecretRollback;

#[derive(Subcommand)]
pub(super) enum SecretVerb {
    /// List the versions of a secret: which is current, who registered it, what holds it fast
    Versions(Versions),
    /// Destroy the value of an earlier version for good; the record of it stays
    Purge(Purge),
    /// Make the value of an earlier version current again, as a new version
    Rollback(Rollback),
}

#[derive(Args)]
pub(super) struct Versions {
    /// The secret
    name: Name,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Purge {
    /// The secret
    name: Name,
    /// The version, as `secret versions` lists it
    version: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(super) struct Rollback {
    /// The secret
    name: Name,
    /// The version to go back to, as `secret versions` lists it
    version: u64,
    #[command(flatten)]
    connection: Connection,
}

impl SecretVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Versions(verb) => verb.run(),
            Self::Purge(verb) => verb.run(),
            Self::Rollback(verb) => verb.run(),
        }
    }
}

fn path(name: &Name) -> String {
    format!("/v1/secret-versions/{name}")
}

impl Versions {
    fn run(self) -> anyhow::Result<Ended> {
        let items: Vec<SecretVersionInfo> = self.connection.client()?.list(&path(&self.name))?;
        if output::structured(self.output, &items)? {
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["version", "state", "created", "by", "notes"]);
        for version in &items {
            let rollback = version.rollback_of.map(|of| format!("value of version {of}"));
            let pinned = version
                .pinned_by
                .iter()
                .map(|holder| format!("pinned by {holder}"));
            let purged = version.purged.map(|time| match &version.purged_by {
                Some(by) => format!("destroyed {time} by {}", by.name),
                None => format!("destroyed {time}, as more versions came than are kept"),
            });
            let notes: Vec<_> = rollback.into_iter().chain(pinned).chain(purged).collect();
            table.add_row([
                version.version.to_string(),
                version.state.as_str().to_owned(),
                version.created.to_string(),
                version.by.as_ref().map_or("-", |by| by.name.as_str()).to_owned(),
                notes.join("; "),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

impl Purge {
    fn run(self) -> anyhow::Result<Ended> {
        let path = format!("{}?version={}", path(&self.name), self.version);
        self.connection.client()?.delete(&path)?;
        output::line(&format!(
            "Secret {} version {}: destroyed",
            self.name, self.version
        ))?;
        Ok(Ended::Done)
    }
}

impl Rollback {
    fn run(self) -> anyhow::Result<Ended> {
        let body = SecretRollback {
            version: self.version,
        };
        let applied: Applied = self.connection.client()?.post(&path(&self.name), &body)?;
        for change in &applied.changes {
            let detail = change.detail.as_deref().unwrap_or_default();
            output::line(&format!(
                "Secret {}: {} ({detail})",
                change.name,
                change.action.as_str()
            ))?;
        }
        for warning in &applied.warnings {
            output::line(&format!("Warning: {warning}"))?;
        }
        Ok(Ended::Done)
    }
}
