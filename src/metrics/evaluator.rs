//! Evaluation of owners' policies.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Times, observe, times};
use crate::policy::{
    Archived, Asked, BundleFacts, ErrorKind, EvaluationError, Evaluator, Explanation, LoadError, Verdict,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct During {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Said {
    result: &'static str,
}

#[derive(Clone)]
pub(super) struct Evaluations {
    duration: Times<During>,
    verdicts: Family<Said, Counter>,
}

impl Evaluations {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            duration: times(),
            verdicts: Family::default(),
        };
        registry.register_with_unit(
            "policy_evaluation_duration",
            "Time in which an owner's policies were asked about one request, with the wait for a worker, by phase",
            Unit::Seconds,
            own.duration.clone(),
        );
        registry.register(
            "policy_verdicts",
            "What owners' policies said, by result: allowed, denied, or the kind of error that denied",
            own.verdicts.clone(),
        );
        own
    }
}

fn result(verdict: &Verdict) -> &'static str {
    match verdict.error.as_ref().map(|error| error.kind) {
        None if verdict.allow => "allowed",
        None => "denied",
        Some(ErrorKind::UndefinedAllow) => "undefined-allow",
        Some(ErrorKind::WrongType) => "wrong-type",
        Some(ErrorKind::EvaluationError) => "evaluation-error",
        Some(ErrorKind::TimeLimit) => "time-limit",
        Some(ErrorKind::InvalidReleaseLimit) => "invalid-release-limit",
        Some(ErrorKind::MissingPolicy) => "missing-policy",
        Some(ErrorKind::TooLarge) => "too-large",
        Some(ErrorKind::Busy) => "busy",
        Some(ErrorKind::Crashed) => "crashed",
        Some(ErrorKind::Internal) => "internal",
    }
}

/// The same evaluator, measured.
pub(super) fn around(inner: Arc<dyn Evaluator>, counted: Evaluations) -> Arc<dyn Evaluator> {
    Arc::new(Measured { inner, counted })
}

struct Measured {
    inner: Arc<dyn Evaluator>,
    counted: Evaluations,
}

impl Evaluator for Measured {
    fn load(&self, owner: &str, bundle: &Archived, trial: bool) -> Result<BundleFacts, LoadError> {
        self.inner.load(owner, bundle, trial)
    }

    fn ask(&self, owner: &str, bundle: &Archived, questions: Vec<Asked<'_>>) -> Vec<Verdict> {
        let phase = questions.first().map(|question| question.phase.as_str());
        let start = Instant::now();
        let verdicts = self.inner.ask(owner, bundle, questions);
        if let Some(phase) = phase {
            observe(&self.counted.duration, &During { phase }, start.elapsed());
        }
        for verdict in &verdicts {
            let said = Said {
                result: result(verdict),
            };
            self.counted.verdicts.get_or_create(&said).inc();
        }
        verdicts
    }

    fn explain(
        &self,
        owner: &str,
        bundle: &Archived,
        question: Asked<'_>,
    ) -> Result<Explanation, EvaluationError> {
        self.inner.explain(owner, bundle, question)
    }
}
