//! The one object that a request is about, and the state that the caller demands of it.
//!
//! The state is compared on what was read in one moment, with the owner's generation; the registration is committed
//! only on that generation. Of two callers who demand the same state, so, one is refused.

use super::RegisterError;
use super::activation::Activating;
use super::draft::Draft;
use crate::domain::Name;
use crate::domain::etag::{ETag, Precondition};
use crate::domain::object::{Change, Object};
use crate::domain::state::Kind;
use crate::store::StoreError;

/// The object.
pub(super) enum Subject {
    /// The active policy bundle.
    Bundle,
    /// Which platforms are trusted.
    Trust,
    /// One with a name; a workload's is its UUID.
    Object(Kind, String),
}

impl Subject {
    pub(super) fn of(object: &Object) -> Self {
        match object {
            Object::PolicyBundle(_) => Self::Bundle,
            Object::Trust(_) => Self::Trust,
            Object::Secret(secret) => Self::Object(Kind::Secret, secret.name.to_string()),
            Object::KeySet(set) => Self::Object(Kind::KeySet, set.name.to_string()),
            Object::SigningKey(key) => Self::Object(Kind::SigningKey, key.name.to_string()),
            Object::Firmware(firmware) => Self::Object(Kind::Firmware, firmware.name.to_string()),
            Object::Workload(workload) => {
                let uuid = workload.uuid.map(|uuid| uuid.to_string());
                Self::Object(Kind::Workload, uuid.unwrap_or_default())
            }
        }
    }
}

/// What the caller demands of it.
pub(super) struct Demand<'a> {
    pub(super) on: Subject,
    pub(super) precondition: &'a Precondition,
}

impl<'a> Demand<'a> {
    /// About an object that is to be removed.
    ///
    /// # Errors
    /// When it has no name that one could have: no precondition makes a difference then.
    pub(super) fn of_name(
        kind: Kind,
        name: &str,
        precondition: &'a Precondition,
    ) -> Result<Self, RegisterError> {
        let possible = match kind {
            Kind::Workload => name.parse::<uuid::Uuid>().is_ok(),
            _ => name.parse::<Name>().is_ok(),
        };
        let on = Subject::Object(kind, name.to_owned());
        match possible {
            true => Ok(Self { on, precondition }),
            false => Err(RegisterError::NotFound),
        }
    }

    pub(super) fn check(&self, draft: &Draft<'_>) -> Result<(), RegisterError> {
        let current = draft.etag(&self.on)?;
        if self.precondition.holds(current.as_ref()) {
            return Ok(());
        }
        Err(RegisterError::Precondition(match current {
            None => "there is no such object, but `If-Match` demands one",
            Some(_) if self.precondition.if_match.is_none() => {
                "the object is there already, and `If-None-Match` demands that it is not"
            }
            Some(_) => "the object was changed since it was read: read it again, and decide anew",
        }))
    }
}

impl Draft<'_> {
    /// The tag of an object as it is in the draft; none: it is not there.
    pub(super) fn etag(&self, on: &Subject) -> Result<Option<ETag>, RegisterError> {
        let tag = match on {
            Subject::Bundle => self
                .bundle
                .map(|digest| bundle_etag(&digest, true, &self.policies)),
            Subject::Trust => {
                let said = self.trust.as_ref().map(|(trust, ..)| trust);
                Some(ETag::of(said.unwrap_or(&self.before.trust)))
            }
            Subject::Object(Kind::Workload, uuid) => {
                let found = |w: &&_| is_uuid(w, uuid);
                self.workloads.values().find(found).map(ETag::of)
            }
            Subject::Object(kind, name) => {
                let Ok(name) = name.parse::<Name>() else {
                    return Ok(None);
                };
                match kind {
                    Kind::Secret => self.secrets.get(&name).map(ETag::of),
                    Kind::KeySet => self.keysets.get(&name).map(ETag::of),
                    Kind::Firmware => self.firmware.get(&name).map(ETag::of),
                    Kind::SigningKey => self.signing_keys.get(&name).map(ETag::of),
                    Kind::Workload => None,
                }
            }
        };
        tag.transpose().map_err(|error| {
            let (what, why) = ("an object", error.to_string());
            StoreError::Damaged { what, why }.into()
        })
    }

    /// Puts objects. Whatever order they come in: what others refer to is there first.
    pub(super) fn put_objects(
        &mut self,
        objects: &[Object],
        activating: &Activating<'_>,
    ) -> Result<Vec<Change>, RegisterError> {
        let mut changes: Vec<_> = objects.iter().map(|_| None).collect();
        for late in [0, 1, 2] {
            for (object, change) in objects.iter().zip(&mut changes) {
                if late == order(object) {
                    *change = Some(match object {
                        Object::SigningKey(key) => self.put_signing_key(key)?,
                        Object::PolicyBundle(bundle) => self.put_bundle(bundle, activating)?,
                        Object::Secret(secret) => self.put_secret(secret, activating.caller)?,
                        Object::KeySet(set) => self.put_keyset(set)?,
                        Object::Firmware(firmware) => self.put_firmware(firmware)?,
                        Object::Workload(workload) => self.put_workload_object(workload)?,
                        Object::Trust(trust) => self.put_trust(trust, activating)?,
                    });
                }
            }
        }
        Ok(changes.into_iter().flatten().collect())
    }
}

/// Keys first, as bundles are signed with them; workloads last, as they refer to the rest.
fn order(object: &Object) -> u8 {
    match object {
        Object::SigningKey(_) => 0,
        Object::Workload(_) => 2,
        _ => 1,
    }
}

fn is_uuid(registered: &crate::domain::state::RegisteredWorkload, uuid: &str) -> bool {
    registered.workload.uuid.to_string() == uuid
}

/// The tag of a bundle: its digest, whether it is the active one, and the policies bound to its owner.
///
/// # Errors
/// When they can't be written as JSON.
pub(crate) fn bundle_etag(
    digest: &crate::domain::HexDigest,
    active: bool,
    policies: &[String],
) -> Result<ETag, serde_json::Error> {
    ETag::of(&(digest, active, policies))
}
