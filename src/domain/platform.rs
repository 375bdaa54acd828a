//! The inventory: platforms that an owner's guests were measured on, and what the owner thinks of each.
//!
//! A certificate chain is public, so that a chain alone puts nothing here: a platform is listed once a measurement's
//! MAC held, which takes its PSP. An owner can also enrol or refuse one that was never seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::approval::Word;
use super::{Hex, HexDigest, Time};
use crate::policy::Input;

/// OCAs of one platform that are kept, the last seen of them: whoever has the machine makes new ones at will.
const OCAS: usize = 16;
/// Versions of one platform that are kept, the last seen of them.
const BUILDS: usize = 32;

/// A platform, by the chip's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "KnownPlatform")]
pub struct Platform {
    /// Fingerprint of its CEK.
    pub cek: HexDigest,
    /// What the owner said of it.
    pub standing: Standing,
    /// Who said that last, when, and why; null: nobody said anything.
    pub word: Option<Word>,
    /// What was seen of it; null: nothing yet.
    pub seen: Option<Seen>,
}

/// What an owner said of a platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Nothing: it was seen.
    #[default]
    Seen,
    /// It gets releases where only enrolled platforms do.
    Enrolled,
    /// It gets none, and no launch begins on it.
    Refused,
}

impl Standing {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Enrolled => "enrolled",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for Standing {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Seen, Self::Enrolled, Self::Refused]
            .into_iter()
            .find(|standing| standing.as_str() == text)
            .ok_or(())
    }
}

/// Which platforms get an owner's releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accepted {
    /// All that are not refused.
    #[default]
    Any,
    /// Those that are enrolled.
    Enrolled,
}

impl Accepted {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Enrolled => "enrolled",
        }
    }
}

impl std::str::FromStr for Accepted {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Any, Self::Enrolled]
            .into_iter()
            .find(|accepted| accepted.as_str() == text)
            .ok_or(())
    }
}

/// What was seen of a platform, each time with a MAC that held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// When first.
    pub first: Time,
    /// When last.
    pub last: Time,
    /// `amd`, or the name of the extra root that signed its chain.
    pub root: String,
    /// The product; null under an extra root.
    pub product: Option<String>,
    /// The chip's id, where AMD's service or an import vouched for it.
    pub chip_id: Option<Hex<64>>,
    /// Guests that were measured on it.
    pub launches: u64,
    /// Those of them that got secrets.
    pub releases: u64,
    /// Certificate authorities of its operators, the last seen first.
    pub ocas: Vec<SeenOca>,
    /// Versions of its firmware, as attested, the last seen first.
    pub builds: Vec<SeenBuild>,
}

/// An OCA that signed a platform's PEK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeenOca {
    /// Its fingerprint.
    pub fingerprint: HexDigest,
    /// When it was first seen.
    pub first: Time,
    /// When it was last seen.
    pub last: Time,
}

/// A version of a platform's firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeenBuild {
    /// Its API, major.
    pub api_major: u8,
    /// Its API, minor.
    pub api_minor: u8,
    /// Its build.
    pub build_id: u8,
    /// When it was first attested.
    pub first: Time,
    /// When it was last attested.
    pub last: Time,
}

impl Platform {
    /// One of which nothing is known.
    #[must_use]
    pub fn new(cek: HexDigest) -> Self {
        Self {
            cek,
            standing: Standing::Seen,
            word: None,
            seen: None,
        }
    }

    /// Notes that a guest was measured on it. Nothing is noted of an input in which nothing is attested.
    pub fn note(&mut self, input: &Input, time: Time, new_launch: bool, released: bool) {
        let (platform, attested) = (&input.platform, &input.attested);
        let (Some(api_major), Some(api_minor), Some(build_id), Ok(oca)) = (
            attested.api_major,
            attested.api_minor,
            attested.build_id,
            platform.fingerprints.oca.parse::<HexDigest>(),
        ) else {
            return;
        };
        let seen = self.seen.get_or_insert_with(|| Seen {
            first: time,
            last: time,
            root: String::new(),
            product: None,
            chip_id: None,
            launches: 0,
            releases: 0,
            ocas: Vec::new(),
            builds: Vec::new(),
        });
        seen.last = seen.last.max(time);
        platform.root.clone_into(&mut seen.root);
        seen.product.clone_from(&platform.product);
        if let Some(chip) = platform.chip_id.as_ref().and_then(|id| id.parse().ok()) {
            seen.chip_id = Some(chip);
        }
        seen.launches += u64::from(new_launch);
        seen.releases += u64::from(released);

        let known = seen.ocas.iter().position(|known| known.fingerprint == oca);
        let first = known.map_or(time, |at| seen.ocas.remove(at).first);
        let noted = SeenOca {
            fingerprint: oca,
            first,
            last: time,
        };
        seen.ocas.insert(0, noted);
        seen.ocas.truncate(OCAS);

        let version = (api_major, api_minor, build_id);
        let known = seen
            .builds
            .iter()
            .position(|known| (known.api_major, known.api_minor, known.build_id) == version);
        let first = known.map_or(time, |at| seen.builds.remove(at).first);
        let noted = SeenBuild {
            api_major,
            api_minor,
            build_id,
            first,
            last: time,
        };
        seen.builds.insert(0, noted);
        seen.builds.truncate(BUILDS);
    }
}
