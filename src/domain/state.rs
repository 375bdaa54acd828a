//! What the store knows of an owner: the whole for registration, one workload's part for a release.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::SecretKind;
use super::revision::{By, Revision, SigningKey};
use super::secret_version::{Pins, Purge};
use super::trust::{Trust, TrustChange};
use super::workload::{Candidate, Workload};
use super::{HexDigest, Labels, Name, Time};

/// Everything registered by one owner, but values and contents.
#[derive(Clone, Debug)]
pub struct OwnerState {
    /// The owner.
    pub owner: Name,
    /// Raised by one with every change; what was validated against one is committed only on that one.
    pub generation: i64,
    /// Digest of the active policy bundle.
    pub bundle: Option<HexDigest>,
    /// Number of the active bundle's revision; 0 where there is none.
    pub revision: u64,
    /// Keys, one of which must have signed a bundle that is to become active; none: signed by nobody will do.
    pub signing_keys: Vec<SigningKey>,
    /// Policies bound to the owner.
    pub policies: Vec<String>,
    /// Which platforms the owner trusts.
    pub trust: Trust,
    /// Secrets, by name.
    pub secrets: Vec<SecretInfo>,
    /// Key sets, by name.
    pub keysets: Vec<KeySet>,
    /// Firmware, by name.
    pub firmware: Vec<FirmwareInfo>,
    /// Workloads, by name.
    pub workloads: Vec<RegisteredWorkload>,
    /// The last version of every secret that ever was, those deleted since included.
    pub last_versions: BTreeMap<Name, u64>,
    /// The last UUID of every workload's name that ever was, those deleted since included.
    pub last_uuids: BTreeMap<Name, Uuid>,
}

/// A workload with the launch digests that it accepts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RegisteredWorkload {
    /// What the owner registered.
    #[serde(flatten)]
    pub workload: Workload,
    /// The digests, computed when it was registered.
    #[serde(rename = "accepted")]
    pub candidates: Vec<Candidate>,
}

/// What is known of a secret besides its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretInfo {
    /// Its name.
    pub name: Name,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SecretKind,
    /// GUID of its entry in the secret table.
    pub guid: Uuid,
    /// Its version: 1 at first, one more with each new value; never used twice.
    pub version: u64,
    /// Length of the value in bytes.
    pub bytes: u32,
    /// Policies bound to it.
    pub policies: Vec<String>,
    /// When this version was registered.
    pub updated: Time,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Whose token registered this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The version whose value it has, where it was gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
}

/// A named group of secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeySet {
    /// Its name.
    pub name: Name,
    /// The secrets in it.
    pub secrets: Vec<Name>,
    /// Versions of them that it holds fast; without, the current one.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    /// Policies bound to each of them.
    pub policies: Vec<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// What is known of a firmware file besides its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FirmwareInfo {
    /// Its name.
    pub name: Name,
    /// SHA-256 of the file.
    pub sha256: HexDigest,
    /// Length in bytes.
    pub bytes: u64,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// One workload and all that a release of its secrets depends on, read in one moment.
#[derive(Clone, Debug)]
pub struct WorkloadContext {
    /// The owner.
    pub owner: Name,
    /// The owner's generation at that moment; a release is committed only on the same.
    pub generation: i64,
    /// Digest of the owner's active bundle.
    pub bundle: Option<HexDigest>,
    /// Policies bound to the owner.
    pub owner_policies: Vec<String>,
    /// The workload and its digests.
    pub registered: RegisteredWorkload,
    /// Its secrets, in its order. One that no longer exists is missing here, and a release of it denied.
    pub secrets: Vec<SecretInfo>,
    /// Every key set that holds one of them.
    pub keysets: Vec<KeySet>,
}

/// What a change of an owner's objects writes, all or none.
#[derive(Default)]
pub struct ChangeSet {
    /// A bundle that becomes the active one.
    pub bundle: Option<Activated>,
    /// Signing keys registered.
    pub signing_keys: Vec<SigningKey>,
    /// New policies bound to the owner.
    pub owner_policies: Option<Vec<String>>,
    /// Secrets created or replaced, each with its sealed value, or none where only what is around it changed.
    pub secrets: Vec<(SecretInfo, Option<Vec<u8>>)>,
    /// Key sets created or replaced.
    pub keysets: Vec<KeySet>,
    /// Firmware created or replaced, each with its bytes, or none where only what is around them changed.
    pub firmware: Vec<(FirmwareInfo, Option<Vec<u8>>)>,
    /// Workloads created or replaced.
    pub workloads: Vec<RegisteredWorkload>,
    /// Objects removed: kind and name.
    pub removed: Vec<(Kind, String)>,
    /// UUIDs of workloads that were drawn, as none was named and none had been.
    pub drawn: Vec<Uuid>,
    /// Versions of secrets whose values are destroyed.
    pub purged: Vec<Purge>,
    /// What changes of which platforms are trusted.
    pub trust: Option<TrustChange>,
}

/// A bundle that becomes the active one.
pub struct Activated {
    /// The revision that it is. Its number is one more than the last.
    pub revision: Revision,
    /// The bundle's canonical archive.
    pub archive: Vec<u8>,
    /// Its signature, as OPA has it.
    pub signatures: Option<Vec<u8>>,
}

/// The kinds of things that have a name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A secret.
    Secret,
    /// A key set.
    KeySet,
    /// A firmware file.
    Firmware,
    /// A workload, named by its UUID.
    Workload,
    /// A key that signs bundles.
    SigningKey,
}

impl Kind {
    /// All of them, in the order in which they are shown: what others refer to first.
    pub const ALL: [Self; 5] = [
        Self::SigningKey,
        Self::Secret,
        Self::KeySet,
        Self::Firmware,
        Self::Workload,
    ];

    /// The word, as in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::KeySet => "KeySet",
            Self::Firmware => "Firmware",
            Self::Workload => "Workload",
            Self::SigningKey => "SigningKey",
        }
    }
}

impl ChangeSet {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundle.is_none()
            && self.signing_keys.is_empty()
            && self.owner_policies.is_none()
            && self.secrets.is_empty()
            && self.keysets.is_empty()
            && self.firmware.is_empty()
            && self.workloads.is_empty()
            && self.removed.is_empty()
            && self.purged.is_empty()
            && self.trust.is_none()
    }
}
