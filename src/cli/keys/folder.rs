//! The keys of a data folder: which there are is for the database to say, what they are for files and tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::domain::sealed::{KeyId, KeyLocation, KeyState, SealingKey};
use crate::sealing::key_file::KeyFileError;
use crate::sealing::provider::{KeyError, KeyProvider, KeySource};
use crate::sealing::{Sealer, keys_at};
use crate::store::SqlStore;
use crate::store::StoreError;
use crate::store::keys::Keys as _;

/// The keys of a data folder.
pub(in crate::cli) struct FolderKeys {
    store: Arc<SqlStore>,
    folder: PathBuf,
    configured: Option<KeyLocation>,
}

impl FolderKeys {
    /// As the server has them with this configuration.
    pub(super) fn new(store: &Arc<SqlStore>, folder: &Path, configured: Option<&KeyLocation>) -> Self {
        Self {
            store: store.clone(),
            folder: folder.to_owned(),
            configured: configured.cloned(),
        }
    }
}

impl KeySource for FolderKeys {
    fn states(&self) -> Result<Vec<(KeyId, KeyState)>, KeyError> {
        let keys = self.store.sealing_keys().map_err(not_now)?;
        Ok(keys.into_iter().map(|key| (key.id, key.state)).collect())
    }

    fn provider(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let keys = self.store.sealing_keys().map_err(not_now)?;
        let recorded = keys.into_iter().find(|key| key.id == id);
        let recorded = recorded.map(|key| key.location.below(&self.folder));
        let mut places: Vec<_> = self.configured.iter().chain(&recorded).collect();
        places.dedup();
        let mut why = None;
        for place in places {
            match keys_at(place) {
                Ok(found) => {
                    if let Some(found) = found.into_iter().find(|key| key.id() == id) {
                        return Ok(found);
                    }
                }
                Err(error) => why = Some(why.unwrap_or(error)),
            }
        }
        Err(why.unwrap_or_else(|| {
            let places = self.configured.iter().chain(&recorded);
            let places: Vec<_> = places.map(ToString::to_string).collect();
            KeyError::Unusable(format!("the key {id} is not in {}", places.join(" or in ")))
        }))
    }
}

fn not_now(error: StoreError) -> KeyError {
    KeyError::Unavailable(error.to_string())
}

/// The keys of a data folder, ready to seal and open.
///
/// # Errors
/// When the active key is not to be had, or the place that is configured was never this folder's.
pub(in crate::cli) fn sealer(
    store: &Arc<SqlStore>,
    folder: &Path,
    configured: Option<&KeyLocation>,
) -> anyhow::Result<Sealer> {
    let keys = store.sealing_keys()?;
    let active = keys.iter().find(|key| key.state == KeyState::Active);
    let active = active.context("the database names no key that values are sealed under")?;
    let place = configured.map_or_else(|| recorded(folder, active), Clone::clone);
    // A file is gone once the last key in it was retired; who names it still is told where the key is by now.
    let moved = |key: &SealingKey| key.state == KeyState::Retired && recorded(folder, key) == place;
    let held = match keys_at(&place) {
        Ok(held) => held,
        Err(KeyError::File(KeyFileError::Missing(_))) if keys.iter().any(moved) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let held: Vec<_> = held.iter().map(|key| key.id()).collect();
    if !held.contains(&active.id) {
        if !keys.iter().any(|key| held.contains(&key.id) || moved(key)) {
            bail!(
                "{place} is not the key that this data folder was made with; name the right one with --key-file"
            );
        }
        log::warn!(
            "the key of this data folder is in {} since {}, and no longer in {place}: say so in the configuration",
            recorded(folder, active),
            active.created
        );
    }
    let source = FolderKeys::new(store, folder, configured);
    Ok(Sealer::with_source(Box::new(source))?)
}

/// Where a key is, by what the database says.
pub(in crate::cli) fn recorded(folder: &Path, key: &SealingKey) -> KeyLocation {
    key.location.below(folder)
}
