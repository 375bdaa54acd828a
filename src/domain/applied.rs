//! What an owner wishes for, and what became of it: object by object, and member by member where nothing was
//! changed yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Name;
use super::labels::Labels;
use super::object::Object;
use super::state::Kind;

/// An object by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl ObjectName {
    /// Kind and name, such as `Workload web`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }
}

/// What an owner wants to be: all of it comes true at once, or none.
#[derive(Default)]
pub struct Wish {
    /// Objects to be there, as they are said.
    pub objects: Vec<Object>,
    /// Objects not to be there.
    pub remove: Vec<ObjectName>,
    /// Objects with these labels that are not among `objects` are not to be there either.
    pub prune: Option<Labels>,
    /// What is to be removed may be gone already.
    pub ignore_missing: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The object's kind.
    pub kind: String,
    /// Its name; for a bundle its digest.
    pub name: String,
    /// What was done.
    pub action: Action,
    /// What else the owner should know, such as a workload's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// With a dry run, the members that differ, such as `images[0].vcpus[1]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// With a dry run, the object as it is, without its value: null where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// With a dry run, the object as it would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was not there before.
    Created,
    /// It replaced one that differed.
    Updated,
    /// It was there already, the same; or was not there, as it should be.
    Unchanged,
    /// It is not there any more.
    Removed,
}

impl Action {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
        }
    }
}

/// What an `apply` did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// One entry an object, in the order given; then what was removed.
    pub changes: Vec<Change>,
    /// What will not work as registered, though it may be meant.
    pub warnings: Vec<String>,
}

/// What differs between two documents, by paths such as `images[0].vcpus[1]`.
#[must_use]
pub fn differing(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", Some(before), Some(after), &mut found);
    found
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<String>) {
    match (before, after) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut keys: Vec<_> = old.keys().collect();
            keys.extend(new.keys().filter(|key| !old.contains_key(*key)));
            for key in keys {
                let inner = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(&inner, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for number in 0..old.len().max(new.len()) {
                walk(
                    &format!("{path}[{number}]"),
                    old.get(number),
                    new.get(number),
                    found,
                );
            }
        }
        _ => found.push(path.to_owned()),
    }
}
