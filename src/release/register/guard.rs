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
use crate::domain::object::{Action, SecretKind};
use crate::domain::platform::Accepted;
use crate::domain::state::{ChangeSet, KeySet, Kind, OwnerState};
use crate::domain::token::Caller;
use crate::domain::trust::{Judged, TrustChange};
use crate::domain::{HexDigest, Name};
use crate::release::Service;
use crate::store;

/// How much of what is registered is said in a proposal, in characters.
const MAX_REASON: usize = 500;

/// What each secret was, but its value: bound policies, type, and GUID.
pub(super) struct Bound(BTreeMap<Name, (Vec<String>, SecretKind, Uuid)>);

#[derive(Serialize)]
struct Guarded<'a> {
    bundle: Option<HexDigest>,
    signing_keys: BTreeMap<&'a Name, Value>,
    owner_policies: Option<&'a Vec<String>>,
    /// Secrets that are there, where what is bound to them or how a guest finds them changes.
    secrets: BTreeMap<&'a Name, Value>,
    keysets: BTreeMap<&'a Name, &'a KeySet>,
    workloads: BTreeMap<&'a Name, Value>,
    removed: Vec<(&'static str, &'a str)>,
    /// Only where platforms get releases that got none before.
    trust: Option<(Option<Accepted>, &'a [Judged])>,
}

impl Bound {
    pub(super) fn of(state: &OwnerState) -> Self {
        let bound = state.secrets.iter();
        let bound = bound.map(|s| (s.name.clone(), (s.policies.clone(), s.kind, s.guid)));
        Self(bound.collect())
    }

    /// What two people must agree on; none: one is enough, as with new secrets and new values.
    pub(super) fn guarded(&self, set: &ChangeSet) -> Result<Option<HexDigest>, RegisterError> {
        let damaged = |error: serde_json::Error| RegisterError::invalid("objects", error);
        let mut guarded = Guarded {
            bundle: set.bundle.as_ref().map(|activated| activated.revision.digest),
            signing_keys: BTreeMap::new(),
            owner_policies: set.owner_policies.as_ref(),
            secrets: BTreeMap::new(),
            keysets: set.keysets.iter().map(|set| (&set.name, set)).collect(),
            workloads: BTreeMap::new(),
            removed: Vec::new(),
            trust: set
                .trust
                .as_ref()
                .filter(|change| change.loosens())
                .map(|change| (change.accepted, &*change.judged)),
        };
        for key in &set.signing_keys {
            let value = serde_json::to_value(&key.key).map_err(damaged)?;
            guarded.signing_keys.insert(&key.name, value);
        }
        for (secret, _) in &set.secrets {
            let now = (secret.policies.clone(), secret.kind, secret.guid);
            if self.0.get(&secret.name).is_some_and(|before| *before != now) {
                let value = serde_json::to_value(now).map_err(damaged)?;
                guarded.secrets.insert(&secret.name, value);
            }
        }
        for registered in &set.workloads {
            let workload = &registered.workload;
            let mut value = serde_json::to_value(workload).map_err(damaged)?;
            // One that the server draws is another each time; one that is named, or was there, is what counts go by.
            if set.drawn.contains(&workload.uuid)
                && let Some(members) = value.as_object_mut()
            {
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
            && guarded.secrets.is_empty()
            && guarded.keysets.is_empty()
            && guarded.workloads.is_empty()
            && guarded.removed.is_empty()
            && guarded.trust.is_none();
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
        set: &ChangeSet,
        registered: &Registered,
    ) -> store::Guarded {
        // What is registered first, whatever the message says of it.
        let mut said = set_in_words(set, registered).join(", ");
        let revision = registered.revision.as_ref();
        let message = revision.and_then(|revision| revision.message.as_ref());
        said.extend(message.map(|message| format!(": {message}")));
        let reason: String = said.chars().take(MAX_REASON).collect();
        let event = Event::RegistrationProposed {
            digest,
            reason: reason.clone(),
        };
        let owner = Some(caller.owner.clone());
        let proposed = self.act(caller).record(Uuid::new_v4(), owner, event);
        let by = caller.by();
        let time = proposed.time;
        store::Guarded {
            change: Change::Register { digest },
            word: Word { by, time, reason },
            proposed,
            always: set.trust.as_ref().is_some_and(TrustChange::loosens),
        }
    }
}

/// Kinds and names of what changes.
fn set_in_words(set: &ChangeSet, registered: &Registered) -> Vec<String> {
    let changes = registered.applied.changes.iter();
    let changes = changes.filter(|change| change.action != Action::Unchanged);
    let mut said: Vec<_> = changes
        .map(|change| match (&*change.kind, &change.detail) {
            // What is agreed to is more than a name.
            ("Trust", Some(detail)) => format!("Trust ({detail})"),
            _ => format!("{} {}", change.kind, change.name),
        })
        .collect();
    said.extend(
        set.removed
            .iter()
            .map(|(kind, name)| format!("removes {kind:?} {name}")),
    );
    said
}
