//! Chains of selections in the parser's tree: `a.b["c"][x]` as a root and its steps.

use regorus::unstable::{Expr, Ref};

/// One step, as it is written.
pub(super) enum Selected<'a> {
    /// `.name` or `["name"]`.
    Name(String),
    /// `[x]`.
    Index(&'a Ref<Expr>),
}

/// Takes a chain of selections apart: its root and its steps, in reading order.
pub(super) fn flatten(expression: &Ref<Expr>) -> (&Expr, Vec<Selected<'_>>) {
    let mut steps = Vec::new();
    let mut at = expression;
    loop {
        match at.as_ref() {
            Expr::RefDot { refr, field, .. } => {
                steps.push(Selected::Name(field.0.text().to_owned()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                match index.as_ref() {
                    Expr::String { value, .. } if value.as_string().is_ok() => {
                        steps.push(Selected::Name(
                            value.as_string().map(|s| s.to_string()).unwrap_or_default(),
                        ));
                    }
                    _ => steps.push(Selected::Index(index)),
                }
                at = refr;
            }
            root => {
                steps.reverse();
                return (root, steps);
            }
        }
    }
}

/// `a.b["c"]` as its names, or nothing if a step is not a name.
pub(super) fn static_path(expression: &Ref<Expr>) -> Option<Vec<String>> {
    let (root, steps) = flatten(expression);
    let Expr::Var { span, .. } = root else { return None };
    let mut path = vec![span.text().to_owned()];
    for step in steps {
        match step {
            Selected::Name(name) => path.push(name),
            Selected::Index(_) => return None,
        }
    }
    Some(path)
}

/// Whether a word can be written after a dot.
pub(super) fn is_name(word: &str) -> bool {
    let mut characters = word.chars();
    characters
        .next()
        .is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && characters.all(|c| c == '_' || c.is_ascii_alphanumeric())
}
