//! What is recorded of one attempt at a release, whatever comes of it.

use uuid::Uuid;

use super::decide::{Case, Way};
use super::meter::Why;
use super::{Refusal, Service};
use crate::domain::decision::{CountSeen, Decision, Outcome, WorkloadRef};
use crate::domain::launch::BoundVerdict;
use crate::domain::{Name, Time};
use crate::policy::{Input, Phase};
use crate::store::CountUp;

/// The longest reason that is recorded, in bytes.
const REASON: usize = 4096;

/// What every record of one attempt has in common.
pub(super) struct Draft<'a, W> {
    pub(super) service: &'a Service,
    pub(super) case: &'a Case<'a>,
    pub(super) way: &'a W,
    pub(super) names: &'a [Name],
    pub(super) now: Time,
}

impl<W: Way> Draft<'_, W> {
    pub(super) fn decision(
        &self,
        id: Uuid,
        outcome: Outcome,
        mut reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
    ) -> Decision {
        let Case { context, host, .. } = *self.case;
        let workload = &context.registered.workload;
        if reason.len() > REASON {
            reason.truncate(reason.floor_char_boundary(REASON));
            reason.push('…');
        }
        Decision {
            id,
            time: self.now,
            owner: context.owner.clone(),
            workload: WorkloadRef {
                uuid: workload.uuid,
                name: workload.name.clone(),
            },
            launch: Some(self.case.launch),
            phase: Phase::Release,
            outcome,
            reason,
            count: 1,
            address: host.address.to_string(),
            host_identity: host.identity_for(&context.owner),
            secrets: self.names.to_vec(),
            released: Vec::new(),
            hold: None,
            danger_weak_policy: workload.danger_weak_policy,
            input: Some(input),
            policies,
            counts: Vec::new(),
            connection: self.way.over(),
        }
    }

    /// The same, with the counts that a release would have raised. They say what another policy would have done and
    /// decide nothing here, so that a denial does without them where they can't be read.
    pub(super) fn deny_counted(
        &self,
        why: Why,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: &[CountUp],
    ) -> Refusal {
        let seen = self.service.store().counts(&self.case.context.owner, counts);
        let seen = seen.unwrap_or_else(|error| {
            log::warn!("counts could not be read for the record of a denial: {error}");
            Vec::new()
        });
        self.deny(why, input, policies, seen)
    }

    /// Records the denial; a host is told of it only once it is recorded.
    pub(super) fn deny(
        &self,
        why: Why,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: Vec<CountSeen>,
    ) -> Refusal {
        match self.record(why, input, policies, counts) {
            Ok(refusal) | Err(refusal) => refusal,
        }
    }

    fn record(
        &self,
        (class, reason): Why,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: Vec<CountSeen>,
    ) -> Result<Refusal, Refusal> {
        if self.way.answered(self.service, self.case.host)? {
            // The same request was quicker by a moment, and its answer is this one's too.
            return Ok(Refusal::LaunchUsed);
        }
        let id = self.service.fresh_uuid()?;
        let decision = Decision {
            counts,
            ..self.decision(id, Outcome::Denied, reason, input, policies)
        };
        if self.service.store().record_denied(&decision)? {
            self.service.meter.decided(Phase::Release, Outcome::Denied, class);
            Ok(Refusal::Denied { decision: id })
        } else {
            Ok(self.way.gone(self.service))
        }
    }
}
