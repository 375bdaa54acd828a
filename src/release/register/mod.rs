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
mod events;
mod guard;
mod mailing;
mod secrets;
mod workloads;

use std::collections::HashSet;
use std::fmt::Write as _;

use uuid::Uuid;

use super::Service;
use crate::domain::approval::Proposal;
use crate::domain::etag::{ETag, Precondition};
use crate::domain::object::{Action, Applied, Object};
use crate::domain::revision::{Activation, Revision};
use crate::domain::state::Kind;
use crate::domain::token::Caller;
use crate::policy::Diagnostic;
use crate::sealing::SealError;
use crate::store::{ApplyError, Recorded, StoreError, Taken};
use demand::{Demand, Subject};
use draft::Draft;
use events::Before;
use guard::Bound;

pub use activation::Said;
pub(crate) use demand::bundle_etag;
pub use mailing::{InlineSecret, MailingWorkload};

/// How often a registration starts anew because somebody else's came between.
const ATTEMPTS: usize = 8;

/// Why objects were not registered. Nothing of them was.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// An object is not acceptable.
    #[error("{0}")]
    Invalid(Box<Unacceptable>),
    /// The policy bundle does not load.
    #[error("the policy bundle does not load: {}", render(.0))]
    Bundle(Vec<Diagnostic>),
    /// It exists, and differs.
    #[error("{0}")]
    Conflict(String),
    /// The caller may not do that to it.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing was registered yet: another person must want the same.
    #[error(
        "nothing is registered yet, as this owner asks for two people: another person, with a token of another name, sends the same until {}",
        .0.expires
    )]
    Proposed(Box<Proposal>),
    /// It is the same person again, or there are too many proposals.
    #[error("{0}")]
    Alone(String),
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// The object's state is not the one that the caller demands.
    #[error("{0}")]
    Precondition(&'static str),
    /// Other changes kept coming between.
    #[error("the owner's objects are being changed by others; try again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored value does not open, or can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RegisterError {
    fn invalid(object: impl ToString, why: impl ToString) -> Self {
        Self::Invalid(Box::new(Unacceptable {
            object: object.to_string(),
            why: why.to_string(),
            hint: None,
            about: None,
            member: None,
        }))
    }

    /// The same, because of something that a member of the object says: a name, as it is written there.
    fn because_of(self, member: &'static str, about: impl ToString, hint: Option<String>) -> Self {
        match self {
            Self::Invalid(found) => Self::Invalid(Box::new(Unacceptable {
                member: Some(member),
                about: Some(about.to_string()),
                hint: hint.or(found.hint),
                ..*found
            })),
            other => other,
        }
    }
}

/// An object that can't be registered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unacceptable {
    /// Its kind and name, such as `Workload web`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it, where that can be told.
    pub hint: Option<String>,
    /// What it says that is wrong, as it is written in it, where one word of it is.
    pub about: Option<String>,
    /// The member that says it, such as `policies`.
    pub member: Option<&'static str>,
}

impl std::fmt::Display for Unacceptable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.why)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Diagnostics one after the other.
#[must_use]
pub fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for (number, diagnostic) in diagnostics.iter().enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        let _ = write!(text, "{separator}{}: {}", diagnostic.place(), diagnostic.message);
    }
    text
}

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
    /// Registers objects, all or none. With `dry_run`, only says what would be done.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing was written.
    pub fn apply(
        &self,
        caller: &Caller,
        objects: &[Object],
        dry_run: bool,
    ) -> Result<Applied, RegisterError> {
        said_once(objects)?;
        let activating = self.activating(Activation::Apply, caller, Said::default(), None);
        let registered = self.register(caller, dry_run, None, |draft| {
            draft.put_objects(objects, &activating)
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
                Action::Unchanged => false,
            });
            match differs {
                Some(change) if on_conflict == OnConflict::Refuse => Err(RegisterError::Conflict(format!(
                    "{} {} exists and differs; PUT replaces it",
                    if known { "Workload" } else { &change.kind },
                    if known {
                        uuid.to_string()
                    } else {
                        change.name.clone()
                    },
                ))),
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
            let changes = change(&mut draft)?;
            draft.check()?;
            let etag = demand.map_or(Ok(None), |demand| draft.etag(&demand.on))?;
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
            let guarded = guarded.map(|digest| self.guarded(caller, digest, &registered));
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
                    return Err(
                        RegisterError::invalid(format!("Workload {uuid}"), "this UUID is taken")
                            .because_of("uuid", uuid, hint),
                    );
                }
                Err(ApplyError::Store(error)) => return Err(error.into()),
            }
        }
        Err(RegisterError::Busy)
    }
}

/// One object said twice would be what the last one says, and never be found unchanged.
fn said_once(objects: &[Object]) -> Result<(), RegisterError> {
    let mut said = HashSet::new();
    for object in objects {
        // That there is one policy bundle is for the draft to say.
        if !matches!(object, Object::PolicyBundle(_)) && !said.insert(object.label()) {
            let why = "it is said twice; leave one of them, or give the other a name of its own";
            return Err(RegisterError::invalid(object.label(), why));
        }
    }
    Ok(())
}
