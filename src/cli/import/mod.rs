//! `import`: what another key broker has, as manifests that are reviewed and then applied.

mod database;
mod files;
mod policies;
mod postgres;
mod simple_kbs;
mod sqlite;

use clap::Subcommand;

use super::Ended;

#[derive(Subcommand)]
pub(super) enum ImportVerb {
    /// Write what a simple-kbs database holds as manifests, policies in Rego and files. Nothing is applied
    SimpleKbs(simple_kbs::Import),
}

impl ImportVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::SimpleKbs(verb) => verb.run(),
        }
    }
}
