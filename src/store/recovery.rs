//! What a store that went back to an older copy keeps of that, and what of it is sealed.

use uuid::Uuid;

use super::StoreError;
use crate::audit::record::AuditRecord;
use crate::domain::{Name, Time};

/// Where a sealed value belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedPlace {
    /// The value of a secret's version.
    Secret {
        /// The secret.
        name: Name,
        /// Its version.
        version: u64,
    },
    /// Keys of a launch.
    LaunchKeys(Uuid),
    /// The answer that a launch was given.
    Answer(Uuid),
}

/// A sealed value, as it is stored.
pub struct Sealed {
    /// Whose it is.
    pub owner: Name,
    /// Where it belongs.
    pub place: SealedPlace,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// See the module.
pub trait Recovery: Send + Sync {
    /// Accepts that the store is an older copy of itself, and writes the record of that. What was released since is not
    /// known, so that from now on:
    ///
    /// - no release of an owner there is now is within a limit, until a person resets the count;
    /// - what is left of confirmations is withdrawn, and proposals to reset are gone;
    /// - no launch waits any more, and no answer is kept: they may have been used since.
    ///
    /// # Errors
    /// When the store fails.
    fn accept_rollback(
        &self,
        seen: u64,
        accepted: u64,
        record: AuditRecord,
        now: Time,
    ) -> Result<(), StoreError>;
}
