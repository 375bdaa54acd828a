//! `diff`: what `apply` would change; a watch over drift.

use clap::Args;

use super::Ended;
use super::apply::{Said, differs, warn};
use super::changes;
use super::client::Connection;
use super::output::{self, Format};
use super::paint::Paint;

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 nothing would change, 2 something would, 1 failed. A secret's value is compared on the \
                  server and never shown: its version and length stand for it."
)]
pub(super) struct Diff {
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let mut manifests = self.said.read()?;
        let client = self.connection.client()?;
        let applied = self.said.tried(&mut manifests, &client)?;
        if !output::structured(self.output, &applied)? {
            output::line(&changes::text(&applied, Paint::for_stdout())?)?;
            warn(&applied)?;
        }
        Ok(if differs(&applied) {
            Ended::Denied
        } else {
            Ended::Done
        })
    }
}
