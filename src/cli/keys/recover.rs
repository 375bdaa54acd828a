//! `keys recover`: a key file that was lost is made again from an escrow, after everything that it should open did.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::Serialize;

use super::super::Ended;
use super::super::output::{self, Format, Misused};
use super::escrow::{in_files, missing, needed};
use super::medium::{self, Medium, Owner};
use super::rotate::{self, Damaged};
use super::trial::{as_the_server, opens};
use super::{Folder, recorded};
use crate::domain::sealed::{KeyId, KeyLocation, SealingKey};
use crate::sealing::escrow::sealed::{SealedKeys, private_key};
use crate::sealing::escrow::share::Share;
use crate::sealing::escrow::{EscrowError, SharesError, join};
use crate::sealing::key_file::{self, FileKeyBytes};
use crate::sealing::key_id;
use crate::store::keys::Keys as _;
use crate::store::sqlite;

#[derive(Args)]
#[command(
    after_help = "Run it as the server's user. Each key file is written where it was (or all keys where --key-file says), if \
                        nothing is there, after they opened what is sealed in the data folder. A sealed escrow can be opened \
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
    key_files: Vec<PathBuf>,
    keys: Vec<KeyId>,
    opened: u64,
    in_token: u64,
    damaged: Vec<Damaged>,
    made_up: Vec<PathBuf>,
}

impl Recover {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.folder.path();
        let store = Arc::new(self.folder.database()?);
        // So that no key moves meanwhile.
        let _alone = rotate::lock(folder)?;
        let known = store.sealing_keys()?;
        let all = needed(&known);
        let needed = in_files(folder, all.clone())?;
        let tokens = all.iter().map(|key| key.id);
        let tokens: Vec<_> = tokens
            .filter(|id| needed.iter().all(|key| key.id != *id))
            .collect();
        let configured = self.folder.configured()?;
        let places = self.places(&known, &needed, configured.as_ref());

        let mut keys = Vec::with_capacity(needed.len());
        let (mut lost, mut kept) = (BTreeMap::new(), None);
        for (path, ids) in places {
            let Err(exists) = medium::absent(&path) else {
                lost.insert(path, ids);
                continue;
            };
            let exists = not_lost(&exists);
            match there(&path, &ids) {
                Some(found) => keys.extend(found.iter().cloned()),
                None => return Err(exists),
            }
            kept = Some(exists);
        }
        if let (true, Some(exists)) = (lost.is_empty(), kept) {
            return Err(exists);
        }
        let wanted: Vec<_> = needed
            .iter()
            .filter(|key| lost.values().flatten().any(|id| *id == key.id))
            .cloned()
            .collect();

        let (escrowed, made_up) = self.opened()?;
        let ids: Vec<_> = escrowed.iter().map(key_id).collect();
        if let Some(why) = missing(&wanted, &known, &ids) {
            bail!(
                "the escrow {why}; nothing was written. Bring the escrow that was made last; one from before a rotation \
                 opens only backups of its time"
            );
        }
        let wants = |key: &&FileKeyBytes| wanted.iter().any(|wanted| wanted.id == key_id(key));
        keys.extend(escrowed.iter().filter(wants).cloned());
        drop(escrowed);
        let tried = opens(&store, &keys, &wanted, &tokens)?;
        if tried.refuted() {
            let first = tried.damaged.first();
            bail!(
                "the escrow's keys have the right ids but open nothing in this data folder; nothing was written. First: {}: {}",
                first.map(|first| first.value.as_str()).unwrap_or_default(),
                first.map(|first| first.why.as_str()).unwrap_or_default()
            );
        }
        let key_files = write(&lost, &keys, Owner::of(&folder.join(sqlite::FILE))?)?;
        if let Err(error) = as_the_server(&store, folder, configured.as_ref(), &needed, &tokens) {
            medium::remove(&key_files);
            return Err(
                error.context("the server would not take the keys from there, and nothing was left there")
            );
        }
        let recovered = Recovered {
            key_files,
            keys: wanted.iter().map(|key| key.id).collect(),
            opened: tried.opened,
            in_token: tried.in_token,
            damaged: tried.damaged,
            made_up,
        };
        if !output::structured(self.output, &recovered)? {
            output::line(&told(&recovered, &self.folder))?;
        }
        Ok(if recovered.damaged.is_empty() {
            Ended::Done
        } else {
            Ended::Failed
        })
    }

    /// Which keys belong in which file: all in the one that is named, or else each where the database says that it was.
    fn places(
        &self,
        known: &[SealingKey],
        needed: &[SealingKey],
        configured: Option<&KeyLocation>,
    ) -> BTreeMap<PathBuf, Vec<KeyId>> {
        let folder = self.folder.path();
        let was = |place: &KeyLocation| known.iter().any(|key| recorded(folder, key) == *place);
        let named = match configured {
            // One that is configured only, and held a key once, may be left from before the key moved.
            Some(place) if self.folder.key_file.is_none() && was(place) => None,
            other => other,
        };
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for key in needed {
            let recorded = recorded(folder, key);
            let file = [named, Some(&recorded)]
                .into_iter()
                .flatten()
                .find_map(|place| match place {
                    KeyLocation::File(path) => Some(path.clone()),
                    KeyLocation::Pkcs11(_) => None,
                });
            if let Some(file) = file {
                places.entry(file).or_default().push(key.id);
            }
        }
        places
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
        let passphrase = self.passphrase_file.as_deref().map(medium::secret).transpose()?;
        let passphrase = passphrase
            .as_ref()
            .map(|text| text.lines().next().unwrap_or_default());
        let pem = medium::secret(path)?;
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

/// The keys of a file that was not lost, if all of these are in it.
fn there(path: &Path, ids: &[KeyId]) -> Option<Vec<FileKeyBytes>> {
    let found = key_file::read(path).ok()?;
    of(&found, ids)
}

/// These of the keys.
fn of(keys: &[FileKeyBytes], ids: &[KeyId]) -> Option<Vec<FileKeyBytes>> {
    // Room for all of them at once: what grows leaves copies behind.
    let mut some = Vec::with_capacity(ids.len());
    for id in ids {
        some.push(keys.iter().find(|key| key_id(key) == *id)?.clone());
    }
    Some(some)
}

fn not_lost(exists: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "{exists}: it was not lost. `keyward keys check` says whether it is the right one; if not, move it away"
    )
}

/// Makes the files that were lost: all of them, or none.
fn write(
    lost: &BTreeMap<PathBuf, Vec<KeyId>>,
    keys: &[FileKeyBytes],
    owner: Owner,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::with_capacity(lost.len());
    for (path, ids) in lost {
        let keys = of(keys, ids).context("a key is not in the escrow")?;
        if let Err(error) = medium::write(path, &key_file::text(&keys), Some(owner)) {
            medium::remove(&written);
            return Err(error);
        }
        written.push(path.clone());
    }
    Ok(written)
}

fn told(recovered: &Recovered, folder: &Folder) -> String {
    let ids: Vec<_> = recovered.keys.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for file in &recovered.key_files {
        text.push_str(&format!("Key file  {}\n", file.display()));
    }
    text.push_str(&format!(
        "Keys      {}\nValues    {} opened",
        ids.join(" and "),
        recovered.opened
    ));
    if recovered.in_token > 0 {
        let apart = recovered.in_token;
        text.push_str(&format!(", {apart} under a token's key were not tried"));
    }
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
        "\n\nIts shares or its sealed copy were in use now: make new ones after `keyward keys rotate {folder}`.\n\
         Next: keyward serve {folder}"
    ));
    text
}
