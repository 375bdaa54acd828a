//! `keys escrow`: the keys of a data folder, sealed to a key that is offline or split in shares; and whether what was
//! put away still carries the keys of today.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::super::Ended;
use super::super::backup::files::private_folder;
use super::super::output::{self, Format};
use super::medium::{self, Medium};
use super::{Folder, recorded, rotate};
use crate::domain::sealed::{KeyId, KeyLocation, KeyState, SealingKey};
use crate::domain::{Clock as _, HexDigest, SystemClock, Time};
use crate::sealing::escrow::sealed::{RecoveryKey, seal};
use crate::sealing::escrow::{Carried, Parts, split};
use crate::sealing::key_file::{self, FileKeyBytes};
use crate::sealing::key_id;
use crate::sev::SystemRandom;
use crate::store::keys::Keys as _;

#[derive(Args)]
#[command(
    group(ArgGroup::new("what").required(true).args(["to", "split", "check"])),
    after_help = "Make the offline key where it is to stay:\n\
                  \x20 openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -aes256 -out recovery.key\n\
                  \x20 openssl pkey -in recovery.key -pubout -out recovery.pub\n\
                  Each `keys rotate` makes escrows stale: make a new one then, and keep the old with the backups of its \
                  time. `--check` ends with exit code 1 when one is stale. docs/key-loss.md has the drill"
)]
pub(in crate::cli) struct Escrow {
    #[command(flatten)]
    folder: Folder,
    /// Seal the keys to this RSA public key (or certificate, PEM), whose private key is kept offline
    #[arg(long, value_name = "FILE", requires = "out")]
    to: Option<PathBuf>,
    /// The sealed escrow, a new file
    #[arg(long, value_name = "FILE", requires = "to")]
    out: Option<PathBuf>,
    /// Split the keys: any K of N shares give them back, and fewer help nobody. Such as 3-of-5
    #[arg(long, value_name = "K-of-N", requires = "out_dir")]
    split: Option<Parts>,
    /// Folder for the shares, one file each: give them to different people
    #[arg(long, value_name = "DIR", requires = "split")]
    out_dir: Option<PathBuf>,
    /// Say whether these escrows carry the keys that the data folder is sealed under now
    #[arg(long, value_name = "FILE", num_args = 1..)]
    check: Vec<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Made {
    files: Vec<PathBuf>,
    keys: Vec<KeyId>,
    made: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed_to: Option<HexDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<u8>,
}

#[derive(Serialize)]
struct Held {
    file: PathBuf,
    current: bool,
    keys: Vec<KeyId>,
    made: Option<Time>,
    why: String,
}

impl Escrow {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.folder.path();
        let store = self.folder.database()?;
        if !self.check.is_empty() {
            let known = store.sealing_keys()?;
            return self.held(&in_files(folder, needed(&known))?, &known);
        }
        // So that no key moves meanwhile.
        let _alone = rotate::lock(folder)?;
        let keys = self.keys(&in_files(folder, needed(&store.sealing_keys()?))?)?;
        let made = SystemClock.now();
        let made = match (&self.to, &self.out, self.split, &self.out_dir) {
            (Some(to), Some(out), ..) => seal_to(&keys, to, out, made)?,
            (_, _, Some(parts), Some(folder)) => split_into(&keys, parts, folder, made)?,
            _ => bail!("say --to, --split or --check"),
        };
        if !output::structured(self.output, &made)? {
            output::line(&told(&made))?;
        }
        Ok(Ended::Done)
    }

    /// The keys that the folder is sealed under, from their files.
    fn keys(&self, needed: &[SealingKey]) -> anyhow::Result<Vec<FileKeyBytes>> {
        let configured = self.folder.configured()?;
        let mut keys = Vec::with_capacity(needed.len());
        for key in needed {
            let recorded = recorded(self.folder.path(), key);
            let places = configured.iter().chain([&recorded]);
            let mut why = None;
            let found = places.into_iter().find_map(|place| match place {
                KeyLocation::File(path) => match key_file::read(path) {
                    Ok(found) => found.iter().find(|found| key_id(found) == key.id).cloned(),
                    Err(error) => {
                        why.get_or_insert(error);
                        None
                    }
                },
                KeyLocation::Pkcs11(_) => None,
            });
            match (found, why) {
                (Some(found), _) => keys.push(found),
                (None, Some(why)) => return Err(why.into()),
                (None, None) => bail!(
                    "the key {} is not in {recorded}: name its file with --key-file",
                    key.id
                ),
            }
        }
        Ok(keys)
    }

    fn held(&self, needed: &[SealingKey], known: &[SealingKey]) -> anyhow::Result<Ended> {
        let held = self.check.iter().map(|file| {
            let (keys, made) = match medium::read(file)? {
                Medium::Sealed(sealed) => (sealed.carried.keys, Some(sealed.carried.made)),
                Medium::Share(share) => (share.carried.keys, Some(share.carried.made)),
                Medium::Clear(keys) => (keys.iter().map(key_id).collect(), None),
            };
            let why = missing(needed, known, &keys);
            Ok(Held {
                file: file.clone(),
                current: why.is_none(),
                keys,
                made,
                why: why.unwrap_or_else(|| "carries the keys of this data folder".to_owned()),
            })
        });
        let held = held.collect::<anyhow::Result<Vec<_>>>()?;
        if !output::structured(self.output, &held)? {
            let mut table = output::table(&["escrow", "state", "made", "why"]);
            for one in &held {
                table.add_row([
                    one.file.display().to_string(),
                    if one.current { "current" } else { "stale" }.to_owned(),
                    one.made.map(|made| made.to_string()).unwrap_or_default(),
                    one.why.clone(),
                ]);
            }
            output::line(&table.trim_fmt())?;
        }
        Ok(if held.iter().all(|one| one.current) {
            Ended::Done
        } else {
            Ended::Failed
        })
    }
}

