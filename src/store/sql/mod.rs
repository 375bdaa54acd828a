//! The use cases in SQL, for either engine.
//!
//! What a use case must see as one moment, and whom it must not run beside, it says with a [`Scope`]; how that is brought
//! about is the engine's: SQLite has one writer anyway, PostgreSQL has locks.

mod allowances;
mod ceks;
mod connections;
pub(super) mod contexts;
pub(super) mod crowd;
mod decisions;
mod facts;
mod figures;
mod freezes;
mod holds;
mod impact;
mod keys;
mod launches;
mod limits;
pub(super) mod log;
mod objects;
mod once;
mod outbox;
mod owners;
mod ping;
mod platforms;
mod proposals;
mod recovery;
mod releases;
mod retention;
mod revisions;
mod rows;
mod tokens;
mod versions;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::engine::{Connection, RowError};
use super::postgres::{self, Postgres};
use super::sqlite::{OpenError, Sqlite};
use super::{
    ApplyError, CekOfKey, Committed, CountUp, DecisionPage, DecisionQuery, Guarded, KnownCek, LaunchBegun,
    Moments, Recorded, ReleaseCommit, ReleaseCounts, ReleaseScope, Store, StoreError, StoredRevision, Taken,
};
use crate::domain::decision::{CountSeen, Decision};
use crate::domain::launch::{Launch, LaunchBounds};
use crate::domain::revision::{Revision, Which};
use crate::domain::secret_version::SecretVersionInfo;
use crate::domain::state::{ChangeSet, OwnerState, WorkloadContext};
use crate::domain::{Clock as _, HexDigest, Name, SystemClock, Time};

/// Whom a change must not run beside.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Nobody in particular: each of its statements is right whatever runs beside it.
    Free,
    /// Another change of this owner's.
    Owner(Name),
    /// Any other change: it is about all owners, or about none.
    Alone,
    /// Another that forgets what has had its time.
    Sweep,
    /// Another that appends to the audit log's tree.
    Log,
}

impl Scope {
    /// Of an owner's change, or of one that is about no owner's alone.
    fn of(owner: Option<&Name>) -> Self {
        owner.cloned().map_or(Self::Alone, Self::Owner)
    }
}

/// A store in a database.
pub struct SqlStore {
    engine: Engine,
    pings: ping::Pings,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Engine {
    /// Something was destroyed that must not lie on anywhere.
    fn destroyed(&self) {
        if let Self::Sqlite(sqlite) = self {
            sqlite.empty_log_soon();
        }
    }

    fn before_sweep(&self) {
        if let Self::Sqlite(sqlite) = self {
            sqlite.empty_log_if_due();
        }
    }
}

impl SqlStore {
    /// Opens the SQLite database of a data folder, and brings its schema up to date.
    ///
    /// # Errors
    /// When there is none (unless `create`), it is newer or another program's, or the engine fails.
    pub fn open(folder: &Path, create: bool) -> Result<Self, OpenError> {
        Ok(Self {
            engine: Engine::Sqlite(Sqlite::open(folder, create)?),
            pings: ping::Pings::default(),
        })
    }

    /// Opens a PostgreSQL database, and brings its schema up to date.
    ///
    /// # Errors
    /// When there is none of Keyward's (unless `create`), it is newer or another program's, or the engine fails.
    pub fn connect(options: &postgres::Options, create: bool) -> Result<Self, postgres::ConnectError> {
        Ok(Self {
            engine: Engine::Postgres(Postgres::connect(options, create)?),
            pings: ping::Pings::default(),
        })
    }

    /// SQLite's part, for what only it has.
    pub(super) fn sqlite(&self) -> Option<&Sqlite> {
        match &self.engine {
            Engine::Sqlite(sqlite) => Some(sqlite),
            Engine::Postgres(_) => None,
        }
    }

    /// Gives what is recorded its place in the audit log, where that is not done with what it tells of.
    fn sequence(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(postgres) => postgres.sequence(),
        }
    }

