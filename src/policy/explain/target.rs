//! What a condition needs: rules, and functions with their arguments.

use crate::policy::names::{Callee, Meaning, Names};
use crate::policy::syntax::{Call, Module, Reference, Rule, Step};

/// A rule or a function that a condition names.
pub(super) struct Target {
    path: Vec<String>,
    /// Terms of the arguments; none: it is no call.
    pub(super) arguments: Option<Vec<String>>,
    reference: Option<Reference>,
    offset: usize,
}

impl Target {
    /// A name with what is selected from it, unless it is bound within the rule.
    pub(super) fn reference(rule: &Rule, root: &str, steps: &[String], offset: usize) -> Option<Target> {
        if rule.locals.contains(root) || root == "input" || root == "_" {
            return None;
        }
        Some(Target {
            path: Vec::new(),
            arguments: None,
            reference: Some(Reference {
                root: root.to_owned(),
                steps: steps.iter().cloned().map(Step::Name).collect(),
                offset,
            }),
            offset,
        })
    }

    pub(super) fn call(path: Vec<String>, arguments: Vec<String>, offset: usize) -> Target {
        Target {
            path,
            arguments: Some(arguments),
            reference: None,
            offset,
        }
    }

    /// The path of the rule or function that is meant, if it is one of the bundle's or the library's.
    pub(super) fn resolve(&self, names: &Names<'_>, module: &Module) -> Option<Vec<String>> {
        if let Some(arguments) = &self.arguments {
            let call = Call {
                path: self.path.clone(),
                arguments: arguments.len(),
                offset: self.offset,
            };
            return match names.callee(module, &call) {
                Callee::Function(path) => Some(path),
                Callee::BuiltIn(_) => None,
            };
        }
        let Meaning::Data(steps) = names.global(module, self.reference.as_ref()?) else {
            return None;
        };
        let path: Vec<String> = steps
            .iter()
            .map_while(|step| match step {
                Step::Name(name) => Some(name.clone()),
                Step::Any => None,
            })
            .collect();
        // `rule.member` means the rule.
        (1..=path.len())
            .rev()
            .filter_map(|length| path.get(..length))
            .find(|prefix| names.rules.contains_key(*prefix))
            .map(<[String]>::to_vec)
    }
}
