//! `audit checkpoint`, `audit key` and `audit init`: what is kept elsewhere, and how it begins.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use uuid::Uuid;

use super::log_key;
use super::source::Place;
use crate::audit::actor::Act;
use crate::audit::key::KeyName;
use crate::audit::record::Event;
use crate::cli::output::{self, Format};
use crate::cli::{Ended, database, keys, serve};
use crate::domain::{Clock as _, SystemClock};
use crate::store::AuditLog as _;

#[derive(Args)]
#[command(
    after_help = "Append them to a file where the server can't reach it, for `audit verify --seen`:\n\
                        keyward audit checkpoint >> checkpoints.txt"
)]
pub(in crate::cli) struct Checkpoint {
    #[command(flatten)]
    place: Place,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(in crate::cli) struct Key {
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(in crate::cli) struct Init {
    /// Data folder that `init` of an earlier version made; the server must not be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The key file, where it is not the one that `init` was told
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Name of the log: a name of yours, such as example.com/keyward. Default: a random one
    #[arg(long, value_name = "NAME")]
    log_name: Option<KeyName>,
}

impl Checkpoint {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let newest = self.place.open()?.checkpoint()?;
        if !output::structured(self.output, &newest)? {
            // The note ends with a newline; the one more is the empty line between notes in a file.
            output::line(&newest.checkpoint)?;
        }
        Ok(Ended::Done)
    }
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        output::line(&self.place.open()?.key()?.to_string())?;
        Ok(Ended::Done)
    }
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let store = Arc::new(database::open(&self.data_dir)?);
        let config = serve::configuration(&self.data_dir, None)?;
        let configured = keys::configured(&config, self.key_file.as_deref());
        let sealer = keys::sealer(&store, &self.data_dir, configured.as_ref())?;
        let key = log_key::make(&store, &sealer, self.log_name)?;
        let event = Event::LogBegun { key: key.to_string() };
        let act = Act::of_data_folder(SystemClock.now());
        store.record(act.record(Uuid::new_v4(), None, event))?;
        output::line(&format!(
            "Log key  {key}\n\nThe audit log begins here: what was done before is not in it."
        ))?;
        Ok(Ended::Done)
    }
}
