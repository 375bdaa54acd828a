//! Holds: opened by releases that find no room, decided by people, closed when there is room again.

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::allowances::{self, Asked};
use super::{
    Committed, ReleaseCommit, RowError, Scope, SqlStore, StoreError, connections, decisions, limits, log,
    rows, words,
};
use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::approval::{Approvals, Change, Reset, Word};
use crate::domain::decision::{CountSeen, Decision, Outcome};
use crate::domain::etag::Precondition;
use crate::domain::hold::{Hold, HoldState};
use crate::domain::{Name, Time};
use crate::store::{Counts, HoldPage, HoldQuery, HoldStore, Taken, Verb};

/// Holds in a page, at most.
const PAGE: u32 = 1000;
/// Holds that may wait of a guest that asks over a connection.
const OVER_CONNECTION: u64 = 4;

impl HoldStore for SqlStore {
    fn holds(&self, owner: &Name, query: HoldQuery) -> Result<HoldPage, StoreError> {
        self.read(|c| page(c, owner, query))
    }

    fn hold(&self, owner: &Name, id: Uuid) -> Result<Option<Hold>, StoreError> {
        self.read(|c| find(c, owner, id))
    }

    fn settle_hold(
        &self,
        owner: &Name,
        id: Uuid,
        verb: &Verb,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Hold>, StoreError> {
        let (owner, verb, word, act) = (owner.clone(), verb.clone(), word.clone(), act.clone());
        self.write(Scope::Owner(owner.clone()), move |c| {
            words::settle(c, &owner, id, &verb, word.clone(), &act)
        })
    }

    fn limits(&self, owner: &Name, resets: u32, now: Time) -> Result<Counts, StoreError> {
        self.read(|c| limits::all(c, owner, resets, now))
    }

    fn reset_limit(
        &self,
        owner: &Name,
        change: &Change,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Reset>, StoreError> {
        let (owner, change, word, act) = (owner.clone(), change.clone(), word.clone(), act.clone());
        self.write(Scope::Owner(owner.clone()), move |c| {
            limits::reset(c, &owner, &change, word.clone(), &act)
        })
    }

    fn approvals(&self, owner: &Name) -> Result<Approvals, StoreError> {
        self.read(|c| limits::approvals(c, owner))
    }

    fn require_approvals(
        &self,
        owner: &Name,
        change: &Change,
        precondition: &Precondition,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Approvals>, StoreError> {
        let (owner, change, word, act) = (owner.clone(), change.clone(), word.clone(), act.clone());
        let precondition = precondition.clone();
        self.write(Scope::Owner(owner.clone()), move |c| {
            limits::require(c, &owner, &change, &precondition, word.clone(), &act)
        })
    }
}

fn page(c: &Connection, owner: &Name, query: HoldQuery) -> Result<HoldPage, RowError> {
    let limit = query.limit.clamp(1, PAGE);
    // One text for each filter, so that each is answered from its own index.
    let by_state = if query.state.is_some() {
        "AND state = ?3"
    } else {
        "AND CAST(?3 AS TEXT) IS NULL"
    };
    let mut statement = c.prepare_cached(&format!(
        "SELECT seq, document FROM holds WHERE owner = ?1 AND seq < ?2 {by_state} ORDER BY seq DESC LIMIT ?4"
    ))?;
    let mut found = statement.query(params![
        owner.as_str(),
        query.before.unwrap_or(i64::MAX),
        query.state.map(HoldState::as_str),
        limit + 1,
    ])?;
    let (mut holds, mut next, mut last) = (Vec::new(), None, None);
    while let Some(row) = found.next()? {
        if holds.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = last;
            break;
        }
        last = Some(row.get(0)?);
        let mut hold: Hold = rows::json("a hold", row, 1)?;
        hold.allowances = allowances::of_hold(c, hold.id)?;
        holds.push(hold);
    }
    Ok(HoldPage { holds, next })
}

pub(super) fn find(c: &Connection, owner: &Name, id: Uuid) -> Result<Option<Hold>, RowError> {
    let mut statement = c.prepare_cached("SELECT document FROM holds WHERE id = ?1 AND owner = ?2")?;
    let mut found = statement.query(params![id.as_bytes().as_slice(), owner.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let mut hold: Hold = rows::json("a hold", row, 0)?;
    hold.allowances = allowances::of_hold(c, id)?;
    Ok(Some(hold))
}

pub(super) fn update(c: &Connection, hold: &mut Hold) -> Result<(), RowError> {
    // They are rows of their own.
    hold.allowances.clear();
    c.prepare_cached("UPDATE holds SET state = ?2, document = ?3 WHERE id = ?1")?
        .execute(params![
            hold.id.as_bytes().as_slice(),
            hold.state.as_str(),
            rows::to_json("a hold", hold)?
        ])?;
    Ok(())
}

/// The hold of these secrets that waits for a word.
fn waiting(c: &Connection, asked: &Asked<'_>) -> Result<Option<Hold>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT document FROM holds WHERE owner = ?1 AND workload = ?2 AND secrets = ?3
           AND state IN ('open', 'pending')",
    )?;
    let mut rows = statement.query(params![asked.owner.as_str(), asked.workload, asked.secrets])?;
    rows.next()?.map(|row| rows::json("a hold", row, 0)).transpose()
}

/// Closes the hold of these secrets, if one waits: there was room.
pub(super) fn close(c: &Connection, asked: &Asked<'_>, now: Time) -> Result<(), RowError> {
    match waiting(c, asked)? {
        Some(hold) => close_one(c, asked.owner, hold, now),
        None => Ok(()),
    }
}

fn close_one(c: &Connection, owner: &Name, mut hold: Hold, now: Time) -> Result<(), RowError> {
    let event = Event::HoldClosed { hold: hold.id };
    log::append(
        c,
        &Act::of_server(now).record(Uuid::new_v4(), Some(owner.clone()), event),
    )?;
    hold.state = HoldState::Closed;
    hold.closed = Some(now);
    update(c, &mut hold)
}

/// Closes the holds of an owner whose counts all have room by now.
pub(super) fn close_with_room(c: &Connection, owner: &Name, now: Time) -> Result<(), RowError> {
    let mut holds: Vec<Hold> = Vec::new();
    let mut statement =
        c.prepare_cached("SELECT document FROM holds WHERE owner = ?1 AND state IN ('open', 'pending')")?;
    let mut found = statement.query([owner.as_str()])?;
    while let Some(row) = found.next()? {
        holds.push(rows::json("a hold", row, 0)?);
    }
    for hold in holds {
        let mut room = !hold.counts.is_empty();
        for count in &hold.counts {
            let (released, unknown) = super::releases::released(c, owner, &count.binding, &count.secret)?;
            room &= CountSeen {
                released,
                unknown,
                ..count.clone()
            }
            .has_room();
        }
        if room {
            close_one(c, owner, hold, now)?;
        }
    }
    Ok(())
}

/// One open hold for a workload's set of secrets; one decision for each launch that it holds back.
pub(super) fn open(
    c: &Connection,
    release: &ReleaseCommit,
    asked: &Asked<'_>,
    counts: Vec<CountSeen>,
) -> Result<Committed, RowError> {
    let decision = &release.decision;
    if !connections::waits(c, release)? {
        return Ok(Committed::Gone);
    }
    let Some(input) = &decision.input else {
        return Err(rows::damaged("a release", "it has no input"));
    };
    let in_the_way: Vec<CountSeen> = counts
        .iter()
        .filter(|count| count.used_up().is_some())
        .cloned()
        .collect();
    let sentences: Vec<String> = in_the_way.iter().filter_map(CountSeen::used_up).collect();
    let reason = sentences.join("; ");
    let mut hold = waiting(c, asked)?.unwrap_or_else(|| Hold {
        id: release.hold,
        state: HoldState::Open,
        workload: decision.workload.clone(),
        secrets: decision.secrets.clone(),
        attested: Vec::new(),
        counts: Vec::new(),
        created: decision.time,
        last_try: decision.time,
        launches: 0,
        requests: 0,
        reason: String::new(),
        approvals: Vec::new(),
        rejected: None,
        withdrawn: None,
        closed: None,
        allowances: Vec::new(),
    });
    let id = hold.id.as_bytes().as_slice().to_vec();
    let launch = release.launch.as_bytes().as_slice();
    let again = earlier(c, &id, launch)?;
    // One guest that asks for one set of secrets after the other opens one hold after the other: that is not waiting. It
    // costs a launch its tries; a connection has no tries, and opens a few.
    let others = if again.is_none() {
        waiting_for(c, launch)?
    } else {
        0
    };
    if release.link.over().is_some() && others >= OVER_CONNECTION {
        let reason =
            format!("{others} holds of this connection wait already, and a count is used up: {reason}");
        return refuse(c, release, None, reason, counts);
    }
    if others > 0 {
        connections::charge(c, release)?;
    }
    for count in &in_the_way {
        limits::seen(c, asked.owner, count)?;
    }
    hold.requests += 1;
    hold.launches += u64::from(again.is_none());
    hold.last_try = decision.time;
    hold.note(asked.guest, input, again.is_none());
    hold.note_counts(in_the_way);
    reason.clone_into(&mut hold.reason);
    c.execute(
        "INSERT INTO holds (id, owner, workload, secrets, state, created, document)
         VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6) ON CONFLICT (id) DO UPDATE SET document = ?6",
        params![
            id,
            asked.owner.as_str(),
            asked.workload,
            asked.secrets,
            hold.created.millis(),
            rows::to_json("a hold", &hold)?
        ],
    )?;
    if hold.requests == 1 {
        super::outbox::hold_opened(c, asked.owner, &hold)?;
    }
    let recorded = match again {
        Some(recorded) => recorded,
        None => {
            let held = Decision {
                outcome: Outcome::Held,
                connection: release.link.over(),
                reason,
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
        "INSERT INTO hold_launches VALUES (?1, ?2, ?3, 1)
         ON CONFLICT (hold, launch) DO UPDATE SET requests = hold_launches.requests + 1",
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

/// How many holds that wait for a word this launch is in.
fn waiting_for(c: &Connection, launch: &[u8]) -> Result<u64, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT count(*) FROM hold_launches JOIN holds ON holds.id = hold_launches.hold
         WHERE launch = ?1 AND state IN ('open', 'pending')",
    )?;
    let mut found = statement.query([launch])?;
    found
        .next()?
        .map_or(Ok(0), |row| rows::natural("a count", row, 0))
}

/// The rejected hold that this launch was in.
pub(super) fn rejected(c: &Connection, launch: Uuid) -> Result<Option<Hold>, RowError> {
    c.prepare_cached(
        "SELECT document FROM hold_launches JOIN holds ON holds.id = hold_launches.hold
         WHERE launch = ?1 AND state = 'rejected' LIMIT 1",
    )?
    .query_row([launch.as_bytes().as_slice()], |row| {
        Ok(rows::json("a hold", row, 0))
    })
    .optional()?
    .transpose()
}

/// Records that a launch of a rejected hold asked again, which costs a try as every denial does.
pub(super) fn deny(
    c: &Connection,
    release: &ReleaseCommit,
    hold: &Hold,
    counts: Vec<CountSeen>,
) -> Result<Committed, RowError> {
    if !connections::waits(c, release)? {
        return Ok(Committed::Gone);
    }
    let who = hold.rejected.as_ref().map_or("somebody", |word| &word.by.name);
    let reason = format!(
        "{who} rejected the hold {} of this launch, and a count is used up still",
        hold.id
    );
    refuse(c, release, Some(hold.id), reason, counts)
}

fn refuse(
    c: &Connection,
    release: &ReleaseCommit,
    hold: Option<Uuid>,
    reason: String,
    counts: Vec<CountSeen>,
) -> Result<Committed, RowError> {
    let denied = Decision {
        outcome: Outcome::Denied,
        connection: release.link.over(),
        reason,
        released: Vec::new(),
        hold,
        counts,
        ..release.decision.clone()
    };
    decisions::insert(c, &denied)?;
    connections::charge(c, release)?;
    Ok(Committed::Denied(denied.id))
}

/// Why a release beyond the limit was made: who confirmed it.
pub(super) fn confirmed(c: &Connection, owner: &Name, holds: &[Uuid]) -> Result<String, RowError> {
    let mut names: Vec<String> = Vec::new();
    for id in holds {
        let approvals = find(c, owner, *id)?
            .map(|hold| hold.approvals)
            .unwrap_or_default();
        for approval in approvals {
            if !names.contains(&approval.word.by.name) {
                names.push(approval.word.by.name);
            }
        }
    }
    Ok(format!(
        "every policy allows, and {} confirmed it beyond the limit",
        names.join(" and ")
    ))
}
