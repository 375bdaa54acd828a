//! `keys rotate|check|escrow|recover`: the keys that stored values are sealed under.

mod check;
mod escrow;
mod folder;
mod medium;
mod recover;
mod rotate;
mod trial;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Ended, database, serve};
use crate::config::Config;
use crate::domain::sealed::KeyLocation;
use crate::store::SqlStore;

pub(super) use check::opened;
pub(super) use folder::{recorded, sealer};
pub(super) use rotate::make_key;

#[derive(Subcommand)]
pub(super) enum KeysVerb {
    /// Seal everything under a new key, and retire the old one. The server may be running
    Rotate(rotate::Rotate),
    /// Open everything that is sealed, and say under which keys it is
    Check(check::Check),
    /// Give the key file into other hands, for the day it is lost: sealed to an offline key, or split in shares
    Escrow(escrow::Escrow),
    /// Put a lost key file back from an escrow, if it is this data folder's
    Recover(recover::Recover),
}

impl KeysVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Rotate(rotate) => rotate.run(),
            Self::Check(check) => check.run(),
            Self::Escrow(escrow) => escrow.run(),
            Self::Recover(recover) => recover.run(),
        }
    }
}

/// A data folder with its keys.
#[derive(Args)]
struct Folder {
    /// Folder that `init` made; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Configuration. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The key file, where it is not the one that is recorded
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> &Path {
        &self.data_dir
    }

    /// The database that belongs to it.
    fn database(&self) -> anyhow::Result<SqlStore> {
        database::open_named(&self.data_dir, self.config.as_deref())
    }

    /// Where the configuration or the flag says that keys are.
    fn configured(&self) -> anyhow::Result<Option<KeyLocation>> {
        let config = serve::configuration(&self.data_dir, self.config.as_deref())?;
        Ok(configured(&config, self.key_file.as_deref()))
    }
}

impl fmt::Display for Folder {
    /// As it was given, for a command to type next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--data-dir {}", self.data_dir.display())?;
        for (flag, file) in [("--config", &self.config), ("--key-file", &self.key_file)] {
            if let Some(file) = file {
                write!(f, " {flag} {}", file.display())?;
            }
        }
        Ok(())
    }
}

/// Where keys are, by the flag or else by the configuration.
pub(super) fn configured(config: &Config, flag: Option<&Path>) -> Option<KeyLocation> {
    match flag.or(config.key_file.as_deref()) {
        Some(file) => Some(KeyLocation::File(file.to_owned())),
        None => config.key_provider.clone(),
    }
}

/// A place for keys on the command line, as the configuration has it; relative paths are below the working folder.
pub(super) fn location(text: &str) -> Result<KeyLocation, String> {
    let parsed: KeyLocation = serde_yaml::from_str(text).map_err(|error| {
        let error = error.to_string();
        let why = error.split(" at line ").next().unwrap_or_default();
        format!(
            "{why}: expected '{{file: PATH}}' or '{{pkcs11: {{module: PATH, token: LABEL, label: LABEL, pin_file: PATH}}}}'"
        )
    })?;
    let folder = std::env::current_dir().map_err(|error| format!("the working folder: {error}"))?;
    Ok(parsed.below(&folder))
}
