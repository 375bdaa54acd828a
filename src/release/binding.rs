//! Which policies are asked: every one bound to the owner, the workload, a key set or a secret.

use std::sync::Arc;

use super::bundles::{BundleError, Loaded};
use super::facts::Facts;
use super::meter::{Reason, Why};
use super::seen::Releases;
use super::{Refusal, Service};
use crate::domain::Name;
use crate::domain::launch::{Binding, BindingKind, BoundVerdict};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::policy::{Asked, ErrorKind, Phase, Verdict};
use crate::store::CountUp;

/// The policy that is bound to every workload besides its own.
pub(super) const BUILT_IN: &str = "keyward.workload";
/// Policies of the library begin with this.
pub(super) const LIBRARY: &str = "keyward.";

/// One question to one policy.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) binding: Binding,
    pub(super) policy: String,
    /// The secret it is asked for; none: the release as a whole.
    pub(super) secret: Option<Name>,
}

/// Every question that a release, or a launch, of these secrets raises.
///
/// An error names a secret that no policy of its owner's choosing reaches: it is never released.
pub(super) fn questions(context: &WorkloadContext, secrets: &[&SecretInfo]) -> Result<Vec<Question>, String> {
    let workload = &context.registered.workload;
    let mut questions = Vec::new();
    let mut ask = |binding: &Binding, policies: &[String], secret: Option<&Name>| {
        questions.extend(policies.iter().map(|policy| Question {
            binding: binding.clone(),
            policy: policy.clone(),
            secret: secret.cloned(),
        }));
    };
    ask(&of_owner(), &context.owner_policies, None);
    ask(&of_workload(context), &[BUILT_IN.to_owned()], None);
    ask(&of_workload(context), &workload.policies, None);
    for secret in secrets {
        let mut reached = !context.owner_policies.is_empty() || !workload.policies.is_empty();
        for set in context
            .keysets
            .iter()
            .filter(|set| set.secrets.contains(&secret.name))
        {
            let binding = Binding {
                kind: BindingKind::KeySet,
                name: set.name.to_string(),
            };
            ask(&binding, &set.policies, Some(&secret.name));
            reached |= !set.policies.is_empty();
        }
        let binding = Binding {
            kind: BindingKind::Secret,
            name: secret.name.to_string(),
        };
        ask(&binding, &secret.policies, Some(&secret.name));
        reached |= !secret.policies.is_empty();
        if !reached {
            return Err(format!("no policy reaches the secret {}", secret.name));
        }
    }
    Ok(questions)
}

fn of_owner() -> Binding {
    Binding {
        kind: BindingKind::Owner,
        name: String::new(),
    }
}

fn of_workload(context: &WorkloadContext) -> Binding {
    Binding {
        kind: BindingKind::Workload,
        name: context.registered.workload.uuid.to_string(),
    }
}

/// Every count that a release of these secrets raises, with the least limit that a verdict sets on it.
pub(super) fn counts(
    context: &WorkloadContext,
    secrets: &[&SecretInfo],
    verdicts: &[BoundVerdict],
) -> Vec<CountUp> {
    let mut counts = Vec::new();
    for secret in secrets {
        let sets = context
            .keysets
            .iter()
            .filter(|set| set.secrets.contains(&secret.name));
        let sets = sets.map(|set| Binding {
            kind: BindingKind::KeySet,
            name: set.name.to_string(),
        });
        let own = Binding {
            kind: BindingKind::Secret,
            name: secret.name.to_string(),
        };
        for binding in [of_owner(), of_workload(context)]
            .into_iter()
            .chain(sets)
            .chain([own])
        {
            let limit = verdicts
                .iter()
                .filter(|v| v.binding == binding && v.secret.as_ref().is_none_or(|name| *name == secret.name))
                .filter_map(|v| v.verdict.release_limit)
                .min();
            counts.push(CountUp {
                binding,
                secret: secret.name.clone(),
                limit,
            });
        }
    }
    counts
}

/// What every policy said, and whether all allow.
pub(super) struct Answers {
    pub(super) verdicts: Vec<BoundVerdict>,
    pub(super) allowed: bool,
}

impl Answers {
    /// Why not, in one sentence: the policies that deny, each with its reason.
    pub(super) fn why(&self) -> Why {
        let kinds = self.verdicts.iter().filter_map(|v| v.verdict.error.as_ref());
        // After one that took all its time, or crashed, no other was asked.
        let class = kinds.map(|error| class(error.kind)).next_back();
        (class.unwrap_or(Reason::Policy), self.reason())
    }

    /// The same without its class.
    pub(super) fn reason(&self) -> String {
        let denials = self.verdicts.iter().filter(|v| !v.verdict.allow);
        let sentences: Vec<String> = denials
            .map(|v| match &v.secret {
                Some(secret) => format!("{} for {secret}: {}", v.verdict.policy, v.verdict.reason),
                None => format!("{}: {}", v.verdict.policy, v.verdict.reason),
            })
            .collect();
        sentences.join("; ")
    }
}

