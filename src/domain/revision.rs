//! Revisions of an owner's policies: each time that a bundle became the active one, for ever.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{HexDigest, Labels, Name, Time};
use crate::policy::opa::VerificationKey;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// The longest source, in bytes.
pub const MAX_SOURCE: usize = 256;

/// One activation of a bundle. It is written once and never changed; the newest is the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// 1 for the owner's first, one more for each.
    pub number: u64,
    /// The bundle's digest.
    pub digest: HexDigest,
    /// When it became active.
    pub activated: Time,
    /// What made it active.
    pub action: Activation,
    /// Whose token it was; null where the server that wrote it did not record that yet.
    pub by: Option<By>,
    /// Why, in the caller's words.
    pub message: Option<String>,
    /// Where the bundle is from, such as a commit: as the caller said, or `vcs_revision` of the manifest's
    /// `metadata`.
    pub source: Option<String>,
    /// `revision` of the bundle's manifest.
    pub revision: Option<String>,
    /// The registered key that had signed it.
    pub key: Option<String>,
    /// For a rollback, the revision that was gone back to.
    pub of: Option<u64>,
}

/// What made a bundle the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// It was pushed.
    Push,
    /// It was among the objects that were applied.
    Apply,
    /// It had been active before, and was gone back to.
    Rollback,
}

impl Activation {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
        }
    }
}

/// Who made a bundle active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct By {
    /// The token.
    pub token: Uuid,
    /// What it is called.
    pub name: String,
}

/// Which revision is meant: by its number, or the newest with a bundle's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The revision of this number.
    Number(u64),
    /// The newest with this bundle.
    Digest(HexDigest),
}

/// A key that signs an owner's bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SigningKey {
    /// Its name: what a signature calls `kid`.
    pub name: Name,
    /// The key.
    #[serde(flatten)]
    pub key: VerificationKey,
    /// When it was registered.
    pub registered: Time,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}