/// The keys without which something in the data folder does not open.
pub(super) fn needed(keys: &[SealingKey]) -> Vec<SealingKey> {
    let needed = keys.iter().filter(|key| key.state != KeyState::Retired);
    needed.cloned().collect()
}

/// Why keys are not all that the data folder needs; none: they are.
pub(super) fn missing(needed: &[SealingKey], known: &[SealingKey], keys: &[KeyId]) -> Option<String> {
    let missing = needed.iter().find(|key| !keys.contains(&key.id))?;
    let SealingKey { id, created, .. } = missing;
    let retired = known
        .iter()
        .find(|key| keys.contains(&key.id) && key.state == KeyState::Retired);
    let before = known.iter().any(|key| keys.contains(&key.id));
    Some(match retired.and_then(|key| Some((key.id, key.retired?))) {
        Some((old, when)) => format!(
            "carries the key {old}, retired at {when}; this data folder is sealed under {id} since {created}"
        ),
        None if before => {
            format!("lacks the key {id}, under which this data folder is sealed since {created}")
        }
        None => {
            let ids: Vec<_> = keys.iter().map(ToString::to_string).collect();
            format!(
                "is another data folder's: it carries the key {}, and this one is sealed under {id}",
                ids.join(" and ")
            )
        }
    })
}

/// Those of the keys that are in files; of the others, in tokens, it is said what to do.
///
/// # Errors
/// When none is in a file.
pub(super) fn in_files(folder: &Path, keys: Vec<SealingKey>) -> anyhow::Result<Vec<SealingKey>> {
    let in_file = |key: &SealingKey| matches!(recorded(folder, key), KeyLocation::File(_));
    let (files, tokens): (Vec<_>, Vec<_>) = keys.into_iter().partition(in_file);
    for key in tokens {
        let told = in_token(&key, &recorded(folder, &key));
        if files.is_empty() {
            bail!(told);
        }
        output::note(&told);
    }
    Ok(files)
}

fn in_token(key: &SealingKey, place: &KeyLocation) -> String {
    format!(
        "the key {} is in the {place}, which it never leaves: it can neither be put in escrow nor recovered here. Back the \
         token up by its maker's means, or move the key to a file with `keyward keys rotate --to '{{file: PATH}}'`",
        key.id
    )
}

fn seal_to(keys: &[FileKeyBytes], to: &Path, out: &Path, made: Time) -> anyhow::Result<Made> {
    medium::absent(out)?;
    let pem = medium::public(to)?;
    let named = || to.display().to_string();
    let key = RecoveryKey::from_pem(&pem).with_context(named)?;
    let sealed = seal(keys, &key, made).with_context(named)?;
    medium::write(out, &sealed.to_text(), None)?;
    let Carried { keys, made } = sealed.carried;
    Ok(Made {
        files: vec![out.to_owned()],
        keys,
        made,
        sealed_to: Some(sealed.sealed_to),
        needed: None,
    })
}

fn split_into(keys: &[FileKeyBytes], parts: Parts, folder: &Path, made: Time) -> anyhow::Result<Made> {
    let shares = split(keys, parts, made, &SystemRandom)?;
    let path = |number: u8| folder.join(format!("share-{number}-of-{}.txt", parts.of));
    for share in &shares {
        medium::absent(&path(share.number))?;
    }
    private_folder(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::with_capacity(shares.len());
    for share in &shares {
        let path = path(share.number);
        if let Err(error) = medium::write(&path, &share.to_text(), None) {
            // All or none: a few may be as many as are needed.
            medium::remove(&files);
            return Err(error);
        }
        files.push(path);
    }
    Ok(Made {
        files,
        keys: keys.iter().map(key_id).collect(),
        made,
        sealed_to: None,
        needed: Some(parts.needed),
    })
}

fn told(made: &Made) -> String {
    let ids: Vec<_> = made.keys.iter().map(ToString::to_string).collect();
    let files: Vec<_> = made.files.iter().map(|file| file.display().to_string()).collect();
    let next = match (&made.sealed_to, made.needed) {
        (Some(to), _) => format!(
            "Sealed to  the public key with SHA-256 {to}\n\n\
             Keep it away from the backups, and its private key offline."
        ),
        (_, needed) => format!(
            "Needed     {} of {}\n\n\
             Give each share to another person, and remove these files. Nobody should hold as many as are needed.",
            needed.unwrap_or_default(),
            files.len()
        ),
    };
    format!(
        "Made       {}\nKeys       {}\n{next}\nIt is stale after the next `keyward keys rotate`.",
        files.join("\n           "),
        ids.join(" and ")
    )
}
