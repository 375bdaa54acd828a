//! Workloads: from what an owner writes to what is stored.

use std::collections::BTreeSet;

use super::RegisterError;
use super::digests;
use super::draft::{Draft, action, change};
use crate::domain::object::{Action, Change, ImageObject, WorkloadObject};
use crate::domain::secret_version::names_and_pins;
use crate::domain::state::{FirmwareInfo, RegisteredWorkload};
use crate::domain::workload::{Image, Workload};
use crate::domain::{Hex, HexDigest};
use crate::release::floor;
use crate::sev::launch_digest::{CpuModel, MAX_VCPUS};
use crate::sev::policy::{Scheme, SevPolicy};
use crate::sev::{Certificate, Usage};
use openssl::sha::sha256;
use uuid::Uuid;

/// Launch digests and images that one workload may name.
const MAX_NAMED: usize = 1024;
/// Policies that may be bound to one thing.
pub(super) const MAX_POLICIES: usize = 64;
/// Secrets that one workload may have: what a guest's kernel reads of a table.
const MAX_SECRETS: usize = 64;

impl Draft<'_> {
    pub(super) fn put_workload_object(&mut self, object: &WorkloadObject) -> Result<Change, RegisterError> {
        let label = format!("Workload {}", object.name);
        let known = self.workloads.get(&object.name).map(|w| w.workload.uuid);
        // Counts belong to the UUID and outlive the workload: one made again goes on where it was.
        let last = self.before.last_uuids.get(&object.name).copied();
        let uuid = match (object.uuid, known) {
            (Some(asked), Some(known)) if asked != known => {
                let why = format!("is registered with UUID {known}, which can't be changed; delete it first");
                return Err(RegisterError::invalid(label, why).at("uuid"));
            }
            (Some(uuid), _) => uuid,
            (None, known) => match known.or(last) {
                Some(uuid) => uuid,
                None => {
                    let drawn = self.service.fresh_uuid().map_err(|_| RegisterError::Busy)?;
                    self.drawn.push(drawn);
                    drawn
                }
            },
        };
        let oca = match (&object.cloud_cert, object.oca) {
            (Some(_), Some(_)) => {
                let why = "has both `cloud_cert` and `oca`; leave one out";
                return Err(RegisterError::invalid(label, why).at("oca"));
            }
            (Some(cert), None) => Some(oca(&label, &cert.0)?),
            (None, named) => named,
        };
        let (secrets, pins) = names_and_pins(&object.secrets);
        let workload = Workload {
            uuid,
            name: object.name.clone(),
            scheme: object.scheme,
            policy: object.policy,
            vcpus: object.vcpus,
            products: object.products.clone(),
            danger_weak_policy: object.danger_weak_policy,
            launch_digests: object.launch_digests.clone(),
            images: object
                .images
                .iter()
                .enumerate()
                .map(|(number, image)| stored_image(&label, object, number, image))
                .collect::<Result<_, _>>()?,
            oca,
            max_releases: object.max_releases,
            require_host_identity: object.require_host_identity,
            hosts: object.hosts.clone(),
            secrets,
            pins,
            policies: object.policies.clone(),
            labels: object.labels.clone(),
        };
        self.put_workload(workload)
    }

    /// Puts a workload, however it was written, and computes its launch digests.
    pub(super) fn put_workload(&mut self, workload: Workload) -> Result<Change, RegisterError> {
        let label = format!("Workload {}", workload.name);
        check(&label, &workload)?;
        if let Some((name, _)) = self
            .workloads
            .iter()
            .find(|(name, w)| w.workload.uuid == workload.uuid && **name != workload.name)
        {
            let why = format!("the UUID {} is that of workload {name}", workload.uuid);
            let hint = Some("give it a `uuid` of its own, or delete the other first".to_owned());
            return Err(RegisterError::invalid(label, why).because_of("uuid", workload.uuid, hint));
        }
        if let Some(other) = self.workloads.get(&workload.name).map(|w| w.workload.uuid)
            && other != workload.uuid
        {
            let why = format!("the name is that of the workload with UUID {other}");
            let hint = Some("delete that one first, or register it under another name".to_owned());
            return Err(RegisterError::invalid(label, why).because_of("name", &workload.name, hint));
        }
        if let Some(policy) = workload.policy {
            for failed in floor::at_launch(&workload, SevPolicy(policy)) {
                self.warnings
                    .push(format!("{label}: every launch will be denied: {failed}"));
            }
        }
        if workload.scheme == Scheme::AmdSev && workload.images.iter().any(|image| !image.vcpus.is_empty()) {
            self.warnings.push(format!(
                "{label}: under plain SEV nothing proves how many vCPUs a guest has; `vcpus` of its images is not looked at"
            ));
        }
        let candidates = digests::compute(self, &label, &workload)?;
        let name = workload.name.clone();
        let registered = RegisteredWorkload { workload, candidates };
        let action = action(self.workloads.get(&name), &registered);
        let detail = format!("uuid {}", registered.workload.uuid);
        self.workloads.insert(name.clone(), registered);
        Ok(change("Workload", &name, action, Some(detail)))
    }

    /// Whether a workload of this UUID was there before.
    pub(super) fn had_workload(&self, uuid: Uuid) -> bool {
        self.before.workloads.iter().any(|w| w.workload.uuid == uuid)
    }

    /// Digests computed anew for workloads whose firmware was replaced.
    pub(super) fn recompute(&mut self) -> Result<(), RegisterError> {
        let changed: BTreeSet<_> = self
            .firmware
            .iter()
            .filter(|(name, info)| {
                let same = |old: &FirmwareInfo| old.name == **name && old.sha256 == info.sha256;
                !self.before.firmware.iter().any(same)
            })
            .map(|(name, _)| name.clone())
            .collect();
        let affected =
            |w: &RegisteredWorkload| w.workload.images.iter().any(|i| changed.contains(&i.firmware));
        let again: Vec<Workload> = self
            .workloads
            .values()
            .filter(|w| affected(w))
            .map(|w| w.workload.clone())
            .collect();
        for workload in again {
            let name = workload.name.clone();
            if self.put_workload(workload)?.action == Action::Updated {
                self.warnings.push(format!(
                    "Workload {name}: launch digests computed anew, its firmware was replaced"
                ));
            }
        }
        Ok(())
    }
}

