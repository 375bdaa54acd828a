//! `apply`: registers what manifests say, all or none.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::Ended;
use super::client::{Connection, NotRegistered};
use super::output::{self, Format};
use crate::domain::object::Applied;
use crate::http::ApplyBody;
use crate::manifest::{self, Manifests};

#[derive(Args)]
pub(super) struct Apply {
    /// A manifest, or a folder of them
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let mut manifests = Manifests::default();
        for file in &self.files {
            manifests.extend(manifest::read(file)?);
        }
        let objects = std::mem::take(&mut manifests.objects);
        if objects.is_empty() {
            bail!("there is nothing to register in what -f names");
        }
        let client = self.connection.client()?;
        let body = ApplyBody {
            objects,
            dry_run: self.dry_run,
        };
        let applied: Applied =
            client
                .post("/v1/apply", &body)
                .map_err(|error| match error.downcast_ref::<NotRegistered>() {
                    Some(refused) => refused.shown_in(&manifests),
                    None => error,
                })?;
        if output::structured(self.output, &applied)? {
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["kind", "name", "action", "detail"]);
        for change in &applied.changes {
            table.add_row([
                change.kind.as_str(),
                shortened(&change.name),
                change.action.as_str(),
                change.detail.as_deref().map_or("", shortened_digest),
            ]);
        }
        output::line(&table.trim_fmt())?;
        for warning in &applied.warnings {
            output::line(&format!("\nwarning: {warning}"))?;
        }
        if self.dry_run {
            output::line("\nNothing was changed: --dry-run")?;
        }
        Ok(Ended::Done)
    }
}

/// A bundle's digest by its first half, which names it as well.
fn shortened(name: &str) -> &str {
    if name.len() == 64 {
        name.get(..12).unwrap_or(name)
    } else {
        name
    }
}

fn shortened_digest(detail: &str) -> &str {
    if detail.starts_with("sha256 ") {
        detail.get(..19).unwrap_or(detail)
    } else {
        detail
    }
}
