//! What is known in a body: what its names stand for, and of what it proves the type.

use std::collections::HashMap;

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, Ref};

use super::Nullable;
use crate::policy::names::{Meaning, rule_path};
use crate::policy::selection::{Selected, flatten, static_path};
use crate::policy::syntax::{Module, Reference, Rule, Step};

/// Something that may be null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A member of the input, as it is written out.
    Member(String),
    /// An argument of the function that is looked at.
    Argument(usize),
}

/// What a local name stands for.
#[derive(Clone, Debug)]
pub(super) enum Local {
    /// Something that may be null.
    Subject(Subject),
    /// A value that was computed.
    Value,
    /// Whatever fits.
    Open,
}

/// What is known at a place in a body.
#[derive(Clone, Default)]
pub(super) struct Scope {
    pub(super) locals: HashMap<String, Local>,
    pub(super) proved: Vec<Subject>,
}

/// One rule's bodies.
pub(super) struct Body<'c, 'a> {
    pub(super) check: &'c Nullable<'a>,
    pub(super) module: &'c Module,
    pub(super) rule: &'c Rule,
}

impl Body<'_, '_> {
    /// What an expression stands for, if that may be null.
    pub(super) fn subject(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        let (root, selected) = flatten(expression);
        let Expr::Var { span, .. } = root else { return None };
        let name = span.text();
        if let Some(local) = scope.locals.get(name) {
            return match local {
                Local::Subject(subject) if selected.is_empty() => Some(subject.clone()),
                _ => None,
            };
        }
        let steps = selected.iter().map(|step| match step {
            Selected::Name(name) => Step::Name(name.clone()),
            Selected::Index(_) => Step::Any,
        });
        let reference = Reference {
            root: name.to_owned(),
            steps: steps.collect(),
            offset: 0,
        };
        match self.check.names.global(self.module, &reference) {
            Meaning::Input(steps) => self.member(&steps),
            Meaning::Data(steps) => {
                let path: Option<Vec<String>> = steps
                    .iter()
                    .map(|step| match step {
                        Step::Name(name) => Some(name.clone()),
                        Step::Any => None,
                    })
                    .collect();
                self.check.aliases.get(&path?).cloned()
            }
            Meaning::Local | Meaning::Unknown => None,
        }
    }

    fn member(&self, steps: &[Step]) -> Option<Subject> {
        let rule = rule_path(self.module, self.rule);
        if self.check.null_at(&rule, steps).is_empty() {
            return None;
        }
        let mut path = "input".to_owned();
        for step in steps {
            match step {
                Step::Name(name) => path.push_str(&format!(".{name}")),
                Step::Any => path.push_str(".[_]"),
            }
        }
        Some(Subject::Member(path))
    }

    /// The same, unless its type is proved here.
    pub(super) fn unproved(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        self.subject(expression, scope)
            .filter(|subject| !scope.proved.contains(subject))
    }

    /// Names in a pattern stand for whatever fits.
    pub(super) fn open(&self, pattern: &Ref<Expr>, scope: &mut Scope) {
        match pattern.as_ref() {
            Expr::Var { span, .. } => {
                scope.locals.insert(span.text().to_owned(), Local::Open);
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.open(item, scope)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.open(value, scope)),
            _ => {}
        }
    }

    /// What an item of a collection stands for.
    pub(super) fn item_of(&self, collection: &Ref<Expr>, scope: &Scope) -> Local {
        let (root, selected) = flatten(collection);
        let Expr::Var { span, .. } = root else {
            return Local::Open;
        };
        if scope.locals.contains_key(span.text()) {
            return Local::Open;
        }
        let steps = selected.iter().map(|step| match step {
            Selected::Name(name) => Step::Name(name.clone()),
            Selected::Index(_) => Step::Any,
        });
        let reference = Reference {
            root: span.text().to_owned(),
            steps: steps.chain([Step::Any]).collect(),
            offset: 0,
        };
        match self.check.names.global(self.module, &reference) {
            Meaning::Input(steps) => self.member(&steps).map_or(Local::Open, Local::Subject),
            _ => Local::Open,
        }
    }

