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
use super::revision::By;
use super::{HexDigest, Name, Role, Time};

const PREFIX: &str = "kw_";

/// A bearer token: `kw_` and 32 random bytes in URL-safe base64. Only its hash is stored.
pub struct Token(Zeroizing<String>);

/// The SHA-256 of a token's text. A token has 256 random bits, so a plain hash does not weaken it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenHash(pub [u8; 32]);

/// By what a caller was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token of this server.
    Token,
    /// A token of an identity provider.
    Jwt {
        /// The provider, by its own name: `iss`.
        issuer: String,
        /// Whom it spoke for: `sub`.
        subject: String,
    },
    /// A client certificate.
    Certificate {
        /// SHA-256 of the certificate.
        fingerprint: HexDigest,
        /// Its subject.
        subject: String,
    },
}

impl Caller {
    /// Whom records name.
    #[must_use]
    pub fn by(&self) -> By {
        By {
            token: self.token,
            name: self.name.clone(),
        }
    }
}

/// Who a valid token, or what is as good as one, belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The owner; none for the server's administrators, and for hosts that count for every owner.
    pub owner: Option<Name>,
    /// The token, for records of what was done with it. Where there is none, a UUID of the name: the same at each
    /// request, so that records of one caller belong together.
    pub token: Uuid,
    /// What the token is called; `provider/subject` or `certificate/name` where there is none.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What is to be done once, where the caller says so.
    pub once: Option<Once>,
    /// By what the caller was known.
    pub proof: Proof,
}

impl Identity {
    /// One whom somebody else vouches for.
    #[must_use]
    pub fn vouched(owner: Option<Name>, name: String, role: Role, proof: Proof) -> Self {
        Self {
            token: derived(&name),
            owner,
            name,
            role,
            proof,
            once: None,
        }
    }

    /// What policies see as `input.host.identity`: where the name comes from is part of it, so that no provider
    /// and no owner names a host of another's.
    #[must_use]
    pub fn as_host(&self) -> String {
        match self.proof {
            Proof::Token => format!("token/{}", self.name),
            Proof::Jwt { .. } | Proof::Certificate { .. } => self.name.clone(),
        }
    }
}

/// A UUID (version 8) that is the name's.
fn derived(name: &str) -> Uuid {
    let mut bytes = [0; 16];
    let hash = sha256(&[b"keyward identity\0", name.as_bytes()].concat());
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// One who acts on an owner's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The owner whose objects the caller may act on.
    pub owner: Name,
    /// The token, for records of what was done with it.
    pub token: Uuid,
    /// What the token is called; `provider/subject` or `certificate/name` where there is none.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What is to be done once, where the caller says so.
    pub once: Option<Once>,
    /// By what the caller was known.
    pub proof: Proof,
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
    /// The token of its owner's that it was made with; null: an administrator made it, or whoever has the data folder.
    /// Where two people are asked for, only those that an administrator made have a word.
    #[serde(default)]
    pub made_by: Option<Uuid>,
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
