//! What the audit log says of an owner's changes: one event for each object, with names and versions, never a value.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::audit::record::{Event, ObjectKind, ObjectRef};
use crate::domain::platform::Standing;
use crate::domain::state::{ChangeSet, Kind, OwnerState};
use crate::domain::trust::TrustChange;
use crate::domain::{HexDigest, Name};

/// What there was before.
pub(super) struct Before {
    owner: Name,
    versions: BTreeMap<(ObjectKind, Name), Option<u64>>,
    workloads: BTreeMap<Uuid, Name>,
    bundle: Option<HexDigest>,
}

impl Before {
    pub(super) fn of(state: &OwnerState) -> Self {
        let mut versions = BTreeMap::new();
        let secrets = state.secrets.iter().map(|s| (&s.name, Some(s.version)));
        let mut all = |kind, names: &mut dyn Iterator<Item = (&Name, Option<u64>)>| {
            versions.extend(names.map(|(name, version)| ((kind, name.clone()), version)));
        };
        all(ObjectKind::Secret, &mut secrets.into_iter());
        all(
            ObjectKind::KeySet,
            &mut state.keysets.iter().map(|s| (&s.name, None)),
        );
        all(
            ObjectKind::Firmware,
            &mut state.firmware.iter().map(|f| (&f.name, None)),
        );
        all(
            ObjectKind::SigningKey,
            &mut state.signing_keys.iter().map(|k| (&k.name, None)),
        );
        let workloads = || state.workloads.iter().map(|w| &w.workload);
        all(ObjectKind::Workload, &mut workloads().map(|w| (&w.name, None)));
        Self {
            owner: state.owner.clone(),
            versions,
            workloads: workloads().map(|w| (w.uuid, w.name.clone())).collect(),
            bundle: state.bundle,
        }
    }

    /// One event for each object that changes, in the order in which they are written.
    pub(super) fn events(&self, changes: &ChangeSet) -> Vec<Event> {
        let removed = changes.removed.iter().filter_map(|(kind, name)| {
            let object = self.removed(*kind, name)?;
            Some(Event::ObjectDeleted { object })
        });
        let mut events: Vec<_> = removed.collect();
        if let Some(activated) = &changes.bundle {
            events.push(Event::BundleActivated {
                revision: activated.revision.digest,
                replaced: self.bundle,
            });
        }
        let mut put = |kind, name: &Name, version| events.push(self.put(kind, name, version));
        for key in &changes.signing_keys {
            put(ObjectKind::SigningKey, &key.name, None);
        }
        for (secret, _) in &changes.secrets {
            put(ObjectKind::Secret, &secret.name, Some(secret.version));
        }
        for set in &changes.keysets {
            put(ObjectKind::KeySet, &set.name, None);
        }
        for (firmware, _) in &changes.firmware {
            put(ObjectKind::Firmware, &firmware.name, None);
        }
        for registered in &changes.workloads {
            put(ObjectKind::Workload, &registered.workload.name, None);
        }
        if changes.owner_policies.is_some() {
            let object = reference(ObjectKind::Owner, &self.owner, None);
            events.push(Event::ObjectUpdated { object });
        }
        if let Some(trust) = &changes.trust {
            events.extend(trusted(trust));
        }
        events.extend(changes.purged.iter().map(|purge| Event::SecretPurged {
            secret: purge.name.clone(),
            version: purge.version,
        }));
        events
    }

    fn put(&self, kind: ObjectKind, name: &Name, version: Option<u64>) -> Event {
        let object = reference(kind, name, version);
        if self.versions.contains_key(&(kind, name.clone())) {
            Event::ObjectUpdated { object }
        } else {
            Event::ObjectCreated { object }
        }
    }

    /// What is removed, by the name that the store takes: a workload's is its UUID.
    fn removed(&self, kind: Kind, name: &str) -> Option<ObjectRef> {
        let kind = match kind {
            Kind::Secret => ObjectKind::Secret,
            Kind::KeySet => ObjectKind::KeySet,
            Kind::Firmware => ObjectKind::Firmware,
            Kind::SigningKey => ObjectKind::SigningKey,
            Kind::Workload => {
                let name = self.workloads.get(&name.parse().ok()?)?;
                return Some(reference(ObjectKind::Workload, name, None));
            }
        };
        let name: Name = name.parse().ok()?;
        let version = self.versions.get(&(kind, name.clone())).copied().flatten();
        Some(reference(kind, &name, version))
    }
}

/// What is said of platforms, one by one.
fn trusted(change: &TrustChange) -> impl Iterator<Item = Event> {
    let accepted = change.accepted.map(|accepted| Event::PlatformsAccepted {
        accepted,
        missing: 0,
        reason: "registered as a Trust".to_owned(),
    });
    let judged = change.judged.iter().map(|(fingerprint, standing, reason)| {
        let (fingerprint, reason) = (*fingerprint, reason.clone());
        match standing {
            Standing::Enrolled => Event::PlatformEnrolled {
                fingerprint,
                missing: 0,
                reason,
            },
            Standing::Refused => Event::PlatformRefused { fingerprint, reason },
            Standing::Seen => Event::PlatformWithdrawn { fingerprint, reason },
        }
    });
    accepted.into_iter().chain(judged)
}

fn reference(kind: ObjectKind, name: &Name, version: Option<u64>) -> ObjectRef {
    ObjectRef {
        kind,
        name: name.clone(),
        version,
    }
}
