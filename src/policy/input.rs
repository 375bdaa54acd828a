//! The document that policies read as `input`.
//!
//! It is **total**: every member is always present, objects are always objects, and only leaves are `null` where
//! nothing is known. Rego turns a missing member into undefined, and `not` of undefined into true, so a hole here
//! could open a release. What hardware proved is under `attested`, what a host merely said under `claimed`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Deserializer, Serialize};

use super::decision::Phase;

/// The version of this document's shape.
pub const INPUT_VERSION: u32 = 1;

/// The document that policies read.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The shape's version: 1.
    pub version: u32,
    /// `launch` or `release`.
    pub phase: Phase,
    /// The server's clock, RFC 3339 in UTC.
    pub time: String,
    /// The scheme that the workload is launched under.
    pub scheme: Scheme,
    /// The owner's name.
    pub owner: String,
    /// The workload that is launched.
    pub workload: Workload,
    /// The names of all secrets asked for, in their order.
    pub secrets: Vec<String>,
    /// The one secret that this evaluation is about; null for policies of the owner and of the workload.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub secret: Option<String>,
    /// The platform, as its verified certificate chain describes it.
    pub platform: Platform,
    /// What the measurement proved. Every leaf is null in the launch phase.
    pub attested: Attested,
    /// What the host said and nothing proves.
    pub claimed: Claimed,
    /// The host that asks.
    pub host: Host,
    /// What was released to this workload before.
    pub releases: Releases,
    /// What the workload names. Given to the built-in policies only: owners' policies never see it, and it is in
    /// records so that a built-in's decision can be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
}

/// How guest memory is protected.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Encrypted memory.
    #[serde(rename = "amd-sev")]
    AmdSev,
    /// Encrypted memory and encrypted, measured register state.
    #[serde(rename = "amd-sev-es")]
    AmdSevEs,
}

/// The workload, as its owner registered it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The workload's UUID, lower case with hyphens.
    pub uuid: String,
    /// The workload's name.
    pub name: String,
    /// The registered SEV policy; null where the owner leaves it to the request.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub policy: Option<u32>,
    /// The registered vCPU count; null where none is registered.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub vcpus: Option<u32>,
}

/// The platform behind the verified chain.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// `naples`, `rome`, `milan`, `genoa` or `turin`; null under an extra root.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub product: Option<String>,
    /// `amd`, or the name of the extra root that signed the chain.
    pub root: String,
    /// The chip's id in lower-case hex, set only where AMD's service vouches for it.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub chip_id: Option<String>,
    /// The firmware API's major version in the PDH certificate.
    pub api_major: u8,
    /// The firmware API's minor version in the PDH certificate.
    pub api_minor: u8,
    /// SHA-256 of the signed part of each certificate, lower-case hex.
    pub fingerprints: Fingerprints,
}

/// SHA-256 of each certificate's lasting part, lower-case hex.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Fingerprints {
    /// AMD's root key.
    pub ark: String,
    /// AMD's signing key.
    pub ask: String,
    /// The chip's endorsement key.
    pub cek: String,
    /// The certificate authority of the platform's operator.
    pub oca: String,
    /// The platform's endorsement key.
    pub pek: String,
    /// The platform's Diffie-Hellman key.
    pub pdh: String,
}

/// What the measurement's MAC proved.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// Where the launch digest came from that fitted the MAC.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub digest_source: Option<DigestSource>,
    /// The SEV policy, as a number.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub policy: Option<u32>,
    /// The SEV policy, taken apart.
    pub policy_bits: PolicyBits,
    /// The firmware API's major version.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub api_major: Option<u8>,
    /// The firmware API's minor version.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub api_minor: Option<u8>,
    /// The firmware's build.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub build_id: Option<u8>,
    /// The launch digest, 64 lower-case hex digits.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub launch_digest: Option<String>,
    /// The registered image whose computed digest fitted.
    pub image: Image,
}

/// Where the launch digest that fitted came from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DigestSource {
    /// One of the digests that the workload names.
    Registered,
    /// Computed from one of the workload's images.
    Image,
    /// Proposed by the host, and proved by the MAC.
    Hint,
}

