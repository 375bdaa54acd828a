//! What keeps a store in order beside the requests that it serves.

use super::{FiguresStore, Outbox, Recovery, Retention};

/// The use cases of the server itself, together.
pub trait Upkeep: Recovery + Retention + Outbox + FiguresStore {}

impl<S: Recovery + Retention + Outbox + FiguresStore> Upkeep for S {}
