//! Impact: which launches something that went wrong has touched, and which secrets must be replaced for it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decision::{Decision, Outcome, SecretVersion, WorkloadRef};
use super::{HexDigest, Name, Time};
use crate::policy::{Attested, Platform};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A secret is known to somebody: who received it, in this version or any.
    Secret {
        /// The secret.
        name: Name,
        /// Its version; none: any.
        version: Option<u64>,
    },
    /// A platform is not what it should be: what ran there. A fingerprint of a CEK or of an OCA.
    Platform(HexDigest),
    /// An image is: where it ran.
    Digest(HexDigest),
    /// A policy bundle let through what it should not: what was released under it.
    Policy(HexDigest),
    /// A workload is: every launch of it.
    Workload(Uuid),
}

impl Cause {
    /// Whether a launch counts that received nothing, but ran.
    #[must_use]
    pub fn ran(&self) -> bool {
        match self {
            Self::Platform(_) | Self::Digest(_) | Self::Workload(_) => true,
            Self::Secret { .. } | Self::Policy(_) => false,
        }
    }

    /// Whether this secret has to be replaced if it went to a launch that counts.
    fn spoils(&self, secret: &SecretVersion) -> bool {
        match self {
            Self::Secret { name, version } => {
                secret.name == *name && version.is_none_or(|version| secret.version == version)
            }
            _ => true,
        }
    }
}

/// A launch that was touched: what ran where, and what it received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Touched {
    /// The decision about it.
    pub decision: Uuid,
    /// When it was taken.
    pub time: Time,
    /// What came of it. A launch that was held or denied ran and received nothing.
    pub outcome: Outcome,
    /// The launch; several decisions can be about one.
    pub launch: Option<Uuid>,
    /// The workload.
    pub workload: WorkloadRef,
    /// Address of the host that asked.
    pub address: String,
    /// The secrets it received, with versions.
    pub secrets: Vec<SecretVersion>,
    /// The platform, as its certificate chain describes it.
    pub platform: Option<Platform>,
    /// What the measurement proved.
    pub attested: Option<Attested>,
}

impl From<Decision> for Touched {
    fn from(decision: Decision) -> Self {
        let (platform, attested) = decision
            .input
            .map(|input| (input.platform, input.attested))
            .unzip();
        Self {
            decision: decision.id,
            time: decision.time,
            outcome: decision.outcome,
            launch: decision.launch,
            workload: decision.workload,
            address: decision.address,
            secrets: decision.released,
            platform,
            attested,
        }
    }
}

/// What is to be done about one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// The secret.
    pub secret: Name,
    /// The versions that went to launches that were touched.
    pub released: Vec<u64>,
    /// The version that is released now; null: it was deleted.
    pub current: Option<u64>,
    /// Whether it must be replaced, or was since.
    pub state: RotationState,
}

/// Whether a secret must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotationState {
    /// What went to a launch that was touched is the current value, or one that is held fast: a new one is due.
    Due,
    /// Another value is current, and none of these is held fast.
    Replaced,
    /// The secret was deleted.
    Deleted,
}

/// What of a secret can be released now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The current version.
    pub current: u64,
    /// Every version that has the current value, or one that is held fast: going back to a version copies its value.
    pub versions: BTreeSet<u64>,
}

impl Rotation {
    fn new(secret: Name, released: BTreeSet<u64>, in_use: Option<&InUse>) -> Self {
        let state = match in_use {
            None => RotationState::Deleted,
            Some(now) if !now.versions.is_disjoint(&released) => RotationState::Due,
            // Numbers only rise: one that is newer than the current one is nothing that is known, and not settled.
            Some(now) if released.last().is_some_and(|newest| now.current <= *newest) => RotationState::Due,
            Some(_) => RotationState::Replaced,
        };
        Self {
            secret,
            released: released.into_iter().collect(),
            current: in_use.map(|now| now.current),
            state,
        }
    }

    /// Takes in what another page says of the same secret: due is what is due on one of them.
    pub fn merge(&mut self, other: Self) {
        let released: BTreeSet<u64> = self.released.drain(..).chain(other.released).collect();
        self.released = released.into_iter().collect();
        self.current = other.current;
        if self.state != RotationState::Due || other.state == RotationState::Deleted {
            self.state = other.state;
        }
    }

    /// What is to be done because of these launches, given what is in use of each secret.
    #[must_use]
    pub fn of<'a>(
        cause: &Cause,
        touched: &[Touched],
        in_use: impl Fn(&Name) -> Option<&'a InUse>,
    ) -> Vec<Self> {
        let mut released: std::collections::BTreeMap<&Name, BTreeSet<u64>> = Default::default();
        let secrets = touched.iter().flat_map(|touched| &touched.secrets);
        for secret in secrets.filter(|secret| cause.spoils(secret)) {
            released.entry(&secret.name).or_default().insert(secret.version);
        }
        let all = released.into_iter();
        all.map(|(name, versions)| Self::new(name.clone(), versions, in_use(name)))
            .collect()
    }
}
