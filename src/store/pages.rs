//! Decisions page by page, and revisions.

use uuid::Uuid;

use crate::domain::decision::{Decision, Outcome};
use crate::domain::revision::Revision;

/// A page of decisions, newest first.
#[derive(Debug)]
pub struct DecisionPage {
    /// The decisions.
    pub decisions: Vec<Decision>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<i64>,
}

/// Which decisions are asked for.
#[derive(Clone, Debug, Default)]
pub struct DecisionQuery {
    /// Older than this cursor.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// Of this workload.
    pub workload: Option<Uuid>,
}

/// A revision, with what signed it.
#[derive(Debug)]
pub struct StoredRevision {
    /// The revision.
    pub revision: Revision,
    /// Its signature, as OPA has it.
    pub signatures: Option<Vec<u8>>,
}
