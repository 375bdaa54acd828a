//! Which definitions of a rule held, which conditions of the others did not, and what those needed.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Module as Tree, Query, Ref, Rule as Node, RuleHead};
use regorus::{Engine, Value};

use super::literal::{Condition, Reader, slice};
use super::probe::{Answer, Unanswered, ask};
use super::terms::{comprehension, given, items, several};
use super::{ConditionOutcome, ExplainedCondition, ExplainedDefinition, ExplainedRule, LookedAt, values};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::limits::Deadline;
use crate::policy::names::Names;
use crate::policy::syntax::Module;

/// How deep a rule is followed into those that it needs.
const MAX_DEPTH: usize = 6;
/// Most rules that are followed from one condition.
const MAX_FOLLOWED: usize = 3;
/// A name for what a probe takes out; no policy has it, as the server's loader takes no other text along.
const VALUE: &str = "__keyward_value";

/// Explains rules of one bundle.
pub(super) struct Explainer<'a> {
    names: &'a Names<'a>,
    trees: &'a [Ref<Tree>],
    deadline: Deadline,
    left: usize,
    cut: bool,
}

/// Where definitions are read and asked.
#[derive(Clone, Copy)]
struct Place<'a> {
    engine: &'a Engine,
    tree: &'a Tree,
    module: &'a Module,
}

/// A definition whose conditions were asked.
struct Asked {
    conditions: Vec<Condition>,
    outcomes: Vec<(ConditionOutcome, Option<String>)>,
    /// What held before each condition, arguments included.
    before: Vec<Vec<String>>,
    /// The value of the head for each way in which the body holds.
    heads: Vec<Value>,
    line: u32,
    module: usize,
}

impl Asked {
    fn held(&self) -> bool {
        self.outcomes
            .iter()
            .all(|(outcome, _)| *outcome == ConditionOutcome::Held)
            && !self.heads.is_empty()
    }

    /// How close it came: conditions that did not hold, fewer first; then those that did.
    fn distance(&self) -> (usize, usize) {
        let held = self
            .outcomes
            .iter()
            .filter(|(outcome, _)| *outcome == ConditionOutcome::Held);
        let held = held.count();
        (self.outcomes.len() - held, usize::MAX - held)
    }
}

impl<'a> Explainer<'a> {
    pub(super) fn new(
        names: &'a Names<'a>,
        trees: &'a [Ref<Tree>],
        deadline: Deadline,
        conditions: usize,
    ) -> Self {
        Self {
            names,
            trees,
            deadline,
            left: conditions,
            cut: false,
        }
    }

    /// Whether something was left out.
    pub(super) fn was_cut(&self) -> bool {
        self.cut
    }

    /// Explains a rule, or a function called with these arguments.
    pub(super) fn rule(
        &mut self,
        engine: &Engine,
        path: &[String],
        arguments: &[Value],
        depth: usize,
    ) -> ExplainedRule {
        let mut explained = ExplainedRule {
            rule: path.join("."),
            value: None,
            definitions: Vec::new(),
            others: 0,
        };
        let mut asked: Vec<Asked> = Vec::new();
        let mut is_set = false;
        let at: Vec<(usize, usize)> = self.names.rules.get(path).cloned().unwrap_or_default();
        for (module_at, rule_at) in at {
            let (Some(module), Some(tree)) = (self.names.modules.get(module_at), self.trees.get(module_at))
            else {
                continue;
            };
            let Some(node) = tree.policy.get(rule_at) else {
                continue;
            };
            match node.as_ref() {
                Node::Default { value, .. } => {
                    explained
                        .value
                        .get_or_insert_with(|| slice(module, value).to_owned());
                }
                Node::Spec { head, .. } => {
                    is_set |= matches!(head, RuleHead::Set { .. });
                    let place = Place { engine, tree, module };
                    self.definitions(place, (module_at, rule_at), node, arguments, &mut asked);
                }
            }
        }
        let held: Vec<&Asked> = asked.iter().filter(|one| one.held()).collect();
        let (shown, decides) = if held.is_empty() {
            let closest = asked.iter().min_by_key(|one| one.distance());
            (closest.into_iter().collect(), false)
        } else if is_set {
            (held, true)
        } else {
            (held.into_iter().take(1).collect::<Vec<_>>(), true)
        };
        if decides {
            let heads = shown.iter().flat_map(|one| one.heads.iter());
            explained.value = if is_set {
                let set: BTreeSet<Value> = heads.cloned().collect();
                Some(values::short(&Value::from(set)))
            } else {
                heads.take(1).map(values::short).next()
            };
        } else if is_set {
            explained.value.get_or_insert_with(|| "set()".to_owned());
        }
        explained.others = if decides {
            0
        } else {
            u32::try_from(asked.len().saturating_sub(shown.len())).unwrap_or(u32::MAX)
        };
        for one in shown {
            explained
                .definitions
                .push(self.shown(engine, one, is_set && decides, depth));
        }
        explained
    }

