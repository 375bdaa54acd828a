//! `init`: the data folder, its key file, the owner and the first token.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::audit::log_key;
use super::output::{self, Format};
use super::{Ended, database, keys};
use crate::audit::actor::Act;
use crate::audit::key::{KeyName, VerifierKey};
use crate::config::{Config, PostgresConfig};
use crate::domain::sealed::KeyLocation;
use crate::domain::token::Token;
use crate::domain::{Clock as _, Name, Role, SystemClock};
use crate::release::tokens::NewToken;
use crate::sealing::{key_file, key_id, new_key};
use crate::sev::SystemRandom;
use crate::store::keys::Keys as _;
use crate::store::{OwnerCreated, Tokens as _};
use crate::store::{SqlStore, sqlite};

/// Fact of a database that several servers share: when its `init` began.
const CLAIM: &str = "init";
/// The key file in the data folder, where none is named.
const KEY_FILE: &str = "keyward.key";

#[derive(Args)]
pub(super) struct Init {
    /// Folder to make, or one without a database
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Configuration, of which `store` counts here. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the first owner; `owner create` makes others
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Where to put the key file; best on another disk than the data. Default: in the data folder
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where to put the key in place of a file in the data folder: '{pkcs11: {module: PATH, token: LABEL, label: LABEL,
    /// pin_file: PATH}}'. A key of that label that the token has is taken; else one is made
    #[arg(long, value_name = "PROVIDER", value_parser = keys::location, conflicts_with = "key_file")]
    key_provider: Option<KeyLocation>,
    /// Name of the audit log, in its checkpoints and key: a name of yours, such as example.com/keyward. Default: a random one
    #[arg(long, value_name = "NAME")]
    log_name: Option<KeyName>,
    /// Write the owner's token to this file too, readable by you only
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Make an administrator's token too, who makes owners and tokens over the network, and write it to this file,
    /// readable by you only
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Do nothing where the folder is initialised already, and show no token, for programs whose output is logged. Make
    /// one with `keyward token create --data-dir`
    #[arg(long, conflicts_with = "output")]
    if_missing: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Answer<'a> {
    owner: &'a Name,
    token: &'a str,
    data_dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_provider: Option<&'a KeyLocation>,
    log_key: String,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let owner: Name = self
            .owner
            .parse()
            .with_context(|| format!("--owner {:?}", self.owner))?;
        let postgres = match &self.config {
            Some(named) => Config::load(Some(named), std::env::vars())?.store.postgres,
            None => database::postgres_of(&self.data_dir)?,
        };
        if self.if_missing && is_initialised(&self.data_dir, postgres.as_ref())? {
            output::line(&format!("{} is initialised already", self.data_dir.display()))?;
            return Ok(Ended::Done);
        }
        let named = self.key_file.map(KeyLocation::File).or(self.key_provider);
        let (token, key, log_key) = create(
            &self.data_dir,
            postgres.as_ref(),
            &owner,
            named.as_ref(),
            self.log_name,
            self.token_file.as_deref(),
            self.admin_token_file.as_deref(),
        )?;
        if self.if_missing {
            output::line(&format!(
                "Data folder  {}\nKey          {key}\nOwner        {owner}\nLog key      {log_key}",
                self.data_dir.display(),
            ))?;
            return Ok(Ended::Done);
        }
        let made = Answer {
            owner: &owner,
            token: token.expose(),
            data_dir: &self.data_dir,
            key_file: match &key {
                KeyLocation::File(path) => Some(path),
                KeyLocation::Pkcs11(_) => None,
            },
            key_provider: matches!(key, KeyLocation::Pkcs11(_)).then_some(&key),
            log_key: log_key.to_string(),
        };
        if !output::structured(self.output, &made)? {
            let (what, keep) = match &key {
                KeyLocation::File(_) => ("Key file   ", "Keep a copy of the key file elsewhere"),
                KeyLocation::Pkcs11(_) => ("Key        ", "Back up the token as its maker says"),
            };
            output::line(&format!(
                "Data folder  {}\n{what}  {}\nOwner        {}\nToken        {}\nLog key      {}\n\n\
                 The token is shown once. {keep}: without it no secret can be opened.\n\
                 Next: keyward serve --data-dir {}",
                self.data_dir.display(),
                key,
                owner,
                token.expose(),
                made.log_key,
                self.data_dir.display(),
            ))?;
        }
        Ok(Ended::Done)
    }
}

/// Whether there is nothing to make any more.
fn is_initialised(folder: &Path, postgres: Option<&PostgresConfig>) -> anyhow::Result<bool> {
    match postgres {
        Some(postgres) => Ok(!database::connect(postgres, true)?.sealing_keys()?.is_empty()),
        None => Ok(folder.join(sqlite::FILE).exists()),
    }
}

