//! Holds: releases that wait for the owner because a count is used up, and what was said about them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::approval::Word;
use super::decision::{CountSeen, WorkloadRef};
use super::launch::Binding;
use super::{HexDigest, Name, Time};
use crate::policy::{DigestSource, Image, Input, Platform};

/// Additional releases that one confirmation can give, at most: more is a limit that should be raised.
pub const MOST: u64 = 1_000_000;

/// One open hold stands for every launch of a workload that asked for the same secrets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Its id, which the host learns.
    pub id: Uuid,
    /// What has become of it.
    #[serde(default)]
    pub state: HoldState,
    /// The workload.
    pub workload: WorkloadRef,
    /// The secrets that were asked for, in order.
    pub secrets: Vec<Name>,
    /// What was attested of the launches that it holds back, the first of them first.
    pub attested: Vec<Held>,
    /// The counts that were in the way, as they were when they last were.
    #[serde(default)]
    pub counts: Vec<CountSeen>,
    /// When the first launch was held.
    pub created: Time,
    /// When a launch last asked.
    pub last_try: Time,
    /// How many launches it holds back.
    pub launches: u64,
    /// How often they asked.
    pub requests: u64,
    /// Which limits are used up.
    pub reason: String,
    /// Who approved of it, the first of them first. All approved of the same.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Who rejected it, and why.
    #[serde(default)]
    pub rejected: Option<Word>,
    /// Who took back what was left of its confirmation, and why.
    #[serde(default)]
    pub withdrawn: Option<Word>,
    /// When it closed by itself, as there was room again.
    #[serde(default)]
    pub closed: Option<Time>,
    /// What its confirmation gives, for each count that was in the way.
    #[serde(default)]
    pub allowances: Vec<Allowance>,
}

/// What has become of a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoldState {
    /// Nobody has said anything yet.
    #[default]
    Open,
    /// One person approved of it, and the owner asks for another.
    Pending,
    /// It was confirmed; a launch that is held later opens another.
    Confirmed,
    /// It was rejected: its launches get no release beyond the limit.
    Rejected,
    /// There was room again before anybody decided.
    Closed,
}

/// A guest image on a platform that a hold stands for. A confirmation is for one of these, or for any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The launch digest and the chip.
    #[serde(flatten)]
    pub of: Guest,
    /// How many launches of it are held back.
    pub launches: u64,
    /// Where the launch digest came from; null where the server that wrote it did not record that yet.
    #[serde(default)]
    pub digest_source: Option<DigestSource>,
    /// The image that the digest was computed from.
    #[serde(default)]
    pub image: Option<Image>,
    /// The platform that first asked.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// What a guest is known by: what runs in it, and on which chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guest {
    /// The launch digest.
    pub launch_digest: HexDigest,
    /// Fingerprint of the chip's CEK.
    pub cek: HexDigest,
}

/// One person's word for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Who, when and why.
    #[serde(flatten)]
    pub word: Word,
    /// How many releases beyond the limit.
    pub additional: u64,
    /// For which of the attested guests; null: for any of the workload.
    pub guest: Option<Guest>,
}

/// Releases that a confirmation gives on one count, beyond its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allowance {
    /// What the count counts in.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// How many were confirmed.
    pub additional: u64,
    /// How many of them were made.
    pub used: u64,
    /// How many of them were withdrawn.
    pub withdrawn: u64,
}

/// What is asked of a hold by who confirms it.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// How many releases beyond the limit.
    pub additional: u64,
    /// For any guest of the workload.
    pub any: bool,
    /// For the guest with this launch digest, where the hold lists several.
    pub launch_digest: Option<HexDigest>,
    /// For the guest on the chip with this CEK, where the hold lists several.
    pub cek: Option<HexDigest>,
}

impl HoldState {
    const ALL: [Self; 5] = [
        Self::Open,
        Self::Pending,
        Self::Confirmed,
        Self::Rejected,
        Self::Closed,
    ];

    /// The word, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Closed => "closed",
        }
    }
}

impl std::str::FromStr for HoldState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

impl Hold {
    /// Different images and chips that one hold lists; launches of more are counted in it, and not listed.
    const LISTED: usize = 64;

    /// Notes what was attested of a launch, which is `new` to this hold or asks again.
    pub fn note(&mut self, of: Guest, input: &Input, new: bool) {
        let room = self.attested.len() < Self::LISTED;
        let mut all = self.attested.iter_mut();
        match all.find(|held| held.of == of) {
            Some(held) => held.launches += u64::from(new),
            None if room => self.attested.push(Held {
                of,
                launches: 1,
                digest_source: input.attested.digest_source,
                image: Some(input.attested.image.clone()),
                platform: Some(input.platform.clone()),
            }),
            None => {}
        }
    }

