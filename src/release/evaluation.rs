//! A dry run: what one policy of an owner's says about an input, without a launch, a count or a record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bundles::BundleError;
use super::{Refusal, Service, binding, replay};
use crate::domain::revision::Which;
use crate::domain::{HexDigest, Name};
use crate::policy::{Asked, Explanation, Input};

/// What one policy is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The policy: its package without `data.`, such as `release.database`.
    pub policy: String,
    /// About what: an input, as the policy-input schema has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Or about the input of a recorded decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Uuid>,
    /// For a recorded decision: the secret that a policy of a secret or key set is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Name>,
    /// Of which revision, by its number; the active one where neither this nor `bundle` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Or by its bundle's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<HexDigest>,
}

/// What the policy said. Nothing was released, counted or recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// Always true: it decides over nothing.
    pub dry_run: bool,
    /// The bundle that was asked; null: the server's library.
    pub bundle: Option<HexDigest>,
    /// What it said, and why.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// Why a policy was not asked.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationFault {
    /// A member of the request contradicts another, or names nothing that there is.
    #[error("`{member}`: {why}")]
    Malformed {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such decision or revision.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It could not be asked now.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn malformed(member: &'static str, why: impl ToString) -> EvaluationFault {
    let why = why.to_string();
    EvaluationFault::Malformed { member, why }
}

impl Service {
    /// Asks one policy of this owner, and explains what it said.
    ///
    /// # Errors
    /// See [`EvaluationFault`].
    pub fn evaluate(&self, owner: &Name, asked: Evaluation) -> Result<DryRun, EvaluationFault> {
        let (policy, which) = (asked.policy.clone(), Self::which(&asked)?);
        let input = self.evaluated_input(owner, asked)?;
        let phase = input.phase;
        let Some(_turn) = self.explaining.take(owner.clone()) else {
            return Err(Refusal::unavailable("another policy of this owner is being explained").into());
        };
        if policy.starts_with(binding::LIBRARY) {
            let explained = self.library.explain(&policy, phase, &input);
            let explanation = explained.map_err(|error| malformed("policy", error.message))?;
            return Ok(dry_run(None, explanation));
        }
        let digest = self.evaluated_bundle(owner, which)?;
        let loaded = match self.bundles.load(self.store(), owner, digest) {
            Ok(loaded) => loaded,
            Err(BundleError::Store(error)) => return Err(Refusal::from(error).into()),
            Err(error) => return Err(Refusal::unavailable(&error.to_string()).into()),
        };
        loaded
            .facts
            .resolve(&policy)
            .map_err(|unknown| match unknown.hint {
                Some(hint) => malformed("policy", format!("{}: {hint}", unknown.message)),
                None => malformed("policy", unknown.message),
            })?;
        let policy = policy.as_str();
        let asked = Asked { policy, phase, input };
        let explained = self
            .parts
            .evaluator
            .explain(owner.as_str(), &loaded.bundle, asked);
        let explanation = explained.map_err(|error| malformed("policy", error.message))?;
        Ok(dry_run(Some(digest), explanation))
    }

    fn which(asked: &Evaluation) -> Result<Option<Which>, EvaluationFault> {
        match (asked.revision, asked.bundle) {
            (None, None) => Ok(None),
            (Some(number), None) => Ok(Some(Which::Number(number))),
            (None, Some(digest)) => Ok(Some(Which::Digest(digest))),
            (Some(_), Some(_)) => Err(malformed("revision", "expected it or `bundle`, not both")),
        }
    }

    /// Only what was active for this owner; another owner's is not there.
    fn evaluated_bundle(&self, owner: &Name, which: Option<Which>) -> Result<HexDigest, EvaluationFault> {
        let found = match which {
            None => self.store().owner_state(owner).map_err(Refusal::from)?.bundle,
            Some(which) => {
                let stored = self.store().revision(owner, which).map_err(Refusal::from)?;
                stored.map(|stored| stored.revision.digest)
            }
        };
        found.ok_or(EvaluationFault::NotFound("revision"))
    }

    fn evaluated_input(&self, owner: &Name, asked: Evaluation) -> Result<Input, EvaluationFault> {
        match (asked.input, asked.decision, asked.secret) {
            (Some(_), None, Some(_)) => Err(malformed("secret", "an input says it itself")),
            (Some(input), None, None) if input.owner == owner.as_str() => Ok(input),
            (Some(_), None, None) => Err(malformed(
                "input",
                format!("its `owner` is another than {owner}, whose policies are asked"),
            )),
            (None, Some(id), secret) => {
                let decision = self.store().decision(owner, id).map_err(Refusal::from)?;
                let decision = decision.ok_or(EvaluationFault::NotFound("decision"))?;
                let bound = decision.policies.iter().find(|bound| bound.secret == secret);
                let releases = bound.and_then(|bound| bound.releases.clone());
                replay::input(&decision, secret.as_ref(), releases.as_ref(), false)
                    .map_err(|why| malformed("decision", why))
            }
            _ => Err(malformed("input", "expected it or `decision`, one of the two")),
        }
    }
}

fn dry_run(bundle: Option<HexDigest>, explanation: Explanation) -> DryRun {
    DryRun {
        dry_run: true,
        bundle,
        explanation,
    }
}
