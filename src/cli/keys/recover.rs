//! `keys recover`: a key file that was lost is made again from an escrow, after everything that it should open did.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::output::{self, Format, Misused};
use super::super::{Ended, serve};
use super::escrow::{in_token, missing, needed};
use super::medium::{self, Medium};
use super::rotate::Damaged;
use super::{Folder, recorded};
use crate::domain::sealed::{KeyId, KeyLocation, KeyState};
use crate::sealing::escrow::sealed::{SealedKeys, private_key};
use crate::sealing::escrow::share::Share;
use crate::sealing::escrow::{EscrowError, SharesError, join};
use crate::sealing::key_file::{self, FileKeyBytes};
use crate::sealing::provider::{KeyError, KeyProvider, KeySource};
use crate::sealing::{FileKey, Place, Sealer, key_id};
use crate::store::keys::{Cursor, Keys as _};
use crate::store::sqlite::SqliteStore;

/// Values that are read at once.
const PAGE: u32 = 256;

#[derive(Args)]
#[command(
    after_help = "The key file is written where it was (or where --key-file says), if nothing is there, with the keys \
                        that the data folder needs, after it opened what is sealed there. A sealed escrow can be opened \
                        elsewhere too, so that its private key stays offline: docs/key-loss.md says how."
)]
pub(in crate::cli) struct Recover {
    #[command(flatten)]
    folder: Folder,
    /// A sealed escrow, shares of a split one, or a key file, as an HSM made it of a sealed escrow
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The private key that the escrow is sealed to (PEM)
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// File with the private key's passphrase in its first line
    #[arg(long, value_name = "FILE", requires = "private_key")]
    passphrase_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Recovered {
    key_file: PathBuf,
    keys: Vec<KeyId>,
    opened: u64,
    damaged: Vec<Damaged>,
    made_up: Vec<PathBuf>,
}

impl Recover {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.folder.path();
        let store = Arc::new(serve::open_store(folder)?);
        let known = store.sealing_keys()?;
        let needed = needed(&known);
        let active = needed.iter().find(|key| key.state == KeyState::Active);
        let active = active.context("the database names no active key")?;
        let place = self.folder.configured()?;
        let place = place.unwrap_or_else(|| recorded(folder, active));
        let KeyLocation::File(path) = &place else {
            bail!(in_token(active, &place));
        };
        if let Err(exists) = medium::absent(path) {
            bail!(
                "{exists}: it was not lost. `keyward keys check` says whether it is the right one; if not, move it away"
            );
        }

        let (mut keys, made_up) = self.opened()?;
        let ids: Vec<_> = keys.iter().map(key_id).collect();
        if let Some(why) = missing(&needed, &known, &ids) {
            bail!(
                "the escrow {why}; nothing was written. Bring the escrow that was made last; one from before a rotation \
                 opens only backups of its time"
            );
        }
        keys.retain(|key| needed.iter().any(|needed| needed.id == key_id(key)));
        let (opened, damaged) = opens(&store, &keys)?;
        if opened == 0 && !damaged.is_empty() {
            bail!(
                "the escrow's keys have the right ids but open nothing in this data folder; nothing was written. First: {}: {}",
                damaged
                    .first()
                    .map(|first| first.value.as_str())
                    .unwrap_or_default(),
                damaged
                    .first()
                    .map(|first| first.why.as_str())
                    .unwrap_or_default()
            );
        }
        medium::write(path, &key_file::text(&keys))?;
        let recovered = Recovered {
            key_file: path.clone(),
            keys: keys.iter().map(key_id).collect(),
            opened,
            damaged,
            made_up,
        };
        if !output::structured(self.output, &recovered)? {
            output::line(&told(&recovered, folder))?;
        }
        Ok(if recovered.damaged.is_empty() {
            Ended::Done
        } else {
            Ended::Failed
        })
    }

    /// The keys, and the shares that somebody made up.
    fn opened(&self) -> anyhow::Result<(Vec<FileKeyBytes>, Vec<PathBuf>)> {
        let (mut shares, mut others) = (Vec::new(), Vec::new());
        for file in &self.files {
            match medium::read(file)? {
                Medium::Share(share) => shares.push(share),
                other => others.push((file, other)),
            }
        }
        match (others.pop(), others.is_empty(), shares.is_empty()) {
            (None, ..) => self.joined(&shares),
            (Some((file, Medium::Sealed(sealed))), true, true) => {
                Ok((self.unsealed(&sealed, file)?, Vec::new()))
            }
            (Some((_, Medium::Clear(keys))), true, true) => Ok((keys, Vec::new())),
            _ => bail!(Misused(
                "give one sealed escrow, or one key file, or the shares of one set".to_owned()
            )),
        }
    }

