//! A copy of the database as it is at one moment, made while others write, and whether a copy is whole.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{FILE, OpenError, migrations};
use crate::store::engine::params;
use crate::store::{SqlStore, StoreError};

/// Faults that are named, at most.
const FAULTS: usize = 5;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody keeps the database locked.
    #[error("the database is locked by another program: try again")]
    Locked,
    /// The engine failed.
    #[error("the database can't be copied: {0}")]
    Engine(#[from] rusqlite::Error),
}

/// Copies the database of a data folder into `file`, which is empty or not there.
///
/// All of it is read in one transaction, so that the copy is of one moment; a server that runs goes on writing. The
/// original is not changed, and not brought to a newer schema.
///
/// # Errors
/// When there is none, it is newer or another program's, or the engine fails.
pub fn snapshot(folder: &Path, file: &Path) -> Result<(), CopyError> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Err(OpenError::Missing(folder.to_owned()).into());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let log = folder.join(format!("{FILE}-wal")).exists();
    let from = Connection::open_with_flags(path, flags)?;
    // What the last to leave would move from a log that is there stays in it.
    from.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log)?;
    from.busy_timeout(Duration::from_secs(10))?;
    migrations::check(&from)?;
    from.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    let mut to = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_CREATE)?;
    {
        let backup = Backup::new(&from, &mut to)?;
        // In one step: with several, each commit of the server's would begin it anew.
        if backup.step(-1)? != StepResult::Done {
            return Err(CopyError::Locked);
        }
    }
    to.close().map_err(|(_, error)| error)?;
    Ok(())
}

impl SqlStore {
    /// What the engine finds wrong with the file: pages, indexes, constraints, references. Empty: nothing.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn faults(&self) -> Result<Vec<String>, StoreError> {
        let Some(sqlite) = self.sqlite() else {
            return Err(StoreError::Engine(
                "PostgreSQL looks after its own files".to_owned(),
            ));
        };
        sqlite.read(|c| {
            let mut faults = Vec::new();
            let mut statement = c.prepare_cached(&format!("PRAGMA integrity_check({FAULTS})"))?;
            let mut found = statement.query(params![])?;
            while let Some(row) = found.next()? {
                let text: String = row.get(0)?;
                if text != "ok" {
                    faults.push(text);
                }
            }
            let mut statement = c.prepare_cached("PRAGMA foreign_key_check")?;
            let mut found = statement.query(params![])?;
            while let Some(row) = found.next()? {
                if faults.len() >= FAULTS {
                    break;
                }
                let (table, other): (String, String) = (row.get(0)?, row.get(2)?);
                faults.push(format!(
                    "a row of {table} names a row of {other} that is not there"
                ));
            }
            Ok(faults)
        })
    }

    /// The version of the schema, which is this program's once a store is open.
    #[must_use]
    pub fn schema() -> i64 {
        migrations::current()
    }
}
