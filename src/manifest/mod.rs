//! Manifests: YAML documents that say what an owner wants registered, with files named by path.
//!
//! Read here, on the owner's machine: paths are relative to the manifest, files are read in (a
//! kernel and an initrd only as their SHA-256), and what travels to the server is
//! [`Object`](crate::domain::object::Object)s.

mod find;
mod objects;
mod places;
mod read;
mod repository;
mod words;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::object::{SecretBytes, SecretKind};
use crate::domain::platform::Accepted;
use crate::domain::secret_version::SecretRef;
use crate::domain::trust::Listed;
use crate::domain::{FlexDigest, HexDigest, HostName, Labels, Name, Role, Time};
use crate::policy::opa::SignatureAlgorithm;
use crate::sev::authority::Product;
use crate::sev::policy::Scheme;

pub use places::Manifests;
pub use read::{ManifestError, Named, named, read};
pub use repository::repository;

/// One document of a manifest.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Manifest {
    /// A policy repository.
    PolicyBundle(PolicyBundleManifest),
    /// A secret.
    Secret(SecretManifest),
    /// A group of secrets.
    KeySet(KeySetManifest),
    /// A firmware file.
    Firmware(FirmwareManifest),
    /// What may be launched.
    Workload(WorkloadManifest),
    /// A key that signs policy bundles.
    SigningKey(SigningKeyManifest),
    /// Which platforms are trusted.
    Trust(TrustManifest),
    /// An owner, whom an administrator makes.
    Owner(OwnerManifest),
    /// A token.
    Token(TokenManifest),
}

/// `kind: PolicyBundle`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundleManifest {
    /// Always `PolicyBundle`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Folder of the repository, or a packed bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Instead of `path`, the digest of the active bundle, which stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<HexDigest>,
    /// Policies that every release of the owner must satisfy. Left out: those bound now stay bound.
    #[serde(default)]
    policies: Option<Vec<String>>,
}

/// `kind: Secret`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretManifest {
    /// Always `Secret`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// What it is.
    #[serde(rename = "type")]
    secret_type: SecretKind,
    /// GUID of its entry in the secret table; `opaque` needs one.
    #[serde(default)]
    guid: Option<Uuid>,
    /// Where its value comes from. Left out: the value that it has stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<ValueManifest>,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
    /// What you sort it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

/// Where a secret's value comes from: exactly one of these.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct ValueManifest {
    /// A file, taken byte for byte.
    #[serde(default)]
    file: Option<PathBuf>,
    /// An environment variable.
    #[serde(default)]
    env: Option<String>,
    /// The bytes themselves. Whoever reads the manifest reads the secret.
    #[serde(default)]
    base64: Option<SecretBytes>,
    /// So many random bytes, drawn by the server when the secret is first registered.
    #[serde(default)]
    generate: Option<u16>,
}

/// `kind: KeySet`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySetManifest {
    /// Always `KeySet`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// The secrets in it; `name@3` holds that version fast.
    secrets: Vec<SecretRef>,
    /// Policies bound to each of them.
    #[serde(default)]
    policies: Vec<String>,
    /// What you sort it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

/// `kind: Firmware`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareManifest {
    /// Always `Firmware`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// The file. Left out: the one that is registered stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// SHA-256 that the file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<HexDigest>,
    /// What you sort it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

