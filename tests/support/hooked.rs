//! A store with a hook before each call: it fails where a test says, or changes something between two calls.

use std::sync::{Arc, Mutex};

use keyward::audit::actor::Act;
use keyward::audit::proof::Head;
use keyward::audit::record::AuditRecord;
use keyward::domain::approval::{Approvals, Change, Reset, Word};
use keyward::domain::connection::{Connection, FirstAnswer, Wanted};
use keyward::domain::decision::{CountSeen, Decision};
use keyward::domain::etag::Precondition;
use keyward::domain::freeze::{Freeze, Stop, Subject, Target};
use keyward::domain::hold::Hold;
use keyward::domain::impact::Cause;
use keyward::domain::launch::{Launch, LaunchBounds};
use keyward::domain::once::Once;
use keyward::domain::platform::{Accepted, Platform, Standing};
use keyward::domain::revision::{Revision, Which};
use keyward::domain::secret_version::SecretVersionInfo;
use keyward::domain::state::{ChangeSet, OwnerState, WorkloadContext};
use keyward::domain::token::{Identity, TokenEntry, TokenHash};
use keyward::domain::workload::WorkloadHead;
use keyward::domain::{HexDigest, Name, Time};
use keyward::store::log::{LogEntry, LogPlace, StoredCheckpoint};
use keyward::store::once::{Known, OnceStore};
use keyward::store::{
    ApplyError, AuditLog, CekOfKey, Committed, Connections, CountUp, Counts, DecisionPage, DecisionQuery,
    Figures, FiguresStore, FreezePage, FreezeQuery, Frozen, Guarded, HoldPage, HoldQuery, HoldStore,
    ImpactPage, IncidentStore, KnownCek, LaunchBegun, Message, Moments, Outbox, OwnerCreated, PlatformList,
    Recorded, Recovery, ReleaseCommit, ReleaseCounts, ReleaseScope, Retention, Revoked, Store, StoreError,
    StoredRevision, Taken, TokenCreated, Tokens, Told, Verb,
};
use uuid::Uuid;

use super::app::Options;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It fails, and nothing was done.
    FailsUndone,
    /// It fails, though it was done: such as when the answer is lost.
    FailsDone,
}

type OnCall = Box<dyn FnMut(&str) -> Fate + Send>;

/// The hook. A call to the store waits while another is in it.
#[derive(Clone, Default)]
pub(crate) struct Hook(Arc<Mutex<Option<OnCall>>>);

impl Hook {
    /// From now on `on_call` is asked before each call, with the method's name.
    pub(crate) fn set(&self, on_call: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(on_call));
    }

    /// From now on every call is done.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap() = None;
    }

    /// Runs `first` before the next call of this method, and then lets every call pass.
    pub(crate) fn before(&self, method: &'static str, first: impl FnOnce() + Send + 'static) {
        let mut first = Some(first);
        self.set(move |called| {
            if called == method
                && let Some(first) = first.take()
            {
                first();
            }
            Fate::Done
        });
    }

    /// The next call of this method has this fate, all others are done.
    pub(crate) fn once(&self, method: &'static str, fate: Fate) {
        let mut left = true;
        self.set(move |called| {
            if called == method && std::mem::take(&mut left) {
                fate
            } else {
                Fate::Done
            }
        });
    }

    /// The usual server on a store with this hook.
    pub(crate) fn options(&self) -> Options {
        let hook = self.clone();
        Options {
            store: Box::new(move |inner| {
                Arc::new(Hooked {
                    inner,
                    hook: hook.clone(),
                })
            }),
            ..Options::default()
        }
    }

    fn ask(&self, method: &str) -> Fate {
        match self.0.lock().unwrap().as_mut() {
            Some(on_call) => on_call(method),
            None => Fate::Done,
        }
    }
}

struct Hooked {
    inner: Arc<dyn Store>,
    hook: Hook,
}

