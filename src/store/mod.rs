//! What must outlive the process. The methods are use cases, each one transaction.
//!
//! Contracts that every store keeps:
//!
//! - **Durable before told.** When a method that writes returns `Ok`, what it wrote survives the loss of power.
//!   When it returns an error, nothing of it may be relied upon, and nothing partial is ever seen.
//! - **Exact.** Counts never pass their limits, a launch is spent once, whatever runs beside it.
//! - **No absence by error.** An error while reading is an error, never «there is none».
//!
//! The store knows no secret: values and launch keys reach it sealed, tokens as hashes.

mod ceks;
mod connections;
mod engine;
mod figures;
mod holds;
mod incidents;
pub mod keys;
pub mod log;
pub mod migrate;
mod moments;
pub mod once;
pub mod outbox;
mod pages;
pub mod postgres;
mod recovery;
mod retention;
mod sql;
pub mod sqlite;
mod tokens;
mod upkeep;

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::decision::{CountSeen, Decision};
use crate::domain::freeze::Stop;
use crate::domain::launch::{Binding, Launch, LaunchBounds};
use crate::domain::revision::{Revision, Which};
use crate::domain::secret_version::SecretVersionInfo;
use crate::domain::state::{ChangeSet, OwnerState, WorkloadContext};
use crate::domain::{HexDigest, Name, Time};

pub use ceks::{CekOfKey, KnownCek};
pub use connections::{Connections, Link};
pub use figures::{Figures, FiguresStore};
pub use holds::{Counts, HoldPage, HoldQuery, HoldStore, Taken, Verb};
pub use incidents::{FreezePage, FreezeQuery, Frozen, ImpactPage, IncidentStore, PlatformList};
pub use log::{AuditLog, Guarded, Recorded};
pub use moments::Moments;
pub use outbox::{Message, Outbox, Told};
pub use pages::{DecisionPage, DecisionQuery, StoredRevision};
pub use recovery::Recovery;
pub use retention::Retention;
pub use sql::SqlStore;
pub use tokens::{OwnerCreated, Revoked, TokenCreated, Tokens};
pub use upkeep::Upkeep;

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed: disk full, file damaged, busy for too long.
    #[error("store: {0}")]
    Engine(String),
    /// Something stored does not read as what it should be.
    #[error("store: {what} is damaged: {why}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The store is shutting down.
    #[error("store: closed")]
    Closed,
}

/// What may go wrong when the store takes an owner's changes.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody changed the owner's objects since they were read; nothing was written.
    #[error("the owner's objects were changed meanwhile")]
    Changed,
    /// The name or UUID belongs to somebody else's object.
    #[error("UUID {0} is taken")]
    Taken(Uuid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may come of remembering a launch.
#[derive(Debug, PartialEq, Eq)]
pub enum LaunchBegun {
    /// It is remembered.
    Stored,
    /// Its keys are sealed under a key that was retired meanwhile; nothing was written.
    OldKey,
    /// Somebody froze what its releases would be of or to, or its platform is refused. Nothing was written.
    Stopped(Box<Stop>),
    /// Too many wait already; a place is free at the latest then.
    Full {
        /// When the oldest that is in the way expires.
        until: Time,
    },
}

/// Releases that were counted for a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReleaseCounts {
    /// Ever.
    pub total: u64,
    /// Since an hour ago.
    pub last_hour: u64,
    /// Since a day ago.
    pub last_day: u64,
}

/// What releases are counted for when policies ask how many there were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseScope {
    /// Releases to a workload.
    Workload(Uuid),
    /// Releases of a secret.
    Secret(Name),
}

/// A count to be raised, with the least of the limits that policies set on it.
#[derive(Clone, Debug)]
pub struct CountUp {
    /// What the count counts in.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// It may not pass this.
    pub limit: Option<u64>,
}

