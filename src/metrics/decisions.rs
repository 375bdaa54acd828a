//! Decisions, and the steps that compute with keys.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Times, observe, times};
use crate::domain::decision::Outcome;
use crate::policy::Phase;
use crate::release::meter::{Meter, Reason, Step};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    phase: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    step: &'static str,
}

pub(super) struct Decisions {
    launches: Counter,
    decisions: Family<Decision, Counter>,
    steps: Times<Of>,
}

impl Decisions {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            launches: Counter::default(),
            decisions: Family::default(),
            steps: times(),
        };
        // What alerts ask how much it rose is there before it rises.
        for (outcome, reason) in [
            (Outcome::Released, Reason::Allowed),
            (Outcome::Held, Reason::Limit),
            (Outcome::Denied, Reason::Policy),
        ] {
            let decision = decision(Phase::Release, outcome, reason);
            drop(own.decisions.get_or_create(&decision));
        }
        for step in Step::ALL {
            drop(own.steps.get_or_create(&Of { step: step.as_str() }));
        }
        registry.register(
            "launches_begun",
            "Launches whose session left",
            own.launches.clone(),
        );
        registry.register(
            "decisions",
            "Recorded decisions, by phase, outcome and class of reason",
            own.decisions.clone(),
        );
        registry.register_with_unit(
            "crypto_duration",
            "Time of one step: verifying a certificate chain, making a session, checking a measurement, wrapping a packet",
            Unit::Seconds,
            own.steps.clone(),
        );
        own
    }
}

fn decision(phase: Phase, outcome: Outcome, reason: Reason) -> Decision {
    Decision {
        phase: phase.as_str(),
        outcome: outcome.as_str(),
        reason: reason.as_str(),
    }
}

impl Meter for Decisions {
    fn begun(&self) {
        self.launches.inc();
    }

    fn decided(&self, phase: Phase, outcome: Outcome, reason: Reason) {
        let decision = decision(phase, outcome, reason);
        self.decisions.get_or_create(&decision).inc();
    }

    fn took(&self, step: Step, time: Duration) {
        observe(&self.steps, &Of { step: step.as_str() }, time);
    }
}
