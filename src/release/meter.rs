//! What is measured of the use cases: what was decided and why, by classes, and how long the costly steps took.
//!
//! Never whose it was or what for: an exposition of metrics is read without a token.

use std::time::{Duration, Instant};

use super::Service;
use crate::domain::decision::Outcome;
use crate::policy::Phase;
use crate::store::Committed;

/// Steps that are measured: those that compute with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Verifying a platform's certificate chain.
    Chain,
    /// Making a session: a key pair, a key agreement, key derivation and wrapping.
    Session,
    /// Looking for the launch digest with which a measurement's MAC holds.
    Measurement,
    /// Wrapping secrets for a launch.
    Packet,
}

impl Step {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Chain, Self::Session, Self::Measurement, Self::Packet];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Session => "session",
            Self::Measurement => "measurement",
            Self::Packet => "packet",
        }
    }
}

/// Why it was decided so, as one of few: never anything that a host or an owner wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Every policy allows.
    Allowed,
    /// Host and workload do not agree on scheme or SEV policy.
    Agreement,
    /// Something that is asked for is not to be had, or no policy reaches it.
    Binding,
    /// The certificate chain proves no platform.
    Chain,
    /// What came between decision and commit: a freeze, a refused platform, a hold that was rejected.
    Commit,
    /// A policy could not be evaluated to a decision.
    Evaluation,
    /// What the server denies whatever policies say.
    Floor,
    /// Too many launches wait.
    Full,
    /// A count is used up.
    Limit,
    /// The MAC holds for no launch digest.
    Measurement,
    /// What is released fits in no packet.
    Packet,
    /// A policy denies.
    Policy,
    /// No launch that waits fits the measurement.
    Search,
    /// A freeze, or a platform that is refused or not enrolled.
    Stopped,
    /// A policy took all its time.
    TimeLimit,
    /// The process that evaluated a policy died.
    Worker,
}

impl Reason {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Agreement => "agreement",
            Self::Binding => "binding",
            Self::Chain => "chain",
            Self::Commit => "commit",
            Self::Evaluation => "evaluation",
            Self::Floor => "floor",
            Self::Full => "full",
            Self::Limit => "limit",
            Self::Measurement => "measurement",
            Self::Packet => "packet",
            Self::Policy => "policy",
            Self::Search => "search",
            Self::Stopped => "stopped",
            Self::TimeLimit => "time-limit",
            Self::Worker => "worker",
        }
    }
}

/// A denial's class, and its reason in words.
pub(super) type Why = (Reason, String);

/// Who is told. Called on the way of every request, so that it returns at once.
pub trait Meter: Send + Sync {
    /// A launch was remembered, and its session leaves.
    fn begun(&self);

    /// A decision was recorded.
    fn decided(&self, phase: Phase, outcome: Outcome, reason: Reason);

    /// A step took this long, whatever came of it.
    fn took(&self, step: Step, time: Duration);
}

/// Nobody is told.
pub(super) struct Unmetered;

impl Meter for Unmetered {
    fn begun(&self) {}

    fn decided(&self, _: Phase, _: Outcome, _: Reason) {}

    fn took(&self, _: Step, _: Duration) {}
}

impl Service {
    /// The same, telling this meter.
    #[must_use]
    pub fn metered(mut self, meter: std::sync::Arc<dyn Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// Does a step, and tells how long it took.
    pub(super) fn timed<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.meter.took(step, start.elapsed());
        done
    }

    /// Tells what came of a release, if that is a decision.
    pub(super) fn tell(&self, committed: &Committed) {
        let (outcome, reason) = match committed {
            Committed::Released => (Outcome::Released, Reason::Allowed),
            Committed::Held { .. } => (Outcome::Held, Reason::Limit),
            Committed::Denied(_) => (Outcome::Denied, Reason::Commit),
            Committed::Gone | Committed::Changed => return,
        };
        self.meter.decided(Phase::Release, outcome, reason);
    }
}
