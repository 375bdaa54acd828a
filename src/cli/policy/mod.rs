//! `policy`: the policy author's desk.

mod check;
mod eval;
mod explain;
mod test;
mod worker;

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
    /// Tell why policies of a repository decide on an input as they do: which conditions failed, and on what
    Explain(explain::Explain),
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
            Self::Worker(worker) => worker.run(),
        }
    }
}

/// The bundle that a folder makes, or what is wrong with its files.
fn bundle(folder: &Path) -> anyhow::Result<Result<Bundle, Vec<Diagnostic>>> {
    if !folder.is_dir() {
        bail!(
            "{} is not a folder: name that of a policy repository",
            folder.display()
        );
    }
    let bundle = Bundle::from_files(manifest::repository(folder)?);
    Ok(bundle.map_err(|found| in_folder(found, folder)))
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
