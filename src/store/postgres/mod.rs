//! PostgreSQL: several servers on one database, none of which has a state of its own.
//!
//! **Who waits for whom.** Every change holds the store's lock, shared, until it is committed; one that is about all
//! owners holds it alone. A change of an owner's also locks the owner's row, so that what it read is so still when it
//! commits: two releases of one owner never run beside each other, wherever they were asked for. Both locks are of the
//! transaction, and go with it however it ends. Changes of one owner that wait in the same server share a transaction.
//!
//! **What is tried again.** A transaction that failed before its end was asked for has left nothing, so it is run again
//! where another was in the way or the connection was lost. Where the answer to `COMMIT` is lost, nobody knows whether it
//! was done: that is an error, and whoever asks again finds out by the same idempotency key.
//!
//! **The audit log.** Records are durable with what they tell of, and pending. A thread of each server gives them their
//! places, in batches, one server at a time by a lock of the transaction; one that dies lets go of it. What moves the head
//! compares it first, so that a server which believes that it has the lock still can't append behind another's back.
//! Whoever reads the log sequences what is pending before, and so sees all that was answered before it asked.

mod connect;
mod groups;
mod migrations;
mod sequencer;
mod session;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use tokio::runtime::Runtime;

use super::StoreError;
use super::engine::{Connection, RowError, params};
use super::sql::Scope;
use session::Failure;

pub use connect::{ConnectError, Options, Tls};
pub(super) use session::Session;

/// First half of the numbers of Keyward's locks («KWRD»).
const LOCKS: i32 = 0x4b57_5244;
/// Held by every change, alone by those that are about all owners.
const STORE: i32 = 1;
/// Held by who appends to the audit log's tree.
const LOG: i32 = 2;
/// Held by who forgets what has had its time.
const SWEEP: i32 = 3;
/// Held by who brings the schema up to date.
const SCHEMA: i32 = 4;

/// How often a transaction is run that leaves nothing each time.
const TRIES: u32 = 6;
/// How long the first of them waits for the next.
const PAUSE: Duration = Duration::from_millis(10);

/// A database of PostgreSQL.
pub(super) struct Postgres {
    // Before the runtime, which what it has open runs on.
    sequencer: sequencer::Sequencer,
    groups: groups::Groups,
    shared: std::sync::Arc<Shared>,
}

/// What the threads that use the database share.
struct Shared {
    pool: Pool,
    runtime: Option<Runtime>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the engine says, with what it says of itself.
pub(super) fn engine(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Engine(match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => {
            let source = std::error::Error::source(error);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        }
    })
}

impl Postgres {
    /// Opens a database, and brings its schema up to date.
    ///
    /// # Errors
    /// When there is none of Keyward's (unless `create`), it is newer or another program's, or the engine fails.
    pub(super) fn connect(options: &Options, create: bool) -> Result<Self, ConnectError> {
        let shared = std::sync::Arc::new(connect::open(options)?);
        migrations::run(&shared, create)?;
        Ok(Self {
            sequencer: sequencer::Sequencer::start(shared.clone())?,
            groups: groups::Groups::new(options.wait),
            shared,
        })
    }

    /// Runs `read` in one read transaction: everything it sees is of one moment.
    pub(super) fn read<T>(&self, read: impl Fn(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        self.shared.again(
            |connection| {
                connection
                    .execute_batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .map_err(StoreError::from)?;
                read(connection).map_err(StoreError::from)
            },
            End::Undo,
        )
    }

    /// Runs a change in one transaction, and waits until it is durable.
    pub(super) fn write<T, E>(
        &self,
        scope: &Scope,
        change: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let done = match scope {
            Scope::Owner(owner) => self.groups.run(&self.shared, owner, change),
            scope => self.shared.write(scope, change),
        };
        if done.is_ok() {
            self.sequencer.nudge();
        }
        done
    }

    /// Runs a change that no other runs beside, once: where it failed, nothing is left of it.
    pub(super) fn alone<T, E>(&self, change: impl Fn(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let work = |connection: &Connection| {
            lock(connection, &Scope::Alone).map_err(StoreError::from)?;
            change(connection)
        };
        self.shared.once(&work, End::Commit).map_err(|(error, _)| error)
    }

    /// Gives every record that is committed its place in the audit log.
    pub(super) fn sequence(&self) -> Result<(), StoreError> {
        sequencer::sequence(&self.shared)
    }
}

/// How a transaction that succeeded ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Undo,
}

impl Shared {
    /// A connection; an error with whether it may do again, as nothing is begun.
    fn session(&self) -> Result<Session, (StoreError, bool)> {
        let runtime = self.runtime.as_ref().ok_or((StoreError::Closed, false))?;
        let client: Result<Object, PoolError> = runtime.block_on(self.pool.get());
        match client {
            Ok(client) => Ok(Session::new(client, runtime.handle().clone())),
            Err(PoolError::Timeout(_)) => {
                let why = "no connection to the database was free in time";
                Err((StoreError::Engine(why.to_owned()), false))
            }
            Err(PoolError::Backend(error)) => Err((engine(&error), Failure::of(&error) != Failure::Lasting)),
            Err(error) => Err((StoreError::Engine(error.to_string()), false)),
        }
    }

