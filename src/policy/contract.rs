//! The contract between a policy and the server, as far as its text shows it: which rules there are, and what kind of
//! value each is given.
//!
//! A value that is written out is checked here; one that is computed is checked when a policy is asked, and denies.

use std::collections::BTreeMap;

use regorus::Value;
use regorus::unstable::{Expr, Module as Tree, Ref, Rule as Node, RuleHead};

use super::check::at;
use super::diagnostic::Diagnostic;
use super::names::Names;
use super::question::MAX_RELEASE_LIMIT;
use super::syntax::{Form, Module, Rule};

/// What is known of the definitions of one package's `allow`.
#[derive(Default)]
struct Allow<'a> {
    first: Option<(&'a Module, &'a Rule)>,
    default: Option<(&'a Module, &'a Rule)>,
    /// Whether a definition has no condition, so that there is always a value.
    always: bool,
}

/// What is wrong and what is doubtful in the modules of the bundle itself, the first `own`.
pub(super) fn check(
    names: &Names<'_>,
    trees: &[Ref<Tree>],
    own: usize,
) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let mut wrong = Vec::new();
    let mut policies: BTreeMap<&[String], Allow<'_>> = BTreeMap::new();
    for (module, tree) in names.modules.iter().zip(trees).take(own) {
        for (rule, node) in module.rules.iter().zip(&tree.policy) {
            let [name] = rule.name.as_slice() else { continue };
            if rule.partial && rule.form != Form::Set {
                continue;
            }
            wrong.extend(values(rule, node).filter_map(|value| {
                let (problem, hint) = problem(name, rule.form, value)?;
                let offset = match value {
                    Given::Value(expression) if rule.form != Form::Default => start(expression),
                    _ => rule.offset,
                };
                Some(at(module, offset, problem).with_hint(hint))
            }));
            if name == "allow" {
                let allow = policies.entry(module.package.as_slice()).or_default();
                match rule.form {
                    Form::Default => allow.default = Some((module, rule)),
                    _ => {
                        allow.first.get_or_insert((module, rule));
                        allow.always |=
                            matches!(node.as_ref(), Node::Spec { bodies, .. } if bodies.is_empty());
                    }
                }
            }
        }
    }
    (wrong, policies.values().filter_map(doubtful).collect())
}

/// A policy without a default, or with nothing else.
fn doubtful(allow: &Allow<'_>) -> Option<Diagnostic> {
    match (allow.first, allow.default) {
        (Some((module, rule)), None) if !allow.always => Some(
            at(module, rule.offset, "`allow` has no default".to_owned())
                .with_hint("where no condition holds it is undefined, which denies as an error; `default allow := false` denies as a decision")
                .warning(),
        ),
        (None, Some((module, rule))) => Some(
            at(module, rule.offset, "this policy always denies: `allow` has only its default".to_owned())
                .with_hint("add a rule `allow if { … }`")
                .warning(),
        ),
        _ => None,
    }
}

/// What a definition gives.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// `true`, by having a body and no value.
    True,
    /// A member of a set.
    Member,
    Value(&'a Ref<Expr>),
}

/// What a definition gives in each of its bodies.
fn values<'a>(rule: &Rule, node: &'a Node) -> impl Iterator<Item = Given<'a>> {
    let (first, others) = match node {
        Node::Default { value, .. } => (Some(Given::Value(value)), None),
        Node::Spec { head, bodies, .. } => {
            let first = match head {
                RuleHead::Set { .. } => Some(Given::Member),
                RuleHead::Func { .. } => None,
                RuleHead::Compr { assign, .. } => Some(match assign {
                    Some(assign) => Given::Value(&assign.value),
                    None => Given::True,
                }),
            };
            (first, Some(bodies))
        }
    };
    let is_value = rule.form == Form::Value;
    let others = others
        .into_iter()
        .flatten()
        .filter(move |body| body.is_else && is_value);
    let others = others.map(|body| match &body.assign {
        Some(assign) => Given::Value(&assign.value),
        None => Given::True,
    });
    first.into_iter().chain(others)
}

/// Why the server could never take this value for the rule of this name, and what to write.
fn problem(name: &str, form: Form, value: Given<'_>) -> Option<(String, String)> {
    let kind = match value {
        Given::True => "true".to_owned(),
        Given::Member => "a set".to_owned(),
        Given::Value(expression) => kind(expression)?,
    };
    let (expected, hint) = match name {
        "allow" | "allow_launch" if form == Form::Default => {
            if kind == "false" {
                return None;
            }
            let message = format!("the default of `{name}` must be `false`; here it is {kind}");
            return Some((
                message,
                format!("write `default {name} := false`, and `{name} if {{ … }}` for what is allowed"),
            ));
        }
        "allow" | "allow_launch" => {
            if kind == "true" || kind == "false" {
                return None;
            }
            ("exactly `true`", format!("write `{name} if {{ … }}`"))
        }
        "deny" | "deny_launch" => {
            if kind == "a set" {
                return None;
            }
            (
                "a set of messages",
                format!("write `{name} contains \"why\" if {{ … }}`"),
            )
        }
        "release_limit" => {
            if let Given::Value(expression) = value
                && number(expression).is_some_and(is_limit)
            {
                return None;
            }
            ("a whole number from 0 to 2^53", format!("write `{name} := 3`"))
        }
        _ => return None,
    };
    Some((format!("`{name}` must be {expected}; here it is {kind}"), hint))
}

fn is_limit(number: f64) -> bool {
    // Whole numbers up to 2^53 are exact; the next one that is read is 2^53 + 2 or rounds to 2^53.
    number >= 0.0 && number.fract() == 0.0 && number <= 9_007_199_254_740_992.0
}

/// The kind of a value that is written out; nothing for one that is computed.
fn kind(expression: &Ref<Expr>) -> Option<String> {
    Some(match expression.as_ref() {
        Expr::String { .. } | Expr::RawString { .. } => "a string".to_owned(),
        Expr::Bool { value, .. } => value.to_string(),
        Expr::Null { .. } => "null".to_owned(),
        Expr::Array { .. } | Expr::ArrayCompr { .. } => "an array".to_owned(),
        Expr::Set { .. } | Expr::SetCompr { .. } => "a set".to_owned(),
        Expr::Object { .. } | Expr::ObjectCompr { .. } => "an object".to_owned(),
        Expr::Number { .. } | Expr::UnaryExpr { .. } => {
            let text = expression.span().text().trim();
            number(expression)?;
            format!("the number {text}")
        }
        _ => return None,
    })
}

/// Where an expression begins; the engine places a text after its quote.
fn start(expression: &Ref<Expr>) -> usize {
    let start = usize::try_from(expression.span().start).unwrap_or(usize::MAX);
    match expression.as_ref() {
        Expr::String { .. } | Expr::RawString { .. } => start.saturating_sub(1),
        _ => start,
    }
}

/// A number that is written out, with or without a sign.
fn number(expression: &Ref<Expr>) -> Option<f64> {
    match expression.as_ref() {
        Expr::Number {
            value: Value::Number(number),
            ..
        } => {
            // Past 2^53 a detour over a float could round to what is allowed.
            match number.as_u64() {
                Some(whole) if whole > MAX_RELEASE_LIMIT => Some(f64::MAX),
                _ => number.as_f64(),
            }
        }
        Expr::UnaryExpr { expr, .. } => number(expr).map(|number| -number),
        _ => None,
    }
}
