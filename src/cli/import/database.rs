//! What a simple-kbs database has, as it is: nothing in it is believed to make sense.

use zeroize::Zeroizing;

/// What is in it.
#[derive(Default)]
pub(super) struct SimpleKbs {
    /// Rows of `policy`.
    pub(super) policies: Vec<PolicyRow>,
    /// Rows of `secrets`.
    pub(super) secrets: Vec<SecretRow>,
    /// Rows of `keysets`.
    pub(super) keysets: Vec<KeySetRow>,
    /// Rows of `report_keypair`.
    pub(super) report_keys: Vec<SecretRow>,
    /// Rows of `resources`.
    pub(super) resources: Vec<ResourceRow>,
    /// How many rows `conn_bundle` has.
    pub(super) connections: u64,
}

/// A policy.
pub(super) struct PolicyRow {
    /// Its number.
    pub(super) id: i64,
    /// Base64 of launch digests, as a JSON list.
    pub(super) allowed_digests: Option<String>,
    /// SEV policies, as a JSON list.
    pub(super) allowed_policies: Option<String>,
    /// The least major API version.
    pub(super) min_fw_api_major: Option<i64>,
    /// The least minor API version, of that major one.
    pub(super) min_fw_api_minor: Option<i64>,
    /// Builds, as a JSON list.
    pub(super) allowed_build_ids: Option<String>,
    /// Whether it counts.
    pub(super) valid: bool,
}

/// A secret or a report's key pair.
pub(super) struct SecretRow {
    /// What clients call it.
    pub(super) id: Option<String>,
    /// Its value, base64.
    pub(super) value: Option<Zeroizing<String>>,
    /// Its policy's number.
    pub(super) policy: Option<i64>,
}

/// A key set.
pub(super) struct KeySetRow {
    /// What clients call it.
    pub(super) id: Option<String>,
    /// Ids of secrets, as a JSON list.
    pub(super) keys: Option<String>,
    /// Its policy's number.
    pub(super) policy: Option<i64>,
}

/// A file.
pub(super) struct ResourceRow {
    /// What clients call it.
    pub(super) id: Option<String>,
    /// Where it is.
    pub(super) path: Option<String>,
    /// Its policy's number.
    pub(super) policy: Option<i64>,
}

/// A database that can't be read as one of simple-kbs.
#[derive(Debug, thiserror::Error)]
#[error("is no simple-kbs database that can be read: {0}")]
pub(super) struct SimpleKbsError(pub(super) String);
