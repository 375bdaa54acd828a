//! SQLite's write-ahead log, where what was replaced or deleted lies on until it is emptied.

use super::{SqliteStore, engine};
use crate::store::StoreError;

impl SqliteStore {
    /// Moves what was committed from the log into the database and empties the log, where what was replaced or
    /// deleted lies on. Whether all of it went: readers that are at work hold some back.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn checkpoint(&self) -> Result<bool, StoreError> {
        let done = self.open_reader().and_then(|connection| {
            connection.execute_batch(
                "PRAGMA query_only = OFF; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;",
            )?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        });
        done.map(|busy| busy == 0).map_err(|e| engine(&e))
    }
}
