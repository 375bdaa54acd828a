//! `apply`: registers what manifests say, all or none.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::client::{Client, Connection, NotRegistered};
use super::output::{self, Format};
use super::paint::Paint;
use super::people::Plan;
use super::{Ended, changes};
use crate::domain::Labels;
use crate::domain::object::{Action, Applied};
use crate::http::ApplyBody;
use crate::manifest::{self, Manifests};

/// What owners and administrators say, and what is to go.
#[derive(Args)]
pub(super) struct Said {
    /// A manifest, or a folder of them
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Remove every object with the labels of -l that no manifest says
    #[arg(long, requires = "selector")]
    prune: bool,
    /// Labels, for --prune: KEY=VALUE, several with commas
    #[arg(short = 'l', long, value_name = "LABELS", requires = "prune")]
    selector: Option<Labels>,
}

#[derive(Args)]
#[command(
    after_help = "Secrets, key sets, firmware, workloads, signing keys and the policy bundle are one transaction. Owners and \
                  tokens are acts of their own, done after it, in this order; owners need an administrator's token."
)]
pub(super) struct Apply {
    #[command(flatten)]
    said: Said,
    /// Only say what would be done, as `diff` does
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
        let client = self.connection.client();
        if self.dry_run {
            let applied = self.said.tried(&mut self.said.read()?, &client?)?;
            if !output::structured(self.output, &applied)? {
                output::line(&changes::text(&applied, Paint::for_stdout())?)?;
                warn(&applied)?;
                output::line("\nNothing was changed: --dry-run")?;
            }
            return Ok(Ended::Done);
        }
        let mut manifests = self.said.read()?;
        let client = client?;
        // What can be known to fail does so before anything is done.
        let plan = Plan::new(&client, &manifests)?;
        let mut applied = self.said.sent(&mut manifests, &client, false)?;
        let registered = !applied.changes.is_empty();
        let (people, warnings) = plan
            .carry_out(&self.connection, &client, &manifests)
            .with_context(|| match registered {
                true => "the objects were registered, and then",
                false => "nothing else was to be done, and then",
            })?;
        applied.changes.extend(people);
        applied.warnings.extend(warnings);
        if !output::structured(self.output, &applied)? {
            output::line(&table(&applied))?;
            warn(&applied)?;
        }
        Ok(Ended::Done)
    }
}

impl Said {
    pub(super) fn read(&self) -> anyhow::Result<Manifests> {
        let mut manifests = Manifests::default();
        for file in &self.files {
            manifests.extend(manifest::read(file)?);
        }
        if manifests.objects.is_empty() && manifests.owners.is_empty() && manifests.tokens.is_empty() {
            bail!("there is nothing to register in what -f names");
        }
        Ok(manifests)
    }

    /// What would be done.
    pub(super) fn tried(&self, manifests: &mut Manifests, client: &Client) -> anyhow::Result<Applied> {
        let plan = Plan::new(client, manifests)?;
        let mut applied = self.sent(manifests, client, true)?;
        applied.changes.extend(plan.changes().cloned());
        applied.warnings.extend(plan.warnings);
        Ok(applied)
    }

    /// Sends the objects, where there are any.
    fn sent(&self, manifests: &mut Manifests, client: &Client, dry_run: bool) -> anyhow::Result<Applied> {
        let objects = std::mem::take(&mut manifests.objects);
        if objects.is_empty() && self.selector.is_none() {
            return Ok(Applied {
                changes: Vec::new(),
                warnings: Vec::new(),
            });
        }
        let body = ApplyBody {
            dry_run,
            prune: self.selector.clone(),
            ..ApplyBody::new(objects)
        };
        client
            .post("/v1/apply", &body)
            .map_err(|error| match error.downcast_ref::<NotRegistered>() {
                Some(refused) => refused.shown_in(manifests),
                None => error,
            })
    }
}

/// What was done, a line each.
pub(super) fn table(applied: &Applied) -> String {
    let mut table = output::table(&["kind", "name", "action", "detail"]);
    for change in &applied.changes {
        table.add_row([
            change.kind.as_str(),
            shortened(&change.name),
            change.action.as_str(),
            change.detail.as_deref().map_or("", shortened_digest),
        ]);
    }
    table.trim_fmt()
}

pub(super) fn warn(applied: &Applied) -> anyhow::Result<()> {
    for warning in &applied.warnings {
        output::line(&format!("\nwarning: {warning}"))?;
    }
    Ok(())
}

/// Whether anything is not as it should be.
pub(super) fn differs(applied: &Applied) -> bool {
    let mut changes = applied.changes.iter();
    changes.any(|change| change.action != Action::Unchanged)
}

/// A bundle's digest by its first half, which names it as well.
pub(super) fn shortened(name: &str) -> &str {
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
