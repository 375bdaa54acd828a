//! The store on SQLite: one file, one writer with group commit, readers beside it.
//!
//! WAL with `synchronous=FULL`: what is committed has reached the disk. Changes go through
//! the writer's thread; reads use connections of their own and never wait for a writer.

mod allowances;
mod ceks;
mod connections;
mod copy;
mod crowd;
mod decisions;
mod figures;
mod freezes;
mod holds;
mod impact;
mod keys;
mod launches;
mod limits;
mod log;
mod migrations;
mod objects;
mod once;
mod open_error;
mod outbox;
mod owners;
mod platforms;
mod proposals;
mod recovery;
mod releases;
mod retention;
mod revisions;
mod rows;
mod simple_kbs;
mod tokens;
mod versions;
mod wal;
mod words;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    ApplyError, CekOfKey, Committed, CountUp, DecisionPage, DecisionQuery, Guarded, KnownCek, LaunchBegun,
    Recorded, ReleaseCommit, ReleaseCounts, ReleaseScope, Store, StoreError, StoredRevision, Taken,
};
use crate::domain::decision::{CountSeen, Decision};
use crate::domain::launch::{Launch, LaunchBounds};
use crate::domain::revision::{Revision, Which};
use crate::domain::secret_version::SecretVersionInfo;
use crate::domain::state::{ChangeSet, OwnerState, WorkloadContext};
use crate::domain::{Clock as _, HexDigest, Name, SystemClock, Time};
use writer::Writer;

pub use copy::{CopyError, snapshot};
pub use open_error::OpenError;
pub use simple_kbs::{KeySetRow, PolicyRow, ResourceRow, SecretRow, SimpleKbs, SimpleKbsError};

/// The database's file in the data folder.
pub const FILE: &str = "keyward.db";

/// Read connections kept for later.
const IDLE_READERS: usize = 16;

/// How long a successful ping stands for the next: anybody may ask.
const PING: Duration = Duration::from_secs(1);

/// The store on SQLite.
pub struct SqliteStore {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
    pinged: Mutex<Option<Instant>>,
    /// Whether what was destroyed may lie in the write-ahead log still.
    log_due: AtomicBool,
}

impl SqliteStore {
    /// Opens the database of a data folder, and brings its schema up to date.
    ///
    /// # Errors
    /// When there is none (unless `create`), it is newer or another program's, or the engine fails.
    pub fn open(folder: &Path, create: bool) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        if !create && !path.exists() {
            return Err(OpenError::Missing(folder.to_owned()));
        }
        let mut connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | if create {
                    OpenFlags::SQLITE_OPEN_CREATE
                } else {
                    OpenFlags::empty()
                },
        )?;
        connection.busy_timeout(Duration::from_secs(10))?;
        // Before the first pragma that writes: a file that is not ours stays as it is.
        migrations::check(&connection)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;",
        )?;
        migrations::run(&mut connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            path,
            readers: Mutex::new(Vec::new()),
            writer: Writer::start(connection)?,
            pinged: Mutex::new(None),
            log_due: AtomicBool::new(true),
        })
    }

    /// A fact about the whole database, by its key.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read(|c| {
            Ok(
                c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
                    .optional()?,
            )
        })
    }

    /// Writes a fact about the whole database.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |c| {
            c.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                params![key, value],
            )?;
            Ok(())
        })
    }

    /// Runs `read` in one read transaction: everything it sees is of one moment.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader().map_err(|e| engine(&e))?,
        };
        connection.execute_batch("BEGIN").map_err(|e| engine(&e))?;
        let result = read(&connection);
        let ended = connection.execute_batch("ROLLBACK");
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_ok() && readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result.map_err(Into::into)
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(move |c| change(c).map_err(StoreError::from))
    }
}

/// What may go wrong with a row: the engine, or what the row holds.
#[derive(Debug)]
enum RowError {
    Engine(rusqlite::Error),
    Damaged { what: &'static str, why: String },
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Engine(error) => engine(&error),
            RowError::Damaged { what, why } => Self::Damaged { what, why },
        }
    }
}

fn engine(error: &rusqlite::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

impl Store for SqliteStore {
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
        self.writer
            .run(move |c| objects::apply(c, &owner, generation, &changes, guarded))
            .inspect(|taken| {
                if removes && matches!(taken, Taken::Done(())) {
                    self.empty_log_soon();
                }
            })
    }

    fn workload(&self, uuid: Uuid) -> Result<Option<WorkloadContext>, StoreError> {
        self.read(|c| objects::workload_context(c, uuid))
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
        self.write(move |c| launches::begin(c, &launch, bounds))
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
        self.write(move |c| launches::charge_try(c, id))
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
        self.write(move |c| releases::commit(c, &release))
    }

    fn record_denied(&self, decision: &Decision) -> Result<bool, StoreError> {
        let decision = decision.clone();
        self.write(move |c| {
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
        let decisions = decisions.to_vec();
        self.write(move |c| {
            decisions
                .iter()
                .try_for_each(|decision| decisions::upsert(c, decision))
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
        self.write(move |c| ceks::remember(c, chip.as_ref(), &key, &certificate))
    }

    fn remember_no_cek(&self, chip: &[u8; 64], until: Time) -> Result<(), StoreError> {
        let chip = *chip;
        self.write(move |c| ceks::remember_unknown(c, &chip, until))
    }

    fn sweep(&self, now: Time) -> Result<bool, StoreError> {
        self.empty_log_if_due();
        self.write(move |c| Ok(once::sweep(c, now)? | launches::sweep(c, now)? | connections::sweep(c, now)?))
    }

    fn ping(&self) -> Result<(), StoreError> {
        let mut pinged = self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
        if pinged.is_some_and(|at| at.elapsed() < PING) {
            return Ok(());
        }
        // A real write: a full disk is seen, too.
        self.set_meta("pinged", &SystemClock.now().to_string())?;
        *pinged = Some(Instant::now());
        Ok(())
    }
}