/// Makes a data folder with everything in it; the owner's token, and where the key is.
///
/// All or nothing: what was made before something failed is removed, so that the next try finds its place.
pub(super) fn create(
    folder: &Path,
    postgres: Option<&PostgresConfig>,
    owner: &Name,
    key: Option<&KeyLocation>,
    log_name: Option<KeyName>,
    token_file: Option<&Path>,
    admin_token_file: Option<&Path>,
) -> anyhow::Result<(Token, KeyLocation, VerifierKey)> {
    let database = folder.join(sqlite::FILE);
    if postgres.is_none() && database.exists() {
        bail!("{} is initialised already; nothing was changed", folder.display());
    }
    // Before anything is made in the folder: what is wrong with the database is told first.
    let connected = postgres
        .map(|postgres| database::connect(postgres, true))
        .transpose()?;
    if let Some(store) = &connected {
        if !store.sealing_keys()?.is_empty() {
            bail!(
                "the database is initialised already; nothing was changed. Another server on it needs a copy of the key file in its data folder, and `keyward serve`"
            );
        }
        // One of two that begin at once; what fails halfway is not taken for what is whole.
        if !store.claim_meta(CLAIM, &SystemClock.now().to_string())? {
            bail!(
                "an `init` of this database is under way, or failed halfway: look at what that said, and give a database that is empty"
            );
        }
    }
    let mut made = Undo::default();
    made.folder(folder)
        .with_context(|| format!("data folder {}", folder.display()))?;
    let token = Token::from_random(&new_key(&SystemRandom)?);
    if let Some(path) = token_file {
        made.private_file(path, &format!("{}\n", token.expose()))
            .with_context(|| format!("token file {}", path.display()))?;
    }
    let admin = Token::from_random(&new_key(&SystemRandom)?);
    if let Some(path) = admin_token_file {
        made.private_file(path, &format!("{}\n", admin.expose()))
            .with_context(|| format!("administrator's token file {}", path.display()))?;
    }
    let (id, location) = match key {
        Some(location @ KeyLocation::Pkcs11(_)) => (keys::make_key(location, &[])?, location.clone()),
        file => {
            let named = match file {
                Some(KeyLocation::File(path)) => path.clone(),
                _ => folder.join(KEY_FILE),
            };
            let path = std::path::absolute(named)?;
            let key = new_key(&SystemRandom)?;
            key_file::create(&path, &key)?;
            made.0.push(Made::File(path.clone()));
            (key_id(&key), KeyLocation::File(path))
        }
    };
    let store = Arc::new(match connected {
        Some(store) => store,
        None => {
            // Made here, as SQLite would let everybody read it; two that run at once can't both make it.
            made.private_file(&database, "")
                .with_context(|| database.display().to_string())?;
            for companion in ["-wal", "-shm"] {
                made.0
                    .push(Made::File(folder.join(format!("{}{companion}", sqlite::FILE))));
            }
            SqlStore::open(folder, true)?
        }
    });
    let act = Act::of_data_folder(SystemClock.now());
    // The usual place moves with the folder.
    let usual = KeyLocation::File(KEY_FILE.into());
    store.activate(id, key.map_or(&usual, |_| &location), &act)?;
    let sealer = keys::sealer(&store, folder, Some(&location))?;
    let log_key = log_key::make(&store, &sealer, log_name)?;
    if store.create_owner(owner, token.hash(), &act)? == OwnerCreated::Exists {
        bail!("the data folder has an owner {owner} already");
    }
    if admin_token_file.is_some() {
        let new = NewToken {
            name: "init".parse()?,
            role: Role::Admin,
            owner: None,
            expires: None,
        };
        store.create_token(&new.entry(Role::Admin, None, act.time)?, admin.hash(), &act)?;
    }
    made.keep();
    Ok((token, location, log_key))
}

/// What was made so far, removed on the way out unless it is forgotten.
#[derive(Default)]
pub(super) struct Undo(Vec<Made>);

enum Made {
    Folder(PathBuf),
    File(PathBuf),
}

impl Undo {
    /// Nothing failed: all of it stays.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }

    fn folder(&mut self, folder: &Path) -> std::io::Result<()> {
        let missing: Vec<_> = folder
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .collect();
        for folder in missing.into_iter().rev() {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
            self.0.push(Made::Folder(folder.to_owned()));
        }
        // That it is a folder, and open to us, is found out when a file is made in it.
        Ok(())
    }

    /// Makes a file that only its owner may read.
    pub(super) fn private_file(&mut self, path: &Path, text: &str) -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        self.0.push(Made::File(path.to_owned()));
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // As far as it goes: what failed first is what is reported.
        for made in self.0.drain(..).rev() {
            match made {
                Made::Folder(folder) => drop(fs::remove_dir(folder)),
                Made::File(file) => drop(fs::remove_file(file)),
            }
        }
    }
}
