//! Workloads: what an owner lets be launched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::secret_version::Pins;
use super::{HexDigest, HostName, Labels, Name};
use crate::sev::authority::Product;
use crate::sev::launch_digest::VmsaVariant;
use crate::sev::policy::Scheme;

/// What a launch's workload is chosen by, of [`Workload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkloadHead {
    /// The workload.
    pub uuid: Uuid,
    /// Its technology.
    pub scheme: Scheme,
    /// Its SEV policy, where it has one.
    pub policy: Option<u32>,
}

/// What an owner lets be launched, as it is stored: names resolved, files reduced to their digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The token that libvirt passes on.
    pub uuid: Uuid,
    /// What the owner calls it.
    pub name: Name,
    /// The technology; it must agree with the ES bit of the SEV policy.
    pub scheme: Scheme,
    /// The SEV policy every launch must have; without one the host chooses, within the floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<u32>,
    /// The number of virtual CPUs it is held to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// The processor generations it may run on; empty: all but Naples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<Product>,
    /// Lets SEV policies without NODBG and NOKS pass the floor. Seen in every decision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_weak_policy: bool,
    /// Launch digests that are accepted as they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launch_digests: Vec<HexDigest>,
    /// Images whose launch digests the server computes when the workload is registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Fingerprint of the only owner certificate authority (OCA) it may run under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oca: Option<HexDigest>,
    /// How often each of its secrets may be released to it before an owner must confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_releases: Option<u64>,
    /// Whether a host must have identified itself, at launch and at validation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_host_identity: bool,
    /// The only hosts that may launch it: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`. Empty: any host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
    /// Its secrets, in the order in which the guest finds them.
    pub secrets: Vec<Name>,
    /// Versions of them that it holds fast; without, what a key set says, or the current one.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    /// The owner's policies bound to it. `keyward.workload` is bound besides, always.
    pub policies: Vec<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// Firmware and what it loads, from which launch digests are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// What the owner calls it.
    pub name: Name,
    /// The registered firmware.
    pub firmware: Name,
    /// SHA-256 that the firmware must have, where the owner named it by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_hash: Option<HexDigest>,
    /// SHA-256 of the kernel, where one is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_hash: Option<HexDigest>,
    /// SHA-256 of the initial RAM disk; without one, of the empty file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_hash: Option<HexDigest>,
    /// SHA-256 of the command line with its trailing NUL; without one, of the lone NUL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline_hash: Option<HexDigest>,
    /// Numbers of virtual CPUs (SEV-ES, where each has a measured save area).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<u32>,
    /// QEMU's name of the CPU model (SEV-ES); without one, every model that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_type: Option<String>,
}

/// A launch digest that a workload accepts, with what it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The launch digest.
    pub digest: HexDigest,
    /// The image it was computed from; none for one that the owner registered as it stands.
    pub image: Option<ImageFacts>,
    /// Bytes that the image's firmware sets aside for the secret table, where it says so.
    pub secret_area: Option<u32>,
}

/// What is proved of an image when its launch digest is attested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageFacts {
    /// The image's name.
    pub name: Name,
    /// Number of virtual CPUs measured (SEV-ES).
    pub vcpus: Option<u32>,
    /// CPU model measured (SEV-ES).
    pub vcpu_type: Option<String>,
    /// Form of the save areas measured (SEV-ES).
    pub vmsa: Option<VmsaVariant>,
}

impl Workload {
    /// Whether hosts without an identity are turned away.
    #[must_use]
    pub fn wants_host_identity(&self) -> bool {
        self.require_host_identity || !self.hosts.is_empty()
    }

    /// Whether it names what may run: then no other launch digest is accepted.
    #[must_use]
    pub fn names_digests(&self) -> bool {
        !self.launch_digests.is_empty() || !self.images.is_empty()
    }
}