    fn write<T, E>(&self, scope: &Scope, change: impl Fn(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.again(
            |connection| {
                lock(connection, scope).map_err(StoreError::from)?;
                change(connection)
            },
            End::Commit,
        )
    }

    /// Runs a transaction, and again where nothing came of it for a reason that passes.
    fn again<T, E>(&self, work: impl Fn(&Connection) -> Result<T, E>, end: End) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, passing) = match self.once(&work, end) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            if !passing || tries >= TRIES {
                return Err(error);
            }
            std::thread::sleep(PAUSE * tries * tries);
        }
    }

    /// Runs a transaction; an error with whether it may do again.
    fn once<T, E>(&self, work: &impl Fn(&Connection) -> Result<T, E>, end: End) -> Result<T, (E, bool)>
    where
        E: From<StoreError>,
    {
        let session = self
            .session()
            .map_err(|(error, passing)| (error.into(), passing))?;
        let connection = Connection::Postgres(session);
        let result = catch_unwind(AssertUnwindSafe(|| work(&connection)))
            .unwrap_or_else(|_| Err(StoreError::Engine("a change failed inside".to_owned()).into()));
        let Connection::Postgres(session) = connection else {
            return Err((StoreError::Closed.into(), false));
        };
        match (result, session.failure()) {
            (Ok(done), None) if end == End::Undo => {
                session.undo();
                Ok(done)
            }
            (Ok(done), None) => match session.batch("COMMIT") {
                Ok(()) => Ok(done),
                Err(error) => {
                    // Only an answer that another was in the way says that nothing was done; of all others nobody knows.
                    let undone = session.failure() == Some(Failure::Conflict);
                    session.discard();
                    Err((StoreError::from(error).into(), undone))
                }
            },
            // What went wrong and was passed over has ended the transaction all the same.
            (Ok(_), Some(failure)) => {
                session.discard();
                let error = StoreError::Engine("a part of the change failed".to_owned());
                Err((error.into(), matches!(failure, Failure::Conflict | Failure::Lost)))
            }
            (Err(error), Some(failure @ (Failure::Lost | Failure::Silent))) => {
                session.discard();
                Err((error, failure == Failure::Lost))
            }
            (Err(error), failure) => {
                session.undo();
                Err((error, failure == Some(Failure::Conflict)))
            }
        }
    }
}

/// Begins a transaction, and takes the locks of its scope.
fn lock(connection: &Connection, scope: &Scope) -> Result<(), RowError> {
    let begin = |locks: &str| connection.execute_batch(&format!("BEGIN; {locks}"));
    let shared = format!("SELECT pg_advisory_xact_lock_shared({LOCKS}, {STORE})");
    match scope {
        Scope::Free => begin(&shared),
        Scope::Owner(owner) => {
            begin(&shared)?;
            connection
                .prepare_cached("SELECT 1 FROM owners WHERE name = ?1 FOR NO KEY UPDATE")?
                .query(params![owner.as_str()])?;
            Ok(())
        }
        Scope::Alone => begin(&format!("SELECT pg_advisory_xact_lock({LOCKS}, {STORE})")),
        Scope::Sweep => begin(&format!(
            "{shared}; SELECT pg_advisory_xact_lock({LOCKS}, {SWEEP})"
        )),
        Scope::Log => begin(&format!("{shared}; SELECT pg_advisory_xact_lock({LOCKS}, {LOG})")),
    }
}
