//! What a token may do: its role.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The role of a token. Which endpoints each may call is one table, in `http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The server's: makes owners, and tokens of any owner. Sees no owner's objects.
    Admin,
    /// Everything of its owner.
    Owner,
    /// Registers and removes secrets, and sees what they are, never their values.
    SecretWriter,
    /// Makes policies the active ones, and sees what they decided.
    PolicyAuthor,
    /// Confirms and rejects holds.
    Approver,
    /// Reads decisions, policies and lists, never values, and changes nothing.
    Auditor,
    /// A hypervisor: says which host asks to launch a workload, and may call nothing that is an owner's.
    Host,
}

/// A text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected admin, owner, secret-writer, policy-author, approver, auditor or host")]
pub struct RoleError;

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Admin,
        Self::Owner,
        Self::SecretWriter,
        Self::PolicyAuthor,
        Self::Approver,
        Self::Auditor,
        Self::Host,
    ];

    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Owner => "owner",
            Self::SecretWriter => "secret-writer",
            Self::PolicyAuthor => "policy-author",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Host => "host",
        }
    }

    /// Whether a token of this role may make or revoke one of the other: never one that may do more.
    #[must_use]
    pub fn grants(self, other: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Owner => other != Self::Admin,
            Self::SecretWriter | Self::PolicyAuthor | Self::Approver | Self::Auditor | Self::Host => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or(RoleError)
    }
}
