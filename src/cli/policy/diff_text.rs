//! Differences of two bundles for people; in colour on a terminal.

use serde_json::Value;

use super::diff::Differences;
use crate::cli::decision_text::printable;
use crate::cli::paint::Paint;
use crate::policy::{Change, MemberChange, PackageChange};

/// Characters of a value that are shown.
const VALUE: usize = 80;

fn painted(paint: Paint, change: Change, text: &str) -> String {
    match change {
        Change::Added => paint.added(text),
        Change::Removed => paint.removed(text),
        Change::Changed => paint.changed(text),
    }
}

/// Differences for people.
pub(super) fn text(differences: &Differences, names: [&str; 2], paint: Paint) -> String {
    let [first, second] = names;
    if differences.first == differences.second {
        return format!("The same: bundle {}", differences.first);
    }
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    let mut lines = vec![
        paint.bold(&format!("--- {first} (bundle {})", short(&differences.first))),
        paint.bold(&format!("+++ {second} (bundle {})", short(&differences.second))),
    ];
    let bundles = &differences.bundles;
    let mut part = |name: &str, found: Vec<String>| {
        if !found.is_empty() {
            lines.extend([String::new(), paint.bold(name)]);
            lines.extend(found);
        }
    };
    let packages = |wanted: fn(&PackageChange) -> bool| -> Vec<String> {
        let wanted = bundles.packages.iter().filter(|change| wanted(change));
        wanted.flat_map(|change| package(change, paint)).collect()
    };
    part("policies", packages(|change| change.policy));
    part(
        "other packages",
        packages(|change| !change.policy && !change.tests),
    );
    part("tests", packages(|change| change.tests && !change.policy));
    part(
        "reference data",
        bundles.data.iter().map(|change| member(change, paint)).collect(),
    );
    part(
        "manifest",
        bundles
            .manifest
            .iter()
            .map(|change| member(change, paint))
            .collect(),
    );
    let limit = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    let limits = differences.limits.iter().map(|change| {
        format!(
            "  {}  {} → {}",
            change.policy,
            limit(change.old),
            limit(change.new)
        )
    });
    part("limits", limits.collect());
    if bundles.is_empty() {
        lines.push("\nThe same rules and data, in other files or other words".to_owned());
    }
    if let Some(report) = &differences.recorded {
        lines.extend([String::new(), paint.bold("recorded decisions")]);
        lines.push(report.text(names));
    }
    lines.join("\n")
}

fn package(change: &PackageChange, paint: Paint) -> Vec<String> {
    let mut lines = vec![format!(
        "  {}  {}",
        painted(paint, change.change, word(change.change)),
        change.package
    )];
    if change.change == Change::Changed {
        for rule in &change.rules {
            let word = painted(paint, rule.change, word(rule.change));
            lines.push(format!("    {word}  {}", rule.rule));
            let diff = rule.diff.as_deref().unwrap_or_default();
            lines.extend(
                diff.lines()
                    .map(|line| format!("      {}", coloured(line, paint))),
            );
        }
    }
    lines
}

fn coloured(line: &str, paint: Paint) -> String {
    // A tab is a policy's indentation; whatever else a terminal obeys is written out.
    let shown = line.split('\t').map(printable).collect::<Vec<_>>().join("    ");
    match line.as_bytes().first() {
        Some(b'+') => painted(paint, Change::Added, &shown),
        Some(b'-') => painted(paint, Change::Removed, &shown),
        _ => shown,
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added  ",
        Change::Removed => "removed",
        Change::Changed => "changed",
    }
}

fn member(change: &MemberChange, paint: Paint) -> String {
    let word = painted(paint, change.change, word(change.change));
    let value = |value: &Option<Value>| value.as_ref().map(shown).unwrap_or_default();
    let values = match change.change {
        Change::Added => value(&change.new),
        Change::Removed => value(&change.old),
        Change::Changed => format!("{} → {}", value(&change.old), value(&change.new)),
    };
    format!("  {word}  {}  {values}", printable(&change.path))
}

fn shown(value: &Value) -> String {
    let text = printable(&value.to_string());
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
