//! `keys rotate`: a new key takes over, value by value, while the server serves.
//!
//! Each step is durable before the next, and each can be done again: the new key is kept before the database names
//! it, the database names it before anything is sealed under it, the old one is retired only when nothing is left
//! under it, and only then let go. Whatever kills the command, the next run goes on where it was.

use std::fs::{File, TryLockError};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::super::Ended;
use super::super::output::{self, Format};
use super::{Folder, location, recorded, sealer};
use crate::audit::actor::Act;
use crate::domain::sealed::{KeyId, KeyLocation, KeyState, SealingKey};
use crate::domain::{Clock as _, SystemClock};
use crate::sealing::{Place, Sealer, key_file, key_id, keys_at, new_key, pkcs11};
use crate::sev::SystemRandom;
use crate::store::SqlStore;
use crate::store::keys::{Keys as _, Resealed};

/// Values that are re-wrapped in one transaction: few, so that launches never wait long for it.
const PAGE: u32 = 64;

#[derive(Args)]
#[command(
    after_help = "The values themselves stay as they are: only their data keys are wrapped anew. A run that was \
                        killed is taken up by the next one. The old key is taken out of its key file at the end; \
                        backups from before the rotation need it still: keep it with --old-key-out."
)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    folder: Folder,
    /// Where the new key is to be, as `key_provider` in the configuration: '{file: PATH}' or '{pkcs11: {...}}'.
    /// Default: where the old one is
    #[arg(long, value_name = "PROVIDER", value_parser = location)]
    to: Option<KeyLocation>,
    /// Write keys that are retired to this new key file, before they are taken out of theirs
    #[arg(long, value_name = "FILE")]
    old_key_out: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Rotated {
    active: KeyId,
    location: String,
    retired: Vec<KeyId>,
    rewrapped: u64,
    resumed: bool,
    damaged: Vec<Damaged>,
}

#[derive(Serialize)]
pub(in crate::cli) struct Damaged {
    pub(in crate::cli) value: String,
    pub(in crate::cli) why: String,
}

