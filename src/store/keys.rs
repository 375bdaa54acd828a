//! The keys that values are sealed under, and the walk over everything that is sealed.

use super::StoreError;
use crate::audit::actor::Act;
use crate::domain::sealed::{KeyId, KeyLocation, SealedAt, SealingKey};

/// Where a walk goes on: the number of the place, and the row.
pub type Cursor = (usize, i64);

/// A sealed value, as a walk meets it.
#[derive(Debug)]
pub struct SealedValue {
    /// Where it lies.
    pub at: SealedAt,
    /// Its row; with this cursor the walk goes on behind it.
    pub cursor: Cursor,
    /// The bytes.
    pub sealed: Vec<u8>,
}

/// A value that was sealed anew.
#[derive(Debug)]
pub struct Resealed {
    /// Its row.
    pub cursor: Cursor,
    /// What it was; what is no longer that is left alone.
    pub old: Vec<u8>,
    /// What it is to be.
    pub new: Vec<u8>,
}

/// Part of the store's contract: what a rotation of keys needs. Each method is one transaction.
///
/// A value that is sealed under a retired key never gets in, whoever writes it; so once [`Keys::retire`] said that a
/// key is retired nothing is left under it, and nothing comes.
pub trait Keys: Send + Sync {
    /// Every key that there was, oldest first.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn sealing_keys(&self) -> Result<Vec<SealingKey>, StoreError>;

    /// Makes a key the active one. The one that was is retiring from then on, which the audit
    /// log tells; the same again changes its location.
    ///
    /// # Errors
    /// When the store fails, or the key was retired before.
    fn activate(&self, id: KeyId, location: &KeyLocation, act: &Act) -> Result<(), StoreError>;

    /// Retires every retiring key that nothing is sealed under any more, and records it. Those that are left.
    ///
    /// # Errors
    /// When the store fails.
    fn retire(&self, act: &Act) -> Result<Vec<KeyId>, StoreError>;

    /// Sealed values behind `after`, at most `limit`; with `but`, only those not sealed under it. Empty: that was all.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn sealed_values(
        &self,
        after: Cursor,
        but: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError>;

    /// Puts values that were sealed anew in the place of the old ones. How many still were what they were.
    ///
    /// # Errors
    /// When the store fails.
    fn reseal(&self, values: Vec<Resealed>) -> Result<usize, StoreError>;
}
