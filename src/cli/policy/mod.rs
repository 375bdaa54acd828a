//! `policy`: the policy author's desk.

mod worker;

use clap::Subcommand;

use super::Ended;

#[derive(Subcommand)]
pub(super) enum PolicyVerb {
    /// What the server evaluates policies in. It is started by the server and talks to nobody else
    #[command(hide = true)]
    Worker(worker::Worker),
}

impl PolicyVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Worker(worker) => worker.run(),
        }
    }
}
