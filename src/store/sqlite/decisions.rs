//! Recorded decisions.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::rows;
use super::{DecisionPage, DecisionQuery, RowError};
use crate::domain::Name;
use crate::domain::decision::Decision;

/// Decisions in a page, at most.
const PAGE: u32 = 1000;

pub(super) fn insert(c: &Connection, decision: &Decision) -> Result<(), RowError> {
    write(c, decision, "")
}

/// Writes a record that stands for many: a later one of the same id, with a higher count, replaces it.
pub(super) fn upsert(c: &Connection, decision: &Decision) -> Result<(), RowError> {
    write(
        c,
        decision,
        "ON CONFLICT (id) DO UPDATE SET document = ?6 WHERE outcome = 'refused'",
    )
}

fn write(c: &Connection, decision: &Decision, conflict: &str) -> Result<(), RowError> {
    let document = rows::to_json("a decision", decision)?;
    let sql = format!(
        "INSERT INTO decisions (id, owner, workload, time, outcome, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6) {conflict}"
    );
    c.prepare_cached(&sql)?.execute(params![
        decision.id.as_bytes().as_slice(),
        decision.owner.as_str(),
        decision.workload.uuid.as_bytes().as_slice(),
        decision.time.millis(),
        decision.outcome.as_str(),
        document,
    ])?;
    Ok(())
}

pub(super) fn page(c: &Connection, owner: &Name, query: &DecisionQuery) -> Result<DecisionPage, RowError> {
    let limit = query.limit.clamp(1, PAGE);
    let workload = query.workload.map(|uuid| uuid.as_bytes().to_vec());
    // One text for each combination of filters, so that each is answered from its own index.
    let by_outcome = if query.outcome.is_some() {
        "AND outcome = ?3"
    } else {
        "AND ?3 IS NULL"
    };
    let by_workload = if workload.is_some() {
        "AND workload = ?4"
    } else {
        "AND ?4 IS NULL"
    };
    let mut statement = c.prepare_cached(&format!(
        "SELECT seq, document FROM decisions
         WHERE owner = ?1 AND seq < ?2 {by_outcome} {by_workload} ORDER BY seq DESC LIMIT ?5"
    ))?;
    let mut found = statement.query(params![
        owner.as_str(),
        query.before.unwrap_or(i64::MAX),
        query.outcome.map(|outcome| outcome.as_str()),
        workload,
        limit + 1,
    ])?;
    let (mut decisions, mut next, mut last) = (Vec::new(), None, None);
    while let Some(row) = found.next()? {
        if decisions.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = last;
            break;
        }
        last = Some(row.get(0)?);
        decisions.push(rows::json("a decision", row, 1)?);
    }
    Ok(DecisionPage { decisions, next })
}

pub(super) fn find(c: &Connection, owner: &Name, id: Uuid) -> Result<Option<Decision>, RowError> {
    let mut statement = c.prepare_cached("SELECT document FROM decisions WHERE id = ?1 AND owner = ?2")?;
    let mut found = statement.query(params![id.as_bytes().as_slice(), owner.as_str()])?;
    found
        .next()?
        .map(|row| rows::json("a decision", row, 0))
        .transpose()
}
