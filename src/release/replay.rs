//! What a recorded decision would have been under another bundle.
//!
//! Inputs, bindings and counts are those of the record; only the owner's policies are asked again. What the library
//! (`keyward.…`) said stays, as does what the server itself denied. Nothing is counted, written or released.

use serde::Serialize;

use super::binding::{Answers, LIBRARY};
use crate::domain::Name;
use crate::domain::decision::{CountSeen, Decision, Outcome};
use crate::domain::launch::BoundVerdict;
use crate::policy::{Archived, Asked, BundleFacts, ErrorKind, Evaluator, Input, Phase, Releases};

/// A bundle that recorded decisions are taken again under.
pub struct Candidate<'a> {
    /// Who evaluates it.
    pub evaluator: &'a dyn Evaluator,
    /// The name that it is evaluated under.
    pub owner: &'a str,
    /// The bundle.
    pub bundle: &'a Archived,
    /// What was found when it was loaded.
    pub facts: &'a BundleFacts,
}

/// What comes of a request, from what gives least to what gives most.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The launch is refused.
    Refused,
    /// The release is denied.
    Denied,
    /// The release waits for the owner.
    Held,
    /// The guest is launched.
    Launched,
    /// The secrets are released.
    Released,
}

impl Effect {
    /// What was recorded.
    #[must_use]
    pub fn recorded(decision: &Decision) -> Self {
        match decision.outcome {
            Outcome::Released => Self::Released,
            Outcome::Held => Self::Held,
            Outcome::Denied => Self::Denied,
            Outcome::Refused => Self::Refused,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Held => "held",
            Self::Launched => "launched",
            Self::Released => "released",
        }
    }
}

/// What would have come of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub effect: Effect,
    /// Why, in one sentence, as a record says it.
    pub reason: String,
}

/// Why a decision can't be taken again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No bundle changes it, or the record has not what it takes.
    #[error("{0}")]
    Record(&'static str),
    /// There was no worker to ask: nothing is known of any decision.
    #[error("{0}")]
    Evaluator(String),
}

const NOTHING_ASKED: Unanswered = Unanswered::Record("refused or denied before any policy was asked");
const NO_INPUT: Unanswered = Unanswered::Record("the record has no input");
const NO_RELEASES: Unanswered =
    Unanswered::Record("the record does not say how many releases of the secret there were");
const NO_COUNTS: Unanswered = Unanswered::Record("the record does not say how much of a limit was used up");
const CUT_SHORT: Unanswered =
    Unanswered::Record("a policy took all its time or crashed, and the record does not say what others said");

