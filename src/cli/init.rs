//! `init`: the data folder, its key file, the owner and the first token.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::Ended;
use super::output::{self, Format};
use crate::domain::token::Token;
use crate::domain::{Clock as _, Name, SystemClock};
use crate::sealing::{Sealer, key_file, new_key};
use crate::sev::SystemRandom;
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{OwnerCreated, Store as _};

/// The key file in the data folder, where none is named.
const KEY_FILE: &str = "keyward.key";

#[derive(Args)]
pub(super) struct Init {
    /// Folder to make, or an empty one
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Name of the owner whose secrets are served
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Where to put the key file; best on another disk than the data. Default: in the data folder
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the owner's token to this file too, readable by you only
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Made<'a> {
    owner: &'a Name,
    token: &'a str,
    data_dir: &'a Path,
    key_file: &'a Path,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let owner: Name = self
            .owner
            .parse()
            .with_context(|| format!("--owner {:?}", self.owner))?;
        if self.data_dir.join(sqlite::FILE).exists() {
            bail!(
                "{} is initialised already; nothing was changed",
                self.data_dir.display()
            );
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.data_dir)
            .with_context(|| format!("data folder {}", self.data_dir.display()))?;
        let key_path = std::path::absolute(self.key_file.unwrap_or_else(|| self.data_dir.join(KEY_FILE)))?;
        let token = Token::from_random(&new_key(&SystemRandom)?);
        if let Some(path) = &self.token_file {
            write_token(path, &token)?;
        }
        let key = new_key(&SystemRandom)?;
        key_file::create(&key_path, &key)?;
        let sealer = Sealer::new(key);
        if let Err(error) = fill(&self.data_dir, &key_path, &sealer, &owner, &token) {
            // Nothing is sealed under this key, and the next try needs its place.
            let _ = fs::remove_file(&key_path);
            let _ = fs::remove_file(self.data_dir.join(sqlite::FILE));
            if let Some(path) = &self.token_file {
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
        let made = Made {
            owner: &owner,
            token: token.expose(),
            data_dir: &self.data_dir,
            key_file: &key_path,
        };
        if !output::structured(self.output, &made)? {
            output::line(&format!(
                "Data folder  {}\nKey file     {}\nOwner        {}\nToken        {}\n\n\
                 The token is shown once. Keep a copy of the key file elsewhere: without it no secret can be opened.\n\
                 Next: keyward serve --data-dir {}",
                self.data_dir.display(),
                key_path.display(),
                owner,
                token.expose(),
                self.data_dir.display(),
            ))?;
        }
        Ok(Ended::Done)
    }
}

fn fill(folder: &Path, key_path: &Path, sealer: &Sealer, owner: &Name, token: &Token) -> anyhow::Result<()> {
    let store = SqliteStore::open(folder, true)?;
    store.set_meta("key_id", &hex::encode(sealer.key_id()))?;
    store.set_meta("key_file", &key_path.to_string_lossy())?;
    match store.create_owner(owner, token.hash(), SystemClock.now())? {
        OwnerCreated::Created => Ok(()),
        OwnerCreated::AnotherExists(other) => bail!("the data folder belongs to owner {other} already"),
    }
}

fn write_token(path: &Path, token: &Token) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{}", token.expose())?;
        file.sync_all()
    };
    write().with_context(|| format!("token file {}", path.display()))
}
