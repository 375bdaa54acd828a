//! What differs between two bundles: policies rule by rule, data and manifest member by member.
//!
//! Rules are compared by their text, comments included, whatever file they stand in: a rule that moved to another
//! file of its package is no change.

mod members;
mod rules;

use serde::Serialize;
use serde_json::Value;

use super::bundle::Bundle;
use super::diagnostic::Diagnostic;
use super::documents;
use super::limits::on_big_stack;
use super::load;

/// Which way something differs.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, and not the same.
    Changed,
}

/// A package that is not the same in both.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct PackageChange {
    /// Its path without `data.`: a policy's name, where it is one.
    pub package: String,
    /// Whether it is a policy: a package with a rule `allow`.
    pub policy: bool,
    /// Whether it is tests only.
    pub tests: bool,
    /// Which way.
    pub change: Change,
    /// Its rules that are not the same, by name.
    pub rules: Vec<RuleChange>,
}

/// A rule that is not the same in both.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct RuleChange {
    /// Its name; `package` stands for what a file has before its first rule, imports included.
    pub rule: String,
    /// Which way.
    pub change: Change,
    /// How its text changed, as a unified diff; none where all of it is new or gone.
    pub diff: Option<String>,
}

/// A member of a document that is not the same in both.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct MemberChange {
    /// Its path, such as `data.reference.max_releases`. An element of an array has the index that it has in the
    /// first where it was removed, and in the second where it was added: arrays are compared as lists of approved
    /// things are read, without regard to order.
    pub path: String,
    /// Which way.
    pub change: Change,
    /// What the first has.
    pub old: Option<Value>,
    /// What the second has.
    pub new: Option<Value>,
}

/// What differs.
#[derive(Serialize, Clone, Debug, Default, PartialEq)]
pub struct BundleDiff {
    /// Packages, by name.
    pub packages: Vec<PackageChange>,
    /// Reference data.
    pub data: Vec<MemberChange>,
    /// The manifest.
    pub manifest: Vec<MemberChange>,
}

impl BundleDiff {
    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.data.is_empty() && self.manifest.is_empty()
    }
}

/// What differs between two bundles, each of which loads.
///
/// # Errors
/// A module that can't be parsed, or data that can't be put together.
pub fn diff(first: &Bundle, second: &Bundle) -> Result<BundleDiff, Vec<Diagnostic>> {
    let document = |bundle: &Bundle| documents::merge(bundle.data_files()).map_err(|found| vec![found]);
    let manifest = |bundle: &Bundle| serde_json::to_value(bundle.manifest()).unwrap_or_default();
    let packages = on_big_stack(|| Ok(rules::compare(&load::modules(first)?, &load::modules(second)?)))
        .unwrap_or_else(|panic| {
            Err(vec![Diagnostic::on_file(
                "",
                format!("the parser failed: {panic}"),
            )])
        })?;
    Ok(BundleDiff {
        packages,
        data: members::compare("data", &document(first)?, &document(second)?),
        manifest: members::compare(".manifest", &manifest(first), &manifest(second)),
    })
}
