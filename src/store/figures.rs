//! Figures of the whole store, for those who watch over it.

use super::StoreError;
use crate::domain::Time;

/// How much there is, as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Holds that wait for a person, those that wait for a second one included.
    pub open_holds: u64,
    /// When the oldest of them began.
    pub oldest_hold: Option<Time>,
    /// Launches that may still be validated.
    pub pending_launches: u64,
    /// Connections of measured guests that may still be asked over.
    pub open_connections: u64,
    /// Records of the audit log that have their place in it.
    pub log_size: u64,
    /// Records that wait for theirs.
    pub log_pending: u64,
    /// When the oldest of those was written.
    pub oldest_pending: Option<Time>,
    /// Records that the newest checkpoint counts.
    pub checkpoint_size: u64,
    /// When it was signed.
    pub checkpoint: Option<Time>,
}

/// See the module.
pub trait FiguresStore {
    /// The figures as of `now`. Each is had by an index; whoever asks often keeps them for a while.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn figures(&self, now: Time) -> Result<Figures, StoreError>;
}
