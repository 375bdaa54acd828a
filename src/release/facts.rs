//! The policies' input, put together from what is proved and what is said, each in its own section.

use super::host::{Claimed, Host};
use crate::domain::launch::LaunchFacts;
use crate::domain::state::WorkloadContext;
use crate::domain::workload::{Candidate, ImageFacts};
use crate::domain::{HexDigest, Name, Time};
use crate::policy::{self, DigestSource, Input, Phase, Registration};
use crate::sev::Fingerprints;
use crate::sev::measurement::AttestedLaunch;
use crate::sev::policy::{Scheme, SevPolicy};
use crate::store::ReleaseCounts;

/// A launch digest that is tried, with what it means if the MAC holds with it.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    /// The owner registered it, as it stands or as an image.
    Candidate(&'a Candidate),
    /// The host proposed it.
    Hint,
}

/// What hardware proved of a guest. Made only from an [`AttestedLaunch`], which only a MAC that
/// holds can make; nothing that a host merely says has this type.
pub(super) struct Attested<'a> {
    pub(super) launch: AttestedLaunch,
    pub(super) source: Source<'a>,
}

impl Attested<'_> {
    fn document(&self) -> policy::Attested {
        let (source, image) = match &self.source {
            Source::Hint => (DigestSource::Hint, None),
            Source::Candidate(Candidate { image: None, .. }) => (DigestSource::Registered, None),
            Source::Candidate(Candidate {
                image: Some(image), ..
            }) => (DigestSource::Image, Some(image)),
        };
        let build = self.launch.build();
        policy::Attested {
            digest_source: Some(source),
            policy: Some(self.launch.policy().bits()),
            policy_bits: policy_bits(self.launch.policy()),
            api_major: Some(build.api_major),
            api_minor: Some(build.api_minor),
            build_id: Some(build.build_id),
            launch_digest: Some(hex::encode(self.launch.launch_digest())),
            image: image.map(image_document).unwrap_or_default(),
        }
    }
}

pub(crate) fn fingerprints(prints: &Fingerprints) -> policy::Fingerprints {
    let text = |digest: &[u8; 32]| hex::encode(digest);
    policy::Fingerprints {
        ark: text(&prints.ark),
        ask: text(&prints.ask),
        cek: text(&prints.cek),
        oca: text(&prints.oca),
        pek: text(&prints.pek),
        pdh: text(&prints.pdh),
    }
}

pub(crate) fn policy_bits(policy: SevPolicy) -> policy::PolicyBits {
    policy::PolicyBits {
        no_debug: Some(policy.no_debug()),
        no_key_sharing: Some(policy.no_key_sharing()),
        es: Some(policy.es()),
        no_send: Some(policy.no_send()),
        domain: Some(policy.domain()),
        sev: Some(policy.sev()),
        min_api_major: Some(policy.min_api_major()),
        min_api_minor: Some(policy.min_api_minor()),
    }
}

fn image_document(image: &ImageFacts) -> policy::Image {
    policy::Image {
        name: Some(image.name.to_string()),
        vcpus: image.vcpus,
        vcpu_type: image.vcpu_type.clone(),
        vmsa: image.vmsa.map(|vmsa| vmsa.to_string()),
    }
}

/// All that an input is made of but the secret it is asked for.
pub(super) struct Facts<'a> {
    pub(super) context: &'a WorkloadContext,
    pub(super) launch: &'a LaunchFacts,
    pub(super) attested: Option<&'a Attested<'a>>,
    pub(super) claimed: &'a Claimed,
    pub(super) host: &'a Host,
    pub(super) secrets: &'a [Name],
    pub(super) now: Time,
}

impl Facts<'_> {
    /// The input, total: every member present.
    pub(super) fn input(&self, phase: Phase, secret: Option<&Name>, releases: ReleaseCounts) -> Input {
        let workload = &self.context.registered.workload;
        let platform = &self.launch.platform;
        Input {
            version: policy::INPUT_VERSION,
            phase,
            time: self.now.to_string(),
            scheme: match self.launch.scheme {
                Scheme::AmdSev => policy::Scheme::AmdSev,
                Scheme::AmdSevEs => policy::Scheme::AmdSevEs,
            },
            owner: self.context.owner.to_string(),
            workload: policy::Workload {
                uuid: workload.uuid.to_string(),
                name: workload.name.to_string(),
                policy: workload.policy,
                vcpus: workload.vcpus,
            },
            secrets: self.secrets.iter().map(ToString::to_string).collect(),
            secret: secret.map(ToString::to_string),
            platform: policy::Platform {
                product: platform.product().map(|product| product.to_string()),
                root: platform.root().to_owned(),
                chip_id: self.launch.chip_id.map(|chip| chip.to_string()),
                api_major: platform.api_major(),
                api_minor: platform.api_minor(),
                fingerprints: fingerprints(platform.fingerprints()),
            },
            attested: self.attested.map(Attested::document).unwrap_or_default(),
            claimed: self.claimed_document(),
            host: policy::Host {
                address: self.host.address.to_string(),
                identity: self.host.identity_for(&self.context.owner),
            },
            releases: releases.into(),
            registration: Some(registration(self.context, self.attested, self.host)),
        }
    }

    fn claimed_document(&self) -> policy::Claimed {
        let text = |digest: Option<HexDigest>| digest.map(|digest| digest.to_string());
        policy::Claimed {
            cpu_count: self.claimed.cpu_count,
            cpu_id: self.launch.claimed_cpu_id.map(|id| id.to_string()),
            firmware_hash: text(self.claimed.firmware_hash),
            kernel_hash: text(self.claimed.kernel_hash),
            initrd_hash: text(self.claimed.initrd_hash),
            cmdline_hash: text(self.claimed.cmdline_hash),
            description: self.claimed.description.clone(),
        }
    }
}

impl From<ReleaseCounts> for policy::Releases {
    fn from(counts: ReleaseCounts) -> Self {
        Self {
            total: counts.total,
            last_hour: counts.last_hour,
            last_day: counts.last_day,
        }
    }
}

/// What the workload names, for the built-in policy that holds it to that. Of the launch digests
/// only those that are attested, of the hosts only the one that asks: there may be a thousand, and this is
/// recorded with each decision.
fn registration(context: &WorkloadContext, attested: Option<&Attested<'_>>, host: &Host) -> Registration {
    let workload = &context.registered.workload;
    let proved = |digest: &HexDigest| attested.is_some_and(|a| a.launch.launch_digest() == &digest.0);
    let computed = context
        .registered
        .candidates
        .iter()
        .filter(|c| c.image.is_some())
        .map(|c| &c.digest);
    let text = |digest: &HexDigest| digest.to_string();
    Registration {
        launch_digests: workload
            .launch_digests
            .iter()
            .filter(|d| proved(d))
            .map(text)
            .collect(),
        images: !workload.images.is_empty(),
        names_digests: workload.names_digests(),
        image_digests: computed.filter(|d| proved(d)).map(text).take(1).collect(),
        oca: workload.oca.map(|oca| oca.to_string()),
        vcpus: workload.vcpus,
        max_releases: workload.max_releases,
        products: workload.products.iter().map(ToString::to_string).collect(),
        danger_weak_policy: workload.danger_weak_policy,
        require_host_identity: workload.wants_host_identity(),
        names_hosts: !workload.hosts.is_empty(),
        hosts: host
            .identity_for(&context.owner)
            .filter(|identity| workload.hosts.iter().any(|host| host.as_str() == identity))
            .into_iter()
            .collect(),
    }
}
