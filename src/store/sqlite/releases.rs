//! Releases: counted under their limits, recorded and spent in one transaction, or held.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::rows;
use super::{Committed, ReleaseCommit, ReleaseCounts, ReleaseScope, RowError, decisions, keys, launches};
use crate::domain::decision::{CountSeen, Decision, Outcome};
use crate::domain::hold::Hold;
use crate::domain::{HexDigest, Name, Time};
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
    Ok(c.execute(
        "DELETE FROM release_times WHERE rowid IN (SELECT rowid FROM release_times WHERE time <= ?1 LIMIT ?2)",
        params![now.millis() - DAY, most],
    )?)
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
    for (scope, seen) in &release.seen {
        if total(c, &decision.owner, scope)? != *seen {
            return Ok(Committed::Changed);
        }
    }
    let seen = seen(c, &decision.owner, &release.counts)?;
    let used_up = used_up(&seen);
    if !used_up.is_empty() {
        return hold(c, release, seen, &used_up.join("; "));
    }
    if !launches::spend(c, release.launch, decision.time, release.answer.as_ref())? {
        return Ok(Committed::Gone);
    }
    for count in &release.counts {
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
    let recorded = Decision {
        counts: seen,
        ..decision.clone()
    };
    decisions::insert(c, &recorded)?;
    Ok(Committed::Released)
}

/// Every count as it is, before any is raised.
pub(super) fn seen(c: &Connection, owner: &Name, counts: &[CountUp]) -> Result<Vec<CountSeen>, RowError> {
    let seen = counts.iter().map(|count| {
        Ok(CountSeen {
            binding: count.binding.clone(),
            secret: count.secret.clone(),
            released: released(c, owner, count)?,
            limit: count.limit,
        })
    });
    seen.collect()
}

/// A sentence for each count that has no room.
fn used_up(counts: &[CountSeen]) -> Vec<String> {
    counts.iter().filter_map(CountSeen::used_up).collect()
}

fn released(c: &Connection, owner: &Name, count: &CountUp) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT released FROM counts WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4",
    )?;
    let mut found = statement.query(params![
        owner.as_str(),
        count.binding.kind.as_str(),
        count.binding.name,
        count.secret.as_str()
    ])?;
    found
        .next()?
        .map_or(Ok(0), |row| rows::natural("a count", row, 0))
}

/// Raises a count by one, only while it is below its limit.
fn raise(c: &Connection, owner: &Name, count: &CountUp) -> Result<(), RowError> {
    let key = params![
        owner.as_str(),
        count.binding.kind.as_str(),
        count.binding.name,
        count.secret.as_str()
    ];
    c.prepare_cached("INSERT INTO counts VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT DO NOTHING")?
        .execute(key)?;
    let limit = count
        .limit
        .map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
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
            limit
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
        "INSERT INTO release_totals VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET total = total + 1",
    )?
    .execute(params![owner.as_str(), scope])?;
    c.prepare_cached("INSERT INTO release_times VALUES (?1, ?2, ?3)")?
        .execute(params![owner.as_str(), scope, time.millis()])?;
    Ok(())
}

/// One open hold for a workload's set of secrets; one decision for each launch that it holds back.
fn hold(
    c: &Connection,
    release: &ReleaseCommit,
    counts: Vec<CountSeen>,
    reason: &str,
) -> Result<Committed, RowError> {
    let decision = &release.decision;
    if !launches::is_waiting(c, release.launch, decision.time)? {
        return Ok(Committed::Gone);
    }
    let mut names = decision.secrets.clone();
    names.sort();
    let secrets = rows::to_json("names", &names)?;
    let workload = decision.workload.uuid.as_bytes().as_slice();
    let found = {
        let mut statement = c.prepare_cached(
            "SELECT document FROM holds WHERE owner = ?1 AND workload = ?2 AND secrets = ?3 AND state = 'open'",
        )?;
        let mut rows = statement.query(params![decision.owner.as_str(), workload, secrets])?;
        rows.next()?
            .map(|row| rows::json::<Hold>("a hold", row, 0))
            .transpose()?
    };
    let (launch_digest, cek) = match &decision.input {
        Some(input) => attested(input)?,
        None => return Err(rows::damaged("a release", "it has no input")),
    };
    let mut hold = found.unwrap_or_else(|| Hold {
        id: release.hold,
        workload: decision.workload.clone(),
        secrets: decision.secrets.clone(),
        attested: Vec::new(),
        created: decision.time,
        last_try: decision.time,
        launches: 0,
        requests: 0,
        reason: String::new(),
    });
    let id = hold.id.as_bytes().as_slice().to_vec();
    let launch = release.launch.as_bytes().as_slice();
    let again = earlier(c, &id, launch)?;
    if again.is_none() && holds_of(c, launch)? > 0 {
        // One guest that asks for one set of secrets after the other opens one hold after the other:
        // that is not waiting, and costs its tries.
        launches::charge_try(c, release.launch)?;
    }
    hold.requests += 1;
    hold.launches += u64::from(again.is_none());
    hold.last_try = decision.time;
    hold.note(launch_digest, cek, again.is_none());
    reason.clone_into(&mut hold.reason);
    c.execute(
        "INSERT INTO holds VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6) ON CONFLICT (id) DO UPDATE SET document = ?6",
        params![
            id,
            decision.owner.as_str(),
            workload,
            secrets,
            hold.created.millis(),
            rows::to_json("a hold", &hold)?
        ],
    )?;
    let recorded = match again {
        Some(recorded) => recorded,
        None => {
            let held = Decision {
                outcome: Outcome::Held,
                reason: reason.to_owned(),
                released: Vec::new(),
                hold: Some(hold.id),
                counts,
                ..decision.clone()
            };
            decisions::insert(c, &held)?;
            held.id
        }
    };
    c.execute(
        "INSERT INTO hold_launches VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE SET requests = requests + 1",
        params![id, launch, recorded.as_bytes().as_slice()],
    )?;
    Ok(Committed::Held {
        hold: hold.id,
        decision: recorded,
    })
}

/// The decision that this launch was held, where it was.
fn earlier(c: &Connection, hold: &[u8], launch: &[u8]) -> Result<Option<Uuid>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT decision FROM hold_launches WHERE hold = ?1 AND launch = ?2")?;
    let mut found = statement.query(params![hold, launch])?;
    found
        .next()?
        .map(|row| rows::uuid("a decision's id", row, 0))
        .transpose()
}

fn holds_of(c: &Connection, launch: &[u8]) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached("SELECT count(*) FROM hold_launches WHERE launch = ?1")?;
    let mut found = statement.query([launch])?;
    found
        .next()?
        .map_or(Ok(0), |row| rows::natural("a count", row, 0))
}

fn attested(input: &crate::policy::Input) -> Result<(HexDigest, HexDigest), RowError> {
    let digest = input.attested.launch_digest.as_deref().unwrap_or_default();
    let parse = |text: &str| text.parse().map_err(|e| rows::damaged("an attested digest", e));
    Ok((parse(digest)?, parse(&input.platform.fingerprints.cek)?))
}

pub(super) fn holds(c: &Connection, owner: &Name) -> Result<Vec<Hold>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT document FROM holds WHERE owner = ?1 AND state = 'open' ORDER BY created")?;
    let mut found = statement.query([owner.as_str()])?;
    let mut holds = Vec::new();
    while let Some(row) = found.next()? {
        holds.push(rows::json("a hold", row, 0)?);
    }
    Ok(holds)
}
