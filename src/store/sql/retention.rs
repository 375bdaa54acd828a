//! Forgetting by age, a bounded part at a time.

use std::collections::BTreeMap;

use crate::store::engine::{Connection, params};
use serde::Deserialize;
use uuid::Uuid;

use super::{RowError, Scope, SqlStore, StoreError, log, rows};
use crate::audit::record::{AuditRecord, Event};
use crate::domain::{Name, Time};
use crate::store::Retention;

/// Rows that are forgotten in one transaction, at most.
const PART: usize = 1000;

/// Of a record only when it was written: a later version may have written what is not known here.
#[derive(Deserialize)]
struct Written {
    time: Time,
}

impl Retention for SqlStore {
    fn forget_records(&self, before: Time, now: Time) -> Result<bool, StoreError> {
        self.write(Scope::Alone, move |c| records(c, before, now))
    }

    fn forget_decisions(&self, before: Time, now: Time) -> Result<bool, StoreError> {
        self.write(Scope::Alone, move |c| decisions(c, before, now))
    }
}

fn records(c: &Connection, before: Time, now: Time) -> Result<bool, RowError> {
    let mut old: Vec<u64> = Vec::new();
    {
        // INVARIANT: the first condition is that of the index audit_kept, to the letter.
        let mut statement = c.prepare_cached(
            "SELECT idx, record FROM audit_leaves INDEXED BY audit_kept
             WHERE idx IS NOT NULL AND record IS NOT NULL
               AND idx < (SELECT coalesce(max(size), 0) FROM audit_checkpoints)
             ORDER BY idx LIMIT ?1",
        )?;
        let mut found = statement.query([i64::try_from(PART).unwrap_or(i64::MAX)])?;
        while let Some(row) = found.next()? {
            let written: Written = rows::json("an audit record", row, 1)?;
            if written.time >= before {
                break;
            }
            old.push(rows::natural("an index of the audit log", row, 0)?);
        }
    }
    let (Some(first), Some(last)) = (old.first().copied(), old.last().copied()) else {
        return Ok(false);
    };
    let bound = |index: u64| i64::try_from(index).map_err(|e| rows::damaged("the audit log", e));
    c.prepare_cached(
        "UPDATE audit_leaves SET record = NULL WHERE idx BETWEEN ?1 AND ?2 AND record IS NOT NULL",
    )?
    .execute([bound(first)?, bound(last)?])?;
    log::append(
        c,
        &AuditRecord::of_server(Uuid::new_v4(), now, None, Event::RecordsDropped { first, last }),
    )?;
    Ok(old.len() >= PART)
}

fn decisions(c: &Connection, before: Time, now: Time) -> Result<bool, RowError> {
    let mut counts = BTreeMap::<Name, u64>::new();
    let mut all = 0;
    {
        let mut statement = c.prepare_cached(
            "DELETE FROM decisions WHERE seq IN
               (SELECT seq FROM decisions WHERE time < ?1 ORDER BY time LIMIT ?2) RETURNING owner",
        )?;
        let most = i64::try_from(PART).unwrap_or(i64::MAX);
        let mut found = statement.query(params![before.millis(), most])?;
        while let Some(row) = found.next()? {
            *counts
                .entry(rows::name("a decision's owner", row, 0)?)
                .or_default() += 1;
            all += 1;
        }
    }
    for (owner, count) in counts {
        let event = Event::DecisionsDropped { count, before };
        log::append(
            c,
            &AuditRecord::of_server(Uuid::new_v4(), now, Some(owner), event),
        )?;
    }
    Ok(all >= PART)
}
