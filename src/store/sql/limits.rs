//! Counts as people see them, the only way to lower one, and how many people that takes.

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::allowances::kind;
use super::proposals::{Agreed, agreed};
use super::{RowError, holds, log, releases, rows};
use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::approval::{Approvals, Change, Count, Proposal, Reset, Word};
use crate::domain::decision::CountSeen;
use crate::domain::etag::{ETag, Precondition};
use crate::domain::launch::Binding;
use crate::domain::{Name, Time};
use crate::store::{Counts, Taken};

/// Remembers the limit that was set on a count, for people to see.
pub(super) fn seen(c: &Connection, owner: &Name, count: &CountSeen) -> Result<(), RowError> {
    c.prepare_cached(
        "INSERT INTO counts (owner, kind, name, secret, released, seen_limit) VALUES (?1, ?2, ?3, ?4, 0, ?5)
         ON CONFLICT (owner, kind, name, secret) DO UPDATE SET seen_limit = ?5",
    )?
    .execute(params![
        owner.as_str(),
        count.binding.kind.as_str(),
        count.binding.name,
        count.secret.as_str(),
        count.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
    ])?;
    Ok(())
}

pub(super) fn all(c: &Connection, owner: &Name, resets: u32, now: Time) -> Result<Counts, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT kind, name, secret, released, seen_limit,
           (SELECT CAST(coalesce(sum(additional - used - withdrawn), 0) AS BIGINT) FROM hold_allowances AS a
            WHERE a.owner = counts.owner AND a.kind = counts.kind AND a.name = counts.name
              AND a.secret = counts.secret),
           (SELECT coalesce(max(number), 0) FROM rolled_back AS r WHERE r.owner = counts.owner) > known_since
         FROM counts WHERE owner = ?1 ORDER BY secret, kind, name",
    )?;
    let mut found = statement.query([owner.as_str()])?;
    let mut counts = Vec::new();
    while let Some(row) = found.next()? {
        let limit: Option<i64> = row.get(4)?;
        let limit = limit.map(u64::try_from).transpose();
        counts.push(Count {
            binding: Binding {
                kind: kind(row, 0)?,
                name: row.get(1)?,
            },
            secret: rows::name("a secret's name", row, 2)?,
            released: rows::natural("a count", row, 3)?,
            limit: limit.map_err(|e| rows::damaged("a limit", e))?,
            confirmed: rows::natural("an allowance", row, 5)?,
            unknown: row.get(6)?,
        });
    }
    let newest = "SELECT document FROM limit_resets WHERE owner = ?1 ORDER BY number DESC LIMIT ?2";
    let proposals: Vec<Proposal> = documents(
        c,
        "a proposal",
        "SELECT document FROM proposals WHERE owner = ?1 ORDER BY act LIMIT ?2",
        owner,
        u32::MAX,
    )?;
    Ok(Counts {
        counts,
        resets: documents(c, "a reset", newest, owner, resets)?,
        proposals: proposals
            .into_iter()
            .filter(|proposal| proposal.expires > now)
            .collect(),
    })
}

pub(super) fn documents<T: serde::de::DeserializeOwned>(
    c: &Connection,
    what: &'static str,
    sql: &str,
    owner: &Name,
    most: u32,
) -> Result<Vec<T>, RowError> {
    let mut statement = c.prepare_cached(sql)?;
    let mut found = statement.query(params![owner.as_str(), most])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(rows::json(what, row, 0)?);
    }
    Ok(all)
}

/// How many people this owner asks for.
pub(super) fn approvals(c: &Connection, owner: &Name) -> Result<Approvals, RowError> {
    let newest = "SELECT document FROM approvals_required WHERE owner = ?1 ORDER BY number DESC LIMIT ?2";
    let newest: Vec<Approvals> = documents(c, "a setting", newest, owner, 1)?;
    Ok(newest.into_iter().next().unwrap_or_default())
}

