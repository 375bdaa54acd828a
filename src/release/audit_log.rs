//! The audit log as the use cases write and sign it: who did what, and checkpoints of the tree.
//!
//! A checkpoint is signed only when the stored hashes prove that its tree continues that of the last one. If they
//! do not, the log was cut, rewritten or damaged: nothing is signed, and the server is not ready until it does again.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::Service;
use crate::audit::actor::{Act, Acting};
use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::key::{KeyError, SignerKey, VerifierKey};
use crate::audit::proof::{Head, ProofError};
use crate::audit::record::{AuditRecord, Event};
use crate::domain::HexDigest;
use crate::domain::token::Caller;
use crate::sev::RandomError;
use crate::store::StoreError;
use crate::store::log::StoredCheckpoint;

/// What signs, and whether it still may.
#[derive(Default)]
pub(super) struct Signing {
    key: Option<SignerKey>,
    /// Why the log could not be signed the last time.
    fault: Mutex<Option<String>>,
    /// Why the last checkpoint did not get where it is kept outside.
    outside: Mutex<Option<String>>,
}

/// Why no checkpoint was signed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The service was put together without one.
    #[error("there is no key to sign the audit log with")]
    NoKey,
    /// The store failed, or hashes are missing in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last checkpoint is none of this log, or the new one can't be signed.
    #[error("the checkpoint can't be used: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The key's name is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The tree is no continuation of the one that was signed.
    #[error("the audit log does not continue its checkpoint of {size} records: {error}")]
    Forked {
        /// Size of the tree that was signed.
        size: u64,
        /// Why not.
        error: ProofError,
    },
    /// The head is not the root of the stored hashes.
    #[error(
        "the audit log of {size} records is damaged: its hashes have the root {computed}, its head says {stored}"
    )]
    Damaged {
        /// The tree's size.
        size: u64,
        /// What the head says.
        stored: HexDigest,
        /// What the hashes give.
        computed: HexDigest,
    },
}

impl Service {
    /// The same, with the key that signs the audit log.
    #[must_use]
    pub fn signing_log(mut self, key: SignerKey) -> Self {
        self.log.key = Some(key);
        self
    }

    /// By which the log's checkpoints are checked.
    #[must_use]
    pub fn log_key(&self) -> Option<&VerifierKey> {
        self.log.key.as_ref().map(SignerKey::verifier)
    }

    /// Why the log could not be signed the last time; none: it could.
    #[must_use]
    pub fn log_fault(&self) -> Option<String> {
        let own = self
            .log
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        own.or_else(|| {
            self.log
                .outside
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        })
    }

    /// Says whether the last checkpoint got where it is kept outside; if not, why.
    pub fn checkpoint_left(&self, fault: Option<String>) {
        *self.log.outside.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Signs and keeps a checkpoint, if the log grew since the last one: the signed note.
    ///
    /// # Errors
    /// When the log is no continuation of the last checkpoint, or the store or the key fails. Nothing is signed then.
    pub fn checkpoint(&self) -> Result<Option<String>, LogError> {
        let result = self.sign();
        let fault = result.as_ref().err().map(ToString::to_string);
        *self.log.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        result
    }

    /// Whether the log continues a checkpoint that was kept outside.
    ///
    /// # Errors
    /// When it does not, or that can't be told.
    pub fn continues(&self, note: &str) -> Result<(), LogError> {
        let key = self.log.key.as_ref().ok_or(LogError::NoKey)?;
        let seen = Checkpoint::open(note, key.verifier())?;
        self.following(&seen, self.store().log_head()?)?;
        Ok(())
    }

    /// Records something that the server did of its own accord.
    ///
    /// # Errors
    /// When the store fails; then it must not be done.
    pub fn record(&self, event: Event) -> Result<(), LogError> {
        Ok(self.store().record(self.server_record(event)?)?)
    }

    /// The record of what the server does of its own accord.
    pub(super) fn server_record(&self, event: Event) -> Result<AuditRecord, StoreError> {
        let id = self.record_id().map_err(|e| StoreError::Engine(e.to_string()))?;
        Ok(AuditRecord::of_server(id, self.parts.clock.now(), None, event))
    }

    /// Records of what a caller does to the caller's owner's objects.
    pub(super) fn records(
        &self,
        caller: &Caller,
        events: Vec<Event>,
    ) -> Result<Vec<AuditRecord>, RandomError> {
        let act = self.act(caller);
        let record = |event| Ok(act.record(self.record_id()?, Some(caller.owner.clone()), event));
        events.into_iter().map(record).collect()
    }

    /// What the log says of who does something now.
    pub(super) fn act(&self, by: &impl Acting) -> Act {
        Act {
            actor: by.actor(),
            time: self.parts.clock.now(),
            once: by.once(),
        }
    }

    fn record_id(&self) -> Result<Uuid, RandomError> {
        let mut bytes = [0; 16];
        self.parts.random.fill(&mut bytes)?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    fn sign(&self) -> Result<Option<String>, LogError> {
        let key = self.log.key.as_ref().ok_or(LogError::NoKey)?;
        let newest = self.store().log_checkpoint()?;
        let last = match newest {
            Some(stored) => Checkpoint::open(&stored.note, key.verifier())?,
            None => Checkpoint::empty(key.verifier().name().parse()?),
        };
        // After the last checkpoint was read: the log may have grown since, and never shrinks.
        let head = self.store().log_head()?;
        let next = self.following(&last, head)?;
        if head.size == last.head().size {
            return Ok(None);
        }
        let computed = self.store().log_root(head.size)?;
        if computed != head.root {
            return Err(LogError::Damaged {
                size: head.size,
                stored: head.root,
                computed,
            });
        }
        let note = next.sign(key)?.to_string();
        let checkpoint = StoredCheckpoint {
            size: head.size,
            note: note.clone(),
        };
        let now = self.parts.clock.now();
        // Another server on the same store may have been quicker; what it signed is the next one's beginning.
        let kept = self.store().keep_checkpoint(last.head().size, checkpoint, now)?;
        Ok(kept.then_some(note))
    }

    /// The checkpoint of this head, given that its tree continues that of an earlier one.
    fn following(&self, earlier: &Checkpoint, head: Head) -> Result<Checkpoint, LogError> {
        let old = earlier.head().size;
        let proof = match old <= head.size {
            true => self.store().log_consistency(old, head.size)?,
            false => Vec::new(),
        };
        earlier
            .followed_by(head, &proof)
            .map_err(|error| LogError::Forked { size: old, error })
    }
}
