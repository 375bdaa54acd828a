//! Launches between the two calls of a host: remembered within bounds, found, charged, forgotten.

use crate::store::engine::{Connection, Optional as _, Row, params};
use uuid::Uuid;

use super::crowd::{self, Ceilings, Group, Waiting, full};
use super::{LaunchBegun, RowError};
use super::{freezes, keys, rows};
use crate::domain::freeze::Subject;
use crate::domain::launch::{Launch, LaunchBounds, LaunchState};
use crate::domain::{HexDigest, Name, Time};

/// How long an ended launch is remembered, so that its host learns that it ended.
const REMEMBERED: i64 = 24 * 3600 * 1000;
/// Ended launches that are remembered at most: anybody can begin one, and the disk is finite.
const ENDED: i64 = 200_000;
/// Launches of one platform key that gave way and are remembered: whoever has its chain can begin them without end.
const EVICTED: i64 = 64;
/// Rows that one sweep touches, so that it never holds up the writer for long.
const SWEEP: i64 = 500;

const COLUMNS: &str = "id, owner, workload, state, facts, bucket, keys, created, expires, tries_left";

pub(super) fn begin(
    c: &Connection,
    launch: &Launch,
    bounds: LaunchBounds,
    ceilings: Option<&Ceilings>,
) -> Result<LaunchBegun, RowError> {
    let subject = Subject::of_launch(&launch.owner, launch.workload, &launch.facts);
    if let Some(stop) = freezes::stopped(c, &subject)? {
        return Ok(LaunchBegun::Stopped(Box::new(stop)));
    }
    if keys::is_retired(c, &launch.sealed_keys)? {
        return Ok(LaunchBegun::OldKey);
    }
    let now = launch.created.millis();
    let pdh = launch.facts.platform.fingerprints().pdh;
    let bucket = launch.bucket.as_str();
    let by_pdh = Group {
        condition: "pdh = ?1",
        value: &pdh.as_slice(),
        bytes: &pdh,
        bound: bounds.per_pdh,
    };
    let by_address = Group {
        condition: "bucket = ?1",
        value: &bucket,
        bytes: bucket.as_bytes(),
        bound: bounds.per_address,
    };
    let workload = launch.workload.as_bytes().as_slice();
    let by_workload = Group {
        condition: "workload = ?1",
        value: &workload,
        bytes: workload,
        bound: bounds.per_workload,
    };

    let mut victim = None;
    if by_pdh.is_full(c, now, ceilings)? {
        victim = crowd::of_platform(&by_pdh.waiting(c, now)?, launch);
    }
    let frees = |group_has: &dyn Fn(&Waiting) -> bool| victim.as_ref().is_some_and(group_has);
    if by_address.is_full(c, now, ceilings)? && !frees(&|victim| victim.bucket == bucket) {
        return Ok(full(&by_address.waiting(c, now)?));
    }
    let mut second = None;
    if by_workload.is_full(c, now, ceilings)? && !frees(&|victim| victim.workload == workload) {
        let waiting = by_workload.waiting(c, now)?;
        second = crowd::of_workload(&waiting, launch);
        if second.is_none() {
            return Ok(full(&waiting));
        }
    }
    for victim in victim.iter().chain(&second) {
        evict(c, victim)?;
    }
    insert(c, launch)?;
    if let Some(ceilings) = ceilings {
        ceilings.raise(&[&by_pdh, &by_address, &by_workload]);
    }
    Ok(LaunchBegun::Stored)
}

/// Ends a launch that gives way, and forgets the oldest that gave way before it.
fn evict(c: &Connection, victim: &Waiting) -> Result<(), RowError> {
    c.prepare_cached(
        "UPDATE launches SET state = 'evicted', keys = x'' WHERE id = ?1 AND state = 'pending'",
    )?
    .execute([victim.id.as_slice()])?;
    c.prepare_cached(
        "DELETE FROM launches WHERE id IN (SELECT id FROM launches
           WHERE pdh = ?1 AND state = 'evicted' ORDER BY expires DESC, rowid DESC LIMIT 1000000 OFFSET ?2)",
    )?
    .execute(params![victim.pdh, EVICTED])?;
    Ok(())
}

