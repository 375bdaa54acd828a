//! SQLite's write-ahead log, where what was replaced or deleted lies on until it is emptied.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{SqliteStore, engine};
use crate::store::StoreError;

/// How long emptying the log waits for readers: meanwhile nobody writes.
const PATIENCE: Duration = Duration::from_millis(200);

impl SqliteStore {
    /// Moves what was committed from the log into the database and empties the log, where what was replaced or
    /// deleted lies on. Whether all of it went: readers that are at work hold some back.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn checkpoint(&self) -> Result<bool, StoreError> {
        let done = self.open_reader().and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            connection.execute_batch("PRAGMA query_only = OFF; PRAGMA synchronous = FULL;")?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        });
        done.map(|busy| busy == 0).map_err(|e| engine(&e))
    }

    /// Empties the log after something was destroyed; if it can't be now, [`SqliteStore::empty_log_if_due`] does.
    pub(super) fn empty_log_soon(&self) {
        self.log_due.store(true, Ordering::SeqCst);
        self.empty_log_if_due();
    }

    /// Empties the log where that is due: at first, as the program may have been killed before it could.
    pub(super) fn empty_log_if_due(&self) {
        if self.log_due.swap(false, Ordering::SeqCst) && !matches!(self.checkpoint(), Ok(true)) {
            self.log_due.store(true, Ordering::SeqCst);
        }
    }
}
