//! A condition of a body, taken out of the parser's tree: its text, the names in it, what it looks at and what it
//! needs.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Span};

use super::target::Target;
use crate::policy::selection::{Selected, flatten, static_path};
use crate::policy::syntax::{Module, Rule};

/// Most values that are shown for a condition.
const MAX_VALUES: usize = 8;

/// A condition.
pub(super) struct Condition {
    /// Its text, `with` included.
    pub(super) text: String,
    /// Its place in the file, in bytes.
    pub(super) offset: usize,
    /// Whether it is a `not`.
    pub(super) negated: bool,
    /// Whether it takes items out of something: `some x in …`.
    pub(super) takes: bool,
    /// Whether it only gives a name to a value: `x := …`.
    pub(super) assigns: bool,
    /// Names in it that this rule binds somewhere.
    pub(super) locals: BTreeSet<String>,
    /// What it looks at, as terms.
    pub(super) values: Vec<String>,
    /// Rules and functions that it needs.
    pub(super) targets: Vec<Target>,
    /// Documents that it replaces: the text of what is replaced and of what by.
    pub(super) with: Vec<(String, String)>,
    /// For `every`: names, domain and body, to find an item that fails.
    pub(super) every: Option<(String, String, String)>,
}

impl Condition {
    /// A condition that looks at nothing else.
    pub(super) fn plain(text: String, offset: usize) -> Condition {
        Condition {
            text,
            offset,
            negated: false,
            takes: false,
            assigns: false,
            locals: BTreeSet::new(),
            values: Vec::new(),
            targets: Vec::new(),
            with: Vec::new(),
            every: None,
        }
    }
}

/// What conditions are taken out of.
pub(super) struct Reader<'a> {
    pub(super) module: &'a Module,
    pub(super) rule: &'a Rule,
}

/// From where an expression begins to where it ends; a call's own span begins behind its name.
pub(super) fn slice<'t>(module: &'t Module, expression: &Ref<Expr>) -> &'t str {
    let end = usize::try_from(expression.span().end).unwrap_or(usize::MAX);
    quoted(&module.text, begin(expression), end)
}

/// A piece of text with the quotes at its ends: the parser's places of a string are those of what is in it.
fn quoted(text: &str, begin: usize, end: usize) -> &str {
    let is_quote = |at: Option<usize>| {
        let byte = at.and_then(|at| text.as_bytes().get(at));
        matches!(byte, Some(b'"' | b'`'))
    };
    let begin = match begin.checked_sub(1) {
        Some(before) if is_quote(Some(before)) => before,
        _ => begin,
    };
    let end = if is_quote(Some(end)) {
        end.saturating_add(1)
    } else {
        end
    };
    text.get(begin..end).unwrap_or_default()
}

fn begin(expression: &Ref<Expr>) -> usize {
    let own = usize::try_from(expression.span().start).unwrap_or(usize::MAX);
    match expression.as_ref() {
        Expr::Call { fcn, .. } => own.min(begin(fcn)),
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => own.min(begin(refr)),
        _ => own,
    }
}