fn insert(c: &Connection, launch: &Launch) -> Result<(), RowError> {
    let facts = rows::to_json("a launch", &launch.facts)?;
    let fingerprints = launch.facts.platform.fingerprints();
    c.prepare_cached(
        "INSERT INTO launches (id, owner, workload, state, policy, bucket, pdh, cek, facts, keys, created, expires, tries_left)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        launch.id.as_bytes().as_slice(),
        launch.owner.as_str(),
        launch.workload.as_bytes().as_slice(),
        launch.state.as_str(),
        launch.facts.policy,
        launch.bucket,
        fingerprints.pdh.as_slice(),
        fingerprints.cek.as_slice(),
        facts,
        launch.sealed_keys,
        launch.created.millis(),
        launch.expires.millis(),
        launch.tries_left,
    ])?;
    Ok(())
}

pub(super) fn find(c: &Connection, id: Uuid) -> Result<Option<Launch>, RowError> {
    let mut statement = c.prepare_cached(&format!("SELECT {COLUMNS} FROM launches WHERE id = ?1"))?;
    let mut found = statement.query([id.as_bytes().as_slice()])?;
    found.next()?.map(launch).transpose()
}

pub(super) fn pending(
    c: &Connection,
    workload: Uuid,
    policy: u32,
    bucket: &str,
    now: Time,
    limit: u32,
) -> Result<Vec<Launch>, RowError> {
    let mut statement = c.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM launches
         WHERE workload = ?1 AND policy = ?2 AND state = 'pending' AND expires > ?3
         ORDER BY (bucket = ?4) DESC, created DESC, rowid DESC LIMIT ?5"
    ))?;
    let mut found = statement.query(params![
        workload.as_bytes().as_slice(),
        policy,
        now.millis(),
        bucket,
        limit
    ])?;
    let mut launches = Vec::new();
    while let Some(row) = found.next()? {
        launches.push(launch(row)?);
    }
    Ok(launches)
}

fn launch(row: &Row) -> Result<Launch, RowError> {
    let state: String = row.get(3)?;
    Ok(Launch {
        id: rows::uuid("a launch's id", row, 0)?,
        owner: rows::name("a launch's owner", row, 1)?,
        workload: rows::uuid("a launch's workload", row, 2)?,
        state: state
            .parse()
            .map_err(|()| rows::damaged("a launch's state", &state))?,
        facts: rows::json("a launch", row, 4)?,
        bucket: row.get(5)?,
        sealed_keys: row.get(6)?,
        created: Time::from_millis(row.get(7)?),
        expires: Time::from_millis(row.get(8)?),
        tries_left: row.get(9)?,
    })
}

pub(super) fn charge_try(c: &Connection, id: Uuid) -> Result<u32, RowError> {
    let left = c
        .prepare_cached(
            "UPDATE launches SET
               tries_left = CASE WHEN tries_left > 1 THEN tries_left - 1 ELSE 0 END,
               state = CASE WHEN tries_left <= 1 THEN 'exhausted' ELSE state END,
               keys = CASE WHEN tries_left <= 1 THEN x'' ELSE keys END
             WHERE id = ?1 AND state = 'pending' RETURNING tries_left",
        )?
        .query_row([id.as_bytes().as_slice()], |row| row.get(0))
        .optional()?;
    Ok(left.unwrap_or(0))
}

/// Whether a launch can still be validated.
pub(super) fn is_waiting(c: &Connection, id: Uuid, now: Time) -> Result<bool, RowError> {
    c.prepare_cached("SELECT 1 FROM launches WHERE id = ?1 AND state = 'pending' AND expires > ?2")?
        .exists(params![id.as_bytes().as_slice(), now.millis()])
}

