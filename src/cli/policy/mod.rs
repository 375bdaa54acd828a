//! `policy`: the policy author's desk.

mod check;
mod diff;
mod diff_text;
mod eval;
mod explain;
mod input;
mod key;
mod new;
mod pack;
mod parallel;
mod push;
mod recorded;
mod records;
mod replay;
mod replay_report;
mod revision;
mod revisions;
mod test;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Subcommand;

use super::Ended;
use crate::isolation::{Launcher, Workers};
use crate::manifest;
use crate::policy::{Archived, Bundle, BundleFacts, Diagnostic, Evaluator as _, Limits, LoadError};

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
    /// Tell why policies of a repository decide on an input as they do: which conditions failed, and on what
    Explain(explain::Explain),
    /// Take recorded decisions again under a repository, and tell which would have come out otherwise
    Replay(replay::Replay),
    /// Compare two repositories or revisions: rules, reference data, and what that does to recorded decisions
    Diff(diff::Diff),
    /// Write a policy repository to start from
    New(new::New),
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
            Self::Explain(explain) => explain.run(),
            Self::Replay(replay) => replay.run(),
            Self::Diff(diff) => diff.run(),
            Self::New(new) => new.run(),
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

/// What is wrong with a bundle, and what was not done for it, as an error.
fn not_done(what: &str, folder: &Path, found: Vec<Diagnostic>) -> anyhow::Error {
    anyhow!("{what}\n\n{}", refused(in_folder(found, folder)))
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

/// Loads a bundle, from this folder where it is from one.
fn loaded(
    workers: &Workers,
    bundle: &Bundle,
    folder: Option<&Path>,
) -> anyhow::Result<(Archived, BundleFacts)> {
    let archived = Archived::from(bundle);
    let shown = |found| match folder {
        Some(folder) => in_folder(found, folder),
        None => found,
    };
    let facts = workers
        .load(OWNER, &archived, false)
        .map_err(|error| match error {
            LoadError::Refused(found) => refused(shown(found)),
            LoadError::NotNow(why) => anyhow!(why),
        })?;
    Ok((archived, facts))
}

/// What is wrong with a bundle, as an error.
fn refused(found: Vec<Diagnostic>) -> anyhow::Error {
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    anyhow!(found.join("\n\n"))
}

/// As many workers as there are processors, which all work for this command.
fn all_workers(time: Duration) -> (Workers, usize) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits {
        time,
        ..Limits::default()
    };
    let workers = Workers::of_one_owner(Launcher::this_program(MEMORY), count, limits);
    (workers, count)
}

/// A worker like a server's: what would end that does not end this command.
fn workers(time: Duration) -> Workers {
    let limits = Limits {
        time,
        ..Limits::default()
    };
    Workers::new(Launcher::this_program(MEMORY), 1, limits)
}
