//! `delete`: removes objects by name, or all that manifests name, in one transaction; tokens after it, one by one.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;

use super::apply::{table, warn};
use super::client::{Client, Connection, NotRegistered};
use super::kinds::AnyKind;
use super::output::{self, Format, Misused};
use super::{Ended, token};
use crate::domain::applied::ObjectName;
use crate::domain::object::{Action, Applied, Change};
use crate::domain::token::TokenEntry;
use crate::domain::{Clock as _, Name, SystemClock};
use crate::http::ApplyBody;
use crate::manifest::{self, Manifests, Named};

#[derive(Args)]
#[command(
    after_help = "What something else still refers to is not removed. How often a secret was released is not forgotten with it: \
                  made again, it goes on where it was. Owners and policy bundles are not removed."
)]
pub(super) struct Delete {
    /// Secret, KeySet, Firmware, Workload, SigningKey or Token
    #[arg(
        value_name = "KIND",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    kind: Option<AnyKind>,
    /// Names; of a workload its UUID too
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// A manifest, or a folder of them, that names what is to go
    #[arg(short, long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Delete {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let (mut stays, mut places) = (Vec::new(), Manifests::default());
        let (mut remove, mut tokens) = (Vec::new(), Vec::new());
        for (kind, name) in self.named(&mut stays, &mut places)? {
            match kind {
                AnyKind::Object(kind) => remove.push(ObjectName { kind, name }),
                AnyKind::Token => tokens.push(name),
                AnyKind::Owner | AnyKind::PolicyBundle => {
                    let word = kind.as_str();
                    bail!(Misused(format!(
                        "nothing of kind {word} is removed: an owner's records and revisions are kept"
                    )));
                }
                AnyKind::Trust => bail!(Misused(
                    "an owner always has a Trust: apply one with `platforms: any` to take any platform again"
                        .to_owned()
                )),
            }
        }
        let client = self.connection.client()?;
        let revoked = self.valid(&client, &tokens)?;
        let mut applied = Applied {
            changes: Vec::new(),
            warnings: stays,
        };
        if !remove.is_empty() {
            let body = ApplyBody {
                dry_run: self.dry_run,
                remove,
                ignore_missing: self.ignore_not_found,
                ..ApplyBody::new(Vec::new())
            };
            let Applied { changes, warnings } = client.post("/v1/apply", &body).map_err(|error| {
                match error.downcast_ref::<NotRegistered>() {
                    Some(refused) => refused.shown_in(&places),
                    None => error,
                }
            })?;
            applied.changes.extend(changes);
            applied.warnings.extend(warnings);
        }
        for entry in revoked {
            if !self.dry_run {
                client.delete(&format!("/v1/tokens/{}", entry.id))?;
            }
            applied.changes.push(Change {
                kind: "Token".to_owned(),
                name: entry.name.to_string(),
                action: Action::Removed,
                detail: Some(format!("id {}", entry.id)),
                members: Vec::new(),
                before: None,
                after: None,
            });
        }
        if !output::structured(self.output, &applied)? {
            output::line(&table(&applied))?;
            warn(&applied)?;
            if self.dry_run {
                output::line("\nNothing was removed: --dry-run")?;
            }
        }
        Ok(Ended::Done)
    }

    /// What is to go; of manifests, what can't is only told.
    fn named(&self, stays: &mut Vec<String>, places: &mut Manifests) -> anyhow::Result<Vec<(AnyKind, Name)>> {
        if let Some(kind) = self.kind {
            if self.names.is_empty() {
                bail!(Misused(format!("which {}? Give one name or more", kind.as_str())));
            }
            return Ok(self.names.iter().map(|name| (kind, name.clone())).collect());
        }
        let mut all = Vec::new();
        for file in &self.files {
            let (named, found) = manifest::named(file)?;
            places.extend(found);
            for Named { kind, name } in named {
                let known: AnyKind = kind
                    .parse()
                    .map_err(|expected| anyhow!("{}: kind {kind}: {expected}", file.display()))?;
                match (known, name) {
                    (AnyKind::Owner | AnyKind::PolicyBundle, name) => {
                        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
                        stays.push(format!(
                            "{}{name} stays: it is kept for the record",
                            known.as_str()
                        ));
                    }
                    (AnyKind::Trust, _) => {
                        stays.push(
                            "Trust stays: apply one with `platforms: any` to take any platform again"
                                .to_owned(),
                        );
                    }
                    (known, Some(name)) => all.push((known, name)),
                    (_, None) => {}
                }
            }
        }
        Ok(all)
    }

    /// The valid tokens of these names.
    fn valid(&self, client: &Client, names: &[Name]) -> anyhow::Result<Vec<TokenEntry>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let now = SystemClock.now();
        let mut known = client.list::<TokenEntry>("/v1/tokens")?;
        known.retain(|entry| token::is_valid(entry, now) && names.contains(&entry.name));
        for name in names {
            let called = known.iter().filter(|entry| entry.name == *name).count();
            if called == 0 && !self.ignore_not_found {
                bail!("there is no valid token {name}");
            }
            if called > 1 {
                bail!(
                    "{called} valid tokens are called {name}: `keyward token revoke` with an id of `keyward token list`"
                );
            }
        }
        Ok(known)
    }
}
