//! Versions of secrets: which one is meant, and what is known of each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::object::SecretKind;
use super::revision::By;
use super::state::KeySet;
use super::workload::Workload;
use super::{Name, Time};

/// A secret as a workload or a key set names it: `name`, its current version, or `name@3`, that one whatever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The secret.
    pub name: Name,
    /// The version; none: the current one.
    pub version: Option<u64>,
}

/// A text that names no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a secret's name, or a name and a version such as `db/password@3`")]
pub struct SecretRefError;

impl FromStr for SecretRef {
    type Err = SecretRefError;

    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => {
                let canonical = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
                let version = version.parse().ok().filter(|_| canonical);
                (name, Some(version.ok_or(SecretRefError)?))
            }
        };
        let name = name.parse().map_err(|_| SecretRefError)?;
        Ok(Self { name, version })
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None => write!(f, "{}", self.name),
            Some(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Where it is no version that is wrong, it is the name, and that says more.
        match (text.parse(), text.contains('@')) {
            (Err(error), true) => Err(de::Error::custom(error)),
            (Err(_), false) => match text.parse::<Name>() {
                Ok(name) => Ok(Self { name, version: None }),
                Err(error) => Err(de::Error::custom(error)),
            },
            (Ok(parsed), _) => Ok(parsed),
        }
    }
}

impl JsonSchema for SecretRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 149,
            "description": "A secret's name; with `@` and a number, that version of it.",
            "pattern": "^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?(@[1-9][0-9]*)?$",
        })
    }
}

/// The versions that are held fast, by name.
pub type Pins = BTreeMap<Name, u64>;

/// Names and pins of a list.
#[must_use]
pub fn names_and_pins(secrets: &[SecretRef]) -> (Vec<Name>, Pins) {
    let pins = secrets
        .iter()
        .filter_map(|one| Some((one.name.clone(), one.version?)));
    (
        secrets.iter().map(|one| one.name.clone()).collect(),
        pins.collect(),
    )
}

/// Two key sets hold different versions of a secret, and the workload does not say which it wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "key sets {first} and {second} hold different versions of {secret}: name one in the workload, as `{secret}@VERSION`"
)]
pub struct Torn {
    /// The secret.
    pub secret: Name,
    /// One key set.
    pub first: Name,
    /// Another.
    pub second: Name,
}

/// The version of a secret that a workload is given; none: the current one. The workload's own word counts before
/// that of the key sets that hold the secret.
///
/// # Errors
/// When key sets contradict each other.
pub fn pinned<'a>(
    workload: &Workload,
    keysets: impl IntoIterator<Item = &'a KeySet>,
    secret: &Name,
) -> Result<Option<u64>, Torn> {
    if let Some(version) = workload.pins.get(secret) {
        return Ok(Some(*version));
    }
    let mut found: Option<(u64, &Name)> = None;
    for set in keysets {
        let Some(version) = set.pins.get(secret).copied() else {
            continue;
        };
        match found {
            Some((other, first)) if other != version => {
                return Err(Torn {
                    secret: secret.clone(),
                    first: first.clone(),
                    second: set.name.clone(),
                });
            }
            _ => found = Some((version, &set.name)),
        }
    }
    Ok(found.map(|(version, _)| version))
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// It is what guests are given that are not held to another.
    Current,
    /// It was that before; it can be pinned and gone back to.
    Earlier,
    /// Its value was destroyed.
    Purged,
}

impl VersionState {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Earlier => "earlier",
            Self::Purged => "purged",
        }
    }
}

/// One version of a secret: everything but its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretVersionInfo {
    /// Its number.
    pub version: u64,
    /// What became of it.
    pub state: VersionState,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SecretKind,
    /// GUID of its entry in the secret table.
    pub guid: Uuid,
    /// Length of the value in bytes.
    pub bytes: u32,
    /// When it was registered.
    pub created: Time,
    /// Whose token registered it; null where that is not known.
    pub by: Option<By>,
    /// The version whose value it has, where it was gone back to.
    pub rollback_of: Option<u64>,
    /// Which workloads and key sets hold it fast, such as `Workload web`.
    pub pinned_by: Vec<String>,
    /// When its value was destroyed.
    pub purged: Option<Time>,
    /// Whose token destroyed it; null: there were more versions than are kept.
    pub purged_by: Option<By>,
}

/// A version whose value is to be destroyed.
#[derive(Clone, Debug)]
pub struct Purge {
    /// The secret.
    pub name: Name,
    /// The version.
    pub version: u64,
    /// When.
    pub time: Time,
    /// By whom; none: by the bound on kept versions.
    pub by: Option<By>,
}