/// A release, as it is committed.
pub struct ReleaseCommit {
    /// The record, with outcome `released`. The store adds what the counts were.
    pub decision: Decision,
    /// The launch that is spent.
    pub launch: Uuid,
    /// Id for the hold, should this release open one.
    pub hold: Uuid,
    /// Generation of the owner's objects that the decision was taken on.
    pub generation: i64,
    /// Every count that is raised by one.
    pub counts: Vec<CountUp>,
    /// How many releases the policies saw, where one of them looked: totals must be the same still.
    pub seen: Vec<(ReleaseScope, u64)>,
    /// Hash of the idempotency key, hash of the request, and the sealed answer.
    pub answer: Option<(HexDigest, HexDigest, Vec<u8>)>,
    /// What it has to do with a connection.
    pub link: Link,
}

/// What came of a release.
#[derive(Debug)]
pub enum Committed {
    /// Spent, counted, recorded: the packet may leave.
    Released,
    /// A count is used up. Nothing was counted or spent; the hold and its decision are recorded.
    Held {
        /// The hold.
        hold: Uuid,
        /// The decision that this launch was held, the same for each of its tries.
        decision: Uuid,
    },
    /// A count is used up and the launch's hold was rejected, or somebody froze what this is a release of or to, or its
    /// platform gets none: this denial is recorded and took a try.
    Denied(Uuid),
    /// The launch is no longer waiting. Nothing was written.
    Gone,
    /// What the decision was taken on has changed. Nothing was written; decide again.
    Changed,
}