    /// Asks the bodies of one rule node, an `else` only where nothing before it held.
    fn definitions(
        &mut self,
        place: Place<'_>,
        (module_at, rule_at): (usize, usize),
        node: &Node,
        arguments: &[Value],
        found: &mut Vec<Asked>,
    ) {
        let Node::Spec { head, bodies, .. } = node else {
            return;
        };
        let Some(rule) = place.module.rules.get(rule_at) else {
            return;
        };
        let reader = Reader {
            module: place.module,
            rule,
        };
        let (own, patterns): (Option<&Ref<Expr>>, &[Ref<Expr>]) = match head {
            RuleHead::Compr { assign, .. } => (assign.as_ref().map(|assign| &assign.value), &[]),
            RuleHead::Set { key, .. } => (key.as_ref(), &[]),
            RuleHead::Func { args, assign, .. } => (assign.as_ref().map(|assign| &assign.value), args),
        };
        let is_set = matches!(head, RuleHead::Set { .. });
        let Some(given) = given(place.module, patterns, arguments) else {
            self.cut = true;
            return;
        };
        let alternatives: Vec<(bool, Option<&Ref<Expr>>, Option<&Query>)> = if bodies.is_empty() {
            vec![(false, own, None)]
        } else {
            let bodies = bodies.iter().enumerate();
            bodies
                .map(|(at, body)| {
                    let value = body.assign.as_ref().map(|assign| &assign.value);
                    let value = if at == 0 || !body.is_else {
                        value.or(own)
                    } else {
                        value
                    };
                    (body.is_else, value, Some(body.query.as_ref()))
                })
                .collect()
        };
        let mut done = false;
        for (is_else, value, query) in alternatives {
            if is_else && done {
                continue;
            }
            let mut conditions: Vec<Condition> = query
                .into_iter()
                .flat_map(|query| query.stmts.iter())
                .map(|statement| reader.condition(statement))
                .collect();
            let offset =
                conditions.first().map_or(
                    rule.offset,
                    |first| if is_else { first.offset } else { rule.offset },
                );
            let head = value.filter(|_| !is_set).and_then(|value| reader.head(value));
            let has_head = head.is_some();
            conditions.extend(head);
            if conditions.len() > self.left {
                self.cut = true;
                return;
            }
            self.left -= conditions.len();
            let head = value.map_or("true", |value| slice(place.module, value));
            let mut asked = self.ask(place, conditions, has_head, &given, head);
            asked.line = Diagnostic::at_offset(&place.module.file, &place.module.text, offset, "").line;
            asked.module = module_at;
            done |= asked.held();
            found.push(asked);
        }
    }

    /// Asks conditions one after the other: each together with those before it that hold.
    fn ask(
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
                if outcome.0 == ConditionOutcome::Held {
                    bound.extend(condition.locals.iter().cloned());
                    if !(has_head && *at == last) {
                        held.push(condition.text.clone());
                    }
                } else {
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

    /// A definition as it is shown: with the values its conditions looked at, and the rules that they needed.
    fn shown(&mut self, engine: &Engine, asked: &Asked, accuses: bool, depth: usize) -> ExplainedDefinition {
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
            let because = self.because(place, condition, *outcome, before, accuses, depth);
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
                text: condition.text.split_whitespace().collect::<Vec<_>>().join(" "),
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
                terms.push(comprehension(&one, before, None));
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
                    name: term.split_whitespace().collect::<Vec<_>>().join(" "),
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
