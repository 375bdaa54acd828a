//! Idempotency keys of the owner API: acts that a caller wants done once, however often the request is sent.

use std::time::Duration;

use uuid::Uuid;

use super::{HexDigest, Name};

/// How long a key is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// An act under an idempotency key. It is written down in the transaction of the act itself, so that no crash between
/// the two lets it be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Hash of who calls and of the caller's key.
    pub key: HexDigest,
    /// Hash of the request.
    pub request: HexDigest,
    /// This try: several records of one act have it in common, and two tries do not.
    pub act: Uuid,
    /// Whose keys are bounded in number; none: the administrators'.
    pub owner: Option<Name>,
}
