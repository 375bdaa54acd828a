//! An owner's objects as they will be: what is stored, with the changes asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use openssl::sha::sha256;
use uuid::Uuid;

use super::RegisterError;
use super::activation::Activating;
use crate::domain::object::{Action, Change, FirmwareObject, KeySetObject, PolicyBundleObject};
use crate::domain::revision::{By, SigningKey};
use crate::domain::secret_version::{Purge, names_and_pins};
use crate::domain::state::{
    Activated, ChangeSet, FirmwareInfo, KeySet, Kind, OwnerState, RegisteredWorkload, SecretInfo,
};
use crate::domain::trust::Trust;
use crate::domain::{HexDigest, Name, Time};
use crate::policy::{Archived, Bundle, LoadError, opa};
use crate::release::Service;
use crate::release::bundles::{BundleError, Loaded};
use crate::sev::launch_digest::Firmware;

/// The largest firmware file.
const MAX_FIRMWARE: usize = 32 << 20;

/// What is to be written, what the owner is told of it, and the new bundle.
pub(super) type Finished = (ChangeSet, Vec<String>, Option<Arc<Loaded>>);

pub(super) struct Draft<'a> {
    pub(super) service: &'a Service,
    pub(super) before: OwnerState,
    pub(super) policies: Vec<String>,
    pub(super) bundle: Option<HexDigest>,
    pub(super) secrets: BTreeMap<Name, SecretInfo>,
    pub(super) keysets: BTreeMap<Name, KeySet>,
    pub(super) firmware: BTreeMap<Name, FirmwareInfo>,
    pub(super) workloads: BTreeMap<Name, RegisteredWorkload>,
    pub(super) warnings: Vec<String>,
    pub(super) signing_keys: BTreeMap<Name, SigningKey>,
    pub(super) new_bundle: Option<Arc<Loaded>>,
    pub(super) activated: Option<Activated>,
    bundles_seen: bool,
    sealed: BTreeMap<Name, Vec<u8>>,
    contents: BTreeMap<Name, Vec<u8>>,
    pub(super) removed: Vec<(Kind, String)>,
    /// UUIDs that were drawn for workloads.
    pub(super) drawn: Vec<Uuid>,
    pub(super) purged: Vec<Purge>,
    /// As it is said anew, by whom and when.
    pub(super) trust: Option<(Trust, By, Time)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(service: &'a Service, state: OwnerState) -> Self {
        Self {
            service,
            policies: state.policies.clone(),
            bundle: state.bundle,
            secrets: state
                .secrets
                .iter()
                .map(|s| (s.name.clone(), s.clone()))
                .collect(),
            keysets: state
                .keysets
                .iter()
                .map(|s| (s.name.clone(), s.clone()))
                .collect(),
            firmware: state
                .firmware
                .iter()
                .map(|f| (f.name.clone(), f.clone()))
                .collect(),
            workloads: state
                .workloads
                .iter()
                .map(|w| (w.workload.name.clone(), w.clone()))
                .collect(),
            signing_keys: state
                .signing_keys
                .iter()
                .map(|k| (k.name.clone(), k.clone()))
                .collect(),
            before: state,
            warnings: Vec::new(),
            new_bundle: None,
            activated: None,
            bundles_seen: false,
            sealed: BTreeMap::new(),
            contents: BTreeMap::new(),
            removed: Vec::new(),
            drawn: Vec::new(),
            purged: Vec::new(),
            trust: None,
        }
    }

    pub(super) fn put_bundle(
        &mut self,
        object: &PolicyBundleObject,
        activating: &Activating<'_>,
    ) -> Result<Change, RegisterError> {
        if self.bundles_seen {
            return Err(RegisterError::invalid(
                "PolicyBundle",
                "there are two; one is active at a time",
            ));
        }
        self.bundles_seen = true;
        let policies_differ = self.bind_to_owner(object, activating.caller.role)?;
        if let Some(kept) = object.digest {
            return self.keep_bundle(kept, object, policies_differ);
        }
        let files = object
            .files
            .iter()
            .map(|(path, bytes)| (path.clone(), bytes.0.clone()))
            .collect();
        let bundle = Bundle::from_files(files).map_err(RegisterError::Bundle)?;
        let digest = HexDigest::from(bundle.digest());
        let signatures = object.files.get(opa::SIGNATURES).map(|bytes| bytes.0.clone());
        let key = self.signed_by(&bundle, signatures.as_deref())?;
        let action = match self.before.bundle {
            Some(active) if active == digest && (policies_differ || self.outlived(key.as_deref())?) => {
                Action::Updated
            }
            Some(active) if active == digest => Action::Unchanged,
            Some(_) => Action::Updated,
            None => Action::Created,
        };
        if self.before.bundle != Some(digest) {
            let archived = Archived::from(&bundle);
            let evaluator = self.service.parts.evaluator.as_ref();
            let facts = evaluator
                .load(self.before.owner.as_str(), &archived, true)
                .map_err(|error| match error {
                    LoadError::Refused(found) => RegisterError::Bundle(found),
                    LoadError::NotNow(why) => {
                        log::warn!("a bundle could not be tried: {why}");
                        RegisterError::Busy
                    }
                })?;
            let warnings = facts.warnings.iter();
            self.warnings
                .extend(warnings.map(|warning| format!("PolicyBundle: {}", warning.in_one_line())));
            let bundle = archived.clone();
            self.new_bundle = Some(Arc::new(Loaded { bundle, facts }));
            self.bundle = Some(digest);
        }
        if self.before.bundle != Some(digest) || self.outlived(key.as_deref())? {
            self.activated = Some(Activated {
                revision: self.revision(&bundle, activating, key),
                archive: bundle.to_archive(),
                signatures,
            });
        }
        Ok(named("PolicyBundle", digest.to_string(), action, None))
    }

    pub(super) fn put_keyset(&mut self, object: &KeySetObject) -> Result<Change, RegisterError> {
        let name = object.name.clone();
        let (secrets, pins) = names_and_pins(&object.secrets);
        let set = KeySet {
            name: name.clone(),
            secrets,
            pins,
            policies: object.policies.clone(),
            labels: object.labels.clone(),
        };
        let action = action(self.keysets.get(&name), &set);
        self.keysets.insert(name.clone(), set);
        Ok(change("KeySet", &name, action, None))
    }

    pub(super) fn put_firmware(&mut self, object: &FirmwareObject) -> Result<Change, RegisterError> {
        let name = &object.name;
        let label = format!("Firmware {name}");
        let info = match &object.content {
            Some(content) => {
                let content = content.0.as_slice();
                if content.len() > MAX_FIRMWARE {
                    let why = format!("larger than {MAX_FIRMWARE} bytes");
                    return Err(RegisterError::invalid(label, why).at("file"));
                }
                Firmware::parse(content).map_err(|e| RegisterError::invalid(&label, e).at("file"))?;
                let info = FirmwareInfo {
                    name: name.clone(),
                    sha256: HexDigest::from(sha256(content)),
                    bytes: content.len() as u64,
                    labels: object.labels.clone(),
                };
                if self.firmware.get(name).map(|old| old.sha256) != Some(info.sha256) {
                    self.contents.insert(name.clone(), content.to_vec());
                }
                info
            }
            None => self.kept_firmware(object)?,
        };
        if let Some(said) = object.sha256.filter(|said| *said != info.sha256) {
            let why = format!("has SHA-256 {}, `sha256` says {said}", info.sha256);
            return Err(RegisterError::invalid(label, why).at("sha256"));
        }
        let action = action(self.firmware.get(name), &info);
        self.firmware.insert(name.clone(), info.clone());
        Ok(change(
            "Firmware",
            name,
            action,
            Some(format!("sha256 {}", info.sha256)),
        ))
    }

    /// The bytes of a firmware, new or stored.
    pub(super) fn firmware_bytes(&self, name: &Name) -> Result<Option<Vec<u8>>, RegisterError> {
        match self.contents.get(name) {
            Some(content) => Ok(Some(content.clone())),
            None => Ok(self.service.store().firmware(&self.before.owner, name)?),
        }
    }

    /// Secrets that get a new value.
    pub(super) fn new_values(&self) -> impl Iterator<Item = &Name> {
        self.sealed.keys()
    }

    pub(super) fn keep_sealed(&mut self, name: &Name, sealed: Vec<u8>) {
        self.sealed.insert(name.clone(), sealed);
    }

    /// The bundle that will be active.
    pub(super) fn prepared(&self) -> Result<Option<Arc<Loaded>>, RegisterError> {
        if let Some(prepared) = &self.new_bundle {
            return Ok(Some(prepared.clone()));
        }
        let Some(digest) = self.bundle else {
            return Ok(None);
        };
        let loaded = self
            .service
            .bundles
            .load(self.service.store(), &self.before.owner, digest);
        loaded.map(Some).map_err(|error| match error {
            BundleError::Store(error) => error.into(),
            BundleError::NotNow(_) => RegisterError::Busy,
            BundleError::Unusable(why) => RegisterError::invalid("PolicyBundle", why),
        })
    }

    /// Removes a key that signs bundles; the only one only where that is meant.
    pub(super) fn remove_signing_key(
        &mut self,
        name: &str,
        allow_unsigned: bool,
    ) -> Result<(), RegisterError> {
        self.remove(Kind::SigningKey, name)?;
        if self.signing_keys.is_empty() && !allow_unsigned {
            return Err(RegisterError::conflict(
                format!("SigningKey {name}"),
                "it is the only signing key: without it, any bundle becomes active unsigned; register the next key \
                 first, or say `?allow-unsigned=true`",
            ));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, kind: Kind, name: &str) -> Result<(), RegisterError> {
        let gone = match kind {
            Kind::Workload => {
                let found = self
                    .workloads
                    .iter()
                    .find(|(_, w)| w.workload.uuid.to_string() == name);
                let found = found.map(|(name, _)| name.clone());
                found.and_then(|name| self.workloads.remove(&name)).is_some()
            }
            _ => {
                let name: Name = name.parse().map_err(|_| RegisterError::NotFound)?;
                match kind {
                    Kind::Secret => self.secrets.remove(&name).is_some(),
                    Kind::KeySet => self.keysets.remove(&name).is_some(),
                    Kind::Firmware => self.firmware.remove(&name).is_some(),
                    Kind::SigningKey => self.signing_keys.remove(&name).is_some(),
                    Kind::Workload => false,
                }
            }
        };
        if !gone {
            return Err(RegisterError::NotFound);
        }
        self.removed.push((kind, name.to_owned()));
        Ok(())
    }

    /// What differs from what is stored, to be written at once.
    pub(super) fn finish(mut self) -> Result<Finished, RegisterError> {
        self.purge_old()?;
        let mut set = ChangeSet {
            removed: std::mem::take(&mut self.removed),
            drawn: std::mem::take(&mut self.drawn),
            purged: std::mem::take(&mut self.purged),
            ..ChangeSet::default()
        };
        let loaded = self.new_bundle;
        set.bundle = self.activated;
        set.trust = self
            .trust
            .and_then(|(trust, by, time)| self.before.trust.change(&trust, by, time));
        let known = |key: &SigningKey| self.before.signing_keys.contains(key);
        set.signing_keys = self.signing_keys.into_values().filter(|k| !known(k)).collect();
        if self.policies != self.before.policies {
            set.owner_policies = Some(self.policies);
        }
        for (name, secret) in self.secrets {
            let sealed = self.sealed.remove(&name);
            if sealed.is_some() || !self.before.secrets.contains(&secret) {
                set.secrets.push((secret, sealed));
            }
        }
        set.keysets = self
            .keysets
            .into_values()
            .filter(|s| !self.before.keysets.contains(s))
            .collect();
        for (name, info) in self.firmware {
            let content = self.contents.remove(&name);
            if content.is_some() || !self.before.firmware.contains(&info) {
                set.firmware.push((info, content));
            }
        }
        let known = |w: &RegisteredWorkload| self.before.workloads.contains(w);
        set.workloads = self.workloads.into_values().filter(|w| !known(w)).collect();
        Ok((set, self.warnings, loaded))
    }
}

/// What putting `new` where `old` is amounts to.
pub(super) fn action<T: PartialEq>(old: Option<&T>, new: &T) -> Action {
    match old {
        None => Action::Created,
        Some(old) if old == new => Action::Unchanged,
        Some(_) => Action::Updated,
    }
}

pub(super) fn change(kind: &str, name: &Name, action: Action, detail: Option<String>) -> Change {
    named(kind, name.to_string(), action, detail)
}

pub(super) fn named(kind: &str, name: String, action: Action, detail: Option<String>) -> Change {
    Change {
        kind: kind.to_owned(),
        name,
        action,
        detail,
        members: Vec::new(),
        before: None,
        after: None,
    }
}
