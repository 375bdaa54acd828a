//! Why a recorded decision was taken: its policies explained on the input that they saw, under the bundle that was
//! active then.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bundles::BundleError;
use super::{Refusal, Service, binding, replay};
use crate::domain::decision::Decision;
use crate::domain::launch::{Binding, BoundVerdict};
use crate::domain::{HexDigest, Name};
use crate::policy::{Asked, Explanation, Input};

/// When no other policy of a decision is explained any more: workers are there for launches first.
const BUDGET: Duration = Duration::from_secs(3);

/// A decision, explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionExplanation {
    /// The decision.
    pub decision: Uuid,
    /// Why, as it was recorded.
    pub reason: String,
    /// Each policy that was asked. Empty where none was: then the reason says it all.
    pub policies: Vec<ExplainedPolicy>,
}

/// One policy that was asked, explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPolicy {
    /// The policy.
    pub policy: String,
    /// What it was bound to.
    pub binding: Binding,
    /// The bundle it was in; null: the server's library.
    pub bundle: Option<HexDigest>,
    /// The secret it was asked for; null: the release as a whole.
    pub secret: Option<Name>,
    /// What it said then.
    pub allow: bool,
    /// Why; null where `problem` says why there is no explanation.
    pub explanation: Option<Explanation>,
    /// Why there is no explanation, or why it tells another story than the record: the server's library is another
    /// by now, or a limit of time was hit then and not now.
    pub problem: Option<String>,
}

impl Service {
    /// Explains a decision of this owner; none where there is no such decision.
    ///
    /// # Errors
    /// When the store fails, or another decision of this owner is being explained.
    pub fn explanation(&self, owner: &Name, id: Uuid) -> Result<Option<DecisionExplanation>, Refusal> {
        let Some(decision) = self.store().decision(owner, id)? else {
            return Ok(None);
        };
        let mut policies = Vec::with_capacity(decision.policies.len());
        let Some(_turn) = self.explaining.take(owner.clone()) else {
            return Err(Refusal::unavailable("another decision is being explained"));
        };
        let end = self.parts.clock.now().after(BUDGET);
        for bound in &decision.policies {
            let late = self.parts.clock.now() >= end;
            policies.push(self.explained(&decision, bound, late)?);
        }
        Ok(Some(DecisionExplanation {
            decision: decision.id,
            reason: decision.reason,
            policies,
        }))
    }

    fn explained(
        &self,
        decision: &Decision,
        bound: &BoundVerdict,
        late: bool,
    ) -> Result<ExplainedPolicy, Refusal> {
        let mut explained = ExplainedPolicy {
            policy: bound.verdict.policy.clone(),
            binding: bound.binding.clone(),
            bundle: bound.bundle,
            secret: bound.secret.clone(),
            allow: bound.verdict.allow,
            explanation: None,
            problem: None,
        };
        // Records of an older server don't have the releases that a secret's policies saw; most don't look at them.
        let input = replay::input(decision, bound.secret.as_ref(), bound.releases.as_ref(), false);
        let answer = match input {
            _ if late => Err("there was no time left to explain it".to_owned()),
            Err(why) => Err(why.to_string()),
            Ok(input) => self.explain(decision, bound, input)?,
        };
        match answer {
            Err(why) => explained.problem = Some(why),
            Ok(explanation) => {
                if (explanation.allow, &explanation.reason) != (bound.verdict.allow, &bound.verdict.reason) {
                    explained.problem = Some(format!("recorded was: {}", bound.verdict.reason));
                }
                explained.explanation = Some(explanation);
            }
        }
        Ok(explained)
    }

    fn explain(
        &self,
        decision: &Decision,
        bound: &BoundVerdict,
        input: Input,
    ) -> Result<Result<Explanation, String>, Refusal> {
        let policy = bound.verdict.policy.as_str();
        if policy.starts_with(binding::LIBRARY) {
            let explained = self.library.explain(policy, decision.phase, &input);
            return Ok(explained.map_err(|error| error.message));
        }
        let Some(digest) = bound.bundle else {
            return Ok(Err("no bundle was active".to_owned()));
        };
        let loaded = match self.bundles.load(self.store(), &decision.owner, digest) {
            Ok(loaded) => loaded,
            Err(BundleError::Store(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let asked = Asked {
            policy,
            phase: decision.phase,
            input,
        };
        let evaluator = self.parts.evaluator.as_ref();
        let explained = evaluator.explain(decision.owner.as_str(), &loaded.bundle, asked);
        Ok(explained.map_err(|error| error.message))
    }
}
