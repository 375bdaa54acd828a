//! SQLite: one file, one writer with group commit, readers beside it.
//!
//! WAL with `synchronous=FULL`: what is committed has reached the disk. Changes go through
//! the writer's thread; reads use connections of their own and never wait for a writer.

mod copy;
mod migrations;
mod open_error;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::OpenFlags;

use super::StoreError;
use super::engine::{Connection, RowError};
use writer::Writer;

pub use copy::{CopyError, snapshot};
pub use open_error::OpenError;

/// The database's file in the data folder.
pub const FILE: &str = "keyward.db";

/// Read connections kept for later.
const IDLE_READERS: usize = 16;

/// A database of SQLite.
pub(super) struct Sqlite {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
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
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            path,
            readers: Mutex::new(Vec::new()),
            writer: Writer::start(Connection::Sqlite(connection))?,
            log_due: AtomicBool::new(true),
        })
    }

    /// Runs `read` in one read transaction: everything it sees is of one moment.
    pub(super) fn read<T>(&self, read: impl Fn(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader().map_err(StoreError::from)?,
        };
        connection.execute_batch("BEGIN").map_err(StoreError::from)?;
        let result = read(&connection);
        let ended = connection.execute_batch("ROLLBACK");
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_ok() && readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result.map_err(Into::into)
    }

    fn open_reader(&self) -> Result<Connection, RowError> {
        let connection = rusqlite::Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Connection::Sqlite(connection))
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
        self.writer.run(change)
    }
}
