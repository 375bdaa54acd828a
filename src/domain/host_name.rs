//! What a host is known as: who vouches for it, and under which name.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A host's identity, as policies see it: `token/NAME`, `certificate/NAME` or `PROVIDER/SUBJECT`.
///
/// Compared letter by letter: providers tell subjects apart that differ in the case of a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HostName(String);

/// A text that no host can be known as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host as token/NAME, certificate/NAME or PROVIDER/SUBJECT: at most 320 printable ASCII characters"
)]
pub struct HostNameError;

impl HostName {
    /// The longest, in characters.
    pub const MAX: usize = 320;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let parts = text
            .split_once('/')
            .is_some_and(|(by, name)| !by.is_empty() && !name.is_empty());
        if printable && parts && text.len() <= Self::MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostNameError)
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HostName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 320, "pattern": "^[ -.0-~]+/[ -~]+$"})
    }
}
