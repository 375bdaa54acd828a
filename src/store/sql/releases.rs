//! Releases: counted under their limits, recorded and spent in one transaction, or held.

use crate::store::engine::{Connection, Optional as _, params};

use super::allowances::{self, Asked};
use super::{Committed, ReleaseCommit, ReleaseCounts, ReleaseScope, RowError};
use super::{connections, decisions, freezes, holds, keys, rows};
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
    let total = total(c, owner, scope)?;
    let scope = scope_text(scope);
    // Times go forwards with the numbers of releases, so that the first that is recent says how many are.
    let since = |age: i64| {
        let mut statement = c.prepare_cached(
            "SELECT nth FROM release_times WHERE owner = ?1 AND scope = ?2 AND time > ?3 ORDER BY time, nth LIMIT 1",
        )?;
        let mut found = statement.query(params![owner.as_str(), scope, now.millis() - age])?;
        let Some(row) = found.next()? else { return Ok(0) };
        let first: i64 = row.get(0)?;
        let recent = i64::try_from(total)
            .ok()
            .and_then(|total| total.checked_sub(first));
        let recent = recent.and_then(|before| u64::try_from(before).ok());
        recent.map_or_else(
            || Err(rows::damaged("a release's number", first)),
            |before| Ok(before + 1),
        )
    };
    Ok(ReleaseCounts {
        total,
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
        let (released, unknown) = released(c, owner, &count.binding, &count.secret)?;
        Ok(CountSeen {
            binding: count.binding.clone(),
            secret: count.secret.clone(),
            released,
            limit: count.limit,
            confirmed: 0,
            unknown,
        })
    });
    seen.collect()
}

/// How many releases there were, and whether that is not known: an older copy of the database was accepted, and nobody has
/// set the count since.
pub(super) fn released(
    c: &Connection,
    owner: &Name,
    binding: &Binding,
    secret: &Name,
) -> Result<(u64, bool), RowError> {
    c.prepare_cached(
        "SELECT coalesce((SELECT released FROM counts WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4), 0),
           EXISTS (SELECT 1 FROM rolled_back WHERE owner = ?1 AND number > coalesce(
             (SELECT known_since FROM counts WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4), 0))",
    )?
    .query_row(
        params![
            owner.as_str(),
            binding.kind.as_str(),
            binding.name,
            secret.as_str()
        ],
        |row| Ok((rows::natural("a count", row, 0)?, row.get(1)?)),
    )
}

/// Raises a count by one, and remembers its limit for people to see: while it is below that, or by what was confirmed beyond
/// it and used up just now.
fn raise(c: &Connection, owner: &Name, count: &CountSeen) -> Result<(), RowError> {
    let limit = if count.has_room() { count.limit } else { None };
    let most = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    if most == 0 {
        return Err(rows::damaged("a count", "its limit leaves no room"));
    }
    let raised = c
        .prepare_cached(
            "INSERT INTO counts (owner, kind, name, secret, released, seen_limit) VALUES (?1, ?2, ?3, ?4, 1, ?5)
             ON CONFLICT (owner, kind, name, secret) DO UPDATE SET released = counts.released + 1, seen_limit = ?5
             WHERE counts.released < ?6",
        )?
        .execute(params![
            owner.as_str(),
            count.binding.kind.as_str(),
            count.binding.name,
            count.secret.as_str(),
            count
                .limit
                .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            most,
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
    let nth: i64 = c
        .prepare_cached(
            "INSERT INTO release_totals VALUES (?1, ?2, 1)
             ON CONFLICT (owner, scope) DO UPDATE SET total = release_totals.total + 1 RETURNING total",
        )?
        .query_row(params![owner.as_str(), scope], |row| row.get(0))?;
    // INVARIANT: of two releases of a scope the later has the higher number, and no lower time. Where the clock was set
    // back, or another server's is ahead, what was made before has been made by now.
    c.prepare_cached("UPDATE release_times SET time = ?3 WHERE owner = ?1 AND scope = ?2 AND time > ?3")?
        .execute(params![owner.as_str(), scope, time.millis()])?;
    c.prepare_cached("INSERT INTO release_times (owner, scope, time, nth) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![owner.as_str(), scope, time.millis(), nth])?;
    Ok(())
}
