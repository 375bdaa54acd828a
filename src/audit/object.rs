//! What records of the audit log are about: objects by name, what can be frozen, the server's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{HexDigest, Name};

/// An object of an owner's by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: Name,
    /// Its version, where it has one.
    pub version: Option<u64>,
}

/// What an object is, as manifests write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names of manifests' kinds say it")]
pub enum ObjectKind {
    Owner,
    Token,
    Secret,
    KeySet,
    Firmware,
    Workload,
    PolicyBundle,
    SigningKey,
    Trust,
}

/// What can be frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Every release.
    Server,
    /// Those of one object: an owner, a workload, a secret.
    Object {
        /// Which.
        object: ObjectRef,
    },
    /// Those to platforms with this key.
    Platform {
        /// Fingerprint of a CEK or OCA.
        fingerprint: HexDigest,
    },
    /// Those to platforms of this product.
    Product {
        /// As in `input.platform.product`.
        name: String,
    },
}

/// What a key of the server's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Sealing secrets at rest.
    KeyEncryption,
    /// Signing checkpoints.
    AuditLog,
    /// Signing calls to webhooks.
    Webhook,
}

/// Whether nobody else is needed: left out, as in records from before two people could be.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
pub(super) fn is_nobody(missing: &u32) -> bool {
    *missing == 0
}
