//! Where a body compares, negates or passes on what may be null.

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, Query, Ref};

use super::known::{Body, Scope, Subject, called};
use crate::policy::names::Callee;
use crate::policy::selection::static_path;
use crate::policy::syntax::Call;

/// A use of something that may be null.
pub(super) struct Use {
    pub(super) subject: Subject,
    pub(super) offset: usize,
    pub(super) how: How,
}

pub(super) enum How {
    Compared,
    Negated,
    Passed(String),
}

impl Body<'_, '_> {
    /// Looks at a query; what is known where all of it holds.
    pub(super) fn query(&self, query: &Query, outer: &Scope, found: &mut Vec<Use>) -> Scope {
        let mut scope = outer.clone();
        for statement in &query.stmts {
            self.bind(&statement.literal, &mut scope);
        }
        for statement in &query.stmts {
            match &statement.literal {
                Literal::Expr { expr, .. } => self.prove(expr, &mut scope),
                // `not is_null(x)`.
                Literal::NotExpr { expr, .. } => {
                    if let Some((name, arguments)) = called(expr)
                        && name == "is_null"
                        && let Some(subject) = arguments.first().and_then(|at| self.subject(at, &scope))
                    {
                        scope.proved.push(subject);
                    }
                }
                _ => {}
            }
        }
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection, .. } => self.expression(collection, &scope, false, found),
                Literal::Expr { expr, .. } => self.expression(expr, &scope, false, found),
                Literal::NotExpr { expr, .. } => self.expression(expr, &scope, true, found),
                Literal::Every {
                    key,
                    value,
                    domain,
                    query,
                    ..
                } => {
                    self.expression(domain, &scope, false, found);
                    let mut inner = scope.clone();
                    for name in key.iter().chain([value]) {
                        let local = self.item_of(domain, &scope);
                        inner.locals.insert(name.text().to_owned(), local);
                    }
                    self.query(query, &inner, found);
                }
            }
        }
        scope
    }

    pub(super) fn expression(
        &self,
        expression: &Ref<Expr>,
        scope: &Scope,
        negated: bool,
        found: &mut Vec<Use>,
    ) {
        let offset = |expression: &Ref<Expr>| usize::try_from(expression.span().start).unwrap_or(usize::MAX);
        let mut used = |expression: &Ref<Expr>, how: How| {
            if let Some(subject) = self.unproved(expression, scope) {
                found.push(Use {
                    subject,
                    offset: offset(expression),
                    how,
                });
            }
        };
        match expression.as_ref() {
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let null = |side: &Ref<Expr>| matches!(side.as_ref(), Expr::Null { .. });
                let asks_for_null = null(lhs) || null(rhs);
                let orders = !matches!(op, BoolOp::Eq) && !asks_for_null;
                for side in [lhs, rhs] {
                    if orders {
                        used(side, How::Compared);
                    } else if negated && !asks_for_null {
                        used(side, How::Negated);
                    }
                }
                for side in [lhs, rhs] {
                    self.within(side, scope, negated, found);
                }
            }
            Expr::Call { fcn, params, .. } => {
                let name = static_path(fcn).unwrap_or_default();
                let call = Call {
                    path: name.clone(),
                    arguments: params.len(),
                    offset: 0,
                };
                let callee = self.check.names.callee(self.module, &call);
                let asks = ["is_number", "is_string", "is_boolean", "is_null", "type_name"];
                let is_question = matches!(&callee, Callee::BuiltIn(name) if asks.contains(&name.as_str()));
                for (at, parameter) in params.iter().enumerate() {
                    if is_question {
                        continue;
                    }
                    match &callee {
                        Callee::Function(path) if self.check.unproved.contains(&(path.clone(), at)) => {
                            used(parameter, How::Passed(name.join(".")));
                        }
                        _ if negated => used(parameter, How::Negated),
                        _ => {}
                    }
                }
                for parameter in params {
                    self.within(parameter, scope, negated, found);
                }
            }
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                if negated {
                    used(value, How::Negated);
                }
                for part in key.iter().chain([value, collection]) {
                    self.within(part, scope, negated, found);
                }
            }
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                if negated && *op == AssignOp::Eq {
                    for side in [lhs, rhs] {
                        used(side, How::Negated);
                    }
                }
                for side in [lhs, rhs] {
                    self.within(side, scope, negated, found);
                }
            }
            _ => {
                if negated {
                    used(expression, How::Negated);
                }
                self.within(expression, scope, negated, found);
            }
        }
    }

    /// What is inside an expression.
    fn within(&self, expression: &Ref<Expr>, scope: &Scope, negated: bool, found: &mut Vec<Use>) {
        match expression.as_ref() {
            Expr::BoolExpr { .. } | Expr::Call { .. } | Expr::Membership { .. } | Expr::AssignExpr { .. } => {
                self.expression(expression, scope, negated, found)
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items
                    .iter()
                    .for_each(|item| self.within(item, scope, negated, found));
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.within(key, scope, negated, found);
                    self.within(value, scope, negated, found);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                let inner = self.query(query, scope, found);
                self.within(term, &inner, false, found);
            }
            Expr::ObjectCompr {
                key, value, query, ..
            } => {
                let inner = self.query(query, scope, found);
                self.within(key, &inner, false, found);
                self.within(value, &inner, false, found);
            }
            Expr::UnaryExpr { expr, .. } => self.within(expr, scope, negated, found),
            Expr::BinExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
                self.within(lhs, scope, negated, found);
                self.within(rhs, scope, negated, found);
            }
            Expr::RefDot { refr, .. } => self.within(refr, scope, negated, found),
            Expr::RefBrack { refr, index, .. } => {
                self.within(refr, scope, negated, found);
                self.within(index, scope, negated, found);
            }
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Var { .. } => {}
        }
    }
}
