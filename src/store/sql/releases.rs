//! Releases: counted under their limits, recorded and spent in one transaction, or held.

use crate::store::engine::{Connection, Optional as _, params};

use super::allowances::{self, Asked};
use super::{Committed, ReleaseCommit, ReleaseCounts, ReleaseScope, RowError};
use super::{connections, decisions, freezes, holds, keys, limits, recovery, rows};
use crate::domain::decision::{CountSeen, Decision};
use crate::domain::launch::Binding;
use crate::domain::{Name, Time};
use crate::store::CountUp;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

pub(super) fn counts(
    c: &Connection,
    owner: &Name,
    scope: &ReleaseScope,
    now: Time,
) -> Result<ReleaseCounts, RowError> {
    let since = |age: i64| {
        let mut statement = c.prepare_cached(
            "SELECT count(*) FROM release_times WHERE owner = ?1 AND scope = ?2 AND time > ?3",
        )?;
        let mut found = statement.query(params![owner.as_str(), scope_text(scope), now.millis() - age])?;
        found
            .next()?
            .map_or(Ok(0), |row| rows::natural("a count", row, 0))
    };
    Ok(ReleaseCounts {
        total: total(c, owner, scope)?,
        last_hour: since(HOUR)?,
        last_day: since(DAY)?,
    })
}

fn total(c: &Connection, owner: &Name, scope: &ReleaseScope) -> Result<u64, RowError> {
    let mut statement =
        c.prepare_cached("SELECT total FROM release_totals WHERE owner = ?1 AND scope = ?2")?;
    let mut found = statement.query(params![owner.as_str(), scope_text(scope)])?;
    found
        .next()?
        .map_or(Ok(0), |row| rows::natural("a count", row, 0))
}

/// Forgets when releases were made that no policy can ask about any more; the totals stay.
pub(super) fn forget(c: &Connection, now: Time, most: i64) -> Result<usize, RowError> {
    c.execute(
        "DELETE FROM release_times WHERE rowid IN (SELECT rowid FROM release_times WHERE time <= ?1 LIMIT ?2)",
        params![now.millis() - DAY, most],
    )
}

fn scope_text(scope: &ReleaseScope) -> String {
    match scope {
        ReleaseScope::Workload(uuid) => format!("workload:{uuid}"),
        ReleaseScope::Secret(name) => format!("secret:{name}"),
    }
}

pub(super) fn commit(c: &Connection, release: &ReleaseCommit) -> Result<Committed, RowError> {
    let decision = &release.decision;
    let generation: Option<i64> = c
        .prepare_cached("SELECT generation FROM owners WHERE name = ?1")?
        .query_row([decision.owner.as_str()], |row| row.get(0))
        .optional()?;
    if generation != Some(release.generation) {
        return Ok(Committed::Changed);
    }
    if let Some((_, _, answer)) = &release.answer
        && keys::is_retired(c, answer)?
    {
        return Ok(Committed::Changed);
    }
    if connections::is_late(c, release)? {
        return Ok(Committed::Changed);
    }
    if let Some(stop) = freezes::of_release(c, decision)? {
        return freezes::deny(c, release, &stop);
    }
    for (scope, seen) in &release.seen {
        if total(c, &decision.owner, scope)? != *seen {
            return Ok(Committed::Changed);
        }
    }
    let mut seen = seen(c, &decision.owner, &release.counts)?;
    let asked = Asked::of(decision)?;
    let within = seen.iter().all(CountSeen::has_room);
    if !within {
        if let Some(hold) = holds::rejected(c, release.launch)? {
            return holds::deny(c, release, &hold, seen);
        }
        allowances::read(c, &asked, &mut seen)?;
        if seen.iter().any(|count| count.used_up().is_some()) {
            return holds::open(c, release, &asked, seen);
        }
    }
    if !connections::spend(c, release)? {
        return Ok(Committed::Gone);
    }
    let confirmed = if within {
        holds::close(c, &asked, decision.time)?;
        Vec::new()
    } else {
        allowances::use_up(c, &asked, &seen)?
    };
    for count in &seen {
        raise(c, &decision.owner, count)?;
    }
    note(
        c,
        &decision.owner,
        &ReleaseScope::Workload(decision.workload.uuid),
        decision.time,
    )?;
    for secret in &decision.released {
        note(
            c,
            &decision.owner,
            &ReleaseScope::Secret(secret.name.clone()),
            decision.time,
        )?;
    }
    let mut recorded = Decision {
        counts: seen,
        hold: confirmed.first().copied(),
        ..decision.clone()
    };
    if !confirmed.is_empty() {
        recorded.reason = holds::confirmed(c, &decision.owner, &confirmed)?;
    }
    decisions::insert(c, &recorded)?;
    Ok(Committed::Released)
}

/// Every count as it is, before any is raised.
pub(super) fn seen(c: &Connection, owner: &Name, counts: &[CountUp]) -> Result<Vec<CountSeen>, RowError> {
    let seen = counts.iter().map(|count| {
        Ok(CountSeen {
            binding: count.binding.clone(),
            secret: count.secret.clone(),
            released: released(c, owner, &count.binding, &count.secret)?,
            limit: count.limit,
            confirmed: 0,
            unknown: recovery::is_unknown(c, owner, &count.binding, &count.secret)?,
        })
    });
    seen.collect()
}

pub(super) fn released(
    c: &Connection,
    owner: &Name,
    binding: &Binding,
    secret: &Name,
) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT released FROM counts WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4",
    )?;
    let mut found = statement.query(params![
        owner.as_str(),
        binding.kind.as_str(),
        binding.name,
        secret.as_str()
    ])?;
    found
        .next()?
        .map_or(Ok(0), |row| rows::natural("a count", row, 0))
}

/// Raises a count by one: while it is below its limit, or by what was confirmed beyond it and used up just now.
fn raise(c: &Connection, owner: &Name, count: &CountSeen) -> Result<(), RowError> {
    limits::seen(c, owner, count)?;
    let limit = if count.has_room() { count.limit } else { None };
    let raised = c
        .prepare_cached(
            "UPDATE counts SET released = released + 1
             WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4 AND released < ?5",
        )?
        .execute(params![
            owner.as_str(),
            count.binding.kind.as_str(),
            count.binding.name,
            count.secret.as_str(),
            limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
        ])?;
    // The room was there a moment ago in this same transaction, and there is one writer.
    if raised == 1 {
        Ok(())
    } else {
        Err(rows::damaged("a count", "it has no room though it had"))
    }
}

fn note(c: &Connection, owner: &Name, scope: &ReleaseScope, time: Time) -> Result<(), RowError> {
    let scope = scope_text(scope);
    c.prepare_cached(
        "INSERT INTO release_totals VALUES (?1, ?2, 1)
         ON CONFLICT (owner, scope) DO UPDATE SET total = release_totals.total + 1",
    )?
    .execute(params![owner.as_str(), scope])?;
    c.prepare_cached("INSERT INTO release_times (owner, scope, time) VALUES (?1, ?2, ?3)")?
        .execute(params![owner.as_str(), scope, time.millis()])?;
    Ok(())
}
