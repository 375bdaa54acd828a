//! `doctor`: looks at a deployment from the folder to the port, and says what is wrong and what to do.
//!
//! It changes nothing: the database is copied in one read transaction, and what takes a database apart is done with
//! the copy, which is gone afterwards. A server may run on the folder.

mod database;
mod files;
mod listeners;
mod reach;
mod report;
mod settings;
mod system;

use std::path::PathBuf;

use clap::Args;

use super::Ended;
use super::output::Format;
use report::Report;

#[derive(Args)]
#[command(
    after_help = "Exit code 0: nothing failed, though there may be warnings; 1: something failed. Run it as the server's \
                        user and with the server's environment: what it may read, and which KEYWARD_ variables count, is \
                        that user's. Nothing is changed. The database is copied to the folder for temporary files (TMPDIR) \
                        to be looked at, and the copy is removed"
)]
pub(super) struct Doctor {
    /// Data folder; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The server's configuration. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The key file, where it is not the one that is recorded
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// URL at which the server is to be ready. Default: the configured port on this machine, where a server may run
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Ask what is on the network too: AMD's key distribution service, identity providers
    #[arg(long)]
    network: bool,
    /// The systemd unit to look at. Default: keyward.service where systemd has it, if it is there
    #[arg(long, value_name = "FILE")]
    unit: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let mut report = Report::default();
        let config = settings::check(&mut report, &self.data_dir, self.config.as_deref());
        let config = config.map(|mut config| {
            if self.key_file.is_some() {
                (config.key_file, config.key_provider) = (self.key_file.clone(), None);
            }
            config
        });
        if files::check(&mut report, &self.data_dir, config.as_ref()) {
            database::check(&mut report, &self.data_dir, config.as_ref());
        }
        if let Some(config) = &config {
            listeners::check(&mut report, config);
            reach::check(&mut report, config, self.server.as_deref(), self.network);
        }
        system::check(&mut report, config.as_ref(), self.unit.as_deref());
        report.tell(self.output)?;
        Ok(match report.is_well() {
            true => Ended::Done,
            false => Ended::Failed,
        })
    }
}
