//! What people say, and changes that one person alone may not make where the owner asks for two.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::launch::Binding;
use super::platform::Accepted;
use super::revision::By;
use super::{HexDigest, Name, Time};

/// How long the word of the first of two people counts.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// One person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Word {
    /// Who.
    pub by: By,
    /// When.
    pub time: Time,
    /// Why, in the person's words.
    pub reason: String,
}

impl By {
    /// Whether both may be one person: the token is the same, or what it is called.
    #[must_use]
    pub fn is_same_person(&self, other: &Self) -> bool {
        self.token == other.token || self.name == other.name
    }
}

/// A change that may need two people. Two words are for the same change if these are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// To lower a count, or to say what one is that is not known.
    ResetLimit {
        /// What it counts in.
        binding: Binding,
        /// The secret.
        secret: Name,
        /// The new count.
        to: u64,
    },
    /// To ask for so many people from now on.
    ApprovalsRequired {
        /// 1 or 2.
        people: u8,
        /// Whether also for registering what decides over releases.
        #[serde(default)]
        policies: bool,
    },
    /// To register what decides over releases: a bundle, bound policies, workloads, key sets, signing keys.
    Register {
        /// Of what is to be registered.
        digest: HexDigest,
    },
    /// To let a platform get releases where only enrolled ones do, or one that was refused.
    EnrolPlatform {
        /// Fingerprint of its CEK.
        cek: HexDigest,
    },
    /// To let any platform that is not refused get releases.
    AcceptPlatforms {
        /// Always `any`.
        accepted: Accepted,
    },
    /// To let releases go on that a freeze stops.
    Unfreeze {
        /// The freeze.
        freeze: Uuid,
    },
}

/// A change that one person proposed and another must approve of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proposal {
    /// What is to be changed.
    pub change: Change,
    /// Who proposed it, when, and why.
    #[serde(flatten)]
    pub word: Word,
    /// Until when another person's word makes it so.
    pub expires: Time,
}

/// A count that was lowered. It is written once and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reset {
    /// 1 for the owner's first, one more for each.
    pub number: u64,
    /// What the count counts in.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// The count before.
    pub before: u64,
    /// The count after.
    pub after: u64,
    /// When it was done.
    pub time: Time,
    /// Who wanted it, the first of them first.
    pub words: Vec<Word>,
}

/// How many people an owner asks for. Each change of it is written once and never changed; the newest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approvals {
    /// 1 for the owner's first change, one more for each; 0: it was never changed.
    pub number: u64,
    /// 1, or 2: never the same person twice.
    pub approvals_required: u8,
    /// Whether as many register what decides over releases: bundles, bound policies, workloads, key sets, signing keys.
    #[serde(default)]
    pub policies: bool,
    /// Who wanted it, the first of them first.
    pub words: Vec<Word>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            number: 0,
            approvals_required: 1,
            policies: false,
            words: Vec::new(),
        }
    }
}

/// A count, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// What it counts in.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// Releases that were counted.
    pub released: u64,
    /// The least of the limits that policies set on it when they were last asked; null: none did.
    pub limit: Option<u64>,
    /// Confirmed releases beyond the limit that were not made yet.
    pub confirmed: u64,
    /// More may have been released than were counted, as an older copy of the database was accepted: every release is
    /// held until the count is reset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}
