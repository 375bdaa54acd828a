//! Workloads in the form of the original mailing-list design: one request, secrets inside.

use uuid::Uuid;

use super::draft::Draft;
use super::secrets::NewSecret;
use super::workloads;
use super::{OnConflict, RegisterError};
use crate::domain::object::{Change, SecretKind, SecretValue};
use crate::domain::secret_version::Pins;
use crate::domain::workload::{Image, Workload};
use crate::domain::{HexDigest, Name};
use crate::release::binding::BUILT_IN;
use crate::sev::policy::Scheme;

/// `POST /vm/{uuid}`, parsed.
pub struct MailingWorkload {
    /// The technology.
    pub scheme: Scheme,
    /// The only OCA it may run under, 2084 bytes.
    pub cloud_cert: Option<Vec<u8>>,
    /// The SEV policy.
    pub policy: u32,
    /// The number of virtual CPUs.
    pub cpu_count: Option<u32>,
    /// SHA-256 of each firmware it may run.
    pub firmware_hashes: Vec<HexDigest>,
    /// SHA-256 of the kernel.
    pub kernel_hash: Option<HexDigest>,
    /// SHA-256 of the initial RAM disk.
    pub initrd_hash: Option<HexDigest>,
    /// SHA-256 of the command line with its trailing NUL.
    pub cmdline_hash: Option<HexDigest>,
    /// Launch digests it may have.
    pub launch_digests: Vec<HexDigest>,
    /// How often each secret may be released.
    pub max_releases: Option<u64>,
    /// The secrets.
    pub secrets: Vec<InlineSecret>,
}

/// A secret inside a workload.
pub struct InlineSecret {
    /// What it is.
    pub kind: SecretKind,
    /// GUID of its entry in the secret table.
    pub guid: Option<Uuid>,
    /// Its value.
    pub value: SecretValue,
}

