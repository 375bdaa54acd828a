//! What a parsed module says, taken out of the parser's tree: its package, imports and rules, and which names each
//! rule binds, reads and calls.
//!
//! This file and `selection` are the only ones that know regorus's syntax tree.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, Module as Tree, Query, Ref, Rule as Node, RuleHead};

use super::selection::{Selected, flatten, is_name, static_path};

/// A step of a reference after its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `["name"]`.
    Name(String),
    /// `[x]`: any.
    Any,
}

/// A name and what is selected from it, such as `input.attested.policy_bits[x]`.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) root: String,
    pub(super) steps: Vec<Step>,
    pub(super) offset: usize,
}

/// A call of a function or built-in.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) path: Vec<String>,
    pub(super) arguments: usize,
    pub(super) offset: usize,
}

/// How a rule defines its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Value,
    Set,
    Function { arity: usize },
    Default,
    DefaultFunction { arity: usize },
}

/// One definition of a rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The static part of the head: `["limits", "disk"]` for `limits.disk[x]`.
    pub(super) name: Vec<String>,
    /// Whether the head goes on after the static part.
    pub(super) partial: bool,
    pub(super) form: Form,
    pub(super) offset: usize,
    /// Names bound by `:=`, `some`, `every` or as an argument, with where.
    pub(super) locals: BTreeSet<String>,
    /// Names that unification or an index may bind, unless they name a rule or an import.
    pub(super) bindable: BTreeSet<String>,
    pub(super) references: Vec<Reference>,
    pub(super) calls: Vec<Call>,
    /// Where `with` is used.
    pub(super) with: Option<usize>,
}

/// One import.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    pub(super) alias: String,
    pub(super) offset: usize,
}

/// One module.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) file: String,
    pub(super) text: String,
    /// The package's path without `data`; empty where it is not a path of plain names.
    pub(super) package: Vec<String>,
    pub(super) package_offset: usize,
    pub(super) imports: Vec<Import>,
    pub(super) rules: Vec<Rule>,
}

impl Module {
    /// Summarises a parsed module. Recurses on the tree: only on a big stack, after the scan.
    pub(super) fn of(tree: &Tree) -> Module {
        let source = &tree.package.span.source;
        Module {
            file: source.get_path().clone(),
            text: source.get_contents().clone(),
            package: static_path(&tree.package.refr)
                .filter(|path| path.iter().all(|p| is_name(p)))
                .unwrap_or_default(),
            package_offset: offset(tree.package.refr.span().start),
            imports: tree
                .imports
                .iter()
                .map(|import| {
                    let path = static_path(&import.refr).unwrap_or_default();
                    let alias = match &import.r#as {
                        Some(alias) => alias.text().to_owned(),
                        None => path.last().cloned().unwrap_or_default(),
                    };
                    Import {
                        path,
                        alias,
                        offset: offset(import.refr.span().start),
                    }
                })
                .collect(),
            rules: tree.policy.iter().map(|rule| Rule::of(rule)).collect(),
        }
    }
}

impl Rule {
    /// Each way in which a definition can give a value: its first body and every `else`, as a rule of its own.
    pub(super) fn branches(node: &Node) -> Vec<Rule> {
        match node {
            Node::Spec { bodies, .. } if bodies.len() > 1 => {
                (0..bodies.len()).map(|at| Rule::with(node, Some(at))).collect()
            }
            _ => vec![Rule::of(node)],
        }
    }

    fn of(node: &Node) -> Rule {
        Rule::with(node, None)
    }