    /// Runs `read` in one read transaction: everything it sees is of one moment.
    fn read<T>(&self, read: impl Fn(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.read(read),
            Engine::Postgres(postgres) => postgres.read(read),
        }
    }

    fn write<T: Send + 'static>(
        &self,
        scope: Scope,
        change: impl Fn(&Connection) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change(scope, move |c| change(c).map_err(StoreError::from))
    }

    /// Runs a change in one transaction, more than once where the engine asks for that and nothing came of it.
    fn change<T, E>(
        &self,
        scope: Scope,
        change: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(change),
            Engine::Postgres(postgres) => postgres.write(&scope, change),
        }
    }
}

impl Moments for SqlStore {
    fn together(&self, reads: &mut dyn FnMut()) {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.together(reads),
            Engine::Postgres(_) => reads(),
        }
    }
}

impl Store for SqlStore {
    fn owner_state(&self, owner: &Name) -> Result<OwnerState, StoreError> {
        self.read(|c| objects::owner_state(c, owner))
    }

    fn apply(
        &self,
        owner: &Name,
        generation: i64,
        changes: Recorded<ChangeSet>,
        guarded: Option<Guarded>,
    ) -> Result<Taken<()>, ApplyError> {
        let owner = owner.clone();
        let removes = !changes.what.purged.is_empty() || !changes.what.removed.is_empty();
        self.change(Scope::Owner(owner.clone()), move |c| {
            objects::apply(c, &owner, generation, &changes, guarded.as_ref())
        })
        .inspect(|taken| {
            if removes && matches!(taken, Taken::Done(())) {
                self.engine.destroyed();
            }
        })
    }

