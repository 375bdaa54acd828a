//! The schema on PostgreSQL, and how an older one becomes it.

use super::{LOCKS, SCHEMA, Shared, connect::ConnectError};
use crate::store::StoreError;
use crate::store::engine::{Connection, Optional as _, params};

/// One text a version; a new version is a new text at the end, and the old are never edited.
const VERSIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_2_release_numbers.sql"),
];

/// The schema's version that this program writes.
pub(super) fn current() -> i64 {
    i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the schema up to date, in one transaction. One server does it where several start at once.
///
/// # Errors
/// When there is none of Keyward's and none is to be made, it is another program's or newer, or the engine fails.
pub(super) fn run(shared: &Shared, create: bool) -> Result<(), ConnectError> {
    shared.again(|c| bring(c, create), super::End::Commit)
}

fn bring(c: &Connection, create: bool) -> Result<(), ConnectError> {
    c.execute_batch(&format!("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({LOCKS}, {SCHEMA})"))
        .map_err(StoreError::from)?;
    let found = version(c)?;
    match found {
        None if !create => return Err(ConnectError::Missing),
        None if !is_empty(c)? => return Err(ConnectError::Foreign),
        Some(found) if found > current() => {
            return Err(ConnectError::Newer {
                found,
                known: current(),
            });
        }
        _ => {}
    }
    for text in VERSIONS
        .iter()
        .skip(usize::try_from(found.unwrap_or(0)).unwrap_or(0))
    {
        c.execute_batch(text).map_err(StoreError::from)?;
    }
    c.execute("UPDATE keyward_schema SET version = ?1", [current()])
        .map_err(StoreError::from)?;
    Ok(())
}

/// The schema's version; none where the database has none of Keyward's.
fn version(c: &Connection) -> Result<Option<i64>, StoreError> {
    let known = c.query_row(
        "SELECT to_regclass('keyward_schema') IS NOT NULL",
        params![],
        |row| row.get::<bool>(0),
    )?;
    if !known {
        return Ok(None);
    }
    Ok(
        c.query_row("SELECT version FROM keyward_schema", params![], |row| row.get(0))
            .optional()?,
    )
}

fn is_empty(c: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) = 0 FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";
    Ok(c.query_row(sql, params![], |row| row.get(0))?)
}
