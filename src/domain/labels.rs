//! Labels: what owners sort their objects by. No release depends on them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The most labels that an object has.
const MOST: usize = 32;
/// The longest key and the longest value, in characters.
const LONGEST: usize = 63;
/// What keys and values look like; a value may be empty besides.
const FORM: &str = "1 to 63 characters of A-Z a-z 0-9 . _ - / that begin and end with a letter or a digit";

/// An object's labels: at most 32 keys, each with a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

/// What is no label, or too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A selector has a part without `=`.
    #[error("{0:?} is not `key=value`")]
    Pair(String),
    /// A key is not one.
    #[error("the label's key {0:?} is not {FORM}")]
    Key(String),
    /// A value is not one.
    #[error("the value of the label {0} is neither empty nor {FORM}")]
    Value(String),
    /// A key is said twice.
    #[error("the label {0} is said twice")]
    Twice(String),
    /// There are too many.
    #[error("{0} labels are more than {MOST}")]
    Many(usize),
}

impl Labels {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are among them.
    #[must_use]
    pub fn have(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }

    fn checked(labels: BTreeMap<String, String>) -> Result<Self, LabelError> {
        if labels.len() > MOST {
            return Err(LabelError::Many(labels.len()));
        }
        for (key, value) in &labels {
            if !is_word(key) {
                return Err(LabelError::Key(key.chars().take(LONGEST).collect()));
            }
            if !value.is_empty() && !is_word(value) {
                return Err(LabelError::Value(key.clone()));
            }
        }
        Ok(Self(labels))
    }
}

fn is_word(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= LONGEST
        && text.bytes().all(inside)
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
}

/// As a selector is written: `key=value,key=value`.
impl FromStr for Labels {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let mut labels = BTreeMap::new();
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| LabelError::Pair(pair.to_owned()))?;
            if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(LabelError::Twice(key.to_owned()));
            }
        }
        Self::checked(labels)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = BTreeMap::deserialize(deserializer)?;
        Self::checked(labels).map_err(de::Error::custom)
    }
}

impl JsonSchema for Labels {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = "[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?";
        json_schema!({
            "type": "object",
            "maxProperties": MOST,
            "propertyNames": {"maxLength": LONGEST, "pattern": format!("^{word}$")},
            "additionalProperties": {"type": "string", "maxLength": LONGEST, "pattern": format!("^({word})?$")}
        })
    }
}
