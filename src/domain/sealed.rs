//! What is stored sealed, and the keys that it is sealed under: their names, their states, where they are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::{Name, Time};

/// A short public name of a key-encryption key (8 bytes), by which a wrong one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

/// A text that is no key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's id has 16 hexadecimal digits")]
pub struct KeyIdError;

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let mut id = [0; 8];
        hex::decode_to_slice(text, &mut id).map_err(|_| KeyIdError)?;
        Ok(Self(id))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a key is used for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// New values are sealed under it. There is one.
    Active,
    /// Values are being re-wrapped from it; it still opens what is left.
    Retiring,
    /// It opens nothing any more, and nothing that is sealed under it is taken.
    Retired,
}

impl KeyState {
    /// The word, as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

impl FromStr for KeyState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Active, Self::Retiring, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// Where key-encryption keys are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenLocation", into = "WrittenLocation")]
pub enum KeyLocation {
    /// A file that only the server's user may read.
    File(PathBuf),
    /// A PKCS#11 token, which the key never leaves.
    Pkcs11(TokenKey),
}

/// As it is written: one of the two.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenLocation {
    /// A key file, which only the server's user may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// A PKCS#11 token, which the key never leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pkcs11: Option<TokenKey>,
}

impl TryFrom<WrittenLocation> for KeyLocation {
    type Error = &'static str;

    fn try_from(written: WrittenLocation) -> Result<Self, Self::Error> {
        match (written.file, written.pkcs11) {
            (Some(file), None) => Ok(Self::File(file)),
            (None, Some(key)) => Ok(Self::Pkcs11(key)),
            _ => Err("expected either `file` or `pkcs11`"),
        }
    }
}

impl From<KeyLocation> for WrittenLocation {
    fn from(location: KeyLocation) -> Self {
        match location {
            KeyLocation::File(file) => Self {
                file: Some(file),
                pkcs11: None,
            },
            KeyLocation::Pkcs11(key) => Self {
                file: None,
                pkcs11: Some(key),
            },
        }
    }
}

/// A key in a PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// The module: the shared library of the token's maker, such as `/usr/lib/softhsm/libsofthsm2.so`.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The keys' label (CKA_LABEL). Keys that have it are told apart by their CKA_ID.
    pub label: String,
    /// File with the user's PIN in its first line, which only the server's user may read.
    pub pin_file: PathBuf,
}

impl KeyLocation {
    /// The same, with relative paths taken from `folder`.
    #[must_use]
    pub fn below(&self, folder: &std::path::Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Pkcs11(key) => Self::Pkcs11(TokenKey {
                pin_file: folder.join(&key.pin_file),
                ..key.clone()
            }),
        }
    }
}

impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Pkcs11(key) => write!(f, "token {} (key {})", key.token, key.label),
        }
    }
}

/// A key-encryption key as the database knows it: everything but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingKey {
    /// Its id.
    pub id: KeyId,
    /// What it is used for.
    pub state: KeyState,
    /// Where it was when it was made active. Relative paths are below the data folder.
    pub location: KeyLocation,
    /// When it became the active one.
    pub created: Time,
    /// When it was retired.
    pub retired: Option<Time>,
}

/// Where a sealed value lies, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedAt {
    /// The value of a secret's version.
    Secret {
        /// The owner.
        owner: Name,
        /// The secret.
        name: Name,
        /// Its version.
        version: u64,
    },
    /// TEK and TIK of a launch.
    LaunchKeys {
        /// The workload's owner.
        owner: Name,
        /// The launch.
        launch: Uuid,
    },
    /// The answer that a launch was given.
    Answer {
        /// The workload's owner.
        owner: Name,
        /// The launch.
        launch: Uuid,
    },
    /// The key of a connection.
    ConnectionKey {
        /// The workload's owner.
        owner: Name,
        /// The connection.
        connection: Uuid,
    },
    /// The key that signs the audit log's checkpoints.
    AuditLogKey,
}

impl fmt::Display for SealedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { owner, name, version } => {
                write!(f, "secret {name} version {version} of {owner}")
            }
            Self::LaunchKeys { owner, launch } => write!(f, "keys of launch {launch} of {owner}"),
            Self::Answer { owner, launch } => write!(f, "answer to launch {launch} of {owner}"),
            Self::ConnectionKey { owner, connection } => {
                write!(f, "key of connection {connection} of {owner}")
            }
            Self::AuditLogKey => f.write_str("key of the audit log"),
        }
    }
}
