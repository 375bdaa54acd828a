//! What is known in a body: what its names stand for, and of what it proves the type.

use std::collections::HashMap;

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, Ref};

use super::Nullable;
use crate::policy::selection::static_path;
use crate::policy::syntax::{Module, Rule, Step};

/// Something that may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A member of the input, as it is written out.
    Member(String),
    /// What these steps lead to from an argument of the function that is looked at.
    Argument(usize, Vec<Step>),
}

/// A part of the input, whatever it is called here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The argument that it is a part of; none: of the input itself.
    pub(super) argument: Option<usize>,
    pub(super) steps: Vec<Step>,
}

impl Part {
    pub(super) fn then(mut self, steps: &[Step]) -> Part {
        self.steps.extend_from_slice(steps);
        self
    }
}

/// What a local name, or a rule, stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// A part of the input.
    Part(Part),
    /// Something made of what may be null, such as a list that holds it.
    Holds(Subject),
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
    /// Names in a pattern stand for whatever fits, or for what may be null in what they are taken out of.
    pub(super) fn open(&self, pattern: &Ref<Expr>, local: &Local, scope: &mut Scope) {
        match pattern.as_ref() {
            Expr::Var { span, .. } => {
                scope.locals.insert(span.text().to_owned(), local.clone());
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.open(item, local, scope)),
            Expr::Object { fields, .. } => {
                fields
                    .iter()
                    .for_each(|(_, _, value)| self.open(value, local, scope));
            }
            _ => {}
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
                key.iter().for_each(|key| self.open(key, &Local::Open, scope));
                let item = self.item_of(collection, scope);
                match value.as_ref() {
                    Expr::Var { span, .. } => {
                        scope.locals.insert(span.text().to_owned(), item);
                    }
                    _ => {
                        let inside = self.holds(collection, scope).map_or(Local::Open, Local::Holds);
                        self.open(value, &inside, scope);
                    }
                }
            }
            Literal::Expr { expr, .. } => {
                let Expr::AssignExpr { op, lhs, rhs, .. } = expr.as_ref() else {
                    return;
                };
                self.assign(*op == AssignOp::ColEq, lhs, rhs, scope);
                if *op == AssignOp::Eq {
                    self.assign(false, rhs, lhs, scope);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }

    /// A name, or a pattern, that is given to something.
    fn assign(&self, declares: bool, pattern: &Ref<Expr>, given: &Ref<Expr>, scope: &mut Scope) {
        let Expr::Var { span, .. } = pattern.as_ref() else {
            let is_pattern = matches!(pattern.as_ref(), Expr::Array { .. } | Expr::Object { .. });
            if declares || is_pattern {
                let inside = self.holds(given, scope).map(Local::Holds);
                if let Some(local) = inside.or_else(|| declares.then_some(Local::Open)) {
                    self.open(pattern, &local, scope);
                }
            }
            return;
        };
        let name = span.text();
        // `some x` alone says nothing of what it will be.
        let given_before = !matches!(scope.locals.get(name), None | Some(Local::Open));
        let known = !declares && (given_before || self.part(pattern, scope).is_some());
        let fresh = declares || self.rule.bindable.contains(name) || scope.locals.contains_key(name);
        if !known && fresh {
            let local = self.named(given, scope);
            scope.locals.insert(name.to_owned(), local);
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

/// A path under the input as it is written; an index that could be any is `[_]`.
pub(super) fn written(steps: &[Step]) -> String {
    let mut path = "input".to_owned();
    for step in steps {
        match step {
            Step::Name(name) => path.push_str(&format!(".{name}")),
            Step::Any => path.push_str(".[_]"),
        }
    }
    path
}

/// A call of a plain name, and its arguments.
pub(super) fn called(expression: &Ref<Expr>) -> Option<(String, &[Ref<Expr>])> {
    let Expr::Call { fcn, params, .. } = expression.as_ref() else {
        return None;
    };
    Some((static_path(fcn)?.join("."), params.as_slice()))
}
