//! What a store that went back to an older copy keeps of that.

use super::StoreError;
use crate::audit::record::AuditRecord;
use crate::domain::Time;

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