/// `kind: Workload`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadManifest {
    /// Always `Workload`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// Its UUID, the token for libvirt; the server draws one where it is left out.
    #[serde(default)]
    uuid: Option<Uuid>,
    /// The technology.
    scheme: Scheme,
    /// The SEV policy that every launch must have.
    #[serde(default)]
    policy: Option<u32>,
    /// The number of virtual CPUs it is held to.
    #[serde(default)]
    vcpus: Option<u32>,
    /// Processor generations it may run on; Naples only where it is named.
    #[serde(default)]
    products: Vec<Product>,
    /// Lets SEV policies without NODBG and NOKS pass.
    #[serde(default)]
    danger_weak_policy: bool,
    /// Launch digests that are accepted as they stand.
    #[serde(default)]
    launch_digests: Vec<HexDigest>,
    /// Images from which launch digests are computed.
    #[serde(default)]
    images: Vec<ImageManifest>,
    /// File of the only owner certificate authority (OCA) it may run under.
    #[serde(default)]
    cloud_cert: Option<PathBuf>,
    /// Instead of `cloud_cert`, its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oca: Option<HexDigest>,
    /// How often each secret may be released to it before an owner must confirm.
    #[serde(default)]
    max_releases: Option<u64>,
    /// Whether a host must have identified itself, at launch and at validation.
    #[serde(default)]
    require_host_identity: bool,
    /// The only hosts that may launch it: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`. Left out: any host.
    #[serde(default)]
    hosts: Vec<HostName>,
    /// Its secrets, in order; `name@3` holds that version fast.
    secrets: Vec<SecretRef>,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
    /// What you sort it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

/// An image of a workload.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Its name.
    name: Name,
    /// Name of a registered firmware.
    firmware: Name,
    /// SHA-256 that the firmware must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firmware_hash: Option<FlexDigest>,
    /// File of the kernel.
    #[serde(default)]
    kernel: Option<PathBuf>,
    /// Instead of `kernel`, its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel_hash: Option<FlexDigest>,
    /// File of the initial RAM disk.
    #[serde(default)]
    initrd: Option<PathBuf>,
    /// Instead of `initrd`, its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    initrd_hash: Option<FlexDigest>,
    /// The kernel's command line, as QEMU's `-append` gets it.
    #[serde(default)]
    cmdline: Option<String>,
    /// Instead of `cmdline`, SHA-256 of it with its trailing NUL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cmdline_hash: Option<FlexDigest>,
    /// Numbers of virtual CPUs (SEV-ES).
    #[serde(default)]
    vcpus: Vec<u32>,
    /// QEMU's name of the CPU model (SEV-ES); without one, every model that is known.
    #[serde(default)]
    vcpu_type: Option<String>,
}

/// `kind: SigningKey`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKeyManifest {
    /// Always `SigningKey`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name: what a signature calls `kid`.
    name: Name,
    /// The public key.
    public_key: PublicKeyManifest,
    /// The only algorithm that it is used with. Left out: that of its curve, or RS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<SignatureAlgorithm>,
    /// The scope that a signature must have been made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// What you sort it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

/// Where a public key is: exactly one of these.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct PublicKeyManifest {
    /// In a file, PEM.
    #[serde(default)]
    file: Option<PathBuf>,
    /// Here.
    #[serde(default)]
    pem: Option<String>,
}

/// `kind: Trust`: an owner has one. An enrolment that it leaves out is withdrawn; a refusal that it leaves out stays.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustManifest {
    /// Always `Trust`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Which platforms get releases: `any` that is not refused, or those that are `enrolled`.
    platforms: Accepted,
    /// Those that are enrolled.
    #[serde(default)]
    enrolled: Vec<Listed>,
    /// Those that get no release and begin no launch.
    #[serde(default)]
    refused: Vec<Listed>,
}

/// `kind: Owner`: an administrator's, and no part of the transaction of an owner's objects.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerManifest {
    /// Always `Owner`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// The owner's name.
    pub name: Name,
    /// How many people must confirm what goes beyond a limit: 1 or 2. Left out: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub approvals_required: Option<u8>,
    /// Where the owner's first token is written when the owner is made: a new file that only you can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// `kind: Token`: an administrator's or an owner's, and no part of the transaction of an owner's objects.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenManifest {
    /// Always `Token`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// What to call it. A valid token of this name, role and owner is the one that is meant.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Whose it is, where an administrator makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// From when on it is refused. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// Where its text is written when it is made: a new file that only you can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl OwnerManifest {
    /// Kind and name.
    #[must_use]
    pub fn label(&self) -> String {
        format!("Owner {}", self.name)
    }
}

impl TokenManifest {
    /// Kind and name; an administrator's, with the owner's.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.owner {
            Some(owner) => format!("Token {owner}:{}", self.name),
            None => format!("Token {}", self.name),
        }
    }
}
