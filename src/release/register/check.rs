//! Whether an owner's objects hang together, all of them, after a change.

use std::sync::Arc;

use super::RegisterError;
use super::draft::Draft;
use crate::domain::Name;
use crate::domain::object::SecretKind;
use crate::domain::state::{RegisteredWorkload, SecretInfo};
use crate::policy::{PolicyFacts, PreparedBundle};
use crate::release::binding::LIBRARY;
use crate::release::bundles::Loaded;
use crate::sev::secret_table::DEFAULT_AREA;

/// More bytes than a report has whose description is as long as it may be and needs no escapes.
const REPORT: usize = 2048;

impl Draft<'_> {
    /// Checks everything; what was fine before may not be so with the change.
    pub(super) fn check(&mut self) -> Result<(), RegisterError> {
        self.recompute()?;
        let bundle = if self.binds_own_policies() {
            self.prepared()?
        } else {
            None
        };
        let policies = Policies {
            bundle,
            library: &self.service.library,
        };
        policies.resolve_all("PolicyBundle", &self.policies)?;
        for secret in self.secrets.values() {
            policies.resolve_all(&format!("Secret {}", secret.name), &secret.policies)?;
        }
        for set in self.keysets.values() {
            let label = format!("KeySet {}", set.name);
            policies.resolve_all(&label, &set.policies)?;
            self.secrets_exist(&label, &set.secrets)?;
        }
        let mut warnings = Vec::new();
        for registered in self.workloads.values() {
            let label = format!("Workload {}", registered.workload.name);
            policies.resolve_all(&label, &registered.workload.policies)?;
            self.secrets_exist(&label, &registered.workload.secrets)?;
            let images = registered.workload.images.iter().enumerate();
            let mut lost = images.filter(|(_, image)| !self.firmware.contains_key(&image.firmware));
            if let Some((number, image)) = lost.next() {
                let at = format!("images[{number}].firmware");
                let why = format!("its image {} needs firmware {}", image.name, image.firmware);
                return Err(RegisterError::invalid(label, why).because_of(&at, &image.firmware, None));
            }
            for (number, secret) in registered.workload.secrets.iter().enumerate() {
                self.reached(&label, registered, (number, secret), &policies)?;
            }
            warnings.extend(self.fits(&label, registered));
        }
        self.check_pins()?;
        self.warnings.extend(warnings);
        Ok(())
    }

    fn binds_own_policies(&self) -> bool {
        let bound = self.policies.iter();
        let bound = bound.chain(self.secrets.values().flat_map(|s| &s.policies));
        let bound = bound.chain(self.keysets.values().flat_map(|s| &s.policies));
        let mut bound = bound.chain(self.workloads.values().flat_map(|w| &w.workload.policies));
        bound.any(|policy| !policy.starts_with(LIBRARY))
    }

    fn secrets_exist(&self, label: &str, names: &[Name]) -> Result<(), RegisterError> {
        let mut named = names.iter().enumerate();
        match named.find(|(_, name)| !self.secrets.contains_key(name)) {
            Some((number, missing)) => {
                let why = format!("there is no secret {missing}");
                let at = format!("secrets[{number}]");
                Err(RegisterError::invalid(label, why).because_of(&at, missing, None))
            }
            None => Ok(()),
        }
    }

    /// A policy reaches the secret; and where the workload names no launch digest, one that looks at it.
    fn reached(
        &self,
        label: &str,
        registered: &RegisteredWorkload,
        (number, secret): (usize, &Name),
        policies: &Policies<'_>,
    ) -> Result<(), RegisterError> {
        let workload = &registered.workload;
        let own = self.secrets.get(secret).into_iter().flat_map(|s| &s.policies);
        let sets = self
            .keysets
            .values()
            .filter(|s| s.secrets.contains(secret))
            .flat_map(|s| &s.policies);
        let bound: Vec<&String> = self
            .policies
            .iter()
            .chain(&workload.policies)
            .chain(own)
            .chain(sets)
            .collect();
        if bound.is_empty() {
            let why = format!(
                "no policy reaches its secret {secret}: bind one to the secret, a key set of it, the workload or the owner (`keyward.workload` holds it to what the workload names)"
            );
            let at = format!("secrets[{number}]");
            return Err(RegisterError::invalid(label, why).because_of(&at, secret, None));
        }
        if workload.names_digests() {
            return Ok(());
        }
        let mut looks = false;
        for policy in bound.into_iter().filter(|policy| !policy.starts_with(LIBRARY)) {
            looks |= policies.resolve(label, "policies", policy)?.reads_launch_digest;
        }
        if looks {
            return Ok(());
        }
        let why = format!(
            "names no launch digests or images, and no policy bound to its secret {secret} reads input.attested.launch_digest: anything could run there and get it"
        );
        Err(RegisterError::invalid(label, why))
    }

    /// Warnings for a release of all secrets that would always fail.
    fn fits(&self, label: &str, registered: &RegisteredWorkload) -> Vec<String> {
        let secrets: Vec<_> = registered
            .workload
            .secrets
            .iter()
            .filter_map(|name| self.secrets.get(name))
            .collect();
        let mut warnings = Vec::new();
        let length: usize = secrets
            .iter()
            .map(|s| length_in_table(s).saturating_add(20))
            .sum();
        let padded = (length + 20).next_multiple_of(16);
        let areas = registered.candidates.iter();
        let area = areas
            .map(|c| {
                c.secret_area
                    .map_or(DEFAULT_AREA, |a| usize::try_from(a).unwrap_or(0))
            })
            .min();
        let area = area.unwrap_or(DEFAULT_AREA);
        if padded > area {
            warnings.push(format!(
                "{label}: all its secrets together make a table of {padded} bytes, the guest has room for {area}"
            ));
        }
        for (number, secret) in secrets.iter().enumerate() {
            if let Some(other) = secrets
                .iter()
                .skip(number + 1)
                .find(|other| other.guid == secret.guid)
            {
                warnings.push(format!(
                    "{label}: {} and {} have the same GUID and can't be released together",
                    secret.name, other.name
                ));
            }
        }
        warnings
    }
}

/// How long the entry of a secret is. A report key is not in it, but a report that it signed.
fn length_in_table(secret: &SecretInfo) -> usize {
    match secret.kind {
        SecretKind::Opaque | SecretKind::LuksPassphrase => {
            usize::try_from(secret.bytes).unwrap_or(usize::MAX)
        }
        SecretKind::ReportKey => REPORT,
    }
}

/// Where the names of policies lead.
struct Policies<'a> {
    bundle: Option<Arc<Loaded>>,
    library: &'a PreparedBundle,
}

impl Policies<'_> {
    fn resolve_all(&self, label: &str, policies: &[String]) -> Result<(), RegisterError> {
        policies.iter().enumerate().try_for_each(|(number, policy)| {
            let at = format!("policies[{number}]");
            self.resolve(label, &at, policy).map(|_| ())
        })
    }

    fn resolve(&self, label: &str, at: &str, policy: &str) -> Result<PolicyFacts, RegisterError> {
        let found = if policy.starts_with(LIBRARY) {
            self.library.resolve(policy)
        } else {
            match &self.bundle {
                Some(bundle) => bundle.facts.resolve(policy),
                None => {
                    let why = format!("policy `{policy}` is bound, but no policy bundle is registered");
                    return Err(RegisterError::invalid(label, why).because_of(at, policy, None));
                }
            }
        };
        found.map_err(|diagnostic| {
            RegisterError::invalid(label, diagnostic.message).because_of(at, policy, diagnostic.hint)
        })
    }
}
