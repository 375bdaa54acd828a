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
use crate::domain::sealed::KeyLocation;
use crate::domain::token::Token;
use crate::domain::{Clock as _, Name, Role, SystemClock};
use crate::release::tokens::NewToken;
use crate::sealing::{key_file, key_id, new_key};
use crate::sev::SystemRandom;
use crate::store::keys::Keys as _;
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{OwnerCreated, Tokens as _};

/// The key file in the data folder, where none is named.
const KEY_FILE: &str = "keyward.key";

#[derive(Args)]
pub(super) struct Init {
    /// Folder to make, or one without a database
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Name of the first owner; `owner create` makes others
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Where to put the key file; best on another disk than the data. Default: in the data folder
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the owner's token to this file too, readable by you only
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Make an administrator's token too, who makes owners and tokens over the network, and write it to this file,
    /// readable by you only
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Answer<'a> {
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
        let (token, key_path) = create(
            &self.data_dir,
            &owner,
            self.key_file.as_deref(),
            self.token_file.as_deref(),
            self.admin_token_file.as_deref(),
        )?;
        let made = Answer {
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

/// Makes a data folder with everything in it; the owner's token and the key file's path.
///
/// All or nothing: what was made before something failed is removed, so that the next try finds its place.
pub(super) fn create(
    folder: &Path,
    owner: &Name,
    key_file: Option<&Path>,
    token_file: Option<&Path>,
    admin_token_file: Option<&Path>,
) -> anyhow::Result<(Token, PathBuf)> {
    let database = folder.join(sqlite::FILE);
    if database.exists() {
        bail!("{} is initialised already; nothing was changed", folder.display());
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
    let key = new_key(&SystemRandom)?;
    let key_path = std::path::absolute(key_file.map_or_else(|| folder.join(KEY_FILE), Path::to_owned))?;
    key_file::create(&key_path, &key)?;
    made.0.push(Made::File(key_path.clone()));
    // Made here, as SQLite would let everybody read it; two that run at once can't both make it.
    made.private_file(&database, "")
        .with_context(|| database.display().to_string())?;
    for companion in ["-wal", "-shm"] {
        made.0
            .push(Made::File(folder.join(format!("{}{companion}", sqlite::FILE))));
    }
    let store = SqliteStore::open(folder, true)?;
    // The usual place moves with the folder.
    let recorded = key_file.map_or(Path::new(KEY_FILE), |_| &key_path).to_owned();
    store.activate(key_id(&key), &KeyLocation::File(recorded), SystemClock.now())?;
    if store.create_owner(owner, token.hash(), SystemClock.now())? == OwnerCreated::Exists {
        bail!("the data folder has an owner {owner} already");
    }
    if admin_token_file.is_some() {
        let new = NewToken {
            name: "init".parse()?,
            role: Role::Admin,
            owner: None,
            expires: None,
        };
        store.create_token(&new.entry(Role::Admin, None, SystemClock.now())?, admin.hash())?;
    }
    made.keep();
    Ok((token, key_path))
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