/// Ends a waiting launch as used; whether it was waiting still.
pub(super) fn spend(
    c: &Connection,
    id: Uuid,
    now: Time,
    answer: Option<&(HexDigest, HexDigest, Vec<u8>)>,
) -> Result<bool, RowError> {
    let spent = c
        .prepare_cached(
            "UPDATE launches SET state = ?2, keys = x'', answer_key = ?3, answer_request = ?4, answer = ?5
             WHERE id = ?1 AND state = 'pending' AND expires > ?6",
        )?
        .execute(params![
            id.as_bytes().as_slice(),
            LaunchState::Used.as_str(),
            answer.map(|(key, _, _)| key.0.as_slice()),
            answer.map(|(_, request, _)| request.0.as_slice()),
            answer.map(|(_, _, sealed)| sealed.as_slice()),
            now.millis(),
        ])?;
    Ok(spent == 1)
}

pub(super) fn answered(
    c: &Connection,
    uuid: Uuid,
    key: HexDigest,
    request: HexDigest,
    now: Time,
) -> Result<Option<(Uuid, Name, Vec<u8>)>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT id, owner, answer FROM launches
         WHERE answer_key = ?2 AND (id = ?1 OR workload = ?1) AND answer_request = ?3
           AND state = 'used' AND expires > ?4 AND answer IS NOT NULL",
    )?;
    let mut found = statement.query(params![
        uuid.as_bytes().as_slice(),
        key.0.as_slice(),
        request.0.as_slice(),
        now.millis()
    ])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some((
        rows::uuid("a launch's id", row, 0)?,
        rows::name("a launch's owner", row, 1)?,
        row.get(2)?,
    )))
}

pub(super) fn sweep(c: &Connection, now: Time) -> Result<bool, RowError> {
    // INVARIANT: the condition is that of the index launches_to_wipe, to the letter.
    let wiped = c.execute(
        "UPDATE launches SET keys = x'', answer = NULL, answer_key = NULL, answer_request = NULL
         WHERE id IN (SELECT id FROM launches INDEXED BY launches_to_wipe
           WHERE expires <= ?1 AND (length(keys) > 0 OR answer_key IS NOT NULL) LIMIT ?2)",
        params![now.millis(), SWEEP],
    )?;
    let forgotten = forget(c, now.millis())?;
    let counted = super::releases::forget(c, now, SWEEP)?;
    let full = usize::try_from(SWEEP).unwrap_or(usize::MAX);
    Ok(wiped >= full || forgotten >= full || counted >= full)
}

/// Forgets launches that ended long ago, and the oldest of those that ended beyond [`ENDED`]; how many.
fn forget(c: &Connection, now: i64) -> Result<usize, RowError> {
    let of_old = delete(c, "expires <= ?1", now - REMEMBERED, SWEEP)?;
    // INVARIANT: the first condition is that of the index launches_ended, to the letter.
    let ended: i64 = c.query_row(
        // No more are counted than decide: of a million this would hold up whoever writes.
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM launches WHERE state <> 'pending' LIMIT ?2) AS early)
           + (SELECT count(*) FROM (SELECT 1 FROM launches WHERE state = 'pending' AND expires <= ?1 LIMIT ?2) AS late)",
        [now, ENDED + SWEEP],
        |row| row.get(0),
    )?;
    let beyond = (ended - ENDED).clamp(0, SWEEP);
    // What expired is older than whatever ended before its time.
    let expired = delete(c, "expires <= ?1", now, beyond)?;
    let rest = beyond - i64::try_from(expired).unwrap_or(i64::MAX);
    let early = delete(c, "state <> 'pending' AND expires > ?1", now, rest.max(0))?;
    Ok(of_old.max(expired + early))
}

/// Deletes the oldest launches of which the condition holds.
fn delete(c: &Connection, condition: &str, time: i64, most: i64) -> Result<usize, RowError> {
    if most == 0 {
        return Ok(0);
    }
    let sql = format!(
        "DELETE FROM launches WHERE id IN (SELECT id FROM launches WHERE {condition} ORDER BY expires LIMIT ?2)"
    );
    c.prepare_cached(&sql)?.execute(params![time, most])
}