    pub(super) fn bind(&self, literal: &Literal, scope: &mut Scope) {
        match literal {
            Literal::SomeVars { vars, .. } => {
                for name in vars {
                    scope.locals.insert(name.text().to_owned(), Local::Open);
                }
            }
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                key.iter().for_each(|key| self.open(key, scope));
                let item = self.item_of(collection, scope);
                match value.as_ref() {
                    Expr::Var { span, .. } => {
                        scope.locals.insert(span.text().to_owned(), item);
                    }
                    _ => self.open(value, scope),
                }
            }
            Literal::Expr { expr, .. } => {
                let Expr::AssignExpr { op, lhs, rhs, .. } = expr.as_ref() else {
                    return;
                };
                let Expr::Var { span, .. } = lhs.as_ref() else {
                    if *op == AssignOp::ColEq {
                        self.open(lhs, scope);
                    }
                    return;
                };
                let name = span.text();
                let known = *op == AssignOp::Eq
                    && (scope.locals.contains_key(name) || self.subject(lhs, scope).is_some());
                let fresh = *op == AssignOp::ColEq || self.rule.bindable.contains(name);
                if !known && fresh {
                    let local = self.subject(rhs, scope).map_or(Local::Value, Local::Subject);
                    scope.locals.insert(name.to_owned(), local);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }

    /// What a statement that holds proves.
    pub(super) fn prove(&self, statement: &Ref<Expr>, scope: &mut Scope) {
        let proved = match statement.as_ref() {
            Expr::Call { .. } => called(statement).and_then(|(name, arguments)| {
                let asks = ["is_number", "is_string", "is_boolean"].contains(&name.as_str());
                arguments
                    .first()
                    .filter(|_| asks)
                    .and_then(|at| self.subject(at, scope))
            }),
            Expr::BoolExpr {
                op: BoolOp::Eq,
                lhs,
                rhs,
                ..
            }
            | Expr::AssignExpr {
                op: AssignOp::Eq,
                lhs,
                rhs,
                ..
            } => {
                let pairs = [(lhs, rhs), (rhs, lhs)];
                pairs
                    .into_iter()
                    .find(|(_, other)| self.is_something(other, scope))
                    .and_then(|(side, _)| self.subject(side, scope))
            }
            Expr::BoolExpr {
                op: BoolOp::Ne,
                lhs,
                rhs,
                ..
            } => match (lhs.as_ref(), rhs.as_ref()) {
                (_, Expr::Null { .. }) => self.subject(lhs, scope),
                (Expr::Null { .. }, _) => self.subject(rhs, scope),
                _ => None,
            },
            Expr::Membership {
                value, collection, ..
            } => match collection.as_ref() {
                Expr::Array { items, .. } | Expr::Set { items, .. }
                    if items.iter().all(|item| self.is_something(item, scope)) =>
                {
                    self.subject(value, scope)
                }
                _ => None,
            },
            _ => None,
        };
        scope.proved.extend(proved);
    }

    /// Whether an expression is surely not null: a literal, or a value that was computed.
    fn is_something(&self, expression: &Ref<Expr>, scope: &Scope) -> bool {
        match expression.as_ref() {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Array { .. }
            | Expr::Set { .. }
            | Expr::Object { .. }
            | Expr::ArithExpr { .. } => true,
            Expr::Var { span, .. } => {
                matches!(scope.locals.get(span.text()), Some(Local::Value))
            }
            _ => false,
        }
    }
}

/// A call of a plain name, and its arguments.
pub(super) fn called(expression: &Ref<Expr>) -> Option<(String, &[Ref<Expr>])> {
    let Expr::Call { fcn, params, .. } = expression.as_ref() else {
        return None;
    };
    Some((static_path(fcn)?.join("."), params.as_slice()))
}
