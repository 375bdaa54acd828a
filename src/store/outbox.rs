//! What webhooks are to be told: written with what it tells of, and kept until it was delivered or given up.

use uuid::Uuid;

use super::StoreError;
use crate::domain::{Name, Time};

/// A webhook, as far as the store has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Whether it is told of new holds.
    pub holds: bool,
    /// Whether it is told of new checkpoints.
    pub checkpoints: bool,
    /// Of whose holds; none: of everybody's.
    pub owners: Option<Vec<Name>>,
}

/// Something that a webhook is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, the same for each try.
    pub id: Uuid,
    /// What is told: JSON.
    pub body: String,
    /// How often it was tried.
    pub tries: u32,
}

/// See the module.
///
/// Messages of new holds are written by [`Store::commit_release`](super::Store::commit_release) and those of new
/// checkpoints by [`AuditLog::keep_checkpoint`](super::AuditLog::keep_checkpoint), in the same transaction. Of
/// checkpoints only the newest waits. Of holds at most ten thousand wait for one webhook; the oldest give way.
pub trait Outbox: Send + Sync {
    /// From now on these are told, and nobody else. What waits for another is forgotten.
    ///
    /// # Errors
    /// When the store fails.
    fn set_webhooks(&self, webhooks: &[Told]) -> Result<(), StoreError>;

    /// The oldest message for this webhook that is due.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn next_message(&self, webhook: &str, now: Time) -> Result<Option<Message>, StoreError>;

    /// It was delivered, or is given up: it is forgotten.
    ///
    /// # Errors
    /// When the store fails; then it is delivered again.
    fn forget_message(&self, id: Uuid) -> Result<(), StoreError>;

    /// It was not delivered, and is tried again then.
    ///
    /// # Errors
    /// When the store fails; then it is tried at once.
    fn delay_message(&self, id: Uuid, due: Time) -> Result<(), StoreError>;
}
