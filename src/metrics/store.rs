//! Calls to the store.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use uuid::Uuid;

use super::{Times, observe, times};
use crate::audit::actor::Act;
use crate::audit::proof::Head;
use crate::audit::record::AuditRecord;
use crate::domain::approval::{Approvals, Change, Reset, Word};
use crate::domain::connection::{Connection, FirstAnswer, Wanted};
use crate::domain::decision::{CountSeen, Decision};
use crate::domain::etag::Precondition;
use crate::domain::freeze::{Freeze, Stop, Subject, Target};
use crate::domain::hold::Hold;
use crate::domain::impact::Cause;
use crate::domain::launch::{Launch, LaunchBounds};
use crate::domain::once::Once;
use crate::domain::platform::{Accepted, Platform, Standing};
use crate::domain::revision::{Revision, Which};
use crate::domain::secret_version::SecretVersionInfo;
use crate::domain::state::{ChangeSet, OwnerState, WorkloadContext};
use crate::domain::token::{Identity, TokenEntry, TokenHash};
use crate::domain::workload::WorkloadHead;
use crate::domain::{HexDigest, Name, Time};
use crate::store::log::{LogEntry, LogPlace, StoredCheckpoint};
use crate::store::once::{Known, OnceStore};
use crate::store::{
    ApplyError, AuditLog, CekOfKey, Committed, Connections, CountUp, Counts, DecisionPage, DecisionQuery,
    Figures, FiguresStore, FreezePage, FreezeQuery, Frozen, Guarded, HoldPage, HoldQuery, HoldStore,
    ImpactPage, IncidentStore, KnownCek, LaunchBegun, Message, Moments, Outbox, OwnerCreated, PlatformList,
    Recorded, Recovery, ReleaseCommit, ReleaseCounts, ReleaseScope, Retention, Revoked, Store, StoreError,
    StoredRevision, Taken, TokenCreated, Tokens, Told, Verb,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operation: &'static str,
}

#[derive(Clone)]
pub(super) struct Calls {
    duration: Times<Of>,
    errors: Family<Of, Counter>,
}

impl Calls {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            duration: times(),
            errors: Family::default(),
        };
        registry.register_with_unit(
            "store_duration",
            "Time of one call to the store, with the wait for its writer, by use case",
            Unit::Seconds,
            own.duration.clone(),
        );
        registry.register(
            "store_errors",
            "Calls to the store that failed, by use case",
            own.errors.clone(),
        );
        own
    }
}

/// Whether an error is the store's.
trait Failure {
    fn is_of_the_store(&self) -> bool;
}

impl Failure for StoreError {
    fn is_of_the_store(&self) -> bool {
        true
    }
}

impl Failure for ApplyError {
    fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

/// The same store, measured.
pub(super) fn around(inner: Arc<dyn Store>, counted: Calls) -> Arc<dyn Store> {
    Arc::new(Measured { inner, counted })
}

struct Measured {
    inner: Arc<dyn Store>,
    counted: Calls,
}

impl Measured {
    fn call<T, E: Failure>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&dyn Store) -> Result<T, E>,
    ) -> Result<T, E> {
        let (of, start) = (Of { operation }, Instant::now());
        let done = work(self.inner.as_ref());
        observe(&self.counted.duration, &of, start.elapsed());
        // There before the first error, so that it is seen to rise.
        let errors = self.counted.errors.get_or_create(&of);
        if done.as_ref().is_err_and(Failure::is_of_the_store) {
            errors.inc();
        }
        done
    }
}

impl Moments for Measured {
    fn together(&self, reads: &mut dyn FnMut()) {
        self.inner.together(reads);
    }
}

/// Each method as it is, under its own name.
macro_rules! measured {
    ($room:ident: $($name:ident($($argument:ident: $of:ty),*) -> $returns:ty;)*) => {
        impl $room for Measured {
            $(fn $name(&self, $($argument: $of),*) -> $returns {
                self.call(stringify!($name), move |store| store.$name($($argument),*))
            })*
        }
    };
}

