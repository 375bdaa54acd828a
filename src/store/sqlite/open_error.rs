//! Why a database is not opened.

use std::path::PathBuf;

/// Why a database can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no database in {folder}: run `keyward init --data-dir {folder} --owner NAME` first", folder = .0.display())]
    Missing(PathBuf),
    /// A newer Keyward wrote it.
    #[error(
        "the database has schema {found}, this keyward knows up to {known}: use the newer keyward that wrote it"
    )]
    Newer {
        /// The file's.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// It is some other program's.
    #[error("the database is not Keyward's: give another --data-dir")]
    Foreign,
    /// The engine failed.
    #[error("the database can't be opened: {0}")]
    Engine(rusqlite::Error),
    /// The system gave no thread.
    #[error("the database's writer can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => Self::Foreign,
            _ => Self::Engine(error),
        }
    }
}
