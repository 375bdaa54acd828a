//! Launches between the two calls of a host: remembered within bounds, found, charged, forgotten.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::rows;
use super::{LaunchBegun, RowError};
use crate::domain::launch::{Launch, LaunchBounds, LaunchState};
use crate::domain::{HexDigest, Name, Time};

/// How long an ended launch is remembered, so that its host learns that it ended.
const REMEMBERED: i64 = 24 * 3600 * 1000;
/// Ended launches that are remembered at most: anybody can begin one, and the disk is finite.
const ENDED: i64 = 200_000;
/// Rows that one sweep touches, so that it never holds up the writer for long.
const SWEEP: i64 = 500;

const COLUMNS: &str = "id, owner, workload, state, facts, bucket, keys, created, expires, tries_left";

pub(super) fn begin(c: &Connection, launch: &Launch, bounds: LaunchBounds) -> Result<LaunchBegun, RowError> {
    let now = launch.created.millis();
    let pdh = launch.facts.platform.fingerprints().pdh;
    let bucket = launch.bucket.as_str();
    let by_pdh = Group {
        condition: "pdh = ?1",
        value: &pdh.as_slice(),
        bound: bounds.per_pdh,
    };
    let by_address = Group {
        condition: "bucket = ?1",
        value: &bucket,
        bound: bounds.per_address,
    };
    let workload = launch.workload.as_bytes().as_slice();
    let by_workload = Group {
        condition: "workload = ?1",
        value: &workload,
        bound: bounds.per_workload,
    };

    // A platform's own launches give way; whoever floods its bucket, as chains are public, loses its
    // own first.
    let mut victim = None;
    if by_pdh.is_full(c, now)? {
        let waiting = by_pdh.waiting(c, now)?;
        let own = || waiting.iter().find(|launch| launch.bucket == bucket).cloned();
        victim = heaviest(&waiting, bucket)
            .or_else(own)
            .or_else(|| waiting.first().cloned());
    }
    let frees = |group_has: &dyn Fn(&Waiting) -> bool| victim.as_ref().is_some_and(group_has);
    if by_address.is_full(c, now)? && !frees(&|victim| victim.bucket == bucket) {
        return Ok(full(by_address.waiting(c, now)?));
    }
    let mut second = None;
    if by_workload.is_full(c, now)? && !frees(&|victim| victim.workload == workload) {
        let waiting = by_workload.waiting(c, now)?;
        second = heaviest(&waiting, bucket);
        if second.is_none() {
            return Ok(full(waiting));
        }
    }
    for victim in victim.iter().chain(&second) {
        c.execute(
            "UPDATE launches SET state = 'evicted', keys = x'' WHERE id = ?1",
            [victim.id.as_slice()],
        )?;
    }
    insert(c, launch, &pdh)?;
    Ok(LaunchBegun::Stored)
}

/// Waiting launches that share a bound.
struct Group<'a> {
    condition: &'static str,
    value: &'a dyn rusqlite::ToSql,
    bound: u32,
}

impl Group<'_> {
    fn is_full(&self, c: &Connection, now: i64) -> Result<bool, RowError> {
        let sql = format!(
            "SELECT count(*) FROM launches WHERE {} AND state = 'pending' AND expires > ?2",
            self.condition
        );
        let count: i64 = c
            .prepare_cached(&sql)?
            .query_row(params![self.value, now], |row| row.get(0))?;
        Ok(count >= i64::from(self.bound))
    }

    /// All of them, oldest first.
    fn waiting(&self, c: &Connection, now: i64) -> Result<Vec<Waiting>, RowError> {
        let sql = format!(
            "SELECT id, bucket, workload, expires FROM launches
             WHERE {} AND state = 'pending' AND expires > ?2 ORDER BY expires, rowid",
            self.condition
        );
        let mut statement = c.prepare_cached(&sql)?;
        let found = statement.query_map(params![self.value, now], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                bucket: row.get(1)?,
                workload: row.get(2)?,
                expires: row.get(3)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

#[derive(Clone)]
struct Waiting {
    id: Vec<u8>,
    bucket: String,
    workload: Vec<u8>,
    expires: i64,
}

fn full(waiting: Vec<Waiting>) -> LaunchBegun {
    let until = waiting.first().map_or(0, |oldest| oldest.expires);
    LaunchBegun::Full {
        until: Time::from_millis(until),
    }
}

/// The oldest launch of the address that holds most of a full group, if that is at least two more
/// than the newcomer's own: one flooding address can't keep the others out, and among equals nobody
/// displaces anybody.
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

/// Whether a launch can still be validated.
pub(super) fn is_waiting(c: &Connection, id: Uuid, now: Time) -> Result<bool, RowError> {
    Ok(
        c.prepare_cached("SELECT 1 FROM launches WHERE id = ?1 AND state = 'pending' AND expires > ?2")?
            .exists(params![id.as_bytes().as_slice(), now.millis()])?,
    )
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
    let ended: i64 = c.query_row(
        "SELECT count(*) FROM launches WHERE expires <= ?1",
        [now.millis()],
        |row| row.get(0),
    )?;
    let until = if ended > ENDED {
        now.millis()
    } else {
        now.millis() - REMEMBERED
    };
    let forgotten = c.execute(
        "DELETE FROM launches WHERE id IN (SELECT id FROM launches WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        params![until, SWEEP],
    )?;
    let counted = super::releases::forget(c, now, SWEEP)?;
    let full = usize::try_from(SWEEP).unwrap_or(usize::MAX);
    Ok(wiped >= full || forgotten >= full || counted >= full)
}
