//! Names in a negation that nothing binds.
//!
//! `not data.revoked[x]` asks for every `x` at once, which Rego refuses and the engine answers with whatever it tries
//! first: a release could hang on it. So each name in a negation is an argument, a rule, an import, or bound by
//! something that holds in the same body or around it.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, Module as Tree, Query, Ref, Rule as Node, RuleHead};

use super::diagnostic::Diagnostic;
use super::names::{Meaning, Names};
use super::syntax::{Module, Reference};

/// Everything wrong in the modules of the bundle itself, the first `own`.
pub(super) fn check(names: &Names<'_>, trees: &[Ref<Tree>], own: usize) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (module, tree) in names.modules.iter().zip(trees).take(own) {
        let mut walk = Walk {
            names,
            module,
            found: &mut found,
        };
        for node in &tree.policy {
            walk.rule(node);
        }
    }
    found
}

type Bound = BTreeSet<String>;

struct Walk<'w, 'a> {
    names: &'w Names<'a>,
    module: &'w Module,
    found: &'w mut Vec<Diagnostic>,
}

impl Walk<'_, '_> {
    fn rule(&mut self, node: &Node) {
        let Node::Spec { head, bodies, .. } = node else {
            return;
        };
        let mut bound = Bound::new();
        if let RuleHead::Func { args, .. } = head {
            args.iter().for_each(|argument| pattern(argument, &mut bound));
        }
        for body in bodies {
            self.query(&body.query, &bound);
        }
    }

    fn query(&mut self, query: &Query, outer: &Bound) {
        let mut bound = outer.clone();
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeIn {
                    key,
                    value,
                    collection,
                    ..
                } => {
                    key.iter().for_each(|key| pattern(key, &mut bound));
                    pattern(value, &mut bound);
                    binds(collection, &mut bound);
                }
                Literal::Expr { expr, .. } => binds(expr, &mut bound),
                Literal::SomeVars { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => {}
            }
        }
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection, .. } => self.nested(collection, &bound),
                Literal::Expr { expr, .. } => self.nested(expr, &bound),
                Literal::NotExpr { expr, .. } => {
                    self.negated(expr, &bound);
                    self.nested(expr, &bound);
                }
                Literal::Every {
                    key,
                    value,
                    domain,
                    query,
                    ..
                } => {
                    self.nested(domain, &bound);
                    let mut inner = bound.clone();
                    inner.extend(key.iter().chain([value]).map(|name| name.text().to_owned()));
                    self.query(query, &inner);
                }
            }
        }
    }

    /// The queries inside an expression.
    fn nested(&mut self, expression: &Ref<Expr>, bound: &Bound) {
        match expression.as_ref() {
            Expr::ArrayCompr { query, .. }
            | Expr::SetCompr { query, .. }
            | Expr::ObjectCompr { query, .. } => self.query(query, bound),
            _ => children(expression, &mut |child| self.nested(child, bound)),
        }
    }

    /// Every name in a negated expression, but for what its own queries bind.
    fn negated(&mut self, expression: &Ref<Expr>, bound: &Bound) {
        match expression.as_ref() {
            Expr::Var { span, .. } => {
                let name = span.text();
                let reference = Reference {
                    root: name.to_owned(),
                    steps: Vec::new(),
                    offset: 0,
                };
                let known = bound.contains(name)
                    || (name != "_" && self.names.global(self.module, &reference) != Meaning::Unknown);
                if known {
                    return;
                }
                let offset = usize::try_from(span.start).unwrap_or(usize::MAX);
                let message = if name == "_" {
                    "`not` with `[_]` asks whether some item fails, not whether all do".to_owned()
                } else {
                    format!("`{name}` is bound by nothing outside of this `not`")
                };
                let place = Diagnostic::at_offset(&self.module.file, &self.module.text, offset, message);
                self.found.push(place.with_hint(
                    "put what is negated into a rule of its own, or say `every x in … { … }` or `not x in …`",
                ));
            }
            Expr::Call { params, .. } => {
                params.iter().for_each(|parameter| self.negated(parameter, bound));
            }
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
            _ => children(expression, &mut |child| self.negated(child, bound)),
        }
    }
}

/// Names in a place that binds them.
fn pattern(expression: &Ref<Expr>, bound: &mut Bound) {
    match expression.as_ref() {
        Expr::Var { span, .. } if span.text() != "_" => {
            bound.insert(span.text().to_owned());
        }
        Expr::Array { items, .. } => items.iter().for_each(|item| pattern(item, bound)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| pattern(value, bound)),
        _ => {}
    }
}

/// Names that a statement binds where it holds: by assignment, by unification, or as an index.
fn binds(expression: &Ref<Expr>, bound: &mut Bound) {
    match expression.as_ref() {
        Expr::AssignExpr { op, lhs, rhs, .. } => {
            pattern(lhs, bound);
            if *op == AssignOp::Eq {
                pattern(rhs, bound);
            }
        }
        Expr::RefBrack { index, .. } => pattern(index, bound),
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => return,
        _ => {}
    }
    children(expression, &mut |child| binds(child, bound));
}

/// The expressions directly inside one, its queries left out.
fn children(expression: &Ref<Expr>, visit: &mut dyn FnMut(&Ref<Expr>)) {
    match expression.as_ref() {
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(visit),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                visit(key);
                visit(value);
            }
        }
        Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => visit(term),
        Expr::ObjectCompr { key, value, .. } => {
            visit(key);
            visit(value);
        }
        Expr::Call { fcn, params, .. } => {
            visit(fcn);
            params.iter().for_each(visit);
        }
        Expr::UnaryExpr { expr, .. } => visit(expr),
        Expr::RefDot { refr, .. } => visit(refr),
        Expr::RefBrack { refr, index, .. } => {
            visit(refr);
            visit(index);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            visit(lhs);
            visit(rhs);
        }
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => {
            key.iter().for_each(&mut *visit);
            visit(value);
            visit(collection);
        }
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => {}
    }
}
