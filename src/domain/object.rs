//! What an owner registers, as it travels to `/v1/apply`: manifests with their files read in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::secret_version::SecretRef;
use super::trust::Trust;
use super::{Base64Bytes, FlexDigest, HexDigest, HostName, Labels, Name};
use crate::policy::opa::SignatureAlgorithm;
use crate::sev::authority::Product;
use crate::sev::policy::Scheme;

pub use super::applied::{Action, Applied, Change};

/// One object; `kind` says which.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Object {
    /// The owner's policy repository, which becomes the active one.
    PolicyBundle(PolicyBundleObject),
    /// A named value.
    Secret(SecretObject),
    /// A named group of secrets.
    KeySet(KeySetObject),
    /// A firmware file, from which images' launch digests are computed.
    Firmware(FirmwareObject),
    /// What may be launched.
    Workload(Box<WorkloadObject>),
    /// A key that signs bundles.
    SigningKey(SigningKeyObject),
    /// Which platforms are trusted.
    Trust(Trust),
}

impl Object {
    /// Its kind and name, such as `Workload web`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::PolicyBundle(_) => "PolicyBundle".to_owned(),
            Self::Secret(secret) => format!("Secret {}", secret.name),
            Self::KeySet(set) => format!("KeySet {}", set.name),
            Self::Firmware(firmware) => format!("Firmware {}", firmware.name),
            Self::Workload(workload) => format!("Workload {}", workload.name),
            Self::SigningKey(key) => format!("SigningKey {}", key.name),
            Self::Trust(_) => "Trust".to_owned(),
        }
    }
}

/// A policy bundle: its files, and the policies bound to the owner.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundleObject {
    /// Path in the bundle to content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Base64Bytes>,
    /// Instead of files, the digest of the active bundle, which stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<HexDigest>,
    /// Policies that every release of this owner must satisfy. Left out: those bound now stay bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
}

/// A secret.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretObject {
    /// Its name.
    pub name: Name,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SecretKind,
    /// GUID of its entry in the guest's secret table; `opaque` needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Uuid>,
    /// Its value. Left out: that of the secret as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretValue>,
    /// Policies bound to it.
    #[serde(default)]
    pub policies: Vec<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// What a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// Bytes that mean something to the guest only; needs a `guid`.
    Opaque,
    /// A LUKS passphrase: raw bytes without NUL, at the GUID that OVMF's loaders look for.
    LuksPassphrase,
    /// A private key (P-256, PKCS#8 in PEM or DER) that signs the facts of a launch; needs a `guid`. It is never released
    /// itself: what a guest gets at its GUID is the signed report.
    ReportKey,
}

impl SecretKind {
    /// Its name, as in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::LuksPassphrase => "luks-passphrase",
            Self::ReportKey => "report-key",
        }
    }
}

/// A secret's value on its way in; it never comes out again but wrapped for a guest.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SecretValue {
    /// The bytes.
    Base64(SecretBytes),
    /// This many random bytes, drawn by the server when the secret is first registered: the
    /// bytes as they are for `opaque`, their base64 text for a passphrase.
    Generate(u16),
}

/// Bytes that are wiped when dropped. No `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(pub Vec<u8>);

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        let text = zeroize::Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("expected standard base64"))
    }
}

impl JsonSchema for SecretBytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretBytes".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Base64Bytes::json_schema(generator)
    }
}

/// A key set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySetObject {
    /// Its name.
    pub name: Name,
    /// The secrets in it; `name@3` holds that version fast.
    pub secrets: Vec<SecretRef>,
    /// Policies bound to each of them.
    #[serde(default)]
    pub policies: Vec<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A firmware file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareObject {
    /// Its name.
    pub name: Name,
    /// Its bytes. Left out: those of the firmware as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Base64Bytes>,
    /// SHA-256 that its bytes must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<HexDigest>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A workload as an owner writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadObject {
    /// Its name.
    pub name: Name,
    /// Its UUID; one is drawn when it is first registered without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// The technology.
    pub scheme: Scheme,
    /// The SEV policy that every launch must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<u32>,
    /// The number of virtual CPUs it is held to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Processor generations it may run on; Naples only where it is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<Product>,
    /// Lets SEV policies without NODBG and NOKS pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_weak_policy: bool,
    /// Launch digests accepted as they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launch_digests: Vec<HexDigest>,
    /// Images from which launch digests are computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageObject>,
    /// The only owner certificate authority (a SEV certificate, 2084 bytes) it may run under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_cert: Option<Base64Bytes>,
    /// The same by its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oca: Option<HexDigest>,
    /// How often each secret may be released to it before an owner must confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_releases: Option<u64>,
    /// Whether a host must have identified itself, at launch and at validation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_host_identity: bool,
    /// The only hosts that may launch it: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`. Empty: any host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
    /// Its secrets, in order; `name@3` holds that version fast.
    pub secrets: Vec<SecretRef>,
    /// Policies bound to it.
    #[serde(default)]
    pub policies: Vec<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// An image as it travels: the kernel and the initial RAM disk as their SHA-256.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageObject {
    /// Its name.
    pub name: Name,
    /// The registered firmware.
    pub firmware: Name,
    /// SHA-256 that the firmware must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_hash: Option<FlexDigest>,
    /// SHA-256 of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_hash: Option<FlexDigest>,
    /// SHA-256 of the initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_hash: Option<FlexDigest>,
    /// The kernel's command line, as QEMU's `-append` gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// Or SHA-256 of the command line with its trailing NUL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline_hash: Option<FlexDigest>,
    /// Numbers of virtual CPUs (SEV-ES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<u32>,
    /// QEMU's name of the CPU model (SEV-ES); without one, every model that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_type: Option<String>,
}

/// A key that signs bundles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKeyObject {
    /// Its name: what a signature calls `kid`.
    pub name: Name,
    /// The public key, PEM.
    pub public_key: String,
    /// The only algorithm that it is used with. Left out: that of its curve, or RS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SignatureAlgorithm>,
    /// The scope that a signature must have been made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}