impl Reader<'_> {
    pub(super) fn condition(&self, statement: &LiteralStmt) -> Condition {
        let mut condition = Condition {
            negated: matches!(statement.literal, Literal::NotExpr { .. }),
            takes: matches!(statement.literal, Literal::SomeIn { .. }),
            assigns: matches!(&statement.literal, Literal::Expr { expr, .. }
                if matches!(expr.as_ref(), Expr::AssignExpr { op: AssignOp::ColEq, .. })),
            with: statement
                .with_mods
                .iter()
                .map(|with| {
                    let text = |part: &Ref<Expr>| slice(self.module, part).to_owned();
                    (text(&with.refr), text(&with.r#as))
                })
                .collect(),
            ..Condition::plain(
                span_text(&statement.span),
                usize::try_from(statement.span.start).unwrap_or(usize::MAX),
            )
        };
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                condition
                    .locals
                    .extend(vars.iter().map(|name| name.text().to_owned()));
            }
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                for pattern in key.iter().chain([value]) {
                    self.names(pattern, &mut condition.locals);
                }
                self.names(collection, &mut condition.locals);
                self.looked_at(collection, &mut condition, true);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => {
                self.names(expr, &mut condition.locals);
                self.looked_at(expr, &mut condition, true);
            }
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                self.names(domain, &mut condition.locals);
                self.query_names(query, &mut condition.locals);
                for name in key.iter().chain([value]) {
                    condition.locals.remove(name.text());
                }
                self.looked_at(domain, &mut condition, false);
                let names = match key {
                    Some(key) => format!("{}, {}", key.text(), value.text()),
                    None => value.text().to_owned(),
                };
                let body: Vec<String> = query.stmts.iter().map(|one| span_text(&one.span)).collect();
                let domain = slice(self.module, domain).to_owned();
                condition.every = Some((names, domain, body.join("; ")));
            }
        }
        condition.values.dedup();
        condition.values.truncate(MAX_VALUES);
        condition
    }

    /// An expression whose value a head takes, as a condition.
    pub(super) fn head(&self, expression: &Ref<Expr>) -> Option<Condition> {
        if is_constant(expression) {
            return None;
        }
        let text = format!(":= {}", slice(self.module, expression));
        let mut condition = Condition::plain(text, begin(expression));
        self.names(expression, &mut condition.locals);
        self.looked_at(expression, &mut condition, true);
        condition.values.truncate(MAX_VALUES);
        Some(condition)
    }

    /// Names in an expression that are bound within the rule.
    pub(super) fn names(&self, expression: &Ref<Expr>, found: &mut BTreeSet<String>) {
        walk(expression, &mut |at| {
            if let Expr::Var { span, .. } = at {
                let name = span.text();
                if self.rule.locals.contains(name) || self.rule.bindable.contains(name) {
                    found.insert(name.to_owned());
                }
            }
        });
    }

    fn query_names(&self, query: &Query, found: &mut BTreeSet<String>) {
        for statement in &query.stmts {
            for part in parts(&statement.literal) {
                self.names(part, found);
            }
        }
    }

    /// What an expression looks at. `whole`: it is the whole condition, whose value is its outcome.
    fn looked_at(&self, expression: &Ref<Expr>, condition: &mut Condition, whole: bool) {
        match expression.as_ref() {
            Expr::Var { span, .. } => {
                let target = Target::reference(self.rule, span.text(), &[], condition.offset);
                condition.targets.extend(target);
                if span.text() != "_" {
                    self.value(span.text().to_owned(), condition);
                }
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let (root, steps) = flatten(expression);
                if let Expr::Var { span, .. } = root {
                    let fixed: Vec<String> = steps
                        .iter()
                        .map_while(|step| match step {
                            Selected::Name(name) => Some(name.clone()),
                            Selected::Index(_) => None,
                        })
                        .collect();
                    let target = Target::reference(self.rule, span.text(), &fixed, condition.offset);
                    condition.targets.extend(target);
                    self.value(slice(self.module, expression).to_owned(), condition);
                }
                for step in steps {
                    if let Selected::Index(index) = step {
                        self.looked_at(index, condition, false);
                    }
                }
            }
            Expr::Call { fcn, params, .. } => {
                if let Some(path) = static_path(fcn) {
                    let arguments = params.iter().map(|one| slice(self.module, one).to_owned());
                    condition
                        .targets
                        .push(Target::call(path, arguments.collect(), condition.offset));
                }
                if !whole {
                    self.value(slice(self.module, expression).to_owned(), condition);
                }
                for parameter in params {
                    self.looked_at(parameter, condition, false);
                }
            }
            Expr::UnaryExpr { expr, .. } => self.looked_at(expr, condition, false),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. } => {
                self.looked_at(lhs, condition, false);
                self.looked_at(rhs, condition, false);
            }
            Expr::AssignExpr { lhs, rhs, op, .. } => {
                if matches!(op, AssignOp::Eq) {
                    self.looked_at(lhs, condition, false);
                }
                self.looked_at(rhs, condition, false);
            }
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                for part in key.iter().chain([value, collection]) {
                    self.looked_at(part, condition, false);
                }
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items
                    .iter()
                    .for_each(|item| self.looked_at(item, condition, false));
            }
            // What is inside a comprehension has names of its own; constants say what they are.
            _ => {}
        }
    }

    fn value(&self, term: String, condition: &mut Condition) {
        if !condition.values.contains(&term) {
            condition.values.push(term);
        }
    }
}

fn span_text(span: &Span) -> String {
    let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    let text = quoted(span.source.get_contents(), place(span.start), place(span.end));
    text.trim_end().to_owned()
}

fn is_constant(expression: &Ref<Expr>) -> bool {
    matches!(
        expression.as_ref(),
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    )
}

/// The expressions of a literal.
fn parts(literal: &Literal) -> Vec<&Ref<Expr>> {
    match literal {
        Literal::SomeVars { .. } => Vec::new(),
        Literal::SomeIn {
            key,
            value,
            collection,
            ..
        } => key.iter().chain([value, collection]).collect(),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => vec![expr],
        Literal::Every { domain, .. } => vec![domain],
    }
}

/// Visits an expression and all below it.
fn walk(expression: &Ref<Expr>, visit: &mut dyn FnMut(&Expr)) {
    visit(expression);
    let query = |query: &Query, visit: &mut dyn FnMut(&Expr)| {
        for statement in &query.stmts {
            for part in parts(&statement.literal) {
                walk(part, visit);
            }
        }
    };
    match expression.as_ref() {
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().for_each(|item| walk(item, visit))
        }
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                walk(key, visit);
                walk(value, visit);
            }
        }
        Expr::ArrayCompr {
            term, query: body, ..
        }
        | Expr::SetCompr {
            term, query: body, ..
        } => {
            walk(term, visit);
            query(body, visit);
        }
        Expr::ObjectCompr {
            key,
            value,
            query: body,
            ..
        } => {
            walk(key, visit);
            walk(value, visit);
            query(body, visit);
        }
        Expr::Call { params, .. } => params.iter().for_each(|one| walk(one, visit)),
        Expr::UnaryExpr { expr, .. } => walk(expr, visit),
        Expr::RefDot { refr, .. } => walk(refr, visit),
        Expr::RefBrack { refr, index, .. } => {
            walk(refr, visit);
            walk(index, visit);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            walk(lhs, visit);
            walk(rhs, visit);
        }
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => key
            .iter()
            .chain([value, collection])
            .for_each(|one| walk(one, visit)),
        _ => {}
    }
}