measured! {
    HoldStore:
    holds(owner: &Name, query: HoldQuery) -> Result<HoldPage, StoreError>;
    hold(owner: &Name, id: Uuid) -> Result<Option<Hold>, StoreError>;
    settle_hold(owner: &Name, id: Uuid, verb: &Verb, word: &Word, act: &Act) -> Result<Taken<Hold>, StoreError>;
    limits(owner: &Name, resets: u32, now: Time) -> Result<Counts, StoreError>;
    reset_limit(owner: &Name, change: &Change, word: &Word, act: &Act) -> Result<Taken<Reset>, StoreError>;
    approvals(owner: &Name) -> Result<Approvals, StoreError>;
    require_approvals(owner: &Name, change: &Change, precondition: &Precondition, word: &Word, act: &Act) -> Result<Taken<Approvals>, StoreError>;
}

measured! {
    OnceStore:
    known(once: &Once, now: Time) -> Result<Known, StoreError>;
    keep_answer(once: &Once, status: u16, body: Vec<u8>, now: Time) -> Result<(), StoreError>;
}

measured! {
    Connections:
    workload_heads(owner: &Name, names: &[Name]) -> Result<Vec<WorkloadHead>, StoreError>;
    workload_name(owner: &Name, uuid: Uuid) -> Result<Option<Name>, StoreError>;
    connection(id: Uuid, now: Time) -> Result<Option<Connection>, StoreError>;
    take_request(connection: Uuid, now: Time) -> Result<bool, StoreError>;
    first_answers(connection: Uuid, wanted: &[Wanted]) -> Result<Vec<Option<FirstAnswer>>, StoreError>;
}

measured! {
    IncidentStore:
    freeze(owner: Option<&Name>, target: &Target, word: &Word, act: &Act) -> Result<Frozen, StoreError>;
    unfreeze(owner: Option<&Name>, id: Uuid, word: &Word, act: &Act) -> Result<Taken<Freeze>, StoreError>;
    freezes(owner: Option<&Name>, query: FreezeQuery) -> Result<FreezePage, StoreError>;
    frozen(owner: Option<&Name>, id: Uuid) -> Result<Option<Freeze>, StoreError>;
    stopped(subject: &Subject) -> Result<Option<Stop>, StoreError>;
    platforms(owner: &Name, after: Option<HexDigest>, limit: u32) -> Result<PlatformList, StoreError>;
    platform(owner: &Name, cek: HexDigest) -> Result<Option<Platform>, StoreError>;
    judge_platform(owner: &Name, cek: HexDigest, standing: Standing, word: &Word, act: &Act)
        -> Result<Taken<Platform>, StoreError>;
    accept_platforms(owner: &Name, accepted: Accepted, word: &Word, act: &Act)
        -> Result<Taken<Word>, StoreError>;
    impact(owner: &Name, cause: &Cause, before: Option<i64>, limit: u32) -> Result<ImpactPage, StoreError>;
}

measured! {
    Tokens:
    create_owner(owner: &Name, token: TokenHash, act: &Act) -> Result<OwnerCreated, StoreError>;
    owners() -> Result<Vec<Name>, StoreError>;
    caller(token: TokenHash, now: Time) -> Result<Option<Identity>, StoreError>;
    create_token(entry: &TokenEntry, hash: TokenHash, act: &Act) -> Result<TokenCreated, StoreError>;
    tokens(owner: Option<&Name>) -> Result<Vec<TokenEntry>, StoreError>;
    revoke_token(owner: Option<&Name>, id: Uuid, act: &Act) -> Result<Revoked, StoreError>;
    tokens_used(uses: &[(Uuid, Time)]) -> Result<(), StoreError>;
}

