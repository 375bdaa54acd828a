//! What a store keeps of holds, of limits that are reset, and of acts that need two people.

use uuid::Uuid;

use super::StoreError;
use crate::audit::actor::Act;
use crate::domain::approval::{Approvals, Change, Count, Proposal, Reset, Word};
use crate::domain::etag::Precondition;
use crate::domain::hold::{Confirm, Hold, HoldState};
use crate::domain::{Name, Time};

/// Which holds are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HoldQuery {
    /// Older than this cursor.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
    /// In this state.
    pub state: Option<HoldState>,
}

/// A page of holds, newest first.
#[derive(Debug)]
pub struct HoldPage {
    /// The holds.
    pub holds: Vec<Hold>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<i64>,
}

/// What a person says of a hold.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Releases beyond the limit are to be made.
    Confirm(Confirm),
    /// None are to be made.
    Reject,
    /// Those not made yet are not to be made any more.
    Withdraw,
}

/// What came of a person's word.
#[derive(Debug)]
pub enum Taken<T> {
    /// It is recorded, and this is how things stand.
    Done(T),
    /// It waits for another person.
    Pending(Proposal),
    /// There is no such thing.
    Missing,
    /// Things are such that it can't be taken: why. Nothing was written.
    Refused(String),
    /// It is not in the state that the caller demands. Nothing was written.
    Stale,
}

/// Counts and what was done about them.
#[derive(Debug)]
pub struct Counts {
    /// Every count.
    pub counts: Vec<Count>,
    /// Those that were lowered, the newest first.
    pub resets: Vec<Reset>,
    /// What waits for another person.
    pub proposals: Vec<Proposal>,
}

/// See the module. Each method is one transaction; each word that is taken is recorded in it.
pub trait HoldStore: Send + Sync {
    /// Holds, newest first.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn holds(&self, owner: &Name, query: HoldQuery) -> Result<HoldPage, StoreError>;

    /// One hold of this owner.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn hold(&self, owner: &Name, id: Uuid) -> Result<Option<Hold>, StoreError>;

    /// Takes a person's word on a hold. What a confirmation gives is there once this returns, and is used up in the
    /// transactions of the releases that it is for.
    ///
    /// # Errors
    /// When the store fails; then it may or may not have been taken.
    fn settle_hold(
        &self,
        owner: &Name,
        id: Uuid,
        verb: &Verb,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Hold>, StoreError>;

    /// Every count of this owner, the last `resets` that were lowered, and what waits for another person.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn limits(&self, owner: &Name, resets: u32, now: Time) -> Result<Counts, StoreError>;

    /// Lowers a count ([`Change::ResetLimit`]), or proposes it where the owner asks for two people; an equal proposal of
    /// another person makes it so. Holds that have room then are closed.
    ///
    /// # Errors
    /// When the store fails; then it may or may not have been done.
    fn reset_limit(
        &self,
        owner: &Name,
        change: &Change,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Reset>, StoreError>;

    /// How many people this owner asks for.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn approvals(&self, owner: &Name) -> Result<Approvals, StoreError>;

    /// Changes that number ([`Change::ApprovalsRequired`]), if it is in the state demanded: to lower it takes as many as
    /// it asks for.
    ///
    /// # Errors
    /// When the store fails; then it may or may not have been done.
    fn require_approvals(
        &self,
        owner: &Name,
        change: &Change,
        precondition: &Precondition,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Approvals>, StoreError>;
}