    fn workload(&self, uuid: Uuid) -> Result<Option<Arc<WorkloadContext>>, StoreError> {
        self.read(|c| match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.contexts.workload(c, uuid),
            Engine::Postgres(_) => Ok(objects::workload_context(c, uuid)?.map(Arc::new)),
        })
    }

    fn bundle(&self, owner: &Name, digest: HexDigest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|c| objects::bundle(c, owner, digest))
    }

    fn bundles(&self, owner: &Name) -> Result<Vec<(HexDigest, Time)>, StoreError> {
        self.read(|c| objects::bundles(c, owner))
    }

    fn revisions(&self, owner: &Name, before: Option<u64>, limit: u32) -> Result<Vec<Revision>, StoreError> {
        self.read(|c| revisions::page(c, owner, before, limit))
    }

    fn revision(&self, owner: &Name, which: Which) -> Result<Option<StoredRevision>, StoreError> {
        self.read(|c| revisions::find(c, owner, which))
    }

    fn sealed_secrets(
        &self,
        owner: &Name,
        secrets: &[(Name, u64)],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read(|c| objects::sealed_secrets(c, owner, secrets))
    }

    fn secret_versions(&self, owner: &Name, name: &Name) -> Result<Vec<SecretVersionInfo>, StoreError> {
        self.read(|c| versions::list(c, owner, name))
    }

    fn firmware(&self, owner: &Name, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|c| objects::firmware(c, owner, name))
    }

    fn begin_launch(&self, launch: &Launch, bounds: LaunchBounds) -> Result<LaunchBegun, StoreError> {
        let launch = launch.clone();
        let ceilings = self.sqlite().map(|sqlite| sqlite.ceilings.clone());
        self.write(Scope::Owner(launch.owner.clone()), move |c| {
            launches::begin(c, &launch, bounds, ceilings.as_deref())
        })
    }

    fn launch(&self, id: Uuid) -> Result<Option<Launch>, StoreError> {
        self.read(|c| launches::find(c, id))
    }

    fn pending_launches(
        &self,
        workload: Uuid,
        policy: u32,
        bucket: &str,
        now: Time,
        limit: u32,
    ) -> Result<Vec<Launch>, StoreError> {
        self.read(|c| launches::pending(c, workload, policy, bucket, now, limit))
    }

    fn charge_try(&self, id: Uuid) -> Result<u32, StoreError> {
        self.write(Scope::Free, move |c| launches::charge_try(c, id))
    }

    fn answered(
        &self,
        uuid: Uuid,
        key: HexDigest,
        request: HexDigest,
        now: Time,
    ) -> Result<Option<(Uuid, Name, Vec<u8>)>, StoreError> {
        self.read(|c| launches::answered(c, uuid, key, request, now))
    }

    fn release_counts(
        &self,
        owner: &Name,
        scope: &ReleaseScope,
        now: Time,
    ) -> Result<ReleaseCounts, StoreError> {
        self.read(|c| releases::counts(c, owner, scope, now))
    }

    fn counts(&self, owner: &Name, counts: &[CountUp]) -> Result<Vec<CountSeen>, StoreError> {
        self.read(|c| releases::seen(c, owner, counts))
    }

    fn commit_release(&self, release: ReleaseCommit) -> Result<Committed, StoreError> {
        self.write(Scope::Owner(release.decision.owner.clone()), move |c| {
            releases::commit(c, &release)
        })
    }

    fn record_denied(&self, decision: &Decision) -> Result<bool, StoreError> {
        let decision = decision.clone();
        self.write(Scope::Owner(decision.owner.clone()), move |c| {
            let Some(launch) = decision.launch else {
                return Err(rows::damaged("a denial", "it has no launch"));
            };
            let over = decision.connection;
            let waiting = match over {
                Some(connection) => connections::is_open(c, connection, decision.time)?,
                None => launches::is_waiting(c, launch, decision.time)?,
            };
            if waiting {
                decisions::insert(c, &decision)?;
            }
            // A request over a connection was charged when it came.
            if waiting && over.is_none() {
                launches::charge_try(c, launch)?;
            }
            Ok(waiting)
        })
    }

    fn record_refusals(&self, decisions: &[Decision]) -> Result<(), StoreError> {
        // Owner by owner: what strangers cause must hold up nobody else's changes.
        let mut of_owners = BTreeMap::<&Name, Vec<Decision>>::new();
        for decision in decisions {
            of_owners
                .entry(&decision.owner)
                .or_default()
                .push(decision.clone());
        }
        of_owners.into_iter().try_for_each(|(owner, decisions)| {
            self.write(Scope::Owner(owner.clone()), move |c| {
                decisions
                    .iter()
                    .try_for_each(|decision| decisions::upsert(c, decision))
            })
        })
    }

    fn decisions(&self, owner: &Name, query: &DecisionQuery) -> Result<DecisionPage, StoreError> {
        self.read(|c| decisions::page(c, owner, query))
    }

    fn decision(&self, owner: &Name, id: Uuid) -> Result<Option<Decision>, StoreError> {
        self.read(|c| decisions::find(c, owner, id))
    }

    fn cek_of_chip(&self, chip: &[u8; 64]) -> Result<Option<KnownCek>, StoreError> {
        self.read(|c| ceks::of_chip(c, chip))
    }

    fn cek_of_key(&self, key: &[u8; 32]) -> Result<Option<CekOfKey>, StoreError> {
        self.read(|c| ceks::of_key(c, key))
    }

    fn remember_cek(
        &self,
        chip: Option<&[u8; 64]>,
        key: &[u8; 32],
        certificate: &[u8],
    ) -> Result<(), StoreError> {
        let (chip, key, certificate) = (chip.copied(), *key, certificate.to_vec());
        self.write(Scope::Free, move |c| {
            ceks::remember(c, chip.as_ref(), &key, &certificate)
        })
    }

    fn remember_no_cek(&self, chip: &[u8; 64], until: Time) -> Result<(), StoreError> {
        let chip = *chip;
        self.write(Scope::Free, move |c| ceks::remember_unknown(c, &chip, until))
    }

    fn sweep(&self, now: Time) -> Result<bool, StoreError> {
        self.engine.before_sweep();
        self.write(Scope::Sweep, move |c| {
            Ok(once::sweep(c, now)? | launches::sweep(c, now)? | connections::sweep(c, now)?)
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.pings
            .ask(|| self.set_meta("pinged", &SystemClock.now().to_string()))
    }
}
