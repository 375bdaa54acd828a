//! Kinds as people type them: `secret`, `secrets`, `SigningKey`, `signing-keys`.

use std::str::FromStr;

use crate::domain::state::Kind;

/// A kind of manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnyKind {
    PolicyBundle,
    Trust,
    Object(Kind),
    Owner,
    Token,
}

impl AnyKind {
    const ALL: [Self; 9] = [
        Self::PolicyBundle,
        Self::Trust,
        Self::Object(Kind::Secret),
        Self::Object(Kind::KeySet),
        Self::Object(Kind::Firmware),
        Self::Object(Kind::Workload),
        Self::Object(Kind::SigningKey),
        Self::Owner,
        Self::Token,
    ];

    /// The word, as in manifests.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::PolicyBundle => "PolicyBundle",
            Self::Trust => "Trust",
            Self::Object(kind) => kind.as_str(),
            Self::Owner => "Owner",
            Self::Token => "Token",
        }
    }
}

impl FromStr for AnyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.to_lowercase().replace('-', "");
        let is_meant = |kind: &Self| {
            let word = kind.as_str().to_lowercase();
            bare == word || bare.strip_suffix('s') == Some(word.as_str())
        };
        Self::ALL.into_iter().find(is_meant).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("expected one of {}", known.join(", "))
        })
    }
}
