//! Versions of a secret: listed, gone back to, destroyed; and held fast by what names them.

use super::draft::{Draft, change};
use super::{RegisterError, Registered};
use crate::domain::Name;
use crate::domain::object::{Action, Change};
use crate::domain::revision::By;
use crate::domain::secret_version::{Purge, SecretVersionInfo, VersionState, pinned};
use crate::domain::state::{KeySet, RegisteredWorkload, SecretInfo};
use crate::domain::token::Caller;
use crate::release::Service;
use crate::sealing::Place;

/// One who changes a secret, as it is recorded.
pub(super) fn by(caller: &Caller) -> By {
    By {
        token: caller.token,
        name: caller.name.clone(),
    }
}

impl Service {
    /// All versions of a secret, newest first; never a value.
    ///
    /// # Errors
    /// [`RegisterError::NotFound`] where there is no such secret.
    pub fn secret_versions(&self, owner: &Name, name: &str) -> Result<Vec<SecretVersionInfo>, RegisterError> {
        let name: Name = name.parse().map_err(|_| RegisterError::NotFound)?;
        let mut versions = self.store().secret_versions(owner, &name)?;
        if versions.is_empty() {
            return Err(RegisterError::NotFound);
        }
        let state = self.store().owner_state(owner)?;
        let (workloads, keysets) = (state.workloads.iter(), state.keysets.iter());
        for version in &mut versions {
            version.pinned_by = holders(workloads.clone(), keysets.clone(), &name, version.version);
        }
        Ok(versions)
    }

