//! Where a body compares, negates or passes on what may be null.

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, Query, Ref};

use super::known::{Body, Part, Scope, Subject, called, written};
use crate::policy::names::Callee;
use crate::policy::selection::{flatten, static_path};
use crate::policy::syntax::{Call, Step};

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
    /// It is only read: there must be such a member.
    Read,
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
            if let Some(subject) = self.suspect(expression, scope) {
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
                for parameter in params {
                    if !is_question && negated && !matches!(callee, Callee::Function(_)) {
                        used(parameter, How::Negated);
                    }
                }
                if let Callee::Function(path) = &callee {
                    self.passed(path, params, &name.join("."), scope, found);
                }
                if let Some(part) = self.part(expression, scope) {
                    self.read(part, offset(expression), found);
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
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let at = usize::try_from(expression.span().start).unwrap_or(usize::MAX);
                if let (Expr::Var { span, .. }, _) = flatten(expression)
                    && span.text() != "input"
                    && let Some(part) = self.part(expression, scope)
                {
                    self.read(part, at, found);
                }
                self.steps(expression, scope, negated, found);
            }
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Var { .. } => {}
        }
    }

    /// What is inside the steps of a reference, and its root where that is no name.
    fn steps(&self, expression: &Ref<Expr>, scope: &Scope, negated: bool, found: &mut Vec<Use>) {
        match expression.as_ref() {
            Expr::RefDot { refr, .. } => self.steps(refr, scope, negated, found),
            Expr::RefBrack { refr, index, .. } => {
                self.steps(refr, scope, negated, found);
                self.within(index, scope, negated, found);
            }
            _ => self.within(expression, scope, negated, found),
        }
    }

    /// Notes that a part of the input is read, for whoever knows its members.
    fn read(&self, part: Part, offset: usize, found: &mut Vec<Use>) {
        let subject = match part.argument {
            Some(argument) => Subject::Argument(argument, part.steps),
            None => Subject::Member(written(&part.steps)),
        };
        found.push(Use {
            subject,
            offset,
            how: How::Read,
        });
    }

    /// What a function of the bundle does with what it is given.
    fn passed(&self, path: &[String], params: &[Ref<Expr>], name: &str, scope: &Scope, found: &mut Vec<Use>) {
        for (at, parameter) in params.iter().enumerate() {
            let offset = usize::try_from(parameter.span().start).unwrap_or(usize::MAX);
            let part = self.part(parameter, scope);
            let of = |all: &[(Vec<String>, usize, Vec<Step>)]| -> Vec<Vec<Step>> {
                let wanted = all
                    .iter()
                    .filter(|(function, argument, _)| function == path && *argument == at);
                wanted.map(|(_, _, steps)| steps.clone()).collect()
            };
            for steps in of(&self.check.unproved) {
                let subject = match &part {
                    Some(part) => self.of_part(&part.clone().then(&steps)),
                    None => self.holds(parameter, scope),
                };
                if let Some(subject) = subject.filter(|subject| !scope.proved.contains(subject)) {
                    found.push(Use {
                        subject,
                        offset,
                        how: How::Passed(name.to_owned()),
                    });
                }
            }
            for steps in of(&self.check.read) {
                if let Some(part) = &part {
                    self.read(part.clone().then(&steps), offset, found);
                }
            }
        }
    }
}
