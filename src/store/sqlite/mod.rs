//! SQLite: one file, one writer with group commit, readers beside it.
//!
//! WAL with `synchronous=FULL`: what is committed has reached the disk. Changes go through
//! the writer's thread; reads use connections of their own and never wait for a writer.

mod copy;
mod migrations;
mod open_error;
mod wal;
mod writer;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

use super::StoreError;
use super::engine::{Connection, RowError, params};
use super::sql::contexts::Contexts;
use super::sql::crowd::Ceilings;
use wal::Mover;
use writer::Writer;

pub use copy::{CopyError, snapshot};
pub use open_error::OpenError;

/// The database's file in the data folder.
pub const FILE: &str = "keyward.db";

/// Read connections kept for later.
const IDLE_READERS: usize = 16;
/// What the writer keeps of the file in memory, in KiB: what many waiting launches are found by is spread all over it.
const WRITER_CACHE: i64 = 16 << 10;
/// Statements that a connection keeps prepared: more than there are on the way to a release.
const PREPARED: usize = 256;

thread_local! {
    /// The reads of this thread that are of one moment: whose, and the connection with its transaction.
    static MOMENT: RefCell<Option<(usize, Connection)>> = const { RefCell::new(None) };
}

/// A database of SQLite.
pub(super) struct Sqlite {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
    /// How many launches wait, as far as the writer knows.
    pub(super) ceilings: Arc<Ceilings>,
    /// Workloads as they were read.
    pub(super) contexts: Contexts,
    /// Whether what was destroyed may lie in the write-ahead log still.
    log_due: AtomicBool,
}

impl Sqlite {
    /// Opens the database of a data folder, and brings its schema up to date.
    ///
    /// # Errors
    /// When there is none (unless `create`), it is newer or another program's, or the engine fails.
    pub(super) fn open(folder: &Path, create: bool) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        if !create && !path.exists() {
            return Err(OpenError::Missing(folder.to_owned()));
        }
        let mut connection = rusqlite::Connection::open_with_flags(
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
        Self::prepare_once(&connection)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", wal::LAST_RESORT, |_| Ok(()))?;
        let ceilings = Arc::<Ceilings>::default();
        let mover = Mover::start(Connection::Sqlite(Self::beside(&path)?))?;
        Ok(Self {
            readers: Mutex::new(Vec::new()),
            writer: Writer::start(Connection::Sqlite(connection), ceilings.clone(), mover)?,
            path,
            ceilings,
            contexts: Contexts::default(),
            log_due: AtomicBool::new(true),
        })
    }

    /// Runs `read` in one read transaction: everything it sees is of one moment.
    pub(super) fn read<T>(&self, read: impl Fn(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        let of_moment = MOMENT.with_borrow(|moment| {
            let (whose, connection) = moment.as_ref()?;
            (*whose == self.id()).then(|| read(connection))
        });
        if let Some(result) = of_moment {
            return result.map_err(Into::into);
        }
        let connection = self.begin_reading()?;
        let result = read(&connection);
        self.end_reading(connection);
        result.map_err(Into::into)
    }

    /// Runs `reads` so that all that this thread reads in it is of one moment, up to the first change.
    pub(super) fn together(&self, reads: &mut dyn FnMut()) {
        let begun = match MOMENT.with_borrow(Option::is_some) {
            true => None,
            // Where it can't be begun, each read says so by itself.
            false => self.begin_reading().ok(),
        };
        let _moment = begun.map(|connection| {
            MOMENT.set(Some((self.id(), connection)));
            Moment(self)
        });
        reads();
    }

    /// Ends what [`Sqlite::together`] began on this thread.
    fn end_moment(&self) {
        let moment = MOMENT.with_borrow_mut(|moment| moment.take_if(|(whose, _)| *whose == self.id()));
        if let Some((_, connection)) = moment {
            self.end_reading(connection);
        }
    }

    /// Which of the stores of this process it is.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn begin_reading(&self) -> Result<Connection, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => Connection::Sqlite(self.open_reader().map_err(RowError::from)?),
        };
        connection.execute("BEGIN", params![]).map_err(StoreError::from)?;
        Ok(connection)
    }

    fn end_reading(&self, connection: Connection) {
        let ended = connection.execute("ROLLBACK", params![]);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_ok() && readers.len() < IDLE_READERS {
            readers.push(connection);
        }
    }

    fn open_reader(&self) -> rusqlite::Result<rusqlite::Connection> {
        let connection = Self::beside(&self.path)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        Ok(connection)
    }

    /// A connection beside the writer's.
    fn beside(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
        let connection = rusqlite::Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA synchronous = FULL;")?;
        Self::prepare_once(&connection)?;
        Ok(connection)
    }

    /// Has statements kept as they were prepared. Where an index is partial SQLite would look, for each new value of a
    /// parameter, whether another plan is better now; ours say literally which index they mean.
    fn prepare_once(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(())
    }

    /// Runs a change in a transaction of the writer's, and waits until it is durable.
    pub(super) fn write<T, E>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.end_moment();
        self.writer.run(change)
    }
}

/// Ends a moment, however its reads end.
struct Moment<'s>(&'s Sqlite);

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        self.0.end_moment();
    }
}