impl Draft<'_> {
    /// The secrets, then the workload; the workload's change comes last.
    pub(super) fn put_mailing(
        &mut self,
        uuid: Uuid,
        new: &MailingWorkload,
        on_conflict: OnConflict,
    ) -> Result<Vec<Change>, RegisterError> {
        let label = format!("Workload {uuid}");
        let name = |text: String| {
            text.parse::<Name>()
                .map_err(|e| RegisterError::invalid(&label, e))
        };
        let mut changes = Vec::new();
        let mut secrets: Vec<Name> = Vec::new();
        let built_in = [BUILT_IN.to_owned()];
        for secret in &new.secrets {
            let secret_name = name(format!("{uuid}/{}", secret.kind.as_str()))?;
            if secrets.contains(&secret_name) {
                let why = format!(
                    "two secrets of type {} would have one name; register them with `keyward apply`",
                    secret.kind.as_str()
                );
                return Err(RegisterError::invalid(label, why));
            }
            self.bound_as_here(&secret_name, &built_in, on_conflict)?;
            let labels = self.secrets.get(&secret_name).map(|old| old.labels.clone());
            changes.push(self.put(&NewSecret {
                name: &secret_name,
                kind: secret.kind,
                guid: secret.guid,
                value: Some(&secret.value),
                policies: &built_in,
                labels: &labels.unwrap_or_default(),
                by: None,
            })?);
            secrets.push(secret_name);
        }
        let (launch_digests, images) = self.named(&label, new)?;
        let known = self
            .workloads
            .values()
            .find(|w| w.workload.uuid == uuid)
            .map(|w| &w.workload);
        let unsayable = |w: &Workload| {
            !w.policies.is_empty()
                || !w.pins.is_empty()
                || !w.products.is_empty()
                || w.danger_weak_policy
                || w.wants_host_identity()
        };
        if known.is_some_and(unsayable) {
            let why = "was registered with what this form can't say (`policies`, `products`, `danger_weak_policy`, `require_host_identity`, `hosts`, versions of secrets); change it with `keyward apply`";
            return Err(RegisterError::invalid(label, why));
        }
        let own_name = known.map(|w| w.name.clone());
        let labels = known.map(|w| w.labels.clone()).unwrap_or_default();
        let workload = Workload {
            uuid,
            name: own_name.map_or_else(|| name(uuid.to_string()), Ok)?,
            scheme: new.scheme,
            policy: Some(new.policy),
            vcpus: new.cpu_count,
            products: Vec::new(),
            danger_weak_policy: false,
            require_host_identity: false,
            hosts: Vec::new(),
            launch_digests,
            images,
            oca: new
                .cloud_cert
                .as_ref()
                .map(|cert| workloads::oca(&label, cert))
                .transpose()?,
            max_releases: new.max_releases,
            secrets,
            pins: Pins::new(),
            policies: Vec::new(),
            labels,
        };
        changes.push(self.put_workload(workload)?);
        Ok(changes)
    }

    /// A secret of this name may have been registered in another form, with policies that this one can't say:
    /// replacing it would release it without them.
    fn bound_as_here(
        &self,
        name: &Name,
        policies: &[String],
        on_conflict: OnConflict,
    ) -> Result<(), RegisterError> {
        let Some(old) = self.secrets.get(name).filter(|old| old.policies != policies) else {
            return Ok(());
        };
        let bound = match old.policies.join(", ") {
            none if none.is_empty() => "no policies of its own".to_owned(),
            some => some,
        };
        let why = format!(
            "is registered and bound to {bound}; this form binds {BUILT_IN} alone and would replace that. Change it with `keyward apply`, or delete it first"
        );
        let label = format!("Secret {name}");
        Err(match on_conflict {
            OnConflict::Refuse => RegisterError::conflict(&label, format!("{label}: {why}")),
            OnConflict::Replace => RegisterError::invalid(label, why),
        })
    }

    /// What the hashes name: firmware alone is its launch digest under plain SEV; with a kernel, or
    /// under SEV-ES, its bytes are needed.
    fn named(
        &self,
        label: &str,
        new: &MailingWorkload,
    ) -> Result<(Vec<HexDigest>, Vec<Image>), RegisterError> {
        let invalid = |why: &str| RegisterError::invalid(label, why);
        let mut digests = new.launch_digests.clone();
        let hashes = new.kernel_hash.is_some() || new.initrd_hash.is_some() || new.cmdline_hash.is_some();
        if hashes && new.firmware_hashes.is_empty() {
            return Err(invalid(
                "`kernel-hash`, `initrd-hash` and `cmdline-hash` need `firmware-hashes`",
            ));
        }
        if hashes && new.kernel_hash.is_none() {
            return Err(invalid("`initrd-hash` and `cmdline-hash` need a `kernel-hash`"));
        }
        if new.scheme == Scheme::AmdSev && !hashes {
            digests.extend(
                new.firmware_hashes
                    .iter()
                    .filter(|hash| !new.launch_digests.contains(hash)),
            );
            return Ok((digests, Vec::new()));
        }
        let vcpus: Vec<u32> = new.cpu_count.into_iter().collect();
        if new.scheme == Scheme::AmdSevEs && !new.firmware_hashes.is_empty() && vcpus.is_empty() {
            return Err(invalid(
                "`firmware-hashes` under SEV-ES need a `cpu-count`: each vCPU's first state is measured",
            ));
        }
        let mut images = Vec::new();
        for hash in &new.firmware_hashes {
            let Some(firmware) = self.firmware.values().find(|info| info.sha256 == *hash) else {
                let why = format!(
                    "no firmware with SHA-256 {hash} is registered; its bytes are needed to compute launch digests"
                );
                return Err(invalid(&why));
            };
            images.push(Image {
                name: firmware.name.clone(),
                firmware: firmware.name.clone(),
                firmware_hash: Some(*hash),
                kernel_hash: new.kernel_hash,
                initrd_hash: new.initrd_hash,
                cmdline_hash: new.cmdline_hash,
                vcpus: if new.scheme == Scheme::AmdSevEs {
                    vcpus.clone()
                } else {
                    Vec::new()
                },
                vcpu_type: None,
            });
        }
        Ok((digests, images))
    }
}
