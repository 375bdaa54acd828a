//! What a backup says of itself: its first part, as JSON.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::audit::proof::Head;
use crate::domain::sealed::KeyState;
use crate::domain::{HexDigest, Time};
use crate::store::SqlStore;
use crate::store::keys::Keys as _;
use crate::store::{AuditLog as _, StoreError};

/// The version of the form.
pub(super) const BACKUP_VERSION: u32 = 1;
/// The longest manifest that is read, in bytes.
pub(super) const MAX: u64 = 1 << 20;

/// See the module.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The form's version: 1.
    pub(super) backup: u32,
    /// When it was taken.
    pub(super) taken: Time,
    /// Version of the program that made it.
    pub(super) keyward: String,
    /// Version of the database's schema in it.
    pub(super) schema: i64,
    /// Public ids of the keys that its secrets are sealed under.
    pub(super) key_ids: Vec<String>,
    /// The audit log in it.
    pub(super) audit: Log,
    /// The parts that follow, in their order.
    pub(super) parts: Vec<Part>,
}

/// The audit log of a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Log {
    /// How many records its tree has.
    pub(in crate::cli) size: u64,
    /// The tree's root.
    pub(super) root: HexDigest,
    /// The newest checkpoint, a signed note; null: none was signed yet.
    pub(in crate::cli) checkpoint: Option<String>,
}

/// One file in a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// What it is called.
    pub(super) name: String,
    /// How long it is.
    pub(super) bytes: u64,
    /// SHA-256 of its bytes.
    pub(super) sha256: HexDigest,
}

impl Manifest {
    /// Reads one.
    pub(super) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let what = "the backup's manifest";
        let value: serde_json::Value = serde_json::from_slice(text).context(what)?;
        let version = value.get("backup").and_then(serde_json::Value::as_u64);
        if version != Some(BACKUP_VERSION.into()) {
            bail!(
                "this backup has form {}, this keyward reads form {BACKUP_VERSION}: use the keyward that made it",
                version.map_or_else(|| "unknown".to_owned(), |version| version.to_string())
            );
        }
        let manifest: Self = serde_json::from_value(value).context(what)?;
        if manifest.schema > SqlStore::schema() {
            bail!(
                "the backup has schema {}, this keyward knows up to {}: use the newer keyward that made it",
                manifest.schema,
                SqlStore::schema()
            );
        }
        Ok(manifest)
    }
}

impl Log {
    /// That of a store.
    pub(in crate::cli) fn of(store: &SqlStore) -> Result<Self, StoreError> {
        let Head { size, root } = store.log_head()?;
        Ok(Self {
            size,
            root,
            checkpoint: store.log_checkpoint()?.map(|kept| kept.note),
        })
    }
}

/// Public ids of the keys that a store's secrets are sealed under.
pub(super) fn key_ids(store: &SqlStore) -> Result<Vec<String>, StoreError> {
    let keys = store.sealing_keys()?.into_iter();
    let keys = keys.filter(|key| key.state != KeyState::Retired);
    Ok(keys.map(|key| key.id.to_string()).collect())
}