/// Lowers a count.
pub(super) fn reset(
    c: &Connection,
    owner: &Name,
    change: &Change,
    word: Word,
    act: &Act,
) -> Result<Taken<Reset>, RowError> {
    let Change::ResetLimit { binding, secret, to } = change else {
        return Err(rows::damaged("a change", "it is no reset"));
    };
    let before = c
        .prepare_cached(
            "SELECT released FROM counts WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4",
        )?
        .query_row(
            params![
                owner.as_str(),
                binding.kind.as_str(),
                binding.name,
                secret.as_str()
            ],
            |row| Ok(rows::natural("a count", row, 0)),
        )
        .optional()?;
    let Some(before) = before.transpose()? else {
        return Ok(Taken::Missing);
    };
    let most = i64::try_from(*to).is_ok();
    // A count that is not known is set to what a person says it is.
    let (_, unknown) = releases::released(c, owner, binding, secret)?;
    if !most || (*to >= before && !unknown) {
        return Ok(Taken::Refused(format!(
            "the count is {before}: a reset only lowers it, and {to} is not lower"
        )));
    }
    let (time, reason) = (word.time, word.reason.clone());
    let event = |missing| Event::LimitReset {
        binding: binding.clone(),
        secret: secret.clone(),
        from: before,
        to: *to,
        missing,
        reason,
    };
    let agreed = agreed(c, owner, change, word, approvals(c, owner)?.approvals_required)?;
    if let Some(missing) = agreed.missing() {
        log::append(
            c,
            &act.record(Uuid::new_v4(), Some(owner.clone()), event(missing)),
        )?;
    }
    let words = match agreed {
        Agreed::By(words) => words,
        Agreed::Pending(proposal) => return Ok(Taken::Pending(proposal)),
        Agreed::Refused(why) => return Ok(Taken::Refused(why)),
    };
    c.execute(
        "UPDATE counts SET released = ?5, known_since = (SELECT coalesce(max(number), 0) FROM rollbacks)
         WHERE owner = ?1 AND kind = ?2 AND name = ?3 AND secret = ?4",
        params![
            owner.as_str(),
            binding.kind.as_str(),
            binding.name,
            secret.as_str(),
            i64::try_from(*to).map_err(|e| rows::damaged("a count", e))?
        ],
    )?;
    let reset = Reset {
        number: next(c, owner, "limit_resets")?,
        binding: binding.clone(),
        secret: secret.clone(),
        before,
        after: *to,
        time,
        words,
    };
    record(
        c,
        owner,
        "limit_resets",
        reset.number,
        &rows::to_json("a reset", &reset)?,
    )?;
    holds::close_with_room(c, owner, time)?;
    Ok(Taken::Done(reset))
}

/// Changes how many people this owner asks for.
pub(super) fn require(
    c: &Connection,
    owner: &Name,
    change: &Change,
    precondition: &Precondition,
    word: Word,
    act: &Act,
) -> Result<Taken<Approvals>, RowError> {
    let Change::ApprovalsRequired { people, policies } = change else {
        return Err(rows::damaged("a change", "it is no number of people"));
    };
    let now = approvals(c, owner)?;
    let etag = ETag::of(&now).map_err(|e| rows::damaged("a number of people", e))?;
    if !precondition.holds(Some(&etag)) {
        return Ok(Taken::Stale);
    }
    if now.approvals_required == *people && now.policies == *policies {
        return Ok(Taken::Done(now));
    }
    // Whom an identity provider or a certificate vouches for is not counted: nobody knows here who they are.
    for other in [Some("approver"), policies.then_some("owner")]
        .into_iter()
        .flatten()
    {
        let names: i64 = c.query_row(
            "SELECT count(DISTINCT name) FROM tokens WHERE owner = ?1 AND role IN ('owner', ?3)
                 AND made_by IS NULL AND revoked IS NULL AND (expires IS NULL OR expires > ?2)",
            params![owner.as_str(), word.time.millis(), other],
            |row| row.get(0),
        )?;
        if names < i64::from(*people) {
            let roles = if other == "owner" {
                "owner"
            } else {
                "owner or approver"
            };
            return Ok(Taken::Refused(format!(
                "{people} people need {people} valid tokens of role {roles} with different names that an administrator made, and this owner has {names}"
            )));
        }
    }
    // One is enough to ask for more; to ask for fewer takes as many as were asked for.
    let fewer = *people < now.approvals_required || (now.policies && !policies);
    let required = if fewer { now.approvals_required } else { 1 };
    let reason = word.reason.clone();
    let event = |missing| Event::ApprovalsRequired {
        people: *people,
        policies: *policies,
        missing,
        reason,
    };
    let agreed = agreed(c, owner, change, word, required)?;
    if let Some(missing) = agreed.missing() {
        log::append(
            c,
            &act.record(Uuid::new_v4(), Some(owner.clone()), event(missing)),
        )?;
    }
    let words = match agreed {
        Agreed::By(words) => words,
        Agreed::Pending(proposal) => return Ok(Taken::Pending(proposal)),
        Agreed::Refused(why) => return Ok(Taken::Refused(why)),
    };
    let changed = Approvals {
        number: next(c, owner, "approvals_required")?,
        approvals_required: *people,
        policies: *policies,
        words,
    };
    let document = rows::to_json("a setting", &changed)?;
    record(c, owner, "approvals_required", changed.number, &document)?;
    Ok(Taken::Done(changed))
}

fn next(c: &Connection, owner: &Name, table: &str) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached(&format!(
        "SELECT coalesce(max(number), 0) + 1 FROM {table} WHERE owner = ?1"
    ))?;
    let mut found = statement.query([owner.as_str()])?;
    found
        .next()?
        .map_or(Ok(1), |row| rows::natural("a number", row, 0))
}

fn record(c: &Connection, owner: &Name, table: &str, number: u64, document: &str) -> Result<(), RowError> {
    let number = i64::try_from(number).map_err(|e| rows::damaged("a number", e))?;
    c.execute(
        &format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"),
        params![owner.as_str(), number, document],
    )?;
    Ok(())
}
