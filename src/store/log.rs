//! The audit log in the store: records in the transaction of what they tell of, their tree, and its checkpoints.
//!
//! Contracts that every store keeps, besides those of [`Store`](super::Store):
//!
//! - **Recorded or not done.** What a method writes and what the log says of it are one transaction. Decisions are
//!   recorded by the methods that take them; of other acts the caller says what to record ([`Recorded`]).
//! - **Given a place once.** A record that is written has a leaf hash and is *pending*; the sequencer gives it the next
//!   index, and moves the tree's head by compare-and-swap on size and root. Where a store can do it, that is the same
//!   transaction. An index never changes, and none is left out.
//! - **As they were.** Bytes and hashes are returned as they are stored, never computed anew.

use uuid::Uuid;

use super::StoreError;
use crate::audit::proof::Head;
use crate::audit::record::{AuditRecord, Event};
use crate::domain::approval::{Change, Word};
use crate::domain::{HexDigest, Name, Time};

/// An act, with what the audit log says of it.
pub struct Recorded<T> {
    /// What is written.
    pub what: T,
    /// What is recorded of it, in this order.
    pub records: Vec<AuditRecord>,
}

/// What two people must want where the owner asks for that.
pub struct Guarded {
    /// What they must agree on.
    pub change: Change,
    /// The word of who wants it now.
    pub word: Word,
    /// What is recorded where that is the first.
    pub proposed: AuditRecord,
    /// Whether two people are needed wherever two are asked for, not only where they are for policies.
    pub always: bool,
}

impl Guarded {
    /// What is recorded where that is the last word that was needed.
    #[must_use]
    pub fn agreed(&self, words: &[Word]) -> AuditRecord {
        let mut record = self.proposed.clone();
        if let Event::RegistrationProposed { digest, reason } = record.event {
            record.event = Event::RegistrationAgreed {
                digest,
                words: words.iter().map(|word| word.by.clone()).collect(),
                reason,
            };
        }
        record
    }
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index in the tree.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: HexDigest,
    /// Whose objects it is about; none: the server's own.
    pub owner: Option<Name>,
    /// Its bytes, unless they were forgotten.
    pub record: Option<String>,
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Its index; none: it is pending.
    pub index: Option<u64>,
    /// Its leaf hash.
    pub leaf: HexDigest,
    /// Whose objects it is about.
    pub owner: Option<Name>,
    /// Its bytes, unless they were forgotten.
    pub record: Option<String>,
}

/// A checkpoint as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Size of its tree.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// See the module.
pub trait AuditLog {
    /// Records what changes nothing else, such as that the server began to serve.
    ///
    /// # Errors
    /// When the store fails.
    fn record(&self, record: AuditRecord) -> Result<(), StoreError>;

    /// Size and root of the tree, as the head says.
    ///
    /// # Errors
    /// When the store fails, or the head is damaged.
    fn log_head(&self) -> Result<Head, StoreError>;

    /// The root of the first `size` records, computed from the stored hashes.
    ///
    /// # Errors
    /// When the store fails, or hashes are missing.
    fn log_root(&self, size: u64) -> Result<HexDigest, StoreError>;

    /// Proves that the record at `index` is in the tree of the first `size`.
    ///
    /// # Errors
    /// When the store fails, hashes are missing, or `index` is not below `size`.
    fn log_inclusion(&self, index: u64, size: u64) -> Result<Vec<HexDigest>, StoreError>;

    /// Proves that the tree of the first `old` records is the beginning of that of the first `size`.
    ///
    /// # Errors
    /// When the store fails, hashes are missing, or `old` is above `size`.
    fn log_consistency(&self, old: u64, size: u64) -> Result<Vec<HexDigest>, StoreError>;

    /// At most `limit` records from this index on.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn log_entries(&self, start: u64, limit: u32) -> Result<Vec<LogEntry>, StoreError>;

    /// Where the record of this id is. A decision's first record has the decision's id.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn log_place(&self, id: Uuid) -> Result<Option<LogPlace>, StoreError>;

    /// At most `limit` checkpoints of trees larger than `after`, smallest first.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn log_checkpoints(&self, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// The newest checkpoint.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn log_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// Keeps a checkpoint, if the newest one is still of the tree of `previous` records (0: there is none); whether
    /// it was.
    ///
    /// # Errors
    /// When the store fails.
    fn keep_checkpoint(
        &self,
        previous: u64,
        checkpoint: StoredCheckpoint,
        now: Time,
    ) -> Result<bool, StoreError>;
}
