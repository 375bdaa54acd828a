//! Two bundles' modules, rule by rule.

use std::collections::{BTreeMap, BTreeSet};

use similar::TextDiff;

use super::{Change, PackageChange, RuleChange};
use crate::policy::syntax::{Form, Module};

/// What stands before the first rule of a file goes by this name, which no rule can have.
const HEAD: &str = "package";

/// A package: the text of each of its rules, and what it is.
#[derive(Default)]
struct Package {
    rules: BTreeMap<String, String>,
    policy: bool,
    tests: bool,
}

/// Packages that are not the same, by name.
pub(super) fn compare(first: &[Module], second: &[Module]) -> Vec<PackageChange> {
    let (before, after) = (packages(first), packages(second));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let none = Package::default();
    let changes = names.into_iter().filter_map(|name| {
        let (old, new) = (before.get(name), after.get(name));
        let rules = rules(old.unwrap_or(&none), new.unwrap_or(&none));
        let change = match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ if rules.is_empty() => return None,
            _ => Change::Changed,
        };
        let is = |test: fn(&Package) -> bool| [old, new].into_iter().flatten().any(test);
        Some(PackageChange {
            package: name.clone(),
            policy: is(|package| package.policy),
            tests: !is(|package| !package.tests),
            change,
            rules,
        })
    });
    changes.collect()
}

fn rules(old: &Package, new: &Package) -> Vec<RuleChange> {
    let names: BTreeSet<&String> = old.rules.keys().chain(new.rules.keys()).collect();
    let changes = names.into_iter().filter_map(|name| {
        let (change, diff) = match (old.rules.get(name), new.rules.get(name)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => (Change::Changed, Some(unified(old, new))),
            (None, _) => (Change::Added, None),
            (_, None) => (Change::Removed, None),
        };
        Some(RuleChange {
            rule: name.clone(),
            change,
            diff,
        })
    });
    changes.collect()
}

fn unified(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(3)
        .to_string()
}

fn packages(modules: &[Module]) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for module in modules {
        let tests = module.file.ends_with("_test.rego");
        let package = packages
            .entry(module.package.join("."))
            .or_insert_with(|| Package {
                tests: true,
                ..Package::default()
            });
        package.tests &= tests;
        let allow = |name: &[String]| matches!(name, [only] if only == "allow");
        package.policy |= !tests && module.rules.iter().any(|rule| allow(&rule.name));
        for (name, text) in parts(module) {
            let whole = package.rules.entry(name).or_default();
            whole.push_str(&text);
            whole.push('\n');
        }
    }
    packages
}

/// A module's text in parts, each a rule's definition with the comments before it.
fn parts(module: &Module) -> Vec<(String, String)> {
    let lines: Vec<&str> = module.text.lines().collect();
    let line_of = |offset: usize| {
        let before = module.text.get(..offset).unwrap_or(&module.text);
        before.bytes().filter(|byte| *byte == b'\n').count()
    };
    let mut starts: Vec<(usize, String)> = module
        .rules
        .iter()
        .map(|rule| {
            let mut start = line_of(rule.offset);
            let comment = |line: usize| {
                lines
                    .get(line)
                    .is_some_and(|line| line.trim_start().starts_with('#'))
            };
            while start > 0 && comment(start - 1) {
                start -= 1;
            }
            let default = matches!(rule.form, Form::Default | Form::DefaultFunction { .. });
            let name = rule.name.join(".");
            (start, if default { format!("default {name}") } else { name })
        })
        .collect();
    starts.sort();
    // Two rules on one line are one part, under the name of the first.
    starts.dedup_by_key(|(start, _)| *start);
    let first = starts.first().map_or(lines.len(), |(start, _)| *start);
    let ends: Vec<usize> = starts
        .iter()
        .skip(1)
        .map(|(start, _)| *start)
        .chain([lines.len()])
        .collect();
    let text = |from: usize, to: usize| {
        let part = lines.get(from..to).unwrap_or_default();
        part.join("\n").trim_end().to_owned()
    };
    let rules = starts
        .into_iter()
        .zip(ends)
        .map(|((start, name), end)| (name, text(start, end)));
    std::iter::once((HEAD.to_owned(), text(0, first)))
        .chain(rules)
        .collect()
}
