//! SQLite's write-ahead log, where what was replaced or deleted lies on until it is emptied.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Sqlite;
use crate::store::engine::params;
use crate::store::{SqlStore, StoreError};

/// How long emptying the log waits for readers: meanwhile nobody writes.
const PATIENCE: Duration = Duration::from_millis(200);

impl SqlStore {
    /// Moves what was committed from SQLite's log into the database and empties the log, where what was replaced or
    /// deleted lies on. Whether all of it went: readers that are at work hold some back.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn checkpoint(&self) -> Result<bool, StoreError> {
        self.sqlite().map_or(Ok(true), Sqlite::checkpoint)
    }
}

impl Sqlite {
    fn checkpoint(&self) -> Result<bool, StoreError> {
        let done = self.open_reader().and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            connection.execute_batch("PRAGMA query_only = OFF; PRAGMA synchronous = FULL;")?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", params![], |row| {
                row.get::<i64>(0)
            })
        });
        Ok(done? == 0)
    }

    /// Empties the log after something was destroyed; if it can't be now, [`Sqlite::empty_log_if_due`] does.
    pub(in crate::store) fn empty_log_soon(&self) {
        self.log_due.store(true, Ordering::SeqCst);
        self.empty_log_if_due();
    }

    /// Empties the log where that is due: at first, as the program may have been killed before it could.
    pub(in crate::store) fn empty_log_if_due(&self) {
        if self.log_due.swap(false, Ordering::SeqCst) && !matches!(self.checkpoint(), Ok(true)) {
            self.log_due.store(true, Ordering::SeqCst);
        }
    }
}
