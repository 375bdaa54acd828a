//! Registration: an owner's objects, checked as a whole and written all or none.
//!
//! What is written has been proved to hang together: every name resolves, every bound policy exists
//! in the bundle that will be active, every secret is reached by a policy, every workload's launch
//! digests are computed. A release later relies on none of it and checks again.

mod activation;
mod check;
mod demand;
mod digests;
mod draft;
mod error;
mod events;
mod guard;
mod kept;
mod mailing;
mod removal;
mod secrets;
mod shown;
mod trust;
mod versions;
mod workloads;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Service;
use crate::domain::applied::Wish;
use crate::domain::etag::{ETag, Precondition};
use crate::domain::object::{Action, Applied, Object};
use crate::domain::revision::{Activation, Revision};
use crate::domain::state::Kind;
use crate::domain::token::Caller;
use crate::sealing::SealError;
use crate::store::{ApplyError, Recorded, Taken};
use demand::{Demand, Subject};
use draft::Draft;
use events::Before;
use guard::Bound;

pub use activation::Said;
pub(crate) use demand::bundle_etag;
pub use error::{RegisterError, Unacceptable, render};
pub use mailing::{InlineSecret, MailingWorkload};
pub use removal::Removable;
pub(crate) use secrets::unfit;
pub use shown::Shown;

/// How often a registration starts anew because somebody else's came between.
const ATTEMPTS: usize = 8;

/// What a registration did, and the revision that it made.
#[derive(Debug)]
pub struct Registered {
    /// What became of each object.
    pub applied: Applied,
    /// The revision, where a bundle became active; with a dry run, as it would be.
    pub revision: Option<Revision>,
    /// The state that the one object is in, which the request was about.
    pub etag: Option<ETag>,
}