    fn unsealed(&self, sealed: &SealedKeys, file: &Path) -> anyhow::Result<Vec<FileKeyBytes>> {
        let Some(path) = &self.private_key else {
            bail!(Misused(format!(
                "{} is sealed to the public key with SHA-256 {}: give its private key with --private-key, or open it \
                 where that is and bring what comes out",
                file.display(),
                sealed.sealed_to
            )));
        };
        let passphrase = self.passphrase_file.as_deref().map(medium::text).transpose()?;
        let passphrase = passphrase
            .as_ref()
            .map(|text| text.lines().next().unwrap_or_default());
        let pem = medium::text(path)?;
        let key = private_key(pem.as_bytes(), passphrase.map(str::as_bytes));
        let key = key.with_context(|| path.display().to_string())?;
        sealed.open(&key).with_context(|| match path.file_name() {
            Some(_) => format!("{} with {}", file.display(), path.display()),
            None => file.display().to_string(),
        })
    }

    fn joined(&self, shares: &[Share]) -> anyhow::Result<(Vec<FileKeyBytes>, Vec<PathBuf>)> {
        let named = |at: &[usize]| {
            let named = at.iter().filter_map(|at| self.files.get(*at));
            named.map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        let joined = join(shares).map_err(|error| match &error {
            EscrowError::Shares(SharesError::OtherSet(others)) => {
                let sets = others.iter().filter_map(|at| shares.get(*at));
                let sets: Vec<_> = sets.map(|share| hex::encode(share.set)).collect();
                anyhow!(
                    "{} {} of another set ({}) than the other shares: shares fit together only with those that were made \
                     with them",
                    named(others).join(" and "),
                    if others.len() == 1 { "is" } else { "are" },
                    sets.join(", ")
                )
            }
            EscrowError::Shares(SharesError::Twice(first, again)) => {
                anyhow!("{} are the same share: bring another", named(&[*first, *again]).join(" and "))
            }
            EscrowError::Shares(SharesError::TooFew { have, need }) => anyhow!(
                "{have} of the {need} shares that are needed: bring {} more",
                need - have
            ),
            _ => error.into(),
        })?;
        let made_up = joined
            .made_up
            .iter()
            .filter_map(|at| self.files.get(*at).cloned());
        Ok((joined.keys, made_up.collect()))
    }
}

/// Opens everything that is sealed in the folder: how many did, and what did not.
fn opens(store: &Arc<SqliteStore>, keys: &[FileKeyBytes]) -> anyhow::Result<(u64, Vec<Damaged>)> {
    let sealer = Sealer::with_source(Box::new(InHand {
        store: store.clone(),
        keys: keys.to_vec(),
    }))?;
    let (mut after, mut count, mut damaged): (Cursor, _, _) = ((0, 0), 0, Vec::new());
    loop {
        let values = store.sealed_values(after, None, PAGE)?;
        let Some(last) = values.last() else { break };
        after = last.cursor;
        let sealed: Vec<_> = values
            .iter()
            .map(|value| (Place::from(&value.at), value.sealed.as_slice()))
            .collect();
        for (value, opened) in values.iter().zip(sealer.open_all(&sealed)) {
            match opened {
                Ok(_) => count += 1,
                Err(error) => damaged.push(Damaged {
                    value: value.at.to_string(),
                    why: error.to_string(),
                }),
            }
        }
    }
    Ok((count, damaged))
}

/// Keys that are in no file yet.
struct InHand {
    store: Arc<SqliteStore>,
    keys: Vec<FileKeyBytes>,
}

impl KeySource for InHand {
    fn states(&self) -> Result<Vec<(KeyId, KeyState)>, KeyError> {
        let keys = self.store.sealing_keys();
        let keys = keys.map_err(|error| KeyError::Unavailable(error.to_string()))?;
        Ok(keys.into_iter().map(|key| (key.id, key.state)).collect())
    }

    fn provider(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let key = self.keys.iter().find(|key| key_id(key) == id);
        let key = key.ok_or_else(|| KeyError::Unusable(format!("the key {id} is not in the escrow")))?;
        Ok(Arc::new(FileKey::new(Zeroizing::clone(key))))
    }
}

fn told(recovered: &Recovered, folder: &Path) -> String {
    let ids: Vec<_> = recovered.keys.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "Key file  {}\nKeys      {}\nValues    {} opened",
        recovered.key_file.display(),
        ids.join(" and "),
        recovered.opened
    );
    for Damaged { value, why } in &recovered.damaged {
        text.push_str(&format!("\nDamaged   {value}: {why}"));
    }
    for file in &recovered.made_up {
        text.push_str(&format!(
            "\nMade up   {}: its check digits are good, but it is no share of these keys; ask who wrote it",
            file.display()
        ));
    }
    text.push_str(&format!(
        "\n\nIts shares or its sealed copy were in use now: make new ones after `keyward keys rotate --data-dir {0}`.\n\
         Next: keyward serve --data-dir {0}",
        folder.display()
    ));
    text
}