    /// With all bodies, or only one of them.
    fn with(node: &Node, only: Option<usize>) -> Rule {
        let mut rule = Rule {
            name: Vec::new(),
            partial: false,
            form: Form::Value,
            offset: offset(node.span().start),
            locals: BTreeSet::new(),
            bindable: BTreeSet::new(),
            references: Vec::new(),
            calls: Vec::new(),
            with: None,
        };
        match node {
            Node::Default {
                refr, args, value, ..
            } => {
                rule.form = match args.len() {
                    0 => Form::Default,
                    arity => Form::DefaultFunction { arity },
                };
                rule.head(refr);
                args.iter().for_each(|argument| rule.pattern(argument));
                rule.expression(value);
            }
            Node::Spec { head, bodies, .. } => {
                let assign = match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        rule.head(refr);
                        assign.as_ref()
                    }
                    RuleHead::Set { refr, key, .. } => {
                        rule.form = Form::Set;
                        rule.head(refr);
                        key.iter().for_each(|key| rule.expression(key));
                        None
                    }
                    RuleHead::Func {
                        refr, args, assign, ..
                    } => {
                        rule.form = Form::Function { arity: args.len() };
                        rule.head(refr);
                        args.iter().for_each(|argument| rule.pattern(argument));
                        assign.as_ref()
                    }
                };
                if only.is_none_or(|only| only == 0) {
                    assign.iter().for_each(|assign| rule.expression(&assign.value));
                }
                for (at, body) in bodies.iter().enumerate() {
                    if only.is_some_and(|only| only != at) {
                        continue;
                    }
                    if only.is_some() && at > 0 {
                        rule.offset = offset(body.span.start);
                    }
                    body.assign
                        .iter()
                        .for_each(|assign| rule.expression(&assign.value));
                    rule.query(&body.query);
                }
            }
        }
        rule
    }

    fn head(&mut self, head: &Ref<Expr>) {
        self.offset = offset(head.span().start);
        let (root, steps) = flatten(head);
        if let Expr::Var { span, .. } = root {
            self.name.push(span.text().to_owned());
        }
        for step in steps {
            match step {
                Selected::Name(name) if !self.partial => self.name.push(name),
                Selected::Name(_) => {}
                Selected::Index(index) => {
                    self.partial = true;
                    self.expression(index);
                }
            }
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            if let Some(with) = statement.with_mods.first() {
                self.with.get_or_insert(offset(with.span.start));
            }
            match &statement.literal {
                Literal::SomeVars { vars, .. } => {
                    self.locals.extend(vars.iter().map(|name| name.text().to_owned()));
                }
                Literal::SomeIn {
                    key,
                    value,
                    collection,
                    ..
                } => {
                    key.iter().for_each(|key| self.pattern(key));
                    self.pattern(value);
                    self.expression(collection);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expression(expr),
                Literal::Every {
                    key,
                    value,
                    domain,
                    query,
                    ..
                } => {
                    self.locals.extend(key.iter().map(|name| name.text().to_owned()));
                    self.locals.insert(value.text().to_owned());
                    self.expression(domain);
                    self.query(query);
                }
            }
        }
    }

    /// A place that binds the names in it.
    fn pattern(&mut self, pattern: &Ref<Expr>) {
        match pattern.as_ref() {
            Expr::Var { span, .. } => {
                self.locals.insert(span.text().to_owned());
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.pattern(item)),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expression(key);
                    self.pattern(value);
                }
            }
            _ => self.expression(pattern),
        }
    }

    /// A place where a name is bound if nothing else has that name.
    fn unified(&mut self, expression: &Ref<Expr>) {
        match expression.as_ref() {
            Expr::Var { span, .. } => {
                self.bindable.insert(span.text().to_owned());
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.unified(item)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.unified(value)),
            _ => {}
        }
        self.expression(expression);
    }

    fn expression(&mut self, expression: &Ref<Expr>) {
        match expression.as_ref() {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expression),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.expression(item));
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expression(key);
                    self.expression(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expression(term);
                self.query(query);
            }
            Expr::ObjectCompr {
                key, value, query, ..
            } => {
                self.expression(key);
                self.expression(value);
                self.query(query);
            }
            Expr::Call { fcn, params, .. } => {
                match static_path(fcn) {
                    Some(path) => self.calls.push(Call {
                        path,
                        arguments: params.len(),
                        offset: offset(fcn.span().start),
                    }),
                    None => self.expression(fcn),
                }
                params.iter().for_each(|parameter| self.expression(parameter));
            }
            Expr::UnaryExpr { expr, .. } => self.expression(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. } => {
                self.expression(lhs);
                self.expression(rhs);
            }
            Expr::AssignExpr {
                op: AssignOp::ColEq,
                lhs,
                rhs,
                ..
            } => {
                self.pattern(lhs);
                self.expression(rhs);
            }
            Expr::AssignExpr {
                op: AssignOp::Eq,
                lhs,
                rhs,
                ..
            } => {
                self.unified(lhs);
                self.unified(rhs);
            }
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                key.iter().for_each(|key| self.expression(key));
                self.expression(value);
                self.expression(collection);
            }
        }
    }

    fn reference(&mut self, expression: &Ref<Expr>) {
        let (root, selected) = flatten(expression);
        let mut steps = Vec::new();
        for step in selected {
            match step {
                Selected::Name(name) => steps.push(Step::Name(name)),
                Selected::Index(index) => {
                    steps.push(Step::Any);
                    self.unified(index);
                }
            }
        }
        match root {
            Expr::Var { span, .. } => {
                self.references.push(Reference {
                    root: span.text().to_owned(),
                    steps,
                    offset: offset(span.start),
                });
            }
            _ => self.root_expression(expression),
        }
    }

    /// The root of a reference that is no name: a call, a literal, a comprehension.
    fn root_expression(&mut self, expression: &Ref<Expr>) {
        let mut at = expression;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at.as_ref() {
            at = refr;
        }
        self.expression(at);
    }
}

fn offset(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
