//! What a wish removes: objects by name, and by label those that its objects do not say.

use std::collections::HashSet;

use super::RegisterError;
use super::draft::{Draft, named};
use crate::domain::applied::{ObjectName, Wish};
use crate::domain::object::{Action, Change};
use crate::domain::state::Kind;
use crate::domain::{Labels, Name, Role};

/// Whether a token of this role may remove objects of this kind.
pub type Removable = fn(Kind, Role) -> bool;

impl Draft<'_> {
    /// Removes what is to be gone. Whether something still needs it is known when the rest is there:
    /// [`Draft::needed`].
    pub(super) fn remove_wished(
        &mut self,
        wish: &Wish,
        role: Role,
        may: Removable,
    ) -> Result<Vec<Change>, RegisterError> {
        let mut changes = Vec::new();
        let mut gone: Vec<ObjectName> = Vec::new();
        for object in &wish.remove {
            match self.present(object) {
                Some(object) if gone.contains(&object) => {}
                Some(object) => gone.push(object),
                None if wish.ignore_missing => {
                    let detail = Some("there was none".to_owned());
                    let kind = object.kind.as_str();
                    changes.push(named(kind, object.name.to_string(), Action::Unchanged, detail));
                }
                None => return Err(RegisterError::missing(object.label(), "there is no such object")),
            }
        }
        if let Some(selector) = &wish.prune {
            if selector.is_empty() {
                let why = "needs a label: without one, everything that is not said would be removed";
                return Err(RegisterError::invalid("prune", why));
            }
            let said: HashSet<_> = wish
                .objects
                .iter()
                .map(crate::domain::object::Object::label)
                .collect();
            for (object, labels) in self.labelled() {
                if labels.have(selector) && !said.contains(&object.label()) && !gone.contains(&object) {
                    gone.push(object);
                }
            }
        }
        for object in gone {
            if !may(object.kind, role) {
                let why = format!("a token of role {role} does not remove it");
                return Err(RegisterError::forbidden(object.label(), why));
            }
            let detail = self.remove_one(&object)?;
            let kind = object.kind.as_str();
            changes.push(named(kind, object.name.to_string(), Action::Removed, detail));
        }
        Ok(changes)
    }

    /// Refuses a removal of what something else still refers to, and names that.
    pub(super) fn needed(&self) -> Result<(), RegisterError> {
        let gone = |kind: Kind, name: &Name| {
            let removed = self.removed.iter();
            removed
                .clone()
                .any(|(of, removed)| *of == kind && removed == name.as_str())
        };
        let refused = |label: String, path: String, kind: Kind, name: &Name| {
            let what = kind.as_str();
            let why = format!("needs {what} {name}, which would be removed");
            let hint = format!("remove this as well, or let go of {name} here first");
            Err(RegisterError::invalid(label, why).because_of(&path, name, Some(hint)))
        };
        for set in self.keysets.values() {
            for (number, name) in set.secrets.iter().enumerate() {
                if gone(Kind::Secret, name) {
                    let label = format!("KeySet {}", set.name);
                    return refused(label, format!("secrets[{number}]"), Kind::Secret, name);
                }
            }
        }
        for workload in self.workloads.values().map(|registered| &registered.workload) {
            let label = format!("Workload {}", workload.name);
            for (number, name) in workload.secrets.iter().enumerate() {
                if gone(Kind::Secret, name) {
                    return refused(label, format!("secrets[{number}]"), Kind::Secret, name);
                }
            }
            for (number, image) in workload.images.iter().enumerate() {
                if gone(Kind::Firmware, &image.firmware) {
                    let path = format!("images[{number}].firmware");
                    return refused(label, path, Kind::Firmware, &image.firmware);
                }
            }
        }
        let unsigned = self.signing_keys.is_empty() && !self.before.signing_keys.is_empty();
        if let (true, Some((_, name))) = (
            unsigned,
            self.removed.iter().find(|(kind, _)| *kind == Kind::SigningKey),
        ) {
            return Err(RegisterError::conflict(
                format!("SigningKey {name}"),
                "it is the only signing key: without it, any bundle becomes active unsigned; register the next key \
                 first, or say `keyward policy key remove --allow-unsigned`",
            ));
        }
        Ok(())
    }

    /// The object by its own name, if it is there; a workload may be called by its UUID.
    fn present(&self, object: &ObjectName) -> Option<ObjectName> {
        let name = &object.name;
        let there = match object.kind {
            Kind::Secret => self.secrets.contains_key(name),
            Kind::KeySet => self.keysets.contains_key(name),
            Kind::Firmware => self.firmware.contains_key(name),
            Kind::SigningKey => self.signing_keys.contains_key(name),
            Kind::Workload if self.workloads.contains_key(name) => true,
            Kind::Workload => {
                let mut all = self.workloads.values().map(|registered| &registered.workload);
                let found = all.find(|workload| workload.uuid.to_string() == name.as_str())?;
                let (kind, name) = (object.kind, found.name.clone());
                return Some(ObjectName { kind, name });
            }
        };
        there.then(|| object.clone())
    }

    /// Every object with its labels; what refers to others comes first.
    fn labelled(&self) -> Vec<(ObjectName, Labels)> {
        let mut all = Vec::new();
        let mut add = |kind, name: &Name, labels: &Labels| {
            let name = name.clone();
            all.push((ObjectName { kind, name }, labels.clone()));
        };
        for workload in self.workloads.values().map(|registered| &registered.workload) {
            add(Kind::Workload, &workload.name, &workload.labels);
        }
        for firmware in self.firmware.values() {
            add(Kind::Firmware, &firmware.name, &firmware.labels);
        }
        for set in self.keysets.values() {
            add(Kind::KeySet, &set.name, &set.labels);
        }
        for secret in self.secrets.values() {
            add(Kind::Secret, &secret.name, &secret.labels);
        }
        for key in self.signing_keys.values() {
            add(Kind::SigningKey, &key.name, &key.labels);
        }
        all
    }

    /// Removes an object that is there; what else the owner should know of it.
    fn remove_one(&mut self, object: &ObjectName) -> Result<Option<String>, RegisterError> {
        let ObjectName { kind, name } = object;
        if *kind != Kind::Workload {
            self.remove(*kind, name.as_str())?;
            return Ok(None);
        }
        let uuid = self
            .workloads
            .get(name)
            .map(|registered| registered.workload.uuid);
        let uuid = uuid.ok_or(RegisterError::NotFound)?;
        self.remove(*kind, &uuid.to_string())?;
        Ok(Some(format!("uuid {uuid}")))
    }
}
