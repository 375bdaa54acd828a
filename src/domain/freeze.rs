//! Freezes: releases that somebody stopped, of what, since when, and why.
//!
//! A freeze is an owner's, and then it stops that owner's releases alone, or the administrators', and then it stops
//! everybody's. Whoever's it is lifts it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::approval::Word;
use super::launch::LaunchFacts;
use super::{HexDigest, Name};
use crate::policy::Input;
use crate::sev::{Product, StoredPlatform};

/// What is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "FrozenTarget")]
pub enum Target {
    /// Every release of the server.
    Server,
    /// Every release of an owner.
    Owner {
        /// The owner.
        name: Name,
    },
    /// Every release to a workload.
    Workload {
        /// Its UUID, which decides.
        uuid: Uuid,
        /// What it was called.
        name: Name,
    },
    /// Every release of a secret, in any version.
    Secret {
        /// Its name. One that is made again under it is frozen too.
        name: Name,
    },
    /// Every release to platforms with this key.
    Platform {
        /// Fingerprint of a CEK, for one chip, or of an OCA, for an operator's.
        fingerprint: HexDigest,
    },
    /// Every release to platforms of a product.
    Product {
        /// As in `input.platform.product`.
        name: Product,
    },
}

impl Target {
    /// The kind and the key by which a freeze is found.
    #[must_use]
    pub fn key(&self) -> (&'static str, String) {
        match self {
            Self::Server => ("server", String::new()),
            Self::Owner { name } => ("owner", name.to_string()),
            Self::Workload { uuid, .. } => ("workload", uuid.to_string()),
            Self::Secret { name } => ("secret", name.to_string()),
            Self::Platform { fingerprint } => ("platform", fingerprint.to_string()),
            Self::Product { name } => ("product", name.to_string()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::Owner { name } => write!(f, "the owner {name}"),
            Self::Workload { name, .. } => write!(f, "the workload {name}"),
            Self::Secret { name } => write!(f, "the secret {name}"),
            Self::Platform { fingerprint } => write!(f, "the platform {fingerprint}"),
            Self::Product { name } => write!(f, "the product {name}"),
        }
    }
}

/// Releases that somebody stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Freeze {
    /// Its id.
    pub id: Uuid,
    /// What is frozen.
    pub target: Target,
    /// Whose freeze it is, and whose releases it stops; null: the administrators', and everybody's.
    pub owner: Option<Name>,
    /// Who froze it, when, and why.
    #[serde(flatten)]
    pub word: Word,
    /// Who lifted it, the first of them first; empty: it is in force.
    pub lifted: Vec<Word>,
}

impl Freeze {
    /// Why there is no release, for the owner.
    #[must_use]
    pub fn reason(&self) -> String {
        let who = match self.owner {
            Some(_) => self.word.by.name.clone(),
            None => format!("the administrator {}", self.word.by.name),
        };
        format!(
            "frozen: {who} froze {} at {}: {} (freeze {})",
            self.target, self.word.time, self.word.reason, self.id
        )
    }
}

/// What a release would be of and to: what freezes and the lists of platforms are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose secrets.
    pub owner: Name,
    /// The workload.
    pub workload: Uuid,
    /// The secrets; none: all that the workload has.
    pub secrets: Option<Vec<Name>>,
    /// Fingerprint of the chip's CEK.
    pub cek: HexDigest,
    /// Fingerprint of the operator's OCA.
    pub oca: HexDigest,
    /// The product; none under an extra root.
    pub product: Option<Product>,
    /// Whether a measurement proved that the platform takes part. A chain alone is public.
    pub measured: bool,
}

impl Subject {
    /// Of a launch, with all the secrets of its workload.
    #[must_use]
    pub fn of_launch(owner: &Name, workload: Uuid, facts: &LaunchFacts) -> Self {
        Self::of_platform(owner, workload, &facts.platform)
    }

    /// Of a launch that begins on this platform.
    #[must_use]
    pub fn of_platform(owner: &Name, workload: Uuid, platform: &StoredPlatform) -> Self {
        Self {
            owner: owner.clone(),
            workload,
            secrets: None,
            cek: platform.fingerprints().cek.into(),
            oca: platform.fingerprints().oca.into(),
            product: platform.product(),
            measured: false,
        }
    }

    /// Of a launch whose guest was measured, with these secrets.
    #[must_use]
    pub fn of_guest(owner: &Name, workload: Uuid, facts: &LaunchFacts, secrets: &[Name]) -> Self {
        Self {
            secrets: Some(secrets.to_vec()),
            measured: true,
            ..Self::of_launch(owner, workload, facts)
        }
    }

    /// Of what was attested, with these secrets; none where the input's fingerprints are none.
    #[must_use]
    pub fn of_input(owner: &Name, workload: Uuid, secrets: &[Name], input: &Input) -> Option<Self> {
        let platform = &input.platform;
        Some(Self {
            owner: owner.clone(),
            workload,
            secrets: Some(secrets.to_vec()),
            cek: platform.fingerprints.cek.parse().ok()?,
            oca: platform.fingerprints.oca.parse().ok()?,
            product: match &platform.product {
                None => None,
                Some(name) => Some(name.parse().ok()?),
            },
            measured: input.attested.launch_digest.is_some(),
        })
    }
}

/// Why a release is stopped before any policy is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Somebody froze what it is of or to.
    Frozen(Freeze),
    /// The owner refuses this platform.
    Refused {
        /// Fingerprint of its CEK.
        cek: HexDigest,
        /// Who, when and why.
        word: Word,
    },
    /// The owner accepts enrolled platforms only.
    NotEnrolled {
        /// Fingerprint of its CEK.
        cek: HexDigest,
    },
}

impl Stop {
    /// Why there is no release, for the owner.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Frozen(freeze) => freeze.reason(),
            Self::Refused { cek, word } => format!(
                "the platform {cek} is refused: {} refused it at {}: {}",
                word.by.name, word.time, word.reason
            ),
            Self::NotEnrolled { cek } => format!(
                "the platform {cek} is not enrolled, and only enrolled platforms are accepted: keyward platform enrol {cek}"
            ),
        }
    }
}
