//! Which definitions of a rule held, and which of the others came closest.

use regorus::unstable::{Expr, Module as Tree, Query, Ref, Rule as Node, RuleHead};
use regorus::{Engine, Value};

use super::asked::Asked;
use super::literal::{Condition, Reader, slice};
use super::probe::{ask, time};
use super::terms::{Given, comprehension, given, items};
use super::{ExplainedRule, values};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::limits::Deadline;
use crate::policy::names::Names;
use crate::policy::syntax::Module;

/// A name for what a probe takes out. A policy that uses it itself spoils its own explanation, and nothing else.
pub(super) const VALUE: &str = "__keyward_value";

/// Explains rules of one bundle.
pub(super) struct Explainer<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) trees: &'a [Ref<Tree>],
    pub(super) deadline: Deadline,
    pub(super) left: usize,
    pub(super) cut: bool,
}

/// Where definitions are read and asked.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) engine: &'a Engine,
    pub(super) tree: &'a Tree,
    pub(super) module: &'a Module,
}

/// What a rule is when it is asked.
enum Actual {
    Value(String),
    Undefined,
    /// It can't be evaluated, as where its definitions contradict each other.
    Failed,
    /// It was not asked.
    Unknown,
}

/// Where an `else` begins, the value that its head takes, and its body.
type Alternative<'a> = (Option<usize>, Option<&'a Ref<Expr>>, Option<&'a Query>);

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
        let deciding: Vec<&Asked> = held.iter().copied().filter(|one| one.decides()).collect();
        let closest = asked
            .iter()
            .filter(|one| !one.held())
            .min_by_key(|one| one.distance());
        let value = if arguments.is_empty() {
            self.value(engine, path)
        } else {
            Actual::Unknown
        };
        let (shown, decides) = match &value {
            // Definitions that contradict each other: each of them is what is wrong.
            Actual::Failed if !held.is_empty() => (held, true),
            _ if is_set && !held.is_empty() => (held, true),
            _ if !deciding.is_empty() => (deciding.into_iter().take(1).collect(), true),
            // One that holds and says false tells less than the one that came closest to another value.
            _ => (
                closest.or(held.first().copied()).into_iter().collect::<Vec<_>>(),
                false,
            ),
        };
        explained.value = match value {
            Actual::Value(value) => Some(value),
            Actual::Undefined | Actual::Failed => None,
            Actual::Unknown => {
                let head = asked
                    .iter()
                    .filter(|one| one.held())
                    .flat_map(|one| one.heads.first())
                    .next();
                head.map(values::short).or(explained.value)
            }
        };
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

    /// What the rule itself is.
    fn value(&self, engine: &Engine, path: &[String]) -> Actual {
        let mut engine = engine.clone();
        let Some(()) = time(&mut engine, self.deadline) else {
            return Actual::Unknown;
        };
        match engine.eval_rule(format!("data.{}", path.join("."))) {
            Ok(Value::Undefined) => Actual::Undefined,
            Ok(value) => Actual::Value(values::short(&value)),
            Err(_) if self.deadline.left().is_none() => Actual::Unknown,
            Err(_) => Actual::Failed,
        }
    }

    /// Whether what a function is called with fits the definition's patterns; if not, why.
    fn misfit(&self, place: Place<'_>, given: &Given) -> Option<String> {
        let terms: Vec<String> = given
            .patterns
            .iter()
            .map(|(pattern, value)| comprehension("1", &[], Some(&format!("{pattern} = {value}"))))
            .collect();
        let answers = ask(place.engine, place.tree, place.module, &terms, self.deadline);
        let misfit = given.patterns.iter().zip(answers).find(|(_, answer)| {
            let empty = |value: &Value| items(value.clone()).is_empty();
            answer.as_ref().is_ok_and(empty)
        });
        misfit.map(|((pattern, value), _)| format!("{pattern} = {value}"))
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
        if let Some(misfit) = self.misfit(place, &given) {
            let mut asked = Asked::misfit(Condition::plain(misfit, rule.offset));
            asked.line = Diagnostic::at_offset(&place.module.file, &place.module.text, rule.offset, "").line;
            asked.module = module_at;
            found.push(asked);
            return;
        }
        let alternatives: Vec<Alternative<'_>> = if bodies.is_empty() {
            vec![(None, own, None)]
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
                    let place = usize::try_from(body.span.start).unwrap_or(usize::MAX);
                    (body.is_else.then_some(place), value, Some(body.query.as_ref()))
                })
                .collect()
        };
        let mut done = false;
        for (otherwise, value, query) in alternatives {
            if otherwise.is_some() && done {
                continue;
            }
            let mut conditions: Vec<Condition> = query
                .into_iter()
                .flat_map(|query| query.stmts.iter())
                .map(|statement| reader.condition(statement))
                .collect();
            let offset = otherwise.unwrap_or(rule.offset);
            let head = value.filter(|_| !is_set).and_then(|value| reader.head(value));
            let has_head = head.is_some();
            conditions.extend(head);
            if conditions.len() > self.left {
                self.cut = true;
                return;
            }
            self.left -= conditions.len();
            let head = value.map_or("true", |value| slice(place.module, value));
            let mut asked = self.ask(place, conditions, has_head, &given.bound, head);
            asked.line = Diagnostic::at_offset(&place.module.file, &place.module.text, offset, "").line;
            asked.module = module_at;
            done |= asked.held();
            found.push(asked);
        }
    }
}
