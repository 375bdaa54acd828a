//! Launches between the two calls of a host: remembered within bounds, found, charged, forgotten.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::rows;
use super::{LaunchBegun, RowError};
use crate::domain::launch::{Launch, LaunchBounds, LaunchState};
use crate::domain::{HexDigest, Name, Time};

/// How long an ended launch is remembered, so that its host learns that it ended.
const REMEMBERED: i64 = 24 * 3600 * 1000;
/// Rows that one sweep touches, so that it never holds up the writer for long.
const SWEEP: i64 = 500;

const COLUMNS: &str = "id, owner, workload, state, facts, bucket, keys, created, expires, tries_left";

pub(super) fn begin(c: &Connection, launch: &Launch, bounds: LaunchBounds) -> Result<LaunchBegun, RowError> {
    let now = launch.created.millis();
    let pdh = launch.facts.platform.fingerprints().pdh;
    let mut victims = Vec::new();

    let of_pdh = waiting(c, "pdh = ?1", &pdh.as_slice(), now)?;
    let surplus = (of_pdh.len() + 1).saturating_sub(usize::try_from(bounds.per_pdh).unwrap_or(usize::MAX));
    victims.extend(of_pdh.into_iter().take(surplus));

    let mine = |victims: &[Waiting]| {
        let freed = victims
            .iter()
            .filter(|victim| victim.bucket == launch.bucket)
            .count();
        waiting(c, "bucket = ?1", &launch.bucket.as_str(), now).map(|w| (w.len() - freed.min(w.len()), w))
    };
    let (held, of_address) = mine(&victims)?;
    if held >= usize::try_from(bounds.per_address).unwrap_or(usize::MAX) {
        return Ok(full(of_address));
    }

    let workload = launch.workload.as_bytes().as_slice();
    let of_workload = waiting(c, "workload = ?1", &workload, now)?;
    let freed = victims
        .iter()
        .filter(|victim| of_workload.iter().any(|w| w.id == victim.id))
        .count();
    if of_workload.len() - freed >= usize::try_from(bounds.per_workload).unwrap_or(usize::MAX) {
        match heaviest(&of_workload, &launch.bucket) {
            Some(victim) => victims.push(victim),
            None => return Ok(full(of_workload)),
        }
    }

    for victim in &victims {
        c.execute(
            "UPDATE launches SET state = 'evicted', keys = x'' WHERE id = ?1",
            [victim.id.as_slice()],
        )?;
    }
    insert(c, launch, &pdh)?;
    Ok(LaunchBegun::Stored)
}

#[derive(Clone)]
struct Waiting {
    id: Vec<u8>,
    bucket: String,
    expires: i64,
}

/// Waiting launches, oldest first.
fn waiting(
    c: &Connection,
    condition: &str,
    value: &dyn rusqlite::ToSql,
    now: i64,
) -> Result<Vec<Waiting>, RowError> {
    let sql = format!(
        "SELECT id, bucket, expires FROM launches
         WHERE {condition} AND state = 'pending' AND expires > ?2 ORDER BY expires, rowid"
    );
    let mut statement = c.prepare_cached(&sql)?;
    let found = statement.query_map(params![value, now], |row| {
        Ok(Waiting {
            id: row.get(0)?,
            bucket: row.get(1)?,
            expires: row.get(2)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn full(waiting: Vec<Waiting>) -> LaunchBegun {
    let until = waiting.first().map_or(0, |oldest| oldest.expires);
    LaunchBegun::Full {
        until: Time::from_millis(until),
    }
}

/// The oldest launch of the address that holds most of a full workload, if that is at least two
/// more than the newcomer's own: one flooding address can't keep the others out, and among equals
/// nobody displaces anybody.
fn heaviest(waiting: &[Waiting], newcomer: &str) -> Option<Waiting> {
    let mut held = std::collections::HashMap::new();
    for launch in waiting {
        *held.entry(launch.bucket.as_str()).or_insert(0_usize) += 1;
    }
    let own = held.get(newcomer).copied().unwrap_or(0);
    let (bucket, most) = held.into_iter().max_by_key(|(bucket, count)| (*count, *bucket))?;
    if most < own + 2 {
        return None;
    }
    waiting.iter().find(|launch| launch.bucket == bucket).cloned()
}

fn insert(c: &Connection, launch: &Launch, pdh: &[u8; 32]) -> Result<(), RowError> {
    let facts = rows::to_json("a launch", &launch.facts)?;
    c.prepare_cached(
        "INSERT INTO launches (id, owner, workload, state, policy, bucket, pdh, facts, keys, created, expires, tries_left)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        launch.id.as_bytes().as_slice(),
        launch.owner.as_str(),
        launch.workload.as_bytes().as_slice(),
        launch.state.as_str(),
        launch.facts.policy,
        launch.bucket,
        pdh.as_slice(),
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

fn launch(row: &Row<'_>) -> Result<Launch, RowError> {
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
               tries_left = max(tries_left - 1, 0),
               state = CASE WHEN tries_left <= 1 THEN 'exhausted' ELSE state END,
               keys = CASE WHEN tries_left <= 1 THEN x'' ELSE keys END
             WHERE id = ?1 AND state = 'pending' RETURNING tries_left",
        )?
        .query_row([id.as_bytes().as_slice()], |row| row.get(0))
        .optional()?;
    Ok(left.unwrap_or(0))
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
    let wiped = c.execute(
        "UPDATE launches SET keys = x'', answer = NULL, answer_key = NULL, answer_request = NULL
         WHERE id IN (SELECT id FROM launches
           WHERE expires <= ?1 AND (length(keys) > 0 OR answer_key IS NOT NULL) LIMIT ?2)",
        params![now.millis(), SWEEP],
    )?;
    let forgotten = c.execute(
        "DELETE FROM launches WHERE id IN (SELECT id FROM launches WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        params![now.millis() - REMEMBERED, SWEEP],
    )?;
    Ok(wiped + forgotten >= usize::try_from(SWEEP).unwrap_or(usize::MAX))
}
