//! Recorded decisions.

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::{DecisionPage, DecisionQuery, RowError};
use super::{impact, log, platforms, rows};
use crate::audit::record::AuditRecord;
use crate::domain::Name;
use crate::domain::decision::Decision;

/// Decisions in a page, at most.
const PAGE: u32 = 1000;

/// Writes a decision, what it is found by, the platform it was about, and the record of it.
pub(super) fn insert(c: &Connection, decision: &Decision) -> Result<(), RowError> {
    let document = rows::to_json("a decision", decision)?;
    let seq = c
        .prepare_cached(
            "INSERT INTO decisions (id, owner, workload, time, outcome, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             RETURNING seq",
        )?
        .query_row(params![
        decision.id.as_bytes().as_slice(),
        decision.owner.as_str(),
        decision.workload.uuid.as_bytes().as_slice(),
        decision.time.millis(),
        decision.outcome.as_str(),
        document,
    ], |row| row.get(0))?;
    impact::note(c, seq, decision)?;
    platforms::note(c, decision)?;
    // The record has the decision's id, so that its place can be asked for with what the host was told.
    log::append(c, &AuditRecord::of_decision(decision.id, decision, &document))
}

/// Writes a decision that stands for many: a later one of the same id, with a higher count, replaces it, and is
/// recorded as it is then.
pub(super) fn upsert(c: &Connection, decision: &Decision) -> Result<(), RowError> {
    let stored: Option<String> = c
        .prepare_cached("SELECT document FROM decisions WHERE id = ?1")?
        .query_row([decision.id.as_bytes().as_slice()], |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else {
        return insert(c, decision);
    };
    let document = rows::to_json("a decision", decision)?;
    if document == stored {
        return Ok(());
    }
    let replaced = c
        .prepare_cached("UPDATE decisions SET document = ?2 WHERE id = ?1 AND outcome = 'refused'")?
        .execute(params![decision.id.as_bytes().as_slice(), document])?;
    if replaced == 1 {
        log::append(c, &AuditRecord::of_decision(Uuid::new_v4(), decision, &document))?;
    }
    Ok(())
}

pub(super) fn page(c: &Connection, owner: &Name, query: &DecisionQuery) -> Result<DecisionPage, RowError> {
    let limit = query.limit.clamp(1, PAGE);
    let workload = query.workload.map(|uuid| uuid.as_bytes().to_vec());
    // One text for each combination of filters, so that each is answered from its own index.
    let by_outcome = if query.outcome.is_some() {
        "AND outcome = ?3"
    } else {
        "AND CAST(?3 AS TEXT) IS NULL"
    };
    let by_workload = if workload.is_some() {
        "AND workload = ?4"
    } else {
        "AND CAST(?4 AS TEXT) IS NULL"
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
