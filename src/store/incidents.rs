//! What a store keeps for when something has gone wrong: freezes, the inventory of platforms, who received what.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{StoreError, Taken};
use crate::audit::actor::Act;
use crate::domain::approval::Word;
use crate::domain::freeze::{Freeze, Stop, Subject, Target};
use crate::domain::impact::{Cause, InUse, Touched};
use crate::domain::platform::{Accepted, Platform, Standing};
use crate::domain::{HexDigest, Name};

/// Which freezes are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreezeQuery {
    /// Older than this cursor.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
    /// Only those in force.
    pub in_force: bool,
}

/// A page of freezes, newest first.
#[derive(Debug)]
pub struct FreezePage {
    /// The freezes.
    pub freezes: Vec<Freeze>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<i64>,
}

/// What came of freezing something.
#[derive(Debug)]
pub enum Frozen {
    /// It is frozen now.
    New(Freeze),
    /// It was, by the same owner or by an administrator as this one is. Nothing was written.
    Already(Freeze),
    /// There is no such owner, workload or secret. Nothing was written.
    Missing,
}

/// A page of an owner's platforms, by fingerprint.
#[derive(Debug)]
pub struct PlatformList {
    /// The platforms.
    pub platforms: Vec<Platform>,
    /// After which the next page begins; none: this was the last.
    pub next: Option<HexDigest>,
    /// Which platforms get releases.
    pub accepted: Accepted,
}

/// A page of launches that something has touched, newest first.
#[derive(Debug)]
pub struct ImpactPage {
    /// The launches.
    pub touched: Vec<Touched>,
    /// What can be released now, of each secret that they received and that is still there.
    pub in_use: BTreeMap<Name, InUse>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<i64>,
}

/// See the module. Each method is one transaction; each act is recorded in it. `owner` is whose freezes are looked
/// at; none: the administrators'.
pub trait IncidentStore: Send + Sync {
    /// Freezes something: from when this returns, no release that it stops is committed.
    ///
    /// An owner's workload is found by its UUID, or by its name where the UUID is nil.
    ///
    /// # Errors
    /// When the store fails; then it may or may not be frozen.
    fn freeze(
        &self,
        owner: Option<&Name>,
        target: &Target,
        word: &Word,
        act: &Act,
    ) -> Result<Frozen, StoreError>;

    /// Lifts a freeze, or proposes it where its owner asks for two people.
    ///
    /// # Errors
    /// When the store fails; then it may or may not be lifted.
    fn unfreeze(
        &self,
        owner: Option<&Name>,
        id: Uuid,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Freeze>, StoreError>;

    /// Freezes, newest first: those of this owner, and those of administrators that stop this owner's releases.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn freezes(&self, owner: Option<&Name>, query: FreezeQuery) -> Result<FreezePage, StoreError>;

    /// One of them.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn frozen(&self, owner: Option<&Name>, id: Uuid) -> Result<Option<Freeze>, StoreError>;

    /// What stops a release or, where nothing is measured yet, a launch.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged; then it must be taken as stopped.
    fn stopped(&self, subject: &Subject) -> Result<Option<Stop>, StoreError>;

    /// Platforms that an owner's guests were measured on, or of which the owner said something.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn platforms(
        &self,
        owner: &Name,
        after: Option<HexDigest>,
        limit: u32,
    ) -> Result<PlatformList, StoreError>;

    /// One of them, by its CEK.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn platform(&self, owner: &Name, cek: HexDigest) -> Result<Option<Platform>, StoreError>;

    /// Enrols or refuses a platform, or proposes to enrol it where its owner asks for two people.
    ///
    /// # Errors
    /// When the store fails; then it may or may not be.
    fn judge_platform(
        &self,
        owner: &Name,
        cek: HexDigest,
        standing: Standing,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Platform>, StoreError>;

    /// Which platforms get this owner's releases from now on; that any does is proposed where the owner asks for two
    /// people.
    ///
    /// # Errors
    /// When the store fails; then it may or may not be so.
    fn accept_platforms(
        &self,
        owner: &Name,
        accepted: Accepted,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Word>, StoreError>;

    /// Launches that received, or ran, what went wrong: newest first, at most `limit`, of those before the cursor.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn impact(
        &self,
        owner: &Name,
        cause: &Cause,
        before: Option<i64>,
        limit: u32,
    ) -> Result<ImpactPage, StoreError>;
}
