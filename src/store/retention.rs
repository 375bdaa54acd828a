//! What a store forgets by age: what records of the audit log say, never that they are there; and decisions.

use super::StoreError;
use crate::domain::Time;

/// See the module. Each call is one bounded transaction, in which what it forgets is recorded.
pub trait Retention: Send + Sync {
    /// Forgets what the oldest records say, up to the first that is not from before that time; whether there may be
    /// more. Their leaf hashes stay, and the tree with them. A record without an index, or that no checkpoint counts
    /// yet, is kept.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn forget_records(&self, before: Time, now: Time) -> Result<bool, StoreError>;

    /// Forgets the oldest decisions from before that time; whether there may be more. What the audit log says of them
    /// stays.
    ///
    /// # Errors
    /// When the store fails.
    fn forget_decisions(&self, before: Time, now: Time) -> Result<bool, StoreError>;
}