fn check(label: &str, workload: &Workload) -> Result<(), RegisterError> {
    let invalid = |at: &str, why: String| Err(RegisterError::invalid(label, why).at(at));
    if workload.secrets.is_empty() {
        return invalid(
            "secrets",
            "has no secrets: nothing could be released to it".to_owned(),
        );
    }
    if workload.secrets.len() > MAX_SECRETS {
        let why = format!("has more than {MAX_SECRETS} secrets; a guest reads no more");
        return invalid("secrets", why);
    }
    if let Some(number) = repeated(&workload.secrets) {
        return invalid(&format!("secrets[{number}]"), "names a secret twice".to_owned());
    }
    for (member, count) in [
        ("launch_digests", workload.launch_digests.len()),
        ("images", workload.images.len()),
    ] {
        if count > MAX_NAMED {
            let why = format!("names more than {MAX_NAMED} launch digests or images");
            return invalid(member, why);
        }
    }
    let names: Vec<_> = workload.images.iter().map(|image| &image.name).collect();
    if let Some(number) = repeated(&names) {
        return invalid(
            &format!("images[{number}].name"),
            "names two images alike".to_owned(),
        );
    }
    let own = workload.vcpus.iter().map(|count| ("vcpus".to_owned(), *count));
    let of_images = workload.images.iter().enumerate().flat_map(|(image, said)| {
        let counts = said.vcpus.iter().enumerate();
        counts.map(move |(number, count)| (format!("images[{image}].vcpus[{number}]"), *count))
    });
    for (member, count) in own.chain(of_images) {
        if count == 0 || count > MAX_VCPUS {
            return invalid(
                &member,
                format!("a guest has 1 to {MAX_VCPUS} vCPUs, not {count}"),
            );
        }
    }
    if workload.max_releases.is_some_and(|most| most > 1 << 53) {
        let why = "`max_releases` is more than 2^53; leave it out for no limit";
        return invalid("max_releases", why.to_owned());
    }
    if workload.hosts.len() > MAX_NAMED {
        return invalid("hosts", format!("names more than {MAX_NAMED} hosts"));
    }
    if workload.policies.len() > MAX_POLICIES {
        return invalid("policies", format!("binds more than {MAX_POLICIES} policies"));
    }
    for (number, image) in workload.images.iter().enumerate() {
        let in_image = |member: &str, why: &str| {
            let at = format!("images[{number}]{member}");
            invalid(&at, format!("image {}: {why}", image.name))
        };
        if image.kernel_hash.is_none() && (image.initrd_hash.is_some() || image.cmdline_hash.is_some()) {
            return in_image("", "an initrd or a command line is measured only with a kernel");
        }
        if workload.scheme == Scheme::AmdSevEs && image.vcpus.is_empty() {
            return in_image(
                "",
                "needs `vcpus`: under SEV-ES each one's first state is measured",
            );
        }
        if image
            .vcpu_type
            .as_ref()
            .is_some_and(|name| name.parse::<CpuModel>().is_err())
        {
            let known: Vec<_> = CpuModel::ALL.iter().map(|model| model.as_str()).collect();
            let why = format!("`vcpu_type` must be one of {}", known.join(", "));
            return in_image(".vcpu_type", &why);
        }
    }
    Ok(())
}