measured! {
    Store:
    owner_state(owner: &Name) -> Result<OwnerState, StoreError>;
    apply(owner: &Name, generation: i64, changes: Recorded<ChangeSet>, guarded: Option<Guarded>) -> Result<Taken<()>, ApplyError>;
    workload(uuid: Uuid) -> Result<Option<Arc<WorkloadContext>>, StoreError>;
    bundle(owner: &Name, digest: HexDigest) -> Result<Option<Vec<u8>>, StoreError>;
    bundles(owner: &Name) -> Result<Vec<(HexDigest, Time)>, StoreError>;
    revisions(owner: &Name, before: Option<u64>, limit: u32) -> Result<Vec<Revision>, StoreError>;
    revision(owner: &Name, which: Which) -> Result<Option<StoredRevision>, StoreError>;
    sealed_secrets(owner: &Name, secrets: &[(Name, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;
    secret_versions(owner: &Name, name: &Name) -> Result<Vec<SecretVersionInfo>, StoreError>;
    firmware(owner: &Name, name: &Name) -> Result<Option<Vec<u8>>, StoreError>;
    begin_launch(launch: &Launch, bounds: LaunchBounds) -> Result<LaunchBegun, StoreError>;
    launch(id: Uuid) -> Result<Option<Launch>, StoreError>;
    pending_launches(workload: Uuid, policy: u32, bucket: &str, now: Time, limit: u32)
        -> Result<Vec<Launch>, StoreError>;
    charge_try(id: Uuid) -> Result<u32, StoreError>;
    answered(uuid: Uuid, key: HexDigest, request: HexDigest, now: Time)
        -> Result<Option<(Uuid, Name, Vec<u8>)>, StoreError>;
    release_counts(owner: &Name, scope: &ReleaseScope, now: Time) -> Result<ReleaseCounts, StoreError>;
    counts(owner: &Name, counts: &[CountUp]) -> Result<Vec<CountSeen>, StoreError>;
    commit_release(release: ReleaseCommit) -> Result<Committed, StoreError>;
    record_denied(decision: &Decision) -> Result<bool, StoreError>;
    record_refusals(decisions: &[Decision]) -> Result<(), StoreError>;
    decisions(owner: &Name, query: &DecisionQuery) -> Result<DecisionPage, StoreError>;
    decision(owner: &Name, id: Uuid) -> Result<Option<Decision>, StoreError>;
    cek_of_chip(chip: &[u8; 64]) -> Result<Option<KnownCek>, StoreError>;
    cek_of_key(key: &[u8; 32]) -> Result<Option<CekOfKey>, StoreError>;
    remember_cek(chip: Option<&[u8; 64]>, key: &[u8; 32], certificate: &[u8]) -> Result<(), StoreError>;
    remember_no_cek(chip: &[u8; 64], until: Time) -> Result<(), StoreError>;
    sweep(now: Time) -> Result<bool, StoreError>;
    ping() -> Result<(), StoreError>;
}

measured! {
    AuditLog:
    record(record: AuditRecord) -> Result<(), StoreError>;
    log_head() -> Result<Head, StoreError>;
    log_root(size: u64) -> Result<HexDigest, StoreError>;
    log_inclusion(index: u64, size: u64) -> Result<Vec<HexDigest>, StoreError>;
    log_consistency(old: u64, size: u64) -> Result<Vec<HexDigest>, StoreError>;
    log_entries(start: u64, limit: u32) -> Result<Vec<LogEntry>, StoreError>;
    log_place(id: Uuid) -> Result<Option<LogPlace>, StoreError>;
    log_checkpoints(after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError>;
    log_checkpoint() -> Result<Option<StoredCheckpoint>, StoreError>;
    keep_checkpoint(previous: u64, checkpoint: StoredCheckpoint, now: Time) -> Result<bool, StoreError>;
}

measured! {
    Recovery:
    restored_copy() -> Result<Option<String>, StoreError>;
    accept_rollback(seen: u64, accepted: u64, record: AuditRecord, now: Time) -> Result<(), StoreError>;
}

measured! {
    Retention:
    forget_records(before: Time, now: Time) -> Result<bool, StoreError>;
    forget_decisions(before: Time, now: Time) -> Result<bool, StoreError>;
}

measured! {
    Outbox:
    set_webhooks(webhooks: &[Told]) -> Result<(), StoreError>;
    next_message(webhook: &str, now: Time) -> Result<Option<Message>, StoreError>;
    forget_message(id: Uuid) -> Result<(), StoreError>;
    delay_message(id: Uuid, due: Time) -> Result<(), StoreError>;
}

measured! {
    FiguresStore:
    figures(now: Time) -> Result<Figures, StoreError>;
}
