//! Which definitions of a rule held, and which of the others came closest.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Module as Tree, Query, Ref, Rule as Node, RuleHead};
use regorus::{Engine, Value};

use super::asked::Asked;
use super::literal::{Condition, Reader, slice};
use super::terms::given;
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

/// Whether it is an `else`, the value that its head takes, and its body.
type Alternative<'a> = (bool, Option<&'a Ref<Expr>>, Option<&'a Query>);

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
        let alternatives: Vec<Alternative<'_>> = if bodies.is_empty() {
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
}