impl Rotate {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.folder.path();
        let store = Arc::new(self.folder.database()?);
        let _alone = lock(folder)?;
        let configured = self.folder.configured()?;
        let sealer = sealer(&store, folder, configured.as_ref())?;
        let keys = store.sealing_keys()?;
        let resumed = keys.iter().any(|key| key.state == KeyState::Retiring);
        let active = keys.iter().find(|key| key.state == KeyState::Active);
        let active = active.context("the database names no active key")?;
        let there = recorded(folder, active);
        let elsewhere = self.to.as_ref().is_some_and(|to| *to != there);
        if resumed && elsewhere {
            bail!(
                "a rotation to {there} is under way: finish it with `keyward keys rotate --data-dir {}`, then move the key",
                folder.display()
            );
        }
        if !resumed {
            let to = self.to.clone().or(configured).unwrap_or_else(|| there.clone());
            let id = make_key(&to, &keys)?;
            let to = if to == there { active.location.clone() } else { to };
            store.activate(id, &to, &Act::of_server(SystemClock.now()))?;
        }
        let rotated = self.rewrap(&store, &sealer, resumed)?;
        let unfinished = !rotated.damaged.is_empty();
        if !unfinished {
            self.let_go(&store.sealing_keys()?)?;
        }
        self.tell(&rotated)?;
        Ok(if unfinished { Ended::Failed } else { Ended::Done })
    }

    /// Wraps everything that is not under the active key, until the others can be retired.
    fn rewrap(&self, store: &SqlStore, sealer: &Sealer, resumed: bool) -> anyhow::Result<Rotated> {
        let active = sealer.key_id()?;
        let before = retired(&store.sealing_keys()?);
        let bar = progress();
        let mut rewrapped = 0;
        let damaged = loop {
            let (mut after, mut damaged, mut done) = ((0, 0), Vec::new(), 0);
            loop {
                let values = store.sealed_values(after, Some(active), PAGE)?;
                let Some(last) = values.last() else { break };
                after = last.cursor;
                let mut changes = Vec::with_capacity(values.len());
                for value in values {
                    match sealer.rewrap(Place::from(&value.at), &value.sealed, &SystemRandom) {
                        Ok(Some(new)) => changes.push(Resealed {
                            cursor: value.cursor,
                            old: value.sealed,
                            new,
                        }),
                        Ok(None) => {}
                        Err(error) if error.is_of_the_value() => damaged.push(Damaged {
                            value: value.at.to_string(),
                            why: error.to_string(),
                        }),
                        Err(error) => return Err(error.into()),
                    }
                }
                done += store.reseal(changes)?;
                bar.set_position(rewrapped + done as u64);
            }
            rewrapped += done as u64;
            // What was on its way when the walk passed is met by the next.
            if store.retire(&Act::of_server(SystemClock.now()))?.is_empty() || done == 0 {
                break damaged;
            }
        };
        bar.finish_and_clear();
        if !store.checkpoint()? {
            log::warn!(
                "SQLite's write-ahead log still holds values under the former key, as somebody is reading the database; it is emptied when a server starts"
            );
        }
        let keys = store.sealing_keys()?;
        let key = keys.iter().find(|key| key.id == active);
        Ok(Rotated {
            active,
            location: key
                .map(|key| recorded(self.folder.path(), key).to_string())
                .unwrap_or_default(),
            retired: retired(&keys)
                .into_iter()
                .filter(|id| !before.contains(id))
                .collect(),
            rewrapped,
            resumed,
            damaged,
        })
    }

    /// Takes retired keys out of their files. Those in tokens stay: only their keeper knows who else uses them.
    fn let_go(&self, keys: &[SealingKey]) -> anyhow::Result<()> {
        let retired = retired(keys);
        let mut files: Vec<_> = keys
            .iter()
            .filter_map(|key| match recorded(self.folder.path(), key) {
                KeyLocation::File(path) => Some(path),
                KeyLocation::Pkcs11(_) => None,
            })
            .chain(
                self.folder
                    .configured()?
                    .into_iter()
                    .filter_map(|location| match location {
                        KeyLocation::File(path) => Some(path),
                        KeyLocation::Pkcs11(_) => None,
                    }),
            )
            .filter(|path| path.exists())
            .collect();
        files.sort();
        files.dedup();
        let mut old = Vec::new();
        let mut changes = Vec::new();
        for path in files {
            let (gone, kept): (Vec<_>, Vec<_>) = key_file::read(&path)?
                .into_iter()
                .partition(|key| retired.contains(&key_id(key)));
            if !gone.is_empty() {
                old.extend(gone);
                changes.push((path, kept));
            }
        }
        if let (Some(out), Some((first, more))) = (&self.old_key_out, old.split_first()) {
            key_file::create(out, first)?;
            if !more.is_empty() {
                key_file::replace(out, &old)?;
            }
        }
        for (path, kept) in changes {
            if kept.is_empty() {
                std::fs::remove_file(&path).with_context(|| format!("key file {}", path.display()))?;
            } else {
                key_file::replace(&path, &kept)?;
            }
        }
        Ok(())
    }

    fn tell(&self, rotated: &Rotated) -> anyhow::Result<()> {
        if output::structured(self.output, rotated)? {
            return Ok(());
        }
        if rotated.resumed {
            output::line("Took up a rotation that had not come to its end.")?;
        }
        let mut text = format!("Active   {} in {}", rotated.active, rotated.location);
        for id in &rotated.retired {
            text.push_str(&format!("\nRetired  {id}"));
        }
        text.push_str(&format!("\nValues   {} re-wrapped", rotated.rewrapped));
        for Damaged { value, why } in &rotated.damaged {
            text.push_str(&format!("\nDamaged  {value}: {why}"));
        }
        if rotated.damaged.is_empty() {
            text.push_str("\n\nEscrows and copies of the old key are stale: put the new one in escrow (`keyward keys escrow`), as without it no \
                 secret can be opened.");
        } else {
            text.push_str(
                "\n\nThe old key stays until what is damaged is registered anew or deleted: then run this again.",
            );
        }
        output::line(&text)
    }
}

fn retired(keys: &[SealingKey]) -> Vec<KeyId> {
    let retired = keys.iter().filter(|key| key.state == KeyState::Retired);
    retired.map(|key| key.id).collect()
}

/// One rotation at a time: the lock goes with the process.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let file = File::open(folder).with_context(|| folder.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `keyward keys rotate` is at work on {}", folder.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| folder.display().to_string()),
    }
}

/// A key at a location that never sealed anything: one that a run which was killed left there, or a new one.
pub(in crate::cli) fn make_key(location: &KeyLocation, known: &[SealingKey]) -> anyhow::Result<KeyId> {
    match location {
        KeyLocation::File(path) => {
            if path.exists() {
                let spare = keys_at(location)?.into_iter().map(|key| key.id());
                if let Some(spare) = spare.into_iter().find(|id| known.iter().all(|key| key.id != *id)) {
                    return Ok(spare);
                }
            }
            let key = new_key(&SystemRandom)?;
            if path.exists() {
                let mut keys = key_file::read(path)?;
                keys.push(key.clone());
                key_file::replace(path, &keys)?;
            } else {
                key_file::create(path, &key)?;
            }
            Ok(key_id(&key))
        }
        KeyLocation::Pkcs11(at) => {
            let spare = keys_at(location)?.into_iter().map(|key| key.id());
            match spare.into_iter().find(|id| known.iter().all(|key| key.id != *id)) {
                Some(spare) => Ok(spare),
                None => Ok(pkcs11::generate(at, &SystemRandom)?),
            }
        }
    }
}

/// A count on a terminal; elsewhere nothing.
fn progress() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{pos} values re-wrapped")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, target).with_style(style)
}
