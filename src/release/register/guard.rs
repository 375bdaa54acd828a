//! What decides over releases, and so is registered by two people where the owner asks for that: one person alone could
//! otherwise bind `allow := true`, or let another guest have a secret.
//!
//! Two registrations are the same if what is here of them is: the order of objects, the values of secrets, a UUID that
//! the server draws and the time are not.

use std::collections::BTreeMap;

use openssl::sha::sha256;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{RegisterError, Registered};
use crate::audit::record::Event;
use crate::domain::approval::{Change, Word};
use crate::domain::object::Action;
use crate::domain::revision::By;
use crate::domain::state::{ChangeSet, KeySet, Kind, OwnerState};
use crate::domain::token::Caller;
use crate::domain::{HexDigest, Name};
use crate::release::Service;
use crate::store;

/// How much of what is registered is said in a proposal, in characters.
const MAX_REASON: usize = 500;

/// The policies that were bound to each secret.
pub(super) struct Bound(BTreeMap<Name, Vec<String>>);

#[derive(Serialize)]
struct Guarded<'a> {
    bundle: Option<HexDigest>,
    signing_keys: BTreeMap<&'a Name, Value>,
    owner_policies: Option<&'a Vec<String>>,
    /// Policies bound to secrets that are there, where they change.
    secret_policies: BTreeMap<&'a Name, &'a Vec<String>>,
    keysets: BTreeMap<&'a Name, &'a KeySet>,
    workloads: BTreeMap<&'a Name, Value>,
    removed: Vec<(&'static str, &'a str)>,
}

impl Bound {
    pub(super) fn of(state: &OwnerState) -> Self {
        let bound = state.secrets.iter().map(|s| (s.name.clone(), s.policies.clone()));
        Self(bound.collect())
    }

    /// What two people must agree on; none: one is enough, as with new secrets and new values.
    pub(super) fn guarded(&self, set: &ChangeSet) -> Result<Option<HexDigest>, RegisterError> {
        let damaged = |error: serde_json::Error| RegisterError::invalid("objects", error);
        let mut guarded = Guarded {
            bundle: set.bundle.as_ref().map(|activated| activated.revision.digest),
            signing_keys: BTreeMap::new(),
            owner_policies: set.owner_policies.as_ref(),
            secret_policies: BTreeMap::new(),
            keysets: set.keysets.iter().map(|set| (&set.name, set)).collect(),
            workloads: BTreeMap::new(),
            removed: Vec::new(),
        };
        for key in &set.signing_keys {
            let value = serde_json::to_value(&key.key).map_err(damaged)?;
            guarded.signing_keys.insert(&key.name, value);
        }
        for (secret, _) in &set.secrets {
            let before = self.0.get(&secret.name);
            if before.is_some_and(|policies| *policies != secret.policies) {
                guarded.secret_policies.insert(&secret.name, &secret.policies);
            }
        }
        for registered in &set.workloads {
            let workload = &registered.workload;
            let mut value = serde_json::to_value(workload).map_err(damaged)?;
            if let Some(members) = value.as_object_mut() {
                members.remove("uuid");
            }
            let digests: Vec<_> = registered.candidates.iter().map(|c| c.digest).collect();
            let value = serde_json::json!({"workload": value, "digests": digests});
            guarded.workloads.insert(&workload.name, value);
        }
        for (kind, name) in &set.removed {
            match kind {
                // Policies are bound to it, or what is signed by it no longer needs to be.
                Kind::KeySet => guarded.removed.push(("keyset", name)),
                Kind::SigningKey => guarded.removed.push(("signing-key", name)),
                Kind::Secret | Kind::Firmware | Kind::Workload => {}
            }
        }
        let nothing = guarded.bundle.is_none()
            && guarded.owner_policies.is_none()
            && guarded.signing_keys.is_empty()
            && guarded.secret_policies.is_empty()
            && guarded.keysets.is_empty()
            && guarded.workloads.is_empty()
            && guarded.removed.is_empty();
        if nothing {
            return Ok(None);
        }
        guarded.removed.sort_unstable();
        let text = serde_json::to_vec(&guarded).map_err(damaged)?;
        Ok(Some(HexDigest::from(sha256(&text))))
    }
}

impl Service {
    /// What two people must agree on, as this one says it.
    pub(super) fn guarded(
        &self,
        caller: &Caller,
        digest: HexDigest,
        registered: &Registered,
    ) -> store::Guarded {
        let message = registered
            .revision
            .as_ref()
            .and_then(|revision| revision.message.clone());
        let reason = message.unwrap_or_else(|| {
            let changes = registered.applied.changes.iter();
            let changes = changes.filter(|change| change.action != Action::Unchanged);
            let names: Vec<_> = changes
                .map(|change| format!("{} {}", change.kind, change.name))
                .collect();
            names.join(", ").chars().take(MAX_REASON).collect()
        });
        let event = Event::RegistrationProposed {
            digest,
            reason: reason.clone(),
        };
        let owner = Some(caller.owner.clone());
        let proposed = self.act(caller).record(Uuid::new_v4(), owner, event);
        let by = By {
            token: caller.token,
            name: caller.name.clone(),
        };
        let time = proposed.time;
        store::Guarded {
            change: Change::Register { digest },
            word: Word { by, time, reason },
            proposed,
        }
    }
}
