//! Which platforms an owner trusts, as one object that manifests say whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::platform::{Accepted, Standing};
use super::revision::By;
use super::{HexDigest, Time};

/// Platforms that one object says something of, at most.
pub const MOST: usize = 10_000;

/// Bytes that all reasons in one object have, at most: each is a record of the audit log.
pub const MOST_SAID: usize = 1 << 20;

/// What an owner says of platforms.
///
/// Said whole: an enrolment that it leaves out is withdrawn. A refusal that it leaves out stays, as it may have been
/// said since the manifest was written, and in a hurry; only enrolling the platform by itself takes it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Which get releases: any that is not refused, or those that are enrolled.
    pub platforms: Accepted,
    /// Those that are enrolled.
    #[serde(default)]
    #[schemars(extend("maxItems" = MOST))]
    pub enrolled: Vec<Listed>,
    /// Those that get no release and begin no launch.
    #[serde(default)]
    #[schemars(extend("maxItems" = MOST))]
    pub refused: Vec<Listed>,
}

/// A platform, and why something is said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Fingerprint of its CEK.
    pub cek: HexDigest,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// A platform by the fingerprint of its CEK, what is said of it, and why.
pub type Judged = (HexDigest, Standing, String);

/// What a registered [`Trust`] changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustChange {
    /// Which platforms get releases from now on, where that changes.
    pub accepted: Option<Accepted>,
    /// What is said of platforms from now on, and why; [`Standing::Seen`]: nothing any more.
    pub judged: Vec<Judged>,
    /// Who says so.
    pub by: By,
    /// When.
    pub time: Time,
}

impl Trust {
    /// By platform: what is said of it and why.
    #[must_use]
    pub fn judged(&self) -> BTreeMap<HexDigest, (Standing, &str)> {
        let enrolled = self.enrolled.iter().map(|one| (Standing::Enrolled, one));
        let refused = self.refused.iter().map(|one| (Standing::Refused, one));
        let said = enrolled.chain(refused);
        said.map(|(standing, one)| (one.cek, (standing, one.reason.as_str())))
            .collect()
    }

    /// In the order in which it is shown: by fingerprint.
    pub fn sort(&mut self) {
        self.enrolled.sort_by_key(|listed| listed.cek);
        self.refused.sort_by_key(|listed| listed.cek);
    }

    /// Whether nothing is said: any platform will do, and none is named.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// What is to be written so that it is as `to` says.
    #[must_use]
    pub fn change(&self, to: &Self, by: By, time: Time) -> Option<TrustChange> {
        let (before, after) = (self.judged(), to.judged());
        let said = after.iter().filter(|(cek, said)| before.get(cek) != Some(said));
        let mut judged: Vec<_> = said
            .map(|(cek, (standing, reason))| (*cek, *standing, (*reason).to_owned()))
            .collect();
        // Never a refusal.
        let enrolled = before.iter().filter(|(_, said)| said.0 == Standing::Enrolled);
        let withdrawn = enrolled.filter(|(cek, _)| !after.contains_key(cek));
        judged.extend(withdrawn.map(|(cek, _)| (*cek, Standing::Seen, "no longer listed".to_owned())));
        let accepted = (self.platforms != to.platforms).then_some(to.platforms);
        let changes = accepted.is_some() || !judged.is_empty();
        changes.then_some(TrustChange {
            accepted,
            judged,
            by,
            time,
        })
    }
}

impl TrustChange {
    /// Whether platforms get releases by it that got none before.
    #[must_use]
    pub fn loosens(&self) -> bool {
        let enrols = |(_, standing, _): &(_, Standing, _)| *standing == Standing::Enrolled;
        self.accepted == Some(Accepted::Any) || self.judged.iter().any(enrols)
    }
}