impl Candidate<'_> {
    /// What the decision would have been.
    ///
    /// # Errors
    /// [`Unanswered`], where that can't be told.
    pub fn decide(&self, decision: &Decision) -> Result<Answer, Unanswered> {
        if decision.policies.is_empty() {
            return Err(NOTHING_ASKED);
        }
        let answers = self.answers(decision)?;
        let refused = match decision.phase {
            Phase::Launch => Effect::Refused,
            Phase::Release => Effect::Denied,
        };
        if !answers.allowed {
            return Ok(Answer {
                effect: refused,
                reason: answers.reason(),
            });
        }
        let recorded = Effect::recorded(decision);
        if recorded <= Effect::Denied && decision.policies.iter().all(|said| said.verdict.allow) {
            // Every policy allowed then too: it was denied by the server, as secrets that fit no packet are.
            return Ok(Answer {
                effect: recorded,
                reason: decision.reason.clone(),
            });
        }
        if decision.policies.iter().any(ended_the_questions) {
            return Err(CUT_SHORT);
        }
        let reason = "every policy allows".to_owned();
        if decision.phase == Phase::Launch {
            let effect = Effect::Launched;
            return Ok(Answer { effect, reason });
        }
        let used_up = used_up(decision, &answers.verdicts)?;
        Ok(match used_up {
            Some(reason) => Answer {
                effect: Effect::Held,
                reason,
            },
            None => Answer {
                effect: Effect::Released,
                reason,
            },
        })
    }

    /// What every policy that was asked says now.
    fn answers(&self, decision: &Decision) -> Result<Answers, Unanswered> {
        let own = |said: &&BoundVerdict| !said.verdict.policy.starts_with(LIBRARY);
        let asked = decision.policies.iter().filter(own).map(|said| {
            let policy = said.verdict.policy.as_str();
            let facts = self.facts.policies.get(policy);
            let looks = facts.is_some_and(|facts| facts.reads_releases);
            Ok(Asked {
                policy,
                phase: decision.phase,
                input: input(decision, said.secret.as_ref(), said.releases.as_ref(), looks)?,
            })
        });
        let asked = asked.collect::<Result<Vec<_>, Unanswered>>()?;
        let said = self.evaluator.ask(self.owner, self.bundle, asked);
        if let Some(error) = said.last().and_then(|last| last.error.as_ref())
            && error.kind == ErrorKind::Busy
        {
            return Err(Unanswered::Evaluator(error.message.clone()));
        }
        let mut said = said.into_iter();
        let verdicts: Vec<_> = decision
            .policies
            .iter()
            .filter_map(|recorded| {
                let verdict = match own(&recorded) {
                    true => said.next()?,
                    false => recorded.verdict.clone(),
                };
                Some(BoundVerdict {
                    verdict,
                    ..recorded.clone()
                })
            })
            .collect();
        // One that was not asked, as another took all the time, has no verdict.
        let allowed = verdicts.len() == decision.policies.len()
            && verdicts
                .iter()
                .all(|said| said.verdict.allow && said.verdict.error.is_none());
        Ok(Answers { verdicts, allowed })
    }
}

/// What a policy saw that was asked for this secret, or for the release as a whole. `looks` is whether it must see
/// the right `releases`.
///
/// # Errors
/// When the record has no input, or not the releases of the secret.
pub fn input(
    decision: &Decision,
    secret: Option<&Name>,
    releases: Option<&Releases>,
    looks: bool,
) -> Result<Input, Unanswered> {
    let mut input = decision.input.clone().ok_or(NO_INPUT)?;
    let Some(secret) = secret else { return Ok(input) };
    input.secret = Some(secret.to_string());
    input.releases = match releases {
        Some(releases) => releases.clone(),
        None if looks => return Err(NO_RELEASES),
        None => Releases::default(),
    };
    Ok(input)
}

/// Policies after such a one were not asked.
fn ended_the_questions(said: &BoundVerdict) -> bool {
    let kind = said.verdict.error.as_ref().map(|error| error.kind);
    matches!(kind, Some(ErrorKind::TimeLimit | ErrorKind::Crashed))
}

/// Why the release would have been held under these limits, if it would.
fn used_up(decision: &Decision, verdicts: &[BoundVerdict]) -> Result<Option<String>, Unanswered> {
    if decision.counts.is_empty() {
        let limits =
            |said: &[BoundVerdict]| -> Vec<_> { said.iter().map(|v| v.verdict.release_limit).collect() };
        let (then, now) = (limits(&decision.policies), limits(verdicts));
        return match decision.outcome {
            _ if now.iter().all(Option::is_none) => Ok(None),
            Outcome::Released if then == now => Ok(None),
            Outcome::Held if then == now => Ok(Some(decision.reason.clone())),
            _ => Err(NO_COUNTS),
        };
    }
    let counts = decision.counts.iter().map(|count| CountSeen {
        limit: verdicts
            .iter()
            .filter(|said| said.binding == count.binding)
            .filter(|said| said.secret.as_ref().is_none_or(|name| *name == count.secret))
            .filter_map(|said| said.verdict.release_limit)
            .min(),
        ..count.clone()
    });
    let sentences: Vec<String> = counts.filter_map(|count| count.used_up()).collect();
    Ok((!sentences.is_empty()).then(|| sentences.join("; ")))
}
