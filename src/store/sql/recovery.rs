//! Databases that went back to an older copy: which counts are not known since, and what ends then.

use crate::store::engine::{Connection, params};

use super::holds;
use super::{RowError, Scope, SqlStore, StoreError, log, rows};
use crate::audit::record::AuditRecord;
use crate::domain::Time;
use crate::domain::hold::{Hold, HoldState};
use crate::store::Recovery;

/// Fact of the database: the moment of the backup that it was restored from, until a rollback was accepted.
const RESTORED: &str = "restored_from";

/// No launch waits, no answer is kept and no connection is open: what was begun or answered may have been used in what is
/// lost, and how often a connection was asked over is not known.
fn end_launches(c: &Connection) -> Result<(), RowError> {
    c.execute(
        "UPDATE launches SET state = CASE state WHEN 'pending' THEN 'evicted' ELSE state END,
           keys = x'', answer = NULL, answer_key = NULL, answer_request = NULL
         WHERE state = 'pending' OR length(keys) > 0 OR answer_key IS NOT NULL",
        params![],
    )?;
    c.execute("DELETE FROM connection_answers", params![])?;
    c.execute("DELETE FROM connections", params![])?;
    Ok(())
}

/// All holds that one person approved of and another has not yet.
fn pending(c: &Connection) -> Result<Vec<Hold>, RowError> {
    let mut statement = c.prepare_cached("SELECT document FROM holds WHERE state = 'pending'")?;
    let mut found = statement.query(params![])?;
    let mut holds = Vec::new();
    while let Some(row) = found.next()? {
        holds.push(rows::json("a hold", row, 0)?);
    }
    Ok(holds)
}

fn accept(c: &Connection, seen: u64, accepted: u64, record: &AuditRecord, now: Time) -> Result<(), RowError> {
    let size = |n: u64| i64::try_from(n).map_err(|e| rows::damaged("a checkpoint's size", e));
    c.execute(
        "INSERT INTO rollbacks (time, seen, accepted) VALUES (?1, ?2, ?3)",
        params![now.millis(), size(seen)?, size(accepted)?],
    )?;
    c.execute(
        "INSERT INTO rolled_back SELECT name, (SELECT max(number) FROM rollbacks) FROM owners WHERE true
         ON CONFLICT (owner) DO UPDATE SET number = excluded.number",
        params![],
    )?;
    c.execute(
        "UPDATE hold_allowances SET withdrawn = additional - used WHERE used + withdrawn < additional",
        params![],
    )?;
    c.execute("DELETE FROM proposals", params![])?;
    // What one person approved of may have been confirmed, and used, in what is lost.
    for mut hold in pending(c)? {
        hold.state = HoldState::Open;
        hold.approvals.clear();
        holds::update(c, &mut hold)?;
    }
    c.execute("DELETE FROM meta WHERE key = ?1", [RESTORED])?;
    end_launches(c)?;
    log::append(c, record)
}

impl Recovery for SqlStore {
    fn restored_copy(&self) -> Result<Option<String>, StoreError> {
        self.meta(RESTORED)
    }

    fn accept_rollback(
        &self,
        seen: u64,
        accepted: u64,
        record: AuditRecord,
        now: Time,
    ) -> Result<(), StoreError> {
        self.write(Scope::Alone, move |c| accept(c, seen, accepted, &record, now))
    }
}

impl SqlStore {
    /// Notes that this is a copy of that moment: what was begun in it may have been used since.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn mark_restored(&self, taken: &str) -> Result<(), StoreError> {
        let taken = taken.to_owned();
        self.write(Scope::Alone, move |c| {
            end_launches(c)?;
            c.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![RESTORED, taken],
            )?;
            Ok(())
        })
    }
}
