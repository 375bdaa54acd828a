//! What would change, for people: a unified diff of each object, as its manifest has it.

use std::collections::BTreeMap;

use serde_json::Value;
use similar::TextDiff;

use super::decision_text::printable;
use super::paint::Paint;
use crate::domain::object::{Action, Applied, Change};

/// Members in the order in which people write them; the others follow by name.
const ORDER: [&str; 31] = [
    "kind",
    "name",
    "role",
    "owner",
    "expires",
    "approvals_required",
    "uuid",
    "type",
    "guid",
    "digest",
    "sha256",
    "algorithm",
    "scope",
    "scheme",
    "policy",
    "firmware",
    "firmware_hash",
    "kernel_hash",
    "initrd_hash",
    "cmdline_hash",
    "vcpus",
    "vcpu_type",
    "products",
    "danger_weak_policy",
    "launch_digests",
    "images",
    "oca",
    "max_releases",
    "value",
    "secrets",
    "policies",
];

/// Lines around a difference.
const CONTEXT: usize = 3;

/// Everything that would change, and how much that is.
pub(super) fn text(applied: &Applied, paint: Paint) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    for change in &applied.changes {
        if change.action != Action::Unchanged {
            parts.push(of_object(change, paint)?);
        }
    }
    parts.push(summary(&applied.changes));
    Ok(parts.join("\n"))
}

/// How much would change.
fn summary(changes: &[Change]) -> String {
    let count = |action| changes.iter().filter(|change| change.action == action).count();
    let counts = [
        (count(Action::Created), "created"),
        (count(Action::Updated), "updated"),
        (count(Action::Removed), "removed"),
        (count(Action::Unchanged), "unchanged"),
    ];
    let said = counts.iter().filter(|(count, _)| *count > 0);
    let said: Vec<_> = said.map(|(count, word)| format!("{count} {word}")).collect();
    said.join(", ")
}

fn of_object(change: &Change, paint: Paint) -> anyhow::Result<String> {
    let (mut before, mut after) = (change.before.clone(), change.after.clone());
    let name = match change.kind.as_str() {
        "PolicyBundle" => change.kind.clone(),
        kind => format!("{kind} {}", change.name),
    };
    let (old_files, new_files) = (files(&mut before), files(&mut after));
    let yaml = |document: &Option<Value>| document.as_ref().map(self::yaml).transpose();
    let mut text = unified(&name, yaml(&before)?.as_deref(), yaml(&after)?.as_deref(), paint);
    let mut paths: Vec<_> = old_files.keys().chain(new_files.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (old, new) = (old_files.get(path), new_files.get(path));
        if old != new {
            let name = format!("PolicyBundle {path}");
            let old = old.map(String::as_str);
            text.push_str(&unified(&name, old, new.map(String::as_str), paint));
        }
    }
    Ok(text)
}

/// Takes a bundle's files out, which are compared one by one.
fn files(document: &mut Option<Value>) -> BTreeMap<String, String> {
    let members = document.as_mut().and_then(Value::as_object_mut);
    let files = members.and_then(|members| members.remove("files"));
    files
        .and_then(|files| serde_json::from_value(files).ok())
        .unwrap_or_default()
}

fn unified(name: &str, old: Option<&str>, new: Option<&str>, paint: Paint) -> String {
    let said = |text: Option<&str>| text.map_or("/dev/null".to_owned(), |_| printable(name));
    let diff = TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default());
    let mut text = format!(
        "{}\n{}\n",
        paint.bold(&format!("--- {}", said(old))),
        paint.bold(&format!("+++ {}", said(new)))
    );
    for line in diff.unified_diff().context_radius(CONTEXT).to_string().lines() {
        // A tab is a policy's indentation; whatever else a terminal obeys is written out.
        let shown = line.split('\t').map(printable).collect::<Vec<_>>().join("    ");
        text.push_str(&match line.as_bytes().first() {
            Some(b'+') => paint.added(&shown),
            Some(b'-') => paint.removed(&shown),
            Some(b'@') => paint.place(&shown),
            _ => shown,
        });
        text.push('\n');
    }
    text
}

/// A manifest as people write it.
pub(super) fn yaml(manifest: &Value) -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(&ordered(manifest))?)
}

fn ordered(value: &Value) -> serde_yaml::Value {
    match value {
        Value::Object(members) => {
            let place = |key: &str| ORDER.iter().position(|known| *known == key);
            let mut keys: Vec<_> = members.iter().collect();
            keys.sort_by_key(|(key, _)| (place(key).unwrap_or(ORDER.len()), key.as_str()));
            let pairs = keys
                .into_iter()
                .map(|(key, value)| (serde_yaml::Value::from(key.as_str()), ordered(value)));
            serde_yaml::Value::Mapping(pairs.collect())
        }
        Value::Array(items) => serde_yaml::Value::Sequence(items.iter().map(ordered).collect()),
        Value::Null => serde_yaml::Value::Null,
        Value::Bool(said) => serde_yaml::Value::Bool(*said),
        Value::String(text) => serde_yaml::Value::from(text.as_str()),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (None, Some(number), _) => number.into(),
            (None, None, Some(number)) => number.into(),
            (None, None, None) => serde_yaml::Value::Null,
        },
    }
}