    /// Destroys the value of one version for good. What is known of it stays.
    ///
    /// # Errors
    /// [`RegisterError::Conflict`] where it is the current one, or held fast.
    pub fn purge_secret(&self, caller: &Caller, name: &str, version: u64) -> Result<(), RegisterError> {
        let name: Name = name.parse().map_err(|_| RegisterError::NotFound)?;
        self.register(caller, false, None, |draft| {
            let label = format!("Secret {name}");
            match draft.version(&name, version)?.state {
                VersionState::Purged => return Ok(Vec::new()),
                VersionState::Current => {
                    let why = "is the current one: register another value first, or delete the secret";
                    return Err(RegisterError::conflict(label, format!("version {version} {why}")));
                }
                VersionState::Earlier => {}
            }
            let holders = draft.holders(&name, version);
            if !holders.is_empty() {
                let why = format!("version {version} is pinned by {}", holders.join(", "));
                return Err(RegisterError::conflict(label, why));
            }
            draft.purged.push(Purge {
                name: name.clone(),
                version,
                time: draft.service.parts.clock.now(),
                by: Some(by(caller)),
            });
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// Makes the value of an earlier version current again, as a version of its own.
    ///
    /// # Errors
    /// [`RegisterError::Conflict`] where it was purged.
    pub fn rollback_secret(
        &self,
        caller: &Caller,
        name: &str,
        version: u64,
    ) -> Result<Registered, RegisterError> {
        let name: Name = name.parse().map_err(|_| RegisterError::NotFound)?;
        self.register(caller, false, None, |draft| {
            Ok(vec![draft.rollback_secret(&name, version, by(caller))?])
        })
    }
}

impl Draft<'_> {
    fn version(&self, name: &Name, version: u64) -> Result<SecretVersionInfo, RegisterError> {
        let all = self.service.store().secret_versions(&self.before.owner, name)?;
        let found = all.into_iter().find(|known| known.version == version);
        found.ok_or(RegisterError::NotFound)
    }

    fn holders(&self, name: &Name, version: u64) -> Vec<String> {
        holders(self.workloads.values(), self.keysets.values(), name, version)
    }

    fn rollback_secret(&mut self, name: &Name, version: u64, by: By) -> Result<Change, RegisterError> {
        let current = self.secrets.get(name).cloned().ok_or(RegisterError::NotFound)?;
        let old = self.version(name, version)?;
        let label = format!("Secret {name}");
        match old.state {
            VersionState::Current => {
                let detail = Some(format!("version {version}"));
                return Ok(change("Secret", name, Action::Unchanged, detail));
            }
            VersionState::Purged => {
                let why = format!("the value of version {version} was destroyed");
                return Err(RegisterError::conflict(label, why));
            }
            VersionState::Earlier => {}
        }
        let owner = &self.before.owner;
        let parts = &self.service.parts;
        let sealed = parts.store.sealed_secrets(owner, &[(name.clone(), version)])?;
        // Purged since it was looked up: the generation is another by now, and all of this starts anew.
        let Some(sealed) = sealed.into_iter().next().flatten() else {
            return Err(RegisterError::Busy);
        };
        let place = |version| Place::Secret { owner, name, version };
        let value = parts.sealer.open(place(version), &sealed)?;
        let new = self.before.last_versions.get(name).copied().unwrap_or(0) + 1;
        let sealed = parts.sealer.seal(place(new), &value, parts.random.as_ref())?;
        self.keep_sealed(name, sealed);
        self.secrets.insert(
            name.clone(),
            SecretInfo {
                name: name.clone(),
                kind: old.kind,
                guid: old.guid,
                version: new,
                bytes: old.bytes,
                policies: current.policies,
                labels: current.labels,
                updated: self.service.parts.clock.now(),
                by: Some(by),
                rollback_of: Some(version),
            },
        );
        let detail = Some(format!("version {new}, with the value of version {version}"));
        Ok(change("Secret", name, Action::Updated, detail))
    }

    /// Every version that is held fast is there, and no workload is torn between two.
    pub(super) fn check_pins(&self) -> Result<(), RegisterError> {
        let of_sets = self
            .keysets
            .values()
            .flat_map(|set| set.pins.iter().map(move |pin| ("KeySet", &set.name, pin)));
        let workloads = self.workloads.values().map(|registered| &registered.workload);
        let of_workloads = workloads.clone().flat_map(|workload| {
            workload
                .pins
                .iter()
                .map(move |pin| ("Workload", &workload.name, pin))
        });
        for (kind, holder, (name, version)) in of_sets.chain(of_workloads) {
            let invalid = |why: String| {
                RegisterError::invalid(format!("{kind} {holder}"), why).because_of(
                    "secrets",
                    format!("{name}@{version}"),
                    Some(format!("`keyward secret versions {name}` lists them")),
                )
            };
            // One that is registered along with it is not stored yet.
            if self
                .secrets
                .get(name)
                .is_some_and(|current| current.version == *version)
            {
                continue;
            }
            match self.version(name, *version).map(|found| found.state) {
                Ok(VersionState::Purged) => {
                    return Err(invalid(format!("the value of {name}@{version} was destroyed")));
                }
                Ok(VersionState::Current | VersionState::Earlier) => {}
                Err(RegisterError::NotFound) => {
                    return Err(invalid(format!("there is no version {version} of {name}")));
                }
                Err(error) => return Err(error),
            }
        }
        for workload in workloads {
            for secret in &workload.secrets {
                let holding = self.keysets.values().filter(|set| set.secrets.contains(secret));
                pinned(workload, holding, secret)
                    .map_err(|torn| RegisterError::invalid(format!("Workload {}", workload.name), torn))?;
            }
        }
        Ok(())
    }

    /// Values beyond what is kept of a secret that gets a new one: the oldest that nothing holds fast.
    pub(super) fn purge_old(&mut self) -> Result<(), RegisterError> {
        let kept = self.service.settings.kept_versions;
        let now = self.service.parts.clock.now();
        let mut purged = Vec::new();
        for name in self.new_values() {
            let stored = self.service.store().secret_versions(&self.before.owner, name)?;
            // Besides the new one, which is not stored yet.
            let valued = stored
                .iter()
                .filter(|version| version.state != VersionState::Purged);
            for old in valued.skip(kept.saturating_sub(1)) {
                if self.holders(name, old.version).is_empty() {
                    purged.push(Purge {
                        name: name.clone(),
                        version: old.version,
                        time: now,
                        by: None,
                    });
                }
            }
        }
        self.purged.extend(purged);
        Ok(())
    }
}

/// What holds a version fast.
fn holders<'a>(
    workloads: impl Iterator<Item = &'a RegisteredWorkload>,
    keysets: impl Iterator<Item = &'a KeySet>,
    name: &Name,
    version: u64,
) -> Vec<String> {
    let workloads = workloads
        .filter(|registered| registered.workload.pins.get(name) == Some(&version))
        .map(|registered| format!("Workload {}", registered.workload.name));
    let keysets = keysets
        .filter(|set| set.pins.get(name) == Some(&version))
        .map(|set| format!("KeySet {}", set.name));
    workloads.chain(keysets).collect()
}