/// What is done where a workload exists and differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// It is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Service {
    /// Registers objects, all or none.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was written.
    pub fn apply(&self, caller: &Caller, objects: Vec<Object>) -> Result<Applied, RegisterError> {
        let wish = Wish {
            objects,
            ..Wish::default()
        };
        self.declare(caller, &wish, |_, _| false)
    }

    /// Registers and removes objects, all or none. `may` says whose role removes what; whose registers what is
    /// for who calls this.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was written.
    pub fn declare(&self, caller: &Caller, wish: &Wish, may: Removable) -> Result<Applied, RegisterError> {
        let objects = &wish.objects;
        said_once(wish)?;
        let activating = self.activating(Activation::Apply, caller, Said::default(), None);
        let registered = self.register(caller, wish.dry_run, None, |draft| {
            // A key that goes signs nothing any more, and one that comes must have signed what comes with it.
            let removed = draft.remove_wished(wish, caller.role, may)?;
            let mut changes = draft.put_objects(objects, &activating)?;
            draft.needed()?;
            changes.extend(removed);
            Ok(changes)
        })?;
        Ok(registered.applied)
    }

    /// Registers one object, if it is in the state that the caller demands.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was written.
    pub fn put(
        &self,
        caller: &Caller,
        object: Object,
        precondition: &Precondition,
    ) -> Result<Registered, RegisterError> {
        let activating = self.activating(Activation::Apply, caller, Said::default(), None);
        let on = Subject::of(&object);
        let objects = [object];
        self.register(caller, false, Some(&Demand { on, precondition }), |draft| {
            draft.put_objects(&objects, &activating)
        })
    }

    /// Registers a workload in the mailing-list form.
    ///
    /// # Errors
    /// See [`RegisterError`]; [`RegisterError::Conflict`] when one of this UUID exists, differs and is not
    /// to be replaced.
    pub fn register_workload(
        &self,
        caller: &Caller,
        uuid: Uuid,
        workload: &MailingWorkload,
        on_conflict: OnConflict,
    ) -> Result<(Action, Applied), RegisterError> {
        let Registered { applied, .. } = self.register(caller, false, None, |draft| {
            let changes = draft.put_mailing(uuid, workload, on_conflict)?;
            // Of a workload that is there, a secret more is a difference too; of one that is not, a secret
            // that was there already is one that POST would replace.
            let known = draft.had_workload(uuid);
            let differs = changes.iter().find(|change| match change.action {
                Action::Updated => true,
                Action::Created => known,
                Action::Unchanged | Action::Removed => false,
            });
            match differs {
                Some(change) if on_conflict == OnConflict::Refuse => {
                    let label = if known {
                        format!("Workload {uuid}")
                    } else {
                        format!("{} {}", change.kind, change.name)
                    };
                    let why = format!("{label} exists and differs; PUT replaces it");
                    Err(RegisterError::conflict(label, why))
                }
                _ => Ok(changes),
            }
        })?;
        let actions = applied.changes.iter().map(|change| change.action);
        let action = if actions.clone().all(|action| action == Action::Unchanged) {
            Action::Unchanged
        } else if applied
            .changes
            .last()
            .is_some_and(|change| change.action == Action::Created)
        {
            Action::Created
        } else {
            Action::Updated
        };
        Ok((action, applied))
    }

    /// Removes an object that nothing else refers to.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn remove(
        &self,
        caller: &Caller,
        kind: Kind,
        name: &str,
        precondition: &Precondition,
    ) -> Result<(), RegisterError> {
        let demand = Demand::of_name(kind, name, precondition)?;
        self.register(caller, false, Some(&demand), |draft| {
            draft.remove(kind, name)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    fn register(
        &self,
        caller: &Caller,
        dry_run: bool,
        demand: Option<&Demand<'_>>,
        change: impl Fn(&mut Draft<'_>) -> Result<Vec<crate::domain::object::Change>, RegisterError>,
    ) -> Result<Registered, RegisterError> {
        let owner = &caller.owner;
        for _ in 0..ATTEMPTS {
            let state = self.store().owner_state(owner)?;
            let (before, bound) = (Before::of(&state), Bound::of(&state));
            let generation = state.generation;
            let mut draft = Draft::new(self, state);
            // On the state that is written only if it is the same still.
            demand.map_or(Ok(()), |demand| demand.check(&draft))?;
            let mut changes = change(&mut draft)?;
            draft.check()?;
            let etag = demand.map_or(Ok(None), |demand| draft.etag(&demand.on))?;
            if dry_run {
                draft.explain(&mut changes)?;
            }
            let (set, warnings, loaded) = draft.finish()?;
            let revision = set.bundle.as_ref().map(|activated| activated.revision.clone());
            let applied = Applied { changes, warnings };
            let registered = Registered {
                applied,
                revision,
                etag,
            };
            if set.is_empty() || dry_run {
                return Ok(registered);
            }
            let guarded = bound.guarded(&set)?;
            let guarded = guarded.map(|digest| self.guarded(caller, digest, &set, &registered));
            let uuids = set
                .workloads
                .iter()
                .map(|w| (w.workload.uuid, w.workload.name.clone()));
            let uuids: HashMap<_, _> = uuids.collect();
            let records = self.records(caller, before.events(&set));
            let recorded = Recorded {
                records: records.map_err(SealError::from)?,
                what: set,
            };
            match self.store().apply(owner, generation, recorded, guarded) {
                Ok(Taken::Pending(proposal)) => return Err(RegisterError::Proposed(Box::new(proposal))),
                Ok(Taken::Refused(why)) => return Err(RegisterError::Alone(why)),
                Ok(Taken::Missing) => return Err(RegisterError::NotFound),
                Ok(Taken::Done(())) => {
                    if let Some(loaded) = loaded {
                        self.bundles.insert(loaded);
                    }
                    return Ok(registered);
                }
                Ok(Taken::Stale) | Err(ApplyError::Changed) => {}
                Err(ApplyError::Taken(uuid)) => {
                    let hint = Some("give it another `uuid`".to_owned());
                    let name = uuids.get(&uuid).map(ToString::to_string);
                    let label = format!("Workload {}", name.unwrap_or_else(|| uuid.to_string()));
                    let refused = RegisterError::invalid(label, "this UUID is taken");
                    return Err(refused.because_of("uuid", uuid, hint));
                }
                Err(ApplyError::Store(error)) => return Err(error.into()),
            }
        }
        Err(RegisterError::Busy)
    }
}

/// One object said twice would be what the last one says, and never be found unchanged.
fn said_once(wish: &Wish) -> Result<(), RegisterError> {
    let mut said = HashSet::new();
    for object in &wish.objects {
        // That there is one policy bundle is for the draft to say.
        if !matches!(object, Object::PolicyBundle(_)) && !said.insert(object.label()) {
            let why = "it is said twice; leave one of them, or give the other a name of its own";
            return Err(RegisterError::invalid(object.label(), why));
        }
    }
    let both = wish.remove.iter().find(|object| said.contains(&object.label()));
    match both {
        Some(object) => {
            let why = "it is to be registered and removed at once; leave one of them";
            Err(RegisterError::invalid(object.label(), why))
        }
        None => Ok(()),
    }
}
