//! Launches: one connection between a platform's PSP and the server.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Hex, Name, Time};
use crate::policy::{Releases, Verdict};
use crate::sev::StoredPlatform;
use crate::sev::policy::{Scheme, SevPolicy};

/// A launch as it is remembered between the two calls of the host.
#[derive(Clone)]
pub struct Launch {
    /// Its own UUID, fresh each time.
    pub id: Uuid,
    /// The workload's owner.
    pub owner: Name,
    /// The workload.
    pub workload: Uuid,
    /// Where it stands.
    pub state: LaunchState,
    /// What was established when it began.
    pub facts: LaunchFacts,
    /// The address, or for IPv6 the /64 network, that asked for it.
    pub bucket: String,
    /// TEK and TIK under the key-encryption key; empty once the launch has ended.
    pub sealed_keys: Vec<u8>,
    /// When it began.
    pub created: Time,
    /// Until when it may be validated.
    pub expires: Time,
    /// How many failed validations it has left.
    pub tries_left: u32,
}

/// The network that an address, or an IPv6 /64, of a bucket is in: the /48 around the /64, as one customer can
/// have a whole one; an IPv4 address itself.
#[must_use]
pub fn network(bucket: &str) -> String {
    let prefix = bucket
        .strip_suffix("::/64")
        .and_then(|prefix| prefix.rsplit_once(':'));
    prefix.map_or_else(|| bucket.to_owned(), |(network, _)| format!("{network}::/48"))
}

/// What was established when a launch began; the second call uses this, never what it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchFacts {
    /// The technology.
    pub scheme: Scheme,
    /// The SEV policy the session was made for.
    pub policy: u32,
    /// The platform that was verified.
    pub platform: StoredPlatform,
    /// The chip, when AMD's service or an imported mapping vouched for it.
    pub chip_id: Option<Hex<64>>,
    /// The cpu-id that the host gave.
    pub claimed_cpu_id: Option<Hex<64>>,
}

impl LaunchFacts {
    /// The SEV policy the session was made for.
    #[must_use]
    pub fn sev_policy(&self) -> SevPolicy {
        SevPolicy(self.policy)
    }
}

/// Where a launch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchState {
    /// It waits to be validated.
    Pending,
    /// Its secrets were released.
    Used,
    /// Its tries were used up.
    Exhausted,
    /// It gave way to newer launches of its platform.
    Evicted,
}

impl LaunchState {
    /// The word, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Used => "used",
            Self::Exhausted => "exhausted",
            Self::Evicted => "evicted",
        }
    }
}

impl std::str::FromStr for LaunchState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Pending, Self::Used, Self::Exhausted, Self::Evicted]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// How many launches may wait at once.
#[derive(Clone, Copy, Debug)]
pub struct LaunchBounds {
    /// For one address (IPv6: one /64).
    pub per_address: u32,
    /// For one platform Diffie-Hellman key; beyond it the platform's own oldest gives way.
    pub per_pdh: u32,
    /// For one workload; beyond it the oldest of the address, chip or network that holds the most gives way.
    pub per_workload: u32,
}

/// A policy's verdict with what it was bound to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BoundVerdict {
    /// What the policy is bound to.
    pub binding: Binding,
    /// Digest of the bundle it is in; none for the library's.
    pub bundle: Option<super::HexDigest>,
    /// The secret it was asked for; none where it was asked for the release as a whole.
    pub secret: Option<Name>,
    /// The releases of that secret that it saw as `input.releases`; where it was asked for the release as a whole,
    /// the decision's input has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<Releases>,
    /// What it said.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a policy is bound to, and so what its release limit counts in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Binding {
    /// Owner, workload, key set or secret.
    pub kind: BindingKind,
    /// Its name; a workload's UUID.
    pub name: String,
}

/// The kinds of things that policies are bound to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BindingKind {
    /// Everything of the owner.
    Owner,
    /// One workload.
    Workload,
    /// The secrets of one key set.
    KeySet,
    /// One secret.
    Secret,
}

impl BindingKind {
    /// The word, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Workload => "workload",
            Self::KeySet => "keyset",
            Self::Secret => "secret",
        }
    }
}
