//! Decisions: what was asked, what was proved, what every policy said, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::launch::{Binding, BoundVerdict};
use super::{Name, Time};
use crate::policy::{Input, Phase};

/// A recorded decision. It names secrets and versions and never holds a value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Its id, which the host learns.
    pub id: Uuid,
    /// When it was taken; for an aggregated record, the first time.
    pub time: Time,
    /// Whose secrets were asked for.
    pub owner: Name,
    /// The workload.
    pub workload: WorkloadRef,
    /// The launch, where one was found.
    pub launch: Option<Uuid>,
    /// Which of the two calls it was.
    pub phase: Phase,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// How many requests this record stands for: more than one only where nothing was attested yet.
    pub count: u64,
    /// Address of the host that asked.
    pub address: String,
    /// What it identified itself as; none where it did not, or as another owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_identity: Option<String>,
    /// The secrets that were asked for.
    pub secrets: Vec<Name>,
    /// Released secrets with their versions.
    pub released: Vec<SecretVersion>,
    /// The hold that waits for the owner's confirmation, or that was confirmed for this release, or rejected.
    pub hold: Option<Uuid>,
    /// Whether the workload lets weak SEV policies pass.
    pub danger_weak_policy: bool,
    /// What the policies saw: platform, attested, claimed, host. None before anything was verified.
    pub input: Option<Input>,
    /// Every policy that was asked, with its verdict.
    pub policies: Vec<BoundVerdict>,
    /// Every count that a release of these secrets raises, as it was before this decision. Empty where no policy
    /// was asked for a release, where the counts could not be read for a denial, and in records of versions that did
    /// not write them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<CountSeen>,
    /// The connection that this release opened, or that the secrets were asked for over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Uuid>,
}

/// A count that a release of a secret raises, as a decision found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountSeen {
    /// What it counts in.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// Releases that were counted before.
    pub released: u64,
    /// The least of the limits that policies set on it.
    pub limit: Option<u64>,
    /// Confirmed releases beyond the limit that this launch could use, of those not made yet.
    #[serde(default, skip_serializing_if = "is_none_left")]
    pub confirmed: u64,
    /// More may have been released than were counted, as an older copy of the database was accepted: no release is
    /// within the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_none_left(confirmed: &u64) -> bool {
    *confirmed == 0
}

/// From here on a limit is none: `keyward.workload` says so that there is no other, and a count never gets there.
pub const NO_LIMIT: u64 = 1 << 53;

impl CountSeen {
    /// Whether another release would be within the limit.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let unknown = |limit: u64| self.unknown && limit < NO_LIMIT;
        self.limit
            .is_none_or(|limit| self.released < limit && !unknown(limit))
    }

    /// A sentence, if there is no room for another release, and none was confirmed beyond the limit.
    #[must_use]
    pub fn used_up(&self) -> Option<String> {
        let (released, limit) = (self.released, self.limit?);
        if self.has_room() || self.confirmed > 0 {
            return None;
        }
        let (kind, name) = (self.binding.kind.as_str(), &self.binding.name);
        let of = if name.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind} {name}")
        };
        if self.unknown {
            return Some(format!(
                "how often {} was released within {of} is not known since an older copy of the database was accepted, where {limit} are allowed",
                self.secret
            ));
        }
        Some(format!(
            "{} was released {released} times within {of}, where {limit} are allowed",
            self.secret
        ))
    }
}

/// A workload by both its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadRef {
    /// Its UUID.
    pub uuid: Uuid,
    /// What the owner calls it.
    pub name: Name,
}

/// One version of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretVersion {
    /// The secret.
    pub name: Name,
    /// Its version.
    pub version: u64,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The secrets were wrapped for the guest and counted.
    Released,
    /// Every policy allows, but a count is used up: the owner must confirm.
    Held,
    /// Something attested, or a policy, forbids it.
    Denied,
    /// Nothing was attested: the request was refused before any policy could speak of a release.
    Refused,
}

impl Outcome {
    /// The word, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Held => "held",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Released, Self::Held, Self::Denied, Self::Refused]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or(())
    }
}