fn class(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::Crashed => Reason::Worker,
        ErrorKind::TimeLimit => Reason::TimeLimit,
        _ => Reason::Evaluation,
    }
}

impl Service {
    /// The owner's active bundle, where one is active.
    pub(super) fn active_bundle(
        &self,
        context: &WorkloadContext,
    ) -> Result<Option<Result<Arc<Loaded>, String>>, Refusal> {
        let Some(digest) = context.bundle else {
            return Ok(None);
        };
        match self.bundles.load(self.store(), &context.owner, digest) {
            Ok(bundle) => Ok(Some(Ok(bundle))),
            Err(BundleError::Store(error)) => Err(error.into()),
            Err(BundleError::Unusable(why)) => Ok(Some(Err(why))),
            Err(BundleError::NotNow(why)) => {
                log::warn!("a bundle could not be loaded: {why}");
                Err(Refusal::unavailable("the owner's policies can't be loaded now"))
            }
        }
    }

    /// Asks every policy. What it sees is made of the facts, and of the releases of the secret it is asked for.
    ///
    /// After one that took its whole time, or crashed, no other of the owner's is asked: the answer is a deny
    /// already.
    pub(super) fn ask(
        &self,
        context: &WorkloadContext,
        questions: Vec<Question>,
        phase: Phase,
        facts: &Facts<'_>,
        releases: &Releases,
    ) -> Result<Answers, Refusal> {
        let asked = questions.len();
        let own = questions
            .iter()
            .filter(|question| !question.policy.starts_with(LIBRARY));
        let mut own = self.ask_own(context, own, phase, facts, releases)?.into_iter();
        let mut verdicts = Vec::with_capacity(asked);
        for question in questions {
            let built_in = question.policy.starts_with(LIBRARY);
            let verdict = if built_in {
                let secret = question.secret.as_ref();
                let input = facts.input(phase, secret, releases.of(secret));
                Some(self.library.evaluate(&question.policy, phase, &input))
            } else {
                own.next()
            };
            let Some(verdict) = verdict else { continue };
            verdicts.push(BoundVerdict {
                binding: question.binding,
                bundle: if built_in { None } else { context.bundle },
                releases: question
                    .secret
                    .as_ref()
                    .map(|secret| releases.of(Some(secret)).into()),
                secret: question.secret,
                verdict,
            });
        }
        // INVARIANT: `keyward.workload` is always asked, so «no policy» can't read as «all allow»; and a policy
        // that was not asked has no verdict, so that there are fewer than questions.
        let allowed = !verdicts.is_empty()
            && verdicts.len() == asked
            && verdicts
                .iter()
                .all(|v| v.verdict.allow && v.verdict.error.is_none());
        Ok(Answers { verdicts, allowed })
    }

    /// Asks the owner's own policies: their verdicts in the order of the questions, up to the first that
    /// could not be had.
    fn ask_own<'q>(
        &self,
        context: &WorkloadContext,
        questions: impl Iterator<Item = &'q Question> + Clone,
        phase: Phase,
        facts: &Facts<'_>,
        releases: &Releases,
    ) -> Result<Vec<Verdict>, Refusal> {
        let mut questions = questions.peekable();
        if questions.peek().is_none() {
            return Ok(Vec::new());
        }
        let missing = |why: &str| {
            questions
                .clone()
                .map(|question| Verdict::failed(&question.policy, ErrorKind::MissingPolicy, why))
                .collect()
        };
        let loaded = match self.active_bundle(context)? {
            Some(Ok(loaded)) => loaded,
            Some(Err(why)) => return Ok(missing(&why)),
            None => return Ok(missing("the owner has no active policy bundle")),
        };
        let silent = |question: &Question| {
            let facts = loaded.facts.policies.get(&question.policy);
            phase == Phase::Launch && facts.is_some_and(|facts| !facts.is_asked_at_launch())
        };
        if questions.clone().all(silent) {
            return Ok(questions
                .map(|question| Verdict::silent_at_launch(&question.policy))
                .collect());
        }
        let asked = questions.map(|question| Asked {
            policy: &question.policy,
            phase,
            input: facts.input(
                phase,
                question.secret.as_ref(),
                releases.of(question.secret.as_ref()),
            ),
        });
        let evaluator = self.parts.evaluator.as_ref();
        let verdicts = evaluator.ask(context.owner.as_str(), &loaded.bundle, asked.collect());
        let kind = verdicts
            .last()
            .and_then(|verdict| Some(verdict.error.as_ref()?.kind));
        if kind == Some(ErrorKind::Busy) {
            // Nobody was asked: that is no decision, and must not cost the launch a try.
            return Err(Refusal::unavailable("too many policies are being evaluated"));
        }
        Ok(verdicts)
    }
}