/// The bits of the SEV policy (AMD 55766, «Guest Policy Structure»).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct PolicyBits {
    /// Bit 0: the host can't debug the guest.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub no_debug: Option<bool>,
    /// Bit 1: no other guest shares the memory key.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub no_key_sharing: Option<bool>,
    /// Bit 2: SEV-ES is required.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub es: Option<bool>,
    /// Bit 3: the guest can't be sent to another platform.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub no_send: Option<bool>,
    /// Bit 4: the guest can't leave its domain.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub domain: Option<bool>,
    /// Bit 5: the guest can't be sent to a platform that is not SEV capable.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub sev: Option<bool>,
    /// Bits 23:16: the least firmware API, major.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub min_api_major: Option<u8>,
    /// Bits 31:24: the least firmware API, minor.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch"]))]
    pub min_api_minor: Option<u8>,
}

/// The registered image whose digest fitted. Every leaf may be null; under plain SEV the last three always are.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The image's name; null where the digest was not computed from an image.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub name: Option<String>,
    /// The vCPU count that the digest was computed for.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub vcpus: Option<u32>,
    /// The vCPU model that the digest was computed for, such as `EPYC-Milan`.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub vcpu_type: Option<String>,
    /// The form of the register state: `legacy` or `init2`.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub vmsa: Option<String>,
}

/// What the host said. Nothing proves it; every leaf is null where the host was silent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Claimed {
    /// The vCPU count.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub cpu_count: Option<u32>,
    /// The chip's id as the host gave it, hex.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub cpu_id: Option<String>,
    /// SHA-256 of the firmware, hex.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub firmware_hash: Option<String>,
    /// SHA-256 of the kernel, hex.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub kernel_hash: Option<String>,
    /// SHA-256 of the initrd, hex.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub initrd_hash: Option<String>,
    /// SHA-256 of the kernel's command line, hex.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub cmdline_hash: Option<String>,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub description: Option<String>,
}

/// The host that asks.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The address of the socket's peer.
    pub address: String,
    /// Who the host proved to be: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`; null where it did not say.
    #[serde(deserialize_with = "nullable")]
    #[schemars(extend("x-null-at" = ["launch", "release"]))]
    pub identity: Option<String>,
}

/// Counts of what was released before this request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Releases {
    /// Ever.
    pub total: u64,
    /// Within the last hour.
    pub last_hour: u64,
    /// Within the last day.
    pub last_day: u64,
}

/// What the workload names, so that the built-in policy `keyward.workload` can hold a launch to it.
/// Never part of what owners' policies see.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Of the launch digests that the owner registered, the one that is attested; lower-case hex.
    pub launch_digests: Vec<String>,
    /// Whether the workload names images or firmware.
    pub images: bool,
    /// Whether the workload names digests, images or firmware at all; a hint then never suffices.
    pub names_digests: bool,
    /// Of the launch digests computed from the workload's images, the one that is attested; lower-case hex.
    pub image_digests: Vec<String>,
    /// The fingerprint of the pinned OCA certificate.
    #[serde(deserialize_with = "nullable")]
    pub oca: Option<String>,
    /// The vCPU count.
    #[serde(deserialize_with = "nullable")]
    pub vcpus: Option<u32>,
    /// How often the workload's secrets may be released.
    #[serde(deserialize_with = "nullable")]
    pub max_releases: Option<u64>,
    /// The products that may run it; empty means all but those that must be named.
    pub products: Vec<String>,
    /// Whether the owner accepts a SEV policy that lets the host read the guest.
    pub danger_weak_policy: bool,
    /// Whether a host must have identified itself.
    #[serde(default)]
    pub require_host_identity: bool,
    /// Whether the workload names the hosts that may launch it.
    #[serde(default)]
    pub names_hosts: bool,
    /// Of the hosts that the workload names, the one that asks.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// The JSON Schema (draft 2020-12) of what owners' policies see; the file `schemas/policy-input.schema.json`.
/// `x-null-at` lists the phases in which a member may be null.
pub fn input_schema() -> serde_json::Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Input>().to_value();
    if let Some(version) = schema
        .pointer_mut("/properties/version")
        .and_then(|v| v.as_object_mut())
    {
        version.insert("const".to_owned(), INPUT_VERSION.into());
    }
    for (place, hidden) in [("/properties", "registration"), ("/$defs", "Registration")] {
        if let Some(members) = schema.pointer_mut(place).and_then(|v| v.as_object_mut()) {
            members.remove(hidden);
        }
    }
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Keyward policy input".into());
    }
    schema
}

/// Serde treats a missing `Option` as `None`; read through this, a missing member is an error and only an explicit
/// `null` is `None`.
fn nullable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}
