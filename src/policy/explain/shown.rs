//! A definition as it is shown: with the values that its conditions looked at, and the rules that they needed.

use regorus::Engine;

use super::asked::Asked;
use super::literal::Condition;
use super::probe::ask;
use super::rules::{Explainer, Place, VALUE};
use super::source::one_line;
use super::terms::{comprehension, items, several};
use super::{ConditionOutcome, ExplainedCondition, ExplainedDefinition, ExplainedRule, LookedAt};
use crate::policy::diagnostic::Diagnostic;

/// How deep a rule is followed into those that it needs.
const MAX_DEPTH: usize = 6;
/// Most rules that are followed from one condition.
const MAX_FOLLOWED: usize = 3;

impl Explainer<'_> {
    /// A definition as it is shown: with the values its conditions looked at, and the rules that they needed.
    pub(super) fn shown(
        &mut self,
        engine: &Engine,
        asked: &Asked,
        accuses: bool,
        depth: usize,
    ) -> ExplainedDefinition {
        let (Some(module), Some(tree)) = (self.names.modules.get(asked.module), self.trees.get(asked.module))
        else {
            return ExplainedDefinition {
                file: String::new(),
                line: asked.line,
                held: asked.held(),
                conditions: Vec::new(),
            };
        };
        let place = Place { engine, tree, module };
        let mut values = self.looked_at(place, asked).into_iter();
        let mut conditions = Vec::with_capacity(asked.conditions.len());
        for ((condition, (outcome, error)), before) in
            asked.conditions.iter().zip(&asked.outcomes).zip(&asked.before)
        {
            let mut seen = values.next().unwrap_or_default();
            let because = self.because(place, condition, *outcome, asked.under(before), accuses, depth);
            // A rule that is the condition is told about below it; its value is the outcome.
            if condition
                .values
                .first()
                .is_some_and(|term| condition.text.trim_start_matches("not ") == term)
                && condition
                    .targets
                    .iter()
                    .any(|target| target.resolve(self.names, module).is_some())
            {
                seen.clear();
            }
            conditions.push(ExplainedCondition {
                line: Diagnostic::at_offset(&module.file, &module.text, condition.offset, "").line,
                text: one_line(&condition.text),
                outcome: *outcome,
                values: seen,
                error: error.clone(),
                because,
            });
        }
        ExplainedDefinition {
            file: module.file.clone(),
            line: asked.line,
            held: asked.held(),
            conditions,
        }
    }

    /// The values that each condition looked at.
    fn looked_at(&mut self, place: Place<'_>, asked: &Asked) -> Vec<Vec<LookedAt>> {
        let mut terms = Vec::new();
        for (condition, before) in asked.conditions.iter().zip(&asked.before) {
            let with: Vec<String> = condition
                .with
                .iter()
                .map(|(what, by)| format!(" with {what} as {by}"))
                .collect();
            for term in &condition.values {
                let one = format!("[{VALUE} | {VALUE} := {term}{}]", with.concat());
                terms.push(comprehension(&one, asked.under(before), None));
            }
            if let Some((names, domain, body)) = &condition.every {
                let last = names.rsplit(", ").next().unwrap_or(names);
                let fails = format!("some {names} in {domain}; count([1 | {body}]) == 0");
                let one = format!("[{last} | {fails}]");
                terms.push(comprehension(&one, before, None));
            }
        }
        let mut answers = ask(place.engine, place.tree, place.module, &terms, self.deadline).into_iter();
        let mut all = Vec::with_capacity(asked.conditions.len());
        for (condition, (outcome, _)) in asked.conditions.iter().zip(&asked.outcomes) {
            let mut seen = Vec::new();
            for term in &condition.values {
                let answer = answers.next().and_then(Result::ok);
                // A name that was given is told where it is used.
                if *outcome == ConditionOutcome::NotReached
                    || (*outcome == ConditionOutcome::Held && condition.assigns)
                {
                    continue;
                }
                // Without an answer nothing is said: that is not the same as there being no value.
                seen.extend(answer.map(|answer| LookedAt {
                    name: one_line(term),
                    value: several(answer),
                }));
            }
            if let Some((names, ..)) = &condition.every {
                let failing = answers.next().and_then(Result::ok).and_then(several);
                if *outcome == ConditionOutcome::Failed && failing.is_some() {
                    seen.push(LookedAt {
                        name: format!("{names} that fails"),
                        value: failing,
                    });
                }
            }
            all.push(seen);
        }
        all
    }

    /// The rules and functions that made a condition come out as it did.
    fn because(
        &mut self,
        place: Place<'_>,
        condition: &Condition,
        outcome: ConditionOutcome,
        before: &[String],
        accuses: bool,
        depth: usize,
    ) -> Vec<ExplainedRule> {
        let held = outcome == ConditionOutcome::Held;
        let telling = matches!(outcome, ConditionOutcome::Failed | ConditionOutcome::Error)
            || (held && accuses && (condition.negated || condition.takes || condition.values.len() < 2));
        if !telling || depth >= MAX_DEPTH {
            return Vec::new();
        }
        let Some(engine) = self.replaced(place, condition, before) else {
            return Vec::new();
        };
        let mut because = Vec::new();
        for target in condition.targets.iter().take(2 * MAX_FOLLOWED) {
            let Some(path) = target.resolve(self.names, place.module) else {
                continue;
            };
            let arguments = match &target.arguments {
                None => Vec::new(),
                Some(terms) => {
                    let list = format!("[{}]", terms.join(", "));
                    let asked = [comprehension(&list, before, None)];
                    let answer = ask(place.engine, place.tree, place.module, &asked, self.deadline).pop();
                    // The first way in which the conditions before it hold stands for all.
                    match answer
                        .and_then(Result::ok)
                        .map(items)
                        .and_then(|all| all.into_iter().next())
                    {
                        Some(first) => items(first),
                        None => continue,
                    }
                }
            };
            let explained = self.rule(&engine, &path, &arguments, depth + 1);
            let empty = matches!(explained.value.as_deref(), None | Some("false" | "set()"));
            // What is to be explained is why it does not hold, or, for a negation, why it does.
            if (empty != (held != condition.negated) || outcome == ConditionOutcome::Error)
                && !explained.definitions.is_empty()
                && !because.contains(&explained)
            {
                because.push(explained);
            }
            if because.len() >= MAX_FOLLOWED {
                break;
            }
        }
        because
    }

    /// The engine with the input that a condition's `with` gives it; none where other things are replaced.
    fn replaced(&self, place: Place<'_>, condition: &Condition, before: &[String]) -> Option<Engine> {
        let mut engine = place.engine.clone();
        if condition.with.is_empty() {
            return Some(engine);
        }
        if !condition
            .with
            .iter()
            .all(|(what, _)| what == "input" || what.starts_with("input."))
        {
            return None;
        }
        let with: Vec<String> = condition
            .with
            .iter()
            .map(|(what, by)| format!(" with {what} as {by}"))
            .collect();
        let replaced = format!("{VALUE} := input{}", with.concat());
        let terms = [comprehension(VALUE, before, Some(&replaced))];
        let answer = ask(place.engine, place.tree, place.module, &terms, self.deadline)
            .pop()?
            .ok()?;
        engine.set_input(items(answer).into_iter().next()?);
        Some(engine)
    }
}
