//! Bearer tokens: what a caller shows, and what is kept of it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::once::Once;
use super::{Name, Role, Time};

const PREFIX: &str = "kw_";

/// A bearer token: `kw_` and 32 random bytes in URL-safe base64. Only its hash is stored.
pub struct Token(Zeroizing<String>);

/// The SHA-256 of a token's text. A token has 256 random bits, so a plain hash does not weaken it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenHash(pub [u8; 32]);

/// Who a valid token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The owner; none for the server's administrators.
    pub owner: Option<Name>,
    /// The token, for records of what was done with it.
    pub token: Uuid,
    /// What the token is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What is to be done once, where the caller says so.
    pub once: Option<Once>,
}

/// One who acts on an owner's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The owner whose objects the caller may act on.
    pub owner: Name,
    /// The token, for records of what was done with it.
    pub token: Uuid,
    /// What the token is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What is to be done once, where the caller says so.
    pub once: Option<Once>,
}

/// A token as it is listed: everything but its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenEntry {
    /// Its id, by which it is revoked.
    pub id: Uuid,
    /// What it is called.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Whose it is; null for the server's administrators.
    pub owner: Option<Name>,
    /// When it was made.
    pub created: Time,
    /// From when on it is refused; null: never.
    pub expires: Option<Time>,
    /// When it was last used, as of about a minute ago; null: never.
    pub last_used: Option<Time>,
    /// When it was revoked; null: it was not.
    pub revoked: Option<Time>,
}

/// A text that can't be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token: expected `kw_` and 43 characters")]
pub struct TokenError;

impl Token {
    /// A token of these random bytes.
    #[must_use]
    pub fn from_random(bytes: &Zeroizing<[u8; 32]>) -> Self {
        Self(Zeroizing::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes.as_slice())
        )))
    }

    /// The text, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256(self.0.as_bytes()))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let body = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let good = body.len() == 43
            && body
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if good {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(TokenError)
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