    /// Notes counts that are in the way; what was known of others stays, as a limit may depend on the guest.
    pub fn note_counts(&mut self, counts: Vec<CountSeen>) {
        for count in counts {
            let known =
                |other: &&mut CountSeen| (&other.binding, &other.secret) == (&count.binding, &count.secret);
            match self.counts.iter_mut().find(known) {
                Some(known) => *known = count,
                None => self.counts.push(count),
            }
        }
    }

    /// Takes a person's word for a confirmation; with the last of those that are `required` it is confirmed.
    ///
    /// # Errors
    /// Why it can't be taken, in a sentence; then nothing has changed.
    pub fn confirm(&mut self, asked: &Confirm, word: Word, required: u8) -> Result<(), String> {
        self.undecided()?;
        let approval = Approval {
            guest: self.guest(asked)?,
            additional: asked.additional,
            word,
        };
        if let Some(first) = self.approvals.first() {
            if first.additional != approval.additional || first.guest != approval.guest {
                return Err(format!(
                    "{} approved of {} additional releases for {}: a second person confirms the same, or rejects the hold",
                    first.word.by.name,
                    first.additional,
                    for_whom(first.guest.as_ref())
                ));
            }
            if self
                .approvals
                .iter()
                .any(|a| a.word.by.is_same_person(&approval.word.by))
            {
                return Err(format!(
                    "{} approved of this hold already: {required} different people must, each with a token of a name of its own",
                    approval.word.by.name
                ));
            }
        }
        self.approvals.push(approval);
        self.state = if self.approvals.len() < usize::from(required) {
            HoldState::Pending
        } else {
            HoldState::Confirmed
        };
        Ok(())
    }

    /// Takes a person's word against it.
    ///
    /// # Errors
    /// Why it can't be taken, in a sentence.
    pub fn reject(&mut self, word: Word) -> Result<(), String> {
        self.undecided()?;
        self.rejected = Some(word);
        self.state = HoldState::Rejected;
        Ok(())
    }

    /// Takes back what is left of its confirmation.
    ///
    /// # Errors
    /// Why there is nothing to be taken back, in a sentence.
    pub fn withdraw(&mut self, word: Word) -> Result<(), String> {
        if self.state != HoldState::Confirmed {
            return Err(format!(
                "the hold is {}: only what was confirmed can be withdrawn",
                self.state.as_str()
            ));
        }
        if self.allowances.iter().all(|allowance| allowance.left() == 0) {
            return Err("nothing is left of this confirmation".to_owned());
        }
        self.withdrawn = Some(word);
        Ok(())
    }

    fn undecided(&self) -> Result<(), String> {
        let said =
            |what: &str, word: &Word| format!("the hold was {what} by {} at {}", word.by.name, word.time);
        match (self.state, &self.rejected, self.approvals.last()) {
            (HoldState::Open | HoldState::Pending, ..) => Ok(()),
            (HoldState::Rejected, Some(word), _) => Err(said("rejected", word)),
            (HoldState::Confirmed, _, Some(approval)) => Err(format!(
                "{}, with {} additional releases",
                said("confirmed", &approval.word),
                approval.additional
            )),
            _ => Err("the hold closed by itself: there was room again".to_owned()),
        }
    }

    /// The one guest that is meant; none: any.
    fn guest(&self, asked: &Confirm) -> Result<Option<Guest>, String> {
        if asked.any {
            return Ok(None);
        }
        let named = asked.launch_digest.is_some() || asked.cek.is_some();
        if let Some(first) = self.approvals.first().and_then(|approval| approval.guest)
            && !named
        {
            return Ok(Some(first));
        }
        let meant: Vec<Guest> = self
            .attested
            .iter()
            .map(|held| held.of)
            .filter(|guest| {
                asked
                    .launch_digest
                    .is_none_or(|digest| digest == guest.launch_digest)
            })
            .filter(|guest| asked.cek.is_none_or(|cek| cek == guest.cek))
            .collect();
        match meant.as_slice() {
            [one] => Ok(Some(*one)),
            [] => Err("the hold lists no guest with this launch digest and CEK".to_owned()),
            many => Err(format!(
                "the hold stands for {} guests: say which by launch digest and CEK, or confirm it for any",
                many.len()
            )),
        }
    }
}

/// Whom a confirmation is for, in words.
fn for_whom(guest: Option<&Guest>) -> String {
    guest.map_or_else(
        || "any guest of the workload".to_owned(),
        |guest| {
            format!(
                "the guest with launch digest {} on the chip with CEK {}",
                guest.launch_digest, guest.cek
            )
        },
    )
}

impl Allowance {
    /// How many releases it still gives.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.additional
            .saturating_sub(self.used)
            .saturating_sub(self.withdrawn)
    }
}
