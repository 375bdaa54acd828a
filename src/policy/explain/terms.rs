//! Terms that conditions are asked with, and what comes back.

use regorus::Value;
use regorus::unstable::{Expr, Ref};

use super::literal::slice;
use super::values;
use crate::policy::syntax::Module;

/// Most different values that one term is shown with.
const MAX_SHOWN: usize = 3;

/// Arguments as conditions that bind their names, and the patterns that they must fit, as (pattern, value); none
/// where a value is too large to be written.
pub(super) fn given(module: &Module, patterns: &[Ref<Expr>], arguments: &[Value]) -> Option<Given> {
    let mut given = Given::default();
    for (pattern, value) in patterns.iter().zip(arguments) {
        let value = values::whole(value)?;
        match pattern.as_ref() {
            Expr::Var { span, .. } if span.text() == "_" => {}
            Expr::Var { span, .. } => given.bound.push(format!("{} := {value}", span.text())),
            _ => {
                let pattern = slice(module, pattern).to_owned();
                given.bound.push(format!("{pattern} = {value}"));
                given.patterns.push((pattern, value));
            }
        }
    }
    Some(given)
}

/// What a function is called with.
#[derive(Default)]
pub(super) struct Given {
    pub(super) bound: Vec<String>,
    pub(super) patterns: Vec<(String, String)>,
}

/// `[term | conditions]`.
pub(super) fn comprehension(term: &str, conditions: &[String], last: Option<&str>) -> String {
    let mut all: Vec<&str> = conditions.iter().map(String::as_str).chain(last).collect();
    if all.is_empty() {
        all.push("true");
    }
    format!("[{term} |\n\t{}\n]", all.join("\n\t"))
}

pub(super) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(array) => array.iter().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The different values of a term over all ways in which the conditions before it hold.
pub(super) fn several(answer: Value) -> Option<String> {
    let mut different: Vec<Value> = Vec::new();
    for value in items(answer).into_iter().flat_map(items) {
        if !different.contains(&value) && different.len() < 1_000 {
            different.push(value);
        }
    }
    let shown: Vec<String> = different.iter().take(MAX_SHOWN).map(values::short).collect();
    match different.len() {
        0 => None,
        count if count > MAX_SHOWN => Some(format!("{}, … ({count} values)", shown.join(", "))),
        _ => Some(shown.join(", ")),
    }
}
