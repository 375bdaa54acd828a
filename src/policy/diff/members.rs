//! Two documents, member by member.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Change, MemberChange};
use crate::policy::selection::is_name;

/// What differs, in the order of paths.
pub(super) fn compare(root: &str, old: &Value, new: &Value) -> Vec<MemberChange> {
    let mut found = Vec::new();
    walk(root, old, new, &mut found);
    found
}

/// Recurses as deep as the documents, which are bounded when they are read.
fn walk(path: &str, old: &Value, new: &Value, found: &mut Vec<MemberChange>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = member(path, name);
                match (before.get(name), after.get(name)) {
                    (Some(old), Some(new)) => walk(&path, old, new, found),
                    (old, new) => found.push(one_sided(path, old, new)),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => elements(path, before, after, found),
        (old, new) => found.push(MemberChange {
            path: path.to_owned(),
            change: Change::Changed,
            old: Some(old.clone()),
            new: Some(new.clone()),
        }),
    }
}

/// Lists of what is approved have no order that means anything, so elements are matched by value.
fn elements(path: &str, before: &[Value], after: &[Value], found: &mut Vec<MemberChange>) {
    let mut unmatched: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, value) in before.iter().enumerate().rev() {
        unmatched.entry(value.to_string()).or_default().push(index);
    }
    let mut added = Vec::new();
    for (index, value) in after.iter().enumerate() {
        let matched = unmatched.get_mut(&value.to_string()).and_then(Vec::pop);
        if matched.is_none() {
            added.push(one_sided(format!("{path}[{index}]"), None, Some(value)));
        }
    }
    let mut gone: Vec<usize> = unmatched.into_values().flatten().collect();
    gone.sort_unstable();
    if gone.is_empty() && added.is_empty() {
        // The same in another order: a policy that reads by index sees that.
        found.push(MemberChange {
            path: path.to_owned(),
            change: Change::Changed,
            old: Some(before.into()),
            new: Some(after.into()),
        });
        return;
    }
    let removed = gone
        .into_iter()
        .map(|index| one_sided(format!("{path}[{index}]"), before.get(index), None));
    found.extend(removed);
    found.extend(added);
}

fn one_sided(path: String, old: Option<&Value>, new: Option<&Value>) -> MemberChange {
    MemberChange {
        path,
        change: if new.is_some() {
            Change::Added
        } else {
            Change::Removed
        },
        old: old.cloned(),
        new: new.cloned(),
    }
}

fn member(path: &str, name: &str) -> String {
    if is_name(name) {
        format!("{path}.{name}")
    } else {
        format!("{path}[{}]", Value::from(name))
    }
}
