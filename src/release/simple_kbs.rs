//! The calls of simple-kbs's clients, on the same flow as a host's own: a launch, its release, and what comes later.
//!
//! That protocol knows no workload. An owner names those that are served; a launch begins with the first of them whose
//! SEV policy is the one asked for. Which secrets it gets is for the policies, as ever.

use uuid::Uuid;

use super::host::{Host, LaunchAnswer, LaunchRequest, ReleaseAnswer, ValidateRequest};
use super::meter::Reason;
use super::online::is_askable;
use super::{Refusal, Service};
use crate::domain::connection::{ConnectionBounds, id_of};
use crate::domain::launch::Launch;
use crate::domain::workload::WorkloadHead;
use crate::domain::{Name, Time};
use crate::policy::Phase;
use crate::sev::policy::{Scheme, SevPolicy};

pub use super::online::{Named, OnlineAnswer};

/// Whose workloads are served, and which.
#[derive(Clone, Debug)]
pub struct Face {
    /// The owner.
    pub owner: Name,
    /// The workloads, in the order in which they are tried.
    pub workloads: Vec<Name>,
    /// What connections are bounded by.
    pub connections: ConnectionBounds,
}

/// A request over a connection.
pub struct OnlineRequest {
    /// The client's id.
    pub client: Uuid,
    /// What is asked for.
    pub asked: Vec<Named>,
}

impl Service {
    /// `GetBundle`: a session for the platform behind this chain.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn bundle(&self, face: &Face, host: &Host, request: &LaunchRequest) -> Result<LaunchAnswer, Refusal> {
        let policy = request.policy.ok_or(Refusal::NotFound)?;
        let served = self.store().workload_heads(&face.owner, &face.workloads)?;
        let Some(chosen) = choose(&served, policy) else {
            if let Some(first) = served.first()
                && let Some(context) = self.store().workload(first.uuid)?
            {
                let reason = format!(
                    "no workload that is served to simple-kbs clients has the SEV policy {:#06x}",
                    policy.bits()
                );
                self.note_refused(
                    &context,
                    host,
                    Phase::Launch,
                    Reason::Agreement,
                    reason,
                    self.now(),
                );
            }
            return Err(Refusal::NotFound);
        };
        self.launch(chosen.uuid, host, request)
    }

    /// `GetSecret`: what is asked for, wrapped for the guest of this launch.
    ///
    /// # Errors
    /// See [`Refusal`]. [`Refusal::Denied`] and [`Refusal::ConfirmationRequired`] come only for a guest that was measured.
    pub fn secret(
        &self,
        face: &Face,
        host: &Host,
        launch: Uuid,
        request: &ValidateRequest,
    ) -> Result<ReleaseAnswer, Refusal> {
        let is_served = |launch: &Launch| {
            let owned = launch.owner == face.owner;
            Ok::<_, Refusal>(owned && self.serves(face, launch.workload)?)
        };
        self.counted(host, |service| match service.store().launch(launch)? {
            Some(launch) if is_served(&launch)? => Ok(Some(())),
            _ => Ok(None),
        })?;
        self.validate(launch, host, request)
    }

    /// `GetOnlineSecret`: what is asked for over a connection.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn online(&self, face: &Face, host: &Host, request: &OnlineRequest) -> Result<OnlineAnswer, Refusal> {
        let now = self.now();
        let connection = self.counted(host, |service| {
            let found = service.store().connection(id_of(request.client), now)?;
            let found = found.filter(|connection| connection.owner == face.owner);
            match found {
                Some(found) if service.serves(face, found.workload)? && found.requests_left > 0 => {
                    Ok(Some(found))
                }
                _ => Ok(None),
            }
        })?;
        // Taken before it is looked at, also where it can't be asked like this.
        if !self.take(&connection.id, now)? || !is_askable(&request.asked) {
            return Err(Refusal::NotFound);
        }
        self.answer_online(&connection, host, &request.asked)
    }

    /// What becomes of a request that can't be read: it counts as one that names nothing.
    pub fn unreadable(&self, host: &Host) -> Refusal {
        let counted = self.counted(host, |_| Ok(None::<std::convert::Infallible>));
        counted.err().unwrap_or(Refusal::NotFound)
    }

    fn take(&self, connection: &Uuid, now: Time) -> Result<bool, Refusal> {
        Ok(self.store().take_request(*connection, now)?)
    }

    /// Looks for what somebody names; whoever names what is not there too often in a minute must wait.
    fn counted<T>(
        &self,
        host: &Host,
        look: impl FnOnce(&Self) -> Result<Option<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let too_many = |retry_after| Refusal::TooMany {
            why: "too many requests that name nothing",
            retry_after,
        };
        let search = self.budgets.begin(&host.bucket(), self.now()).map_err(too_many)?;
        match look(self)? {
            Some(found) => Ok(found),
            None => {
                search.failed();
                Err(Refusal::NotFound)
            }
        }
    }

    fn serves(&self, face: &Face, workload: Uuid) -> Result<bool, Refusal> {
        let name = self.store().workload_name(&face.owner, workload)?;
        Ok(name.is_some_and(|name| face.workloads.contains(&name)))
    }
}

/// The first that has this SEV policy; else the first that has none and is of the technology that the policy says.
fn choose(served: &[WorkloadHead], policy: SevPolicy) -> Option<&WorkloadHead> {
    let exact = served.iter().find(|head| head.policy == Some(policy.bits()));
    exact.or_else(|| {
        let of_its_kind = |head: &&WorkloadHead| (head.scheme == Scheme::AmdSevEs) == policy.es();
        served
            .iter()
            .filter(|head| head.policy.is_none())
            .find(of_its_kind)
    })
}
