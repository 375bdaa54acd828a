//! Whether keys that came out of an escrow are the data folder's: tried in hand before they are written, and afterwards
//! as the server finds them.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::output;
use super::folder::{FolderKeys, sealer};
use super::rotate::Damaged;
use crate::domain::sealed::{KeyId, KeyLocation, KeyState, SealingKey};
use crate::sealing::key_file::FileKeyBytes;
use crate::sealing::provider::{KeyError, KeyProvider, KeySource};
use crate::sealing::{FileKey, Place, Sealer, key_id, sealed_under};
use crate::store::SqlStore;
use crate::store::keys::{Cursor, Keys as _, SealedValue};

/// Values that are read at once.
const PAGE: u32 = 256;

/// What became of everything that is sealed in a data folder.
#[derive(Default)]
pub(super) struct Tried {
    /// How many values opened.
    pub(super) opened: u64,
    /// How many are under keys in tokens, and were not tried.
    pub(super) in_token: u64,
    /// What did not open.
    pub(super) damaged: Vec<Damaged>,
    /// Whether something opened under a key of the escrow.
    good: bool,
    /// Whether something did not.
    bad: bool,
}

impl Tried {
    /// Whether the escrow's keys, with the right ids, open nothing of what is sealed under these, or nothing at all
    /// opens.
    pub(super) fn refuted(&self) -> bool {
        (self.bad && !self.good) || (self.opened == 0 && !self.damaged.is_empty())
    }
}

/// Opens everything that is sealed in the folder, but what is under keys in tokens.
///
/// `keys` are all that it needs of files; `escrowed` are those that came out of the escrow.
pub(super) fn opens(
    store: &Arc<SqlStore>,
    keys: &[FileKeyBytes],
    escrowed: &[SealingKey],
    tokens: &[KeyId],
) -> anyhow::Result<Tried> {
    let sealer = Sealer::with_source(Box::new(InHand {
        store: store.clone(),
        keys: keys.to_vec(),
    }))?;
    let under = |value: &SealedValue| sealed_under(&value.sealed);
    let (mut after, mut tried): (Cursor, _) = ((0, 0), Tried::default());
    loop {
        let values = store.sealed_values(after, None, PAGE)?;
        let Some(last) = values.last() else { break };
        after = last.cursor;
        let in_token = |value: &SealedValue| under(value).is_some_and(|id| tokens.contains(&id));
        let (apart, values): (Vec<_>, Vec<_>) = values.into_iter().partition(in_token);
        tried.in_token += apart.len() as u64;
        let sealed: Vec<_> = values
            .iter()
            .map(|value| (Place::from(&value.at), value.sealed.as_slice()))
            .collect();
        for (value, opened) in values.iter().zip(sealer.open_all(&sealed)) {
            let escrowed = escrowed.iter().any(|key| under(value) == Some(key.id));
            match opened {
                Ok(_) => {
                    tried.opened += 1;
                    tried.good |= escrowed;
                }
                Err(error) => {
                    tried.bad |= escrowed;
                    tried.damaged.push(Damaged {
                        value: value.at.to_string(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }
    Ok(tried)
}

/// Finds every key that is in a file as the server does, with this configuration.
///
/// # Errors
/// When the server would not start, or not open what is under one of them.
pub(super) fn as_the_server(
    store: &Arc<SqlStore>,
    folder: &Path,
    configured: Option<&KeyLocation>,
    needed: &[SealingKey],
    tokens: &[KeyId],
) -> anyhow::Result<()> {
    let source = FolderKeys::new(store, folder, configured);
    for key in needed {
        source.provider(key.id)?;
    }
    match sealer(store, folder, configured) {
        // A token may be away while a file is recovered.
        Err(error) if !tokens.is_empty() => {
            output::note(&format!("the server would not start now: {error:#}"));
            Ok(())
        }
        tried => tried.map(drop),
    }
}

/// Keys that are in no file yet.
struct InHand {
    store: Arc<SqlStore>,
    keys: Vec<FileKeyBytes>,
}

impl KeySource for InHand {
    /// One that is in hand counts as the active one, as nothing is sealed here.
    fn states(&self) -> Result<Vec<(KeyId, KeyState)>, KeyError> {
        let known = self.store.sealing_keys();
        let known = known.map_err(|error| KeyError::Unavailable(error.to_string()))?;
        let first = self.keys.first().map(key_id);
        let state = |key: SealingKey| match key.state {
            KeyState::Retired => (key.id, KeyState::Retired),
            _ if Some(key.id) == first => (key.id, KeyState::Active),
            _ => (key.id, KeyState::Retiring),
        };
        Ok(known.into_iter().map(state).collect())
    }

    fn provider(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let key = self.keys.iter().find(|key| key_id(key) == id);
        let key = key.ok_or_else(|| KeyError::Unusable(format!("the key {id} is not in the escrow")))?;
        Ok(Arc::new(FileKey::new(Zeroizing::clone(key))))
    }
}
