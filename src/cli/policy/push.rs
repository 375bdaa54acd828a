//! `policy push` and `policy rollback`: which bundle is the active one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::revisions::Revisions;
use super::{OWNER, files, not_done, workers};
use crate::cli::Ended;
use crate::cli::client::{Client, Connection};
use crate::cli::output::{self, Format};
use crate::domain::object::Action;
use crate::domain::revision::{Revision, Which};
use crate::domain::{Base64Bytes, HexDigest};
use crate::http::{PushBody, PushReply, RollbackBody};
use crate::policy::{Archived, Bundle, Evaluator as _, LoadError};

#[derive(Args)]
pub(in crate::cli) struct Push {
    /// Folder of the policy repository, or a bundle (`bundle.tar.gz`)
    #[arg(
        value_name = "DIR",
        required_unless_present = "revision",
        conflicts_with = "revision"
    )]
    folder: Option<PathBuf>,
    /// Go back to an earlier revision instead: its number, or the bundle's digest
    #[arg(long, value_name = "N|DIGEST", value_parser = which)]
    revision: Option<Which>,
    /// Why, for who reads the log
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Where the bundle is from, such as a commit; left out: `vcs_revision` of the manifest's `metadata`
    #[arg(long, value_name = "TEXT", conflicts_with = "revision")]
    source: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(in crate::cli) struct Rollback {
    /// The revision to go back to: its number, or the bundle's digest; left out: the one before the active one
    #[arg(long, value_name = "N|DIGEST", value_parser = which)]
    to: Option<Which>,
    /// Why, for who reads the log
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

/// A revision's number, or a bundle's digest.
pub(super) fn which(text: &str) -> Result<Which, String> {
    if let Ok(digest) = text.parse::<HexDigest>() {
        return Ok(Which::Digest(digest));
    }
    text.parse()
        .map(Which::Number)
        .map_err(|_| "expected a revision's number, or a bundle's digest of 64 hexadecimal digits".to_owned())
}

impl Push {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let reply = match (&self.folder, self.revision) {
            (Some(folder), _) => {
                let body = PushBody {
                    files: checked(folder)?,
                    policies: None,
                    message: self.message,
                    source: self.source,
                    dry_run: self.dry_run,
                };
                client.post("/v1/bundles", &body)?
            }
            (None, Some(to)) => go_back(&client, to, self.message, self.dry_run)?,
            (None, None) => bail!("there is nothing to push"),
        };
        show(&reply, self.output, self.dry_run)
    }
}

impl Rollback {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let client = self.connection.client()?;
        let to = match self.to {
            Some(to) => to,
            None => before_the_active(&Revisions::newest(&client, 1000)?.items)
                .context("there is no revision before the active one to go back to")?,
        };
        let reply = go_back(&client, to, self.message, self.dry_run)?;
        show(&reply, self.output, self.dry_run)
    }
}

/// The revision before the active one. Where that was gone back to itself, the one before what it was: who goes back
/// twice wants what was active earlier, not what was left a moment ago.
fn before_the_active(newest_first: &[Revision]) -> Option<Which> {
    let active = newest_first.first()?;
    let since = active.of.unwrap_or(active.number);
    let before = newest_first
        .iter()
        .find(|one| one.number < since && one.digest != active.digest)?;
    Some(Which::Number(before.number))
}

/// The files of a repository that passes what `policy check` looks at.
fn checked(folder: &Path) -> anyhow::Result<BTreeMap<String, Base64Bytes>> {
    let files = files(folder)?;
    let broken = |found| not_done("the bundle is not pushed", folder, found);
    let bundle = Bundle::from_files(files.clone()).map_err(broken)?;
    match workers(Duration::from_millis(200)).load(OWNER, &Archived::from(&bundle), true) {
        Ok(_) => Ok(files
            .into_iter()
            .map(|(path, bytes)| (path, Base64Bytes(bytes)))
            .collect()),
        Err(LoadError::Refused(found)) => Err(broken(found)),
        Err(LoadError::NotNow(why)) => bail!(why),
    }
}

fn go_back(client: &Client, to: Which, message: Option<String>, dry_run: bool) -> anyhow::Result<PushReply> {
    let (number, digest) = match to {
        Which::Number(number) => (Some(number), None),
        Which::Digest(digest) => (None, Some(digest)),
    };
    let body = RollbackBody {
        number,
        digest,
        message,
        dry_run,
    };
    client.post("/v1/revisions", &body)
}

fn show(reply: &PushReply, format: Format, dry_run: bool) -> anyhow::Result<Ended> {
    if output::structured(format, reply)? {
        return Ok(Ended::Done);
    }
    let digest = &reply.digest;
    output::line(&match &reply.revision {
        _ if reply.action == Action::Unchanged => format!("Unchanged: bundle {digest} is the active one"),
        Some(revision) if dry_run => format!("Bundle {digest} would be revision {}", revision.number),
        Some(revision) => {
            let signed = revision.key.as_ref().map(|key| format!(", signed by {key}"));
            format!(
                "Bundle {digest} is active as revision {}{}",
                revision.number,
                signed.unwrap_or_default()
            )
        }
        None => format!("Bundle {digest} is the active one"),
    })?;
    for warning in &reply.warnings {
        output::line(&format!("\nwarning: {warning}"))?;
    }
    if dry_run {
        output::line("\nNothing was changed: --dry-run")?;
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;
    use crate::domain::revision::Activation;

    fn revision(number: u64, digest: u8, of: Option<u64>) -> Revision {
        Revision {
            number,
            digest: [digest; 32].into(),
            activated: Time::from_millis(0),
            action: if of.is_some() {
                Activation::Rollback
            } else {
                Activation::Push
            },
            by: None,
            message: None,
            source: None,
            revision: None,
            key: None,
            of,
        }
    }

    #[test]
    fn going_back_twice_goes_back_further() {
        let to = |revisions: &[Revision]| match before_the_active(revisions) {
            Some(Which::Number(number)) => Some(number),
            _ => None,
        };
        let [one, two, three] = [1_u8, 2, 3].map(|number| revision(u64::from(number), number, None));
        let pushed = [three.clone(), two.clone(), one.clone()];
        assert_eq!(to(&pushed), Some(2));
        let back = [&[revision(4, 2, Some(2))], pushed.as_slice()].concat();
        assert_eq!(to(&back), Some(1));
        let further = [&[revision(5, 1, Some(1))], back.as_slice()].concat();
        assert_eq!(to(&further), None);
        // The same bundle signed anew is nothing to go back to.
        assert_eq!(to(&[revision(2, 1, None), one]), None);
        assert_eq!(to(&[]), None);
    }
}
