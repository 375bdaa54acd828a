//! `policy`: the policy author's desk.

mod check;
mod eval;
mod key;
mod pack;
mod push;
mod revisions;
mod test;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::Ended;
use crate::isolation::{Launcher, Workers};
use crate::manifest;
use crate::policy::{Bundle, Diagnostic, Limits};

/// The name under which a folder's policies are evaluated.
const OWNER: &str = "local";
/// Address space of the process that evaluates them, in MiB: a server's default.
const MEMORY: u32 = 512;

#[derive(Subcommand)]
pub(super) enum PolicyVerb {
    /// Check a policy repository as the server does when it is registered, without a server
    Check(check::Check),
    /// Run the `test_` rules of a repository, as `opa test` does
    Test(test::Test),
    /// Ask one policy of a repository about an input, as the server would
    Eval(eval::Eval),
    /// Write a repository as an OPA bundle, and sign it
    Bundle(pack::Pack),
    /// Make a repository's policies the active ones on a server, checked first
    Push(push::Push),
    /// List what was active on a server: since when, by whom and why
    Log(revisions::Revisions),
    /// Make the policies of an earlier revision the active ones again
    Rollback(push::Rollback),
    /// Get the policies of a revision again, whether they are active or not
    Fetch(revisions::Fetch),
    /// Keys, one of which must have signed what becomes active
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// What the server evaluates policies in. It is started by the server and talks to nobody else
    #[command(hide = true)]
    Worker(worker::Worker),
}

impl PolicyVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Check(check) => check.run(),
            Self::Test(test) => test.run(),
            Self::Eval(eval) => eval.run(),
            Self::Bundle(pack) => pack.run(),
            Self::Push(push) => push.run(),
            Self::Log(log) => log.run(),
            Self::Rollback(rollback) => rollback.run(),
            Self::Fetch(fetch) => fetch.run(),
            Self::Key(key) => key.run(),
            Self::Worker(worker) => worker.run(),
        }
    }
}

/// The bundle that a folder makes, or what is wrong with its files.
fn bundle(folder: &Path) -> anyhow::Result<Result<Bundle, Vec<Diagnostic>>> {
    Ok(Bundle::from_files(files(folder)?).map_err(|found| in_folder(found, folder)))
}

/// The files of a folder or of a packed bundle, with the signature if there is one.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let packed = folder.is_file() && folder.extension().is_some_and(|ending| ending == "gz");
    if !folder.is_dir() && !packed {
        bail!(
            "{} is not a folder: name that of a policy repository",
            folder.display()
        );
    }
    Ok(manifest::repository(folder)?)
}

/// What is wrong with a bundle, as an error.
fn refused(what: &str, folder: &Path, found: Vec<Diagnostic>) -> anyhow::Error {
    let shown = in_folder(found, folder);
    let shown: Vec<_> = shown.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{what}\n\n{}", shown.join("\n\n"))
}

/// Diagnostics with the paths of their files from here.
fn in_folder(found: Vec<Diagnostic>, folder: &Path) -> Vec<Diagnostic> {
    let shown = |mut diagnostic: Diagnostic| {
        if !diagnostic.file.is_empty() {
            diagnostic.file = folder.join(&diagnostic.file).display().to_string();
        }
        diagnostic
    };
    found.into_iter().map(shown).collect()
}

/// A worker like a server's: what would end that does not end this command.
fn workers(time: Duration) -> Workers {
    let limits = Limits {
        time,
        ..Limits::default()
    };
    Workers::new(Launcher::this_program(MEMORY), 1, limits)
}
