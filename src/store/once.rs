//! Idempotency keys, as a store keeps them. The keys of acts are written with the records of what was done.

use super::StoreError;
use crate::domain::once::Once;
use crate::domain::{HexDigest, Time};

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// Nothing, and this caller's owner has as many keys as are remembered.
    Full,
    /// It was used.
    Used {
        /// Hash of the request that it was used for.
        request: HexDigest,
        /// Status and body of the answer; none: it was done, and the answer was not kept.
        answer: Option<(u16, Vec<u8>)>,
    },
}

/// See the module.
pub trait OnceStore: Send + Sync {
    /// What is known of the key at `now`.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn known(&self, once: &Once, now: Time) -> Result<Known, StoreError>;

    /// Keeps the answer that the act was given, if the key is not another act's.
    ///
    /// # Errors
    /// When the store fails; then it may be kept or not.
    fn keep_answer(&self, once: &Once, status: u16, body: Vec<u8>, now: Time) -> Result<(), StoreError>;
}