/// See the module.
pub trait Store:
    Tokens + HoldStore + IncidentStore + AuditLog + Upkeep + once::OnceStore + Connections + Moments
{
    /// All that an owner registered, read in one moment.
    ///
    /// # Errors
    /// When the store fails, or something stored is damaged.
    fn owner_state(&self, owner: &Name) -> Result<OwnerState, StoreError>;

    /// Writes changes that were validated on `generation`, all or none. Where they are guarded, and the owner asks for
    /// two people who register: the first one's word is kept as a proposal, and nothing else is written. Values that
    /// are purged, and those of secrets that are removed, are overwritten wherever the store had them: now, or with the
    /// next [`Store::sweep`].
    ///
    /// # Errors
    /// [`ApplyError::Changed`] when the generation is another by now.
    fn apply(
        &self,
        owner: &Name,
        generation: i64,
        changes: Recorded<ChangeSet>,
        guarded: Option<Guarded>,
    ) -> Result<Taken<()>, ApplyError>;

    /// A workload and all that its releases depend on, read in one moment.
    ///
    /// # Errors
    /// When the store fails, or something stored is damaged.
    fn workload(&self, uuid: Uuid) -> Result<Option<Arc<WorkloadContext>>, StoreError>;

    /// The archive of a bundle; every one ever active is kept.
    ///
    /// # Errors
    /// When the store fails.
    fn bundle(&self, owner: &Name, digest: HexDigest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Bundles with the time they became active, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn bundles(&self, owner: &Name) -> Result<Vec<(HexDigest, Time)>, StoreError>;

    /// Revisions of an owner's policies, newest first: at most `limit`, of numbers below `before`.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn revisions(&self, owner: &Name, before: Option<u64>, limit: u32) -> Result<Vec<Revision>, StoreError>;

    /// One revision of this owner.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn revision(&self, owner: &Name, which: Which) -> Result<Option<StoredRevision>, StoreError>;

    /// Sealed values of these secrets' versions, in the same order; none where one is no longer there.
    ///
    /// # Errors
    /// When the store fails.
    fn sealed_secrets(
        &self,
        owner: &Name,
        secrets: &[(Name, u64)],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// The versions of a secret, newest first, those that were purged included.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn secret_versions(&self, owner: &Name, name: &Name) -> Result<Vec<SecretVersionInfo>, StoreError>;

    /// A firmware's bytes.
    ///
    /// # Errors
    /// When the store fails.
    fn firmware(&self, owner: &Name, name: &Name) -> Result<Option<Vec<u8>>, StoreError>;

    /// Remembers a launch, within the bounds: a full bucket of a platform key evicts its own oldest;
    /// a full workload evicts the oldest of the address that holds most, if that is well above the
    /// newcomer's own, or else of the chip, or of the IPv6 /48, that does; a full address is told to wait.
    /// One that is stopped is not remembered.
    ///
    /// # Errors
    /// When the store fails.
    fn begin_launch(&self, launch: &Launch, bounds: LaunchBounds) -> Result<LaunchBegun, StoreError>;

    /// A launch by its id, whatever its state; the ended are forgotten a day after they expire, or earlier
    /// where there are very many of them.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn launch(&self, id: Uuid) -> Result<Option<Launch>, StoreError>;

    /// Waiting launches of a workload with this SEV policy: those that `bucket` began first, then
    /// the newest. At most `limit`.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn pending_launches(
        &self,
        workload: Uuid,
        policy: u32,
        bucket: &str,
        now: Time,
        limit: u32,
    ) -> Result<Vec<Launch>, StoreError>;

    /// Takes one try from a waiting launch; the last one ends it. How many are left.
    ///
    /// # Errors
    /// When the store fails.
    fn charge_try(&self, id: Uuid) -> Result<u32, StoreError>;

    /// The answer that an identical request with the same idempotency key was given, sealed, with the
    /// launch it was for. `uuid` is the launch's or the workload's.
    ///
    /// # Errors
    /// When the store fails.
    fn answered(
        &self,
        uuid: Uuid,
        key: HexDigest,
        request: HexDigest,
        now: Time,
    ) -> Result<Option<(Uuid, Name, Vec<u8>)>, StoreError>;

    /// How many releases there were, up to `now`.
    ///
    /// # Errors
    /// When the store fails.
    fn release_counts(
        &self,
        owner: &Name,
        scope: &ReleaseScope,
        now: Time,
    ) -> Result<ReleaseCounts, StoreError>;

    /// These counts as they are, in the same order.
    ///
    /// # Errors
    /// When the store fails.
    fn counts(&self, owner: &Name, counts: &[CountUp]) -> Result<Vec<CountSeen>, StoreError>;

    /// Spends the launch, raises every count within its limit, records the decision: all or none. A freeze that was
    /// answered before this began stops it.
    ///
    /// # Errors
    /// When the store fails; then the release may or may not have been counted, and must not be answered.
    fn commit_release(&self, release: ReleaseCommit) -> Result<Committed, StoreError>;

    /// Records a decision that released nothing and takes a try from its launch, if that is still
    /// waiting; whether it was.
    ///
    /// # Errors
    /// When the store fails.
    fn record_denied(&self, decision: &Decision) -> Result<bool, StoreError>;

    /// Records refusals that stand for many, replacing the record of the same id.
    ///
    /// # Errors
    /// When the store fails.
    fn record_refusals(&self, decisions: &[Decision]) -> Result<(), StoreError>;

    /// Decisions, newest first.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn decisions(&self, owner: &Name, query: &DecisionQuery) -> Result<DecisionPage, StoreError>;

    /// One decision of this owner.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn decision(&self, owner: &Name, id: Uuid) -> Result<Option<Decision>, StoreError>;

    /// What is known of the CEK of this chip (64 bytes).
    ///
    /// # Errors
    /// When the store fails.
    fn cek_of_chip(&self, chip: &[u8; 64]) -> Result<Option<KnownCek>, StoreError>;

    /// The certificate of a CEK with this public key, by the key's digest, and its chip where known.
    ///
    /// # Errors
    /// When the store fails.
    fn cek_of_key(&self, key: &[u8; 32]) -> Result<Option<CekOfKey>, StoreError>;

    /// Remembers a CEK for ever.
    ///
    /// # Errors
    /// When the store fails.
    fn remember_cek(
        &self,
        chip: Option<&[u8; 64]>,
        key: &[u8; 32],
        certificate: &[u8],
    ) -> Result<(), StoreError>;

    /// Remembers until then that the service knows no such chip.
    ///
    /// # Errors
    /// When the store fails.
    fn remember_no_cek(&self, chip: &[u8; 64], until: Time) -> Result<(), StoreError>;

    /// Forgets what has had its time: keys and answers of expired launches at once, the launches a
    /// day later. At most a few hundred a call; whether there was more.
    ///
    /// # Errors
    /// When the store fails.
    fn sweep(&self, now: Time) -> Result<bool, StoreError>;

    /// Whether the store can write now.
    ///
    /// # Errors
    /// When it can't.
    fn ping(&self) -> Result<(), StoreError>;
}