/// Where something is said for the second time.
fn repeated<T: Ord>(list: &[T]) -> Option<usize> {
    let mut seen = BTreeSet::new();
    list.iter().position(|said| !seen.insert(said))
}

fn stored_image(
    label: &str,
    workload: &WorkloadObject,
    number: usize,
    image: &ImageObject,
) -> Result<Image, RegisterError> {
    let vcpus = if image.vcpus.is_empty() {
        workload.vcpus.into_iter().collect()
    } else {
        image.vcpus.clone()
    };
    if image.cmdline.is_some() && image.cmdline_hash.is_some() {
        let why = format!(
            "image {}: has both `cmdline` and `cmdline_hash`; leave one out",
            image.name
        );
        return Err(RegisterError::invalid(label, why).at(&format!("images[{number}].cmdline_hash")));
    }
    Ok(Image {
        name: image.name.clone(),
        firmware: image.firmware.clone(),
        firmware_hash: image.firmware_hash.map(Hex::from),
        kernel_hash: image.kernel_hash.map(Hex::from),
        initrd_hash: image.initrd_hash.map(Hex::from),
        cmdline_hash: match &image.cmdline {
            Some(text) => Some(cmdline_hash(text)),
            None => image.cmdline_hash.map(Hex::from),
        },
        vcpus: if workload.scheme == Scheme::AmdSevEs {
            vcpus
        } else {
            image.vcpus.clone()
        },
        vcpu_type: image.vcpu_type.clone(),
    })
}

/// The command line is hashed with one trailing NUL and not trimmed, as QEMU does it.
fn cmdline_hash(text: &str) -> HexDigest {
    HexDigest::from(sha256(&[text.as_bytes(), &[0]].concat()))
}

/// The fingerprint of an OCA certificate.
pub(super) fn oca(label: &str, bytes: &[u8]) -> Result<HexDigest, RegisterError> {
    let invalid =
        |why: String| RegisterError::invalid(label, format!("`cloud_cert`: {why}")).at("cloud_cert");
    let certificate = Certificate::parse(bytes).map_err(|e| invalid(e.to_string()))?;
    if certificate.usage() != Usage::Oca {
        return Err(invalid(format!(
            "is a {}, expected the OCA's certificate",
            certificate.usage()
        )));
    }
    Ok(HexDigest::from(certificate.fingerprint()))
}