impl Hooked {
    fn call<T, E: From<StoreError>>(
        &self,
        method: &str,
        work: impl FnOnce(&dyn Store) -> Result<T, E>,
    ) -> Result<T, E> {
        let failed = || Err(StoreError::Engine(format!("{method} fails as the test says")).into());
        match self.hook.ask(method) {
            Fate::Done => work(self.inner.as_ref()),
            Fate::FailsUndone => failed(),
            Fate::FailsDone => work(self.inner.as_ref()).and_then(|_| failed()),
        }
    }
}

impl Moments for Hooked {
    fn together(&self, reads: &mut dyn FnMut()) {
        self.inner.together(reads);
    }
}

macro_rules! hooked {
    ($room:ident: $($name:ident($($argument:ident: $of:ty),*) -> $returns:ty;)*) => {
        impl $room for Hooked {
            $(fn $name(&self, $($argument: $of),*) -> $returns {
                self.call(stringify!($name), move |store| store.$name($($argument),*))
            })*
        }
    };
}

hooked! {
    HoldStore:
    holds(owner: &Name, query: HoldQuery) -> Result<HoldPage, StoreError>;
    hold(owner: &Name, id: Uuid) -> Result<Option<Hold>, StoreError>;
    settle_hold(owner: &Name, id: Uuid, verb: &Verb, word: &Word, act: &Act) -> Result<Taken<Hold>, StoreError>;
    limits(owner: &Name, resets: u32, now: Time) -> Result<Counts, StoreError>;
    reset_limit(owner: &Name, change: &Change, word: &Word, act: &Act) -> Result<Taken<Reset>, StoreError>;
    approvals(owner: &Name) -> Result<Approvals, StoreError>;
    require_approvals(owner: &Name, change: &Change, precondition: &Precondition, word: &Word, act: &Act) -> Result<Taken<Approvals>, StoreError>;
}

hooked! {
    OnceStore:
    known(once: &Once, now: Time) -> Result<Known, StoreError>;
    keep_answer(once: &Once, status: u16, body: Vec<u8>, now: Time) -> Result<(), StoreError>;
}

hooked! {
    Connections:
    workload_heads(owner: &Name, names: &[Name]) -> Result<Vec<WorkloadHead>, StoreError>;
    workload_name(owner: &Name, uuid: Uuid) -> Result<Option<Name>, StoreError>;
    connection(id: Uuid, now: Time) -> Result<Option<Connection>, StoreError>;
    take_request(connection: Uuid, now: Time) -> Result<bool, StoreError>;
    first_answers(connection: Uuid, wanted: &[Wanted]) -> Result<Vec<Option<FirstAnswer>>, StoreError>;
}

hooked! {
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

hooked! {
    Tokens:
    create_owner(owner: &Name, token: TokenHash, act: &Act) -> Result<OwnerCreated, StoreError>;
    owners() -> Result<Vec<Name>, StoreError>;
    caller(token: TokenHash, now: Time) -> Result<Option<Identity>, StoreError>;
    create_token(entry: &TokenEntry, hash: TokenHash, act: &Act) -> Result<TokenCreated, StoreError>;
    tokens(owner: Option<&Name>) -> Result<Vec<TokenEntry>, StoreError>;
    revoke_token(owner: Option<&Name>, id: Uuid, act: &Act) -> Result<Revoked, StoreError>;
    tokens_used(uses: &[(Uuid, Time)]) -> Result<(), StoreError>;
}

hooked! {
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

hooked! {
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

hooked! {
    Recovery:
    restored_copy() -> Result<Option<String>, StoreError>;
    accept_rollback(seen: u64, accepted: u64, record: AuditRecord, now: Time) -> Result<(), StoreError>;
}

hooked! {
    Retention:
    forget_records(before: Time, now: Time) -> Result<bool, StoreError>;
    forget_decisions(before: Time, now: Time) -> Result<bool, StoreError>;
}

hooked! {
    Outbox:
    set_webhooks(webhooks: &[Told]) -> Result<(), StoreError>;
    next_message(webhook: &str, now: Time) -> Result<Option<Message>, StoreError>;
    forget_message(id: Uuid) -> Result<(), StoreError>;
    delay_message(id: Uuid, due: Time) -> Result<(), StoreError>;
}

hooked! {
    FiguresStore:
    figures(now: Time) -> Result<Figures, StoreError>;
}
