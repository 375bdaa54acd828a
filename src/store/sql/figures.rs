//! Figures of the whole store.

use serde::Deserialize;

use super::{RowError, SqlStore, rows};
use crate::domain::Time;
use crate::store::engine::{Connection, Optional as _, Row, params};
use crate::store::{Figures, FiguresStore, StoreError};

/// What is read of a record.
#[derive(Deserialize)]
struct Written {
    time: Time,
}

fn count(c: &Connection, sql: &str, now: Option<Time>) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached(sql)?;
    let mut found = match now {
        Some(now) => statement.query([now.millis()])?,
        None => statement.query(params![])?,
    };
    match found.next()? {
        Some(row) => rows::natural("a figure", row, 0),
        None => Ok(0),
    }
}

/// The point in time in a column; none where it is null.
fn time(row: &Row, column: usize) -> Result<Option<Time>, RowError> {
    Ok(row.get::<Option<i64>>(column)?.map(Time::from_millis))
}

/// When the oldest record that is pending was written; none where there is none, or it was forgotten what it says.
fn oldest_pending(c: &Connection) -> Result<Option<Time>, RowError> {
    let sql = "SELECT record FROM audit_leaves WHERE idx IS NULL ORDER BY seq LIMIT 1";
    let record: Option<Option<String>> = c
        .prepare_cached(sql)?
        .query_row(params![], |row| row.get(0))
        .optional()?;
    let Some(record) = record.flatten() else {
        return Ok(None);
    };
    let written: Written = rows::from_json("an audit record", &record)?;
    Ok(Some(written.time))
}

fn figures(c: &Connection, now: Time) -> Result<Figures, RowError> {
    let oldest = "SELECT min(created) FROM holds WHERE state IN ('open', 'pending')";
    let newest = "SELECT size, created FROM audit_checkpoints ORDER BY size DESC LIMIT 1";
    let mut statement = c.prepare_cached(newest)?;
    let mut found = statement.query(params![])?;
    let (checkpoint_size, checkpoint) = match found.next()? {
        Some(row) => (rows::natural("a checkpoint's size", row, 0)?, time(row, 1)?),
        None => (0, None),
    };
    Ok(Figures {
        open_holds: count(
            c,
            "SELECT count(*) FROM holds WHERE state IN ('open', 'pending')",
            None,
        )?,
        oldest_hold: c
            .prepare_cached(oldest)?
            .query_row(params![], |row| time(row, 0))?,
        pending_launches: count(
            c,
            "SELECT count(*) FROM launches WHERE state = 'pending' AND expires > ?1",
            Some(now),
        )?,
        open_connections: count(
            c,
            "SELECT count(*) FROM connections WHERE expires > ?1 AND requests_left > 0",
            Some(now),
        )?,
        log_size: count(c, "SELECT size FROM audit_head", None)?,
        log_pending: count(c, "SELECT count(*) FROM audit_leaves WHERE idx IS NULL", None)?,
        oldest_pending: oldest_pending(c)?,
        checkpoint_size,
        checkpoint,
    })
}

impl FiguresStore for SqlStore {
    fn figures(&self, now: Time) -> Result<Figures, StoreError> {
        self.read(|c| figures(c, now))
    }
}
