//! Facts about the whole database.

use super::{Scope, SqlStore, StoreError};
use crate::store::engine::{Optional as _, params};

impl SqlStore {
    /// Settings of the database under which what is committed may be lost; SQLite's are set by this program.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn unsafe_settings(&self) -> Result<Vec<String>, StoreError> {
        if self.sqlite().is_some() {
            return Ok(Vec::new());
        }
        self.read(|c| {
            let mut off = Vec::new();
            for setting in ["fsync", "full_page_writes"] {
                let value: String = c.query_row("SELECT current_setting(?1)", [setting], |row| row.get(0))?;
                if value != "on" {
                    off.push(format!("{setting} = {value}"));
                }
            }
            Ok(off)
        })
    }

    /// A fact about the whole database, by its key.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read(|c| {
            c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
                .optional()
        })
    }

    /// Writes a fact that is not there yet; whether it was not.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn claim_meta(&self, key: &str, value: &str) -> Result<bool, StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(Scope::Free, move |c| {
            let claimed = c.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
                params![key, value],
            )?;
            Ok(claimed == 1)
        })
    }

    /// Writes a fact about the whole database.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(Scope::Free, move |c| {
            c.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![key, value],
            )?;
            Ok(())
        })
    }
}
