//! Conditions asked one after the other: which held, and what held before each.

use std::collections::BTreeSet;

use regorus::Value;

use super::ConditionOutcome;
use super::literal::Condition;
use super::probe::{Answer, Unanswered, ask};
use super::rules::{Explainer, Place, VALUE};
use super::terms::{comprehension, items};

/// A definition whose conditions were asked.
pub(super) struct Asked {
    pub(super) conditions: Vec<Condition>,
    pub(super) outcomes: Vec<(ConditionOutcome, Option<String>)>,
    /// What held before each condition, arguments included.
    pub(super) before: Vec<Vec<String>>,
    /// All that held, arguments included.
    pub(super) all: Vec<String>,
    /// Whether it is a definition for these arguments at all.
    pub(super) applies: bool,
    /// The value of the head for each way in which the body holds.
    pub(super) heads: Vec<Value>,
    pub(super) line: u32,
    pub(super) module: usize,
}

impl Asked {
    /// A definition for other arguments.
    pub(super) fn misfit(condition: Condition) -> Asked {
        Asked {
            conditions: vec![condition],
            outcomes: vec![(ConditionOutcome::Failed, None)],
            before: vec![Vec::new()],
            all: Vec::new(),
            applies: false,
            heads: Vec::new(),
            line: 0,
            module: 0,
        }
    }

    pub(super) fn held(&self) -> bool {
        self.outcomes
            .iter()
            .all(|(outcome, _)| *outcome == ConditionOutcome::Held)
            && !self.heads.is_empty()
    }

    /// What a condition's values are asked under: where the body held, all of it, so that only the ways are shown in
    /// which it did.
    pub(super) fn under<'s>(&'s self, before: &'s [String]) -> &'s [String] {
        if self.held() { &self.all } else { before }
    }

    /// Whether it held, and with another value than false.
    pub(super) fn decides(&self) -> bool {
        self.held() && self.heads.iter().any(|head| *head != Value::Bool(false))
    }

    /// How close it came: one for other arguments is last; then conditions that did not hold, fewer first; then those
    /// that did.
    pub(super) fn distance(&self) -> (bool, usize, usize) {
        let held = self
            .outcomes
            .iter()
            .filter(|(outcome, _)| *outcome == ConditionOutcome::Held);
        let held = held.count();
        (!self.applies, self.outcomes.len() - held, usize::MAX - held)
    }
}

impl Explainer<'_> {
    /// Asks conditions one after the other: each together with those before it that hold.
    pub(super) fn ask(
        &mut self,
        place: Place<'_>,
        conditions: Vec<Condition>,
        has_head: bool,
        given: &[String],
        head: &str,
    ) -> Asked {
        let mut outcomes = vec![(ConditionOutcome::NotReached, None); conditions.len()];
        let mut before = vec![Vec::new(); conditions.len()];
        let mut held: Vec<String> = given.to_vec();
        let mut bound: BTreeSet<String> = BTreeSet::new();
        let mut lost: BTreeSet<String> = BTreeSet::new();
        let mut pending: Vec<usize> = (0..conditions.len()).collect();
        let mut failed = false;
        let last = conditions.len().wrapping_sub(1);
        while !pending.is_empty() {
            // What those before it give is assumed; the first that does not hold ends the assumption.
            let mut assumed = held.clone();
            let mut terms = Vec::with_capacity(pending.len());
            for at in &pending {
                let Some(condition) = conditions.get(*at) else {
                    continue;
                };
                if has_head && *at == last {
                    let value = format!("{VALUE} {}", condition.text);
                    terms.push(comprehension(VALUE, &assumed, Some(&value)));
                } else {
                    terms.push(comprehension("1", &assumed, Some(&condition.text)));
                    assumed.push(condition.text.clone());
                }
            }
            let answers = ask(place.engine, place.tree, place.module, &terms, self.deadline);
            let mut decided = 0;
            for (at, answer) in pending.iter().zip(answers) {
                let (Some(condition), Some(outcome), Some(before)) =
                    (conditions.get(*at), outcomes.get_mut(*at), before.get_mut(*at))
                else {
                    continue;
                };
                before.clone_from(&held);
                decided += 1;
                *outcome = self.outcome(answer, has_head && *at == last);
                if failed && outcome.0 == ConditionOutcome::Error {
                    // The evaluation had ended above; asked alone, this one says nothing.
                    *outcome = (ConditionOutcome::NotReached, None);
                }
                if outcome.0 == ConditionOutcome::Held {
                    bound.extend(condition.locals.iter().cloned());
                    if !(has_head && *at == last) {
                        held.push(condition.text.clone());
                    }
                } else {
                    failed = true;
                    lost.extend(condition.locals.difference(&bound).cloned());
                    break;
                }
            }
            pending.drain(..decided.min(pending.len()));
            pending.retain(|at| {
                conditions
                    .get(*at)
                    .is_some_and(|condition| condition.locals.is_disjoint(&lost))
            });
            if self.deadline.left().is_none() {
                self.cut = true;
                break;
            }
        }
        let all_held = outcomes
            .iter()
            .all(|(outcome, _)| *outcome == ConditionOutcome::Held);
        let heads = if all_held {
            // Named first: in `[a + b | …]` the bar would be a union.
            let terms = [comprehension(VALUE, &held, Some(&format!("{VALUE} := {head}")))];
            let answer = ask(place.engine, place.tree, place.module, &terms, self.deadline).pop();
            answer.and_then(Result::ok).map(items).unwrap_or_default()
        } else {
            Vec::new()
        };
        Asked {
            conditions,
            outcomes,
            before,
            all: held,
            applies: true,
            heads,
            line: 0,
            module: 0,
        }
    }

    fn outcome(&mut self, answer: Answer, is_head: bool) -> (ConditionOutcome, Option<String>) {
        match answer {
            Ok(value) => {
                let values = items(value);
                let holds = if is_head {
                    values.iter().any(|value| *value != Value::Bool(false))
                } else {
                    !values.is_empty()
                };
                (
                    if holds {
                        ConditionOutcome::Held
                    } else {
                        ConditionOutcome::Failed
                    },
                    None,
                )
            }
            Err(Unanswered::Failed(message)) => (ConditionOutcome::Error, Some(message)),
            Err(Unanswered::Unreadable) => (ConditionOutcome::NotReached, None),
            Err(Unanswered::Cut) => {
                self.cut = true;
                (ConditionOutcome::NotReached, None)
            }
        }
    }
}
