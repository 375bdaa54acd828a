//! Manifests: YAML documents that say what an owner wants registered, with files named by path.
//!
//! Read here, on the owner's machine: paths are relative to the manifest, files are read in (a
//! kernel and an initrd only as their SHA-256), and what travels to the server is
//! [`Object`](crate::domain::object::Object)s.

mod places;
mod read;
mod repository;
mod words;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::object::{SecretBytes, SecretKind};
use crate::domain::{HexDigest, HostName, Name};
use crate::sev::authority::Product;
use crate::sev::policy::Scheme;

pub use places::Manifests;
pub use read::{ManifestError, read};
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
}

/// `kind: PolicyBundle`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundleManifest {
    /// Always `PolicyBundle`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Folder of the repository.
    path: PathBuf,
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
    /// Where its value comes from.
    value: ValueManifest,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
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
    /// The secrets in it.
    secrets: Vec<Name>,
    /// Policies bound to each of them.
    #[serde(default)]
    policies: Vec<String>,
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
    /// The file.
    file: PathBuf,
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
    /// How often each secret may be released to it before an owner must confirm.
    #[serde(default)]
    max_releases: Option<u64>,
    /// Whether a host must have identified itself, at launch and at validation.
    #[serde(default)]
    require_host_identity: bool,
    /// The only hosts that may launch it: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`. Left out: any host.
    #[serde(default)]
    hosts: Vec<HostName>,
    /// Its secrets, in order.
    secrets: Vec<Name>,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
}

/// An image of a workload.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Its name.
    name: Name,
    /// Name of a registered firmware.
    firmware: Name,
    /// File of the kernel.
    #[serde(default)]
    kernel: Option<PathBuf>,
    /// File of the initial RAM disk.
    #[serde(default)]
    initrd: Option<PathBuf>,
    /// The kernel's command line, as QEMU's `-append` gets it.
    #[serde(default)]
    cmdline: Option<String>,
    /// Numbers of virtual CPUs (SEV-ES).
    #[serde(default)]
    vcpus: Vec<u32>,
    /// QEMU's name of the CPU model (SEV-ES); without one, every model that is known.
    #[serde(default)]
    vcpu_type: Option<String>,
}
