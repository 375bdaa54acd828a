//! Freezes: set and lifted by people, and asked in every transaction that begins a launch or commits a release.
//!
//! INVARIANT: there is one writer. What asks here in its transaction sees every freeze that was answered before.

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::limits;
use super::proposals::{Agreed, agreed};
use super::{Committed, ReleaseCommit, RowError};
use super::{connections, decisions, log, platforms, rows};
use crate::audit::actor::Act;
use crate::audit::record::{self, Event, ObjectKind, ObjectRef};
use crate::domain::Name;
use crate::domain::approval::{Change, Word};
use crate::domain::decision::{Decision, Outcome};
use crate::domain::freeze::{Freeze, Stop, Subject, Target};
use crate::store::{FreezePage, FreezeQuery, Frozen, Taken};

/// Freezes in a page, at most.
const PAGE: u32 = 1000;

/// What stops a release or a launch, if anything does.
pub(super) fn stopped(c: &Connection, subject: &Subject) -> Result<Option<Stop>, RowError> {
    // Mostly nothing is frozen at all, and this is asked twice a launch and twice a release.
    let any = c
        .prepare_cached("SELECT 1 FROM freezes WHERE lifted IS NULL LIMIT 1")?
        .exists(params![])?;
    if any && let Some(freeze) = frozen(c, subject)? {
        return Ok(Some(Stop::Frozen(freeze)));
    }
    platforms::stopped(c, subject)
}

/// The freeze in force that says most of those that are about the subject.
fn frozen(c: &Connection, subject: &Subject) -> Result<Option<Freeze>, RowError> {
    // The widest first.
    let product = subject.product.map(|name| Target::Product { name });
    let platforms = [subject.cek, subject.oca].map(|fingerprint| Target::Platform { fingerprint });
    let (uuid, owner) = (subject.workload, &subject.owner);
    let mut targets = vec![Target::Server, Target::Owner { name: owner.clone() }];
    targets.push(Target::Workload {
        uuid,
        name: owner.clone(),
    });
    targets.extend(product.into_iter().chain(platforms));
    let secrets = subject.secrets.iter().flatten();
    targets.extend(secrets.map(|name| Target::Secret { name: name.clone() }));
    let mut statement = c.prepare_cached(
        "SELECT document FROM freezes WHERE kind = ?1 AND name = ?2 AND coalesce(owner, '') IN ('', ?3)
           AND lifted IS NULL LIMIT 1",
    )?;
    for target in targets {
        let (kind, name) = target.key();
        if let Some(row) = statement.query(params![kind, name, owner.as_str()])?.next()? {
            return rows::json("a freeze", row, 0).map(Some);
        }
    }
    if subject.secrets.is_none() {
        return secret_of(c, owner, uuid);
    }
    Ok(None)
}

/// What stops the release of a decision that was taken.
pub(super) fn of_release(c: &Connection, decision: &Decision) -> Result<Option<Stop>, RowError> {
    let input = decision.input.as_ref();
    let subject = input.and_then(|input| {
        Subject::of_input(&decision.owner, decision.workload.uuid, &decision.secrets, input)
    });
    let subject = subject.ok_or_else(|| rows::damaged("a release", "its input names no platform"))?;
    stopped(c, &subject)
}

/// Records that a release was stopped, which costs a try as every denial does.
pub(super) fn deny(c: &Connection, release: &ReleaseCommit, stop: &Stop) -> Result<Committed, RowError> {
    let decision = &release.decision;
    if !connections::waits(c, release)? {
        return Ok(Committed::Gone);
    }
    let denied = Decision {
        outcome: Outcome::Denied,
        connection: release.link.over(),
        reason: stop.reason(),
        released: Vec::new(),
        ..decision.clone()
    };
    decisions::insert(c, &denied)?;
    connections::charge(c, release)?;
    Ok(Committed::Denied(denied.id))
}

/// A freeze of any secret that a workload has.
fn secret_of(c: &Connection, owner: &Name, workload: Uuid) -> Result<Option<Freeze>, RowError> {
    c.prepare_cached(c.either(
        "SELECT document FROM freezes WHERE kind = 'secret' AND owner = ?1 AND lifted IS NULL AND name IN
           (SELECT value FROM workloads, json_each(workloads.document, '$.secrets') WHERE uuid = ?2) LIMIT 1",
        "SELECT document FROM freezes WHERE kind = 'secret' AND owner = ?1 AND lifted IS NULL AND name IN
           (SELECT json_array_elements_text(CAST(document AS JSON) -> 'secrets') FROM workloads WHERE uuid = ?2) LIMIT 1",
    ))?
    .query_row(params![owner.as_str(), workload.as_bytes().as_slice()], |row| {
        Ok(rows::json("a freeze", row, 0))
    })
    .optional()?
    .transpose()
}

pub(super) fn freeze(
    c: &Connection,
    owner: Option<&Name>,
    target: &Target,
    word: Word,
    act: &Act,
) -> Result<Frozen, RowError> {
    let Some(target) = found(c, owner, target)? else {
        return Ok(Frozen::Missing);
    };
    let (kind, name) = target.key();
    let whose = owner.map(Name::as_str);
    let already: Option<Freeze> = c
        .prepare_cached(
            "SELECT document FROM freezes WHERE kind = ?1 AND name = ?2 AND owner IS NOT DISTINCT FROM ?3 AND lifted IS NULL",
        )?
        .query_row(params![kind, name, whose], |row| {
            Ok(rows::json("a freeze", row, 0))
        })
        .optional()?
        .transpose()?;
    if let Some(already) = already {
        return Ok(Frozen::Already(already));
    }
    let event = Event::Frozen {
        target: recorded(&target)?,
        reason: word.reason.clone(),
    };
    let freeze = Freeze {
        id: Uuid::new_v4(),
        target,
        owner: owner.cloned(),
        word,
        lifted: Vec::new(),
    };
    c.execute(
        "INSERT INTO freezes (id, owner, kind, name, document) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            freeze.id.as_bytes().as_slice(),
            whose,
            kind,
            name,
            rows::to_json("a freeze", &freeze)?
        ],
    )?;
    log::append(c, &act.record(Uuid::new_v4(), whom(&freeze), event))?;
    Ok(Frozen::New(freeze))
}

/// The target as it is, if it is there.
fn found(c: &Connection, owner: Option<&Name>, target: &Target) -> Result<Option<Target>, RowError> {
    let exists = match (target, owner) {
        (Target::Owner { name }, _) => c
            .prepare_cached("SELECT 1 FROM owners WHERE name = ?1")?
            .exists([name.as_str()])?,
        (Target::Secret { name }, Some(owner)) => c
            .prepare_cached("SELECT 1 FROM secrets WHERE owner = ?1 AND name = ?2")?
            .exists([owner.as_str(), name.as_str()])?,
        (Target::Workload { uuid, name }, Some(owner)) => {
            let mut statement = c.prepare_cached(
                "SELECT uuid, name FROM workloads WHERE owner = ?1 AND (uuid = ?2 OR (?3 AND name = ?4))",
            )?;
            let by_uuid = uuid.as_bytes().as_slice();
            let mut rows = statement.query(params![owner.as_str(), by_uuid, uuid.is_nil(), name.as_str()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            return Ok(Some(Target::Workload {
                uuid: rows::uuid("a workload's UUID", row, 0)?,
                name: rows::name("a workload's name", row, 1)?,
            }));
        }
        // What an owner registers is the owner's to freeze.
        (Target::Secret { .. } | Target::Workload { .. }, None) => false,
        (Target::Server | Target::Platform { .. } | Target::Product { .. }, _) => true,
    };
    Ok(exists.then(|| target.clone()))
}

/// The target, as the audit log names it.
fn recorded(target: &Target) -> Result<record::Target, RowError> {
    let object = |kind, name: &Name| record::Target::Object {
        object: ObjectRef {
            kind,
            name: name.clone(),
            version: None,
        },
    };
    Ok(match target {
        Target::Server => record::Target::Server,
        Target::Owner { name } => object(ObjectKind::Owner, name),
        Target::Workload { name, .. } => object(ObjectKind::Workload, name),
        Target::Secret { name } => object(ObjectKind::Secret, name),
        Target::Platform { fingerprint } => record::Target::Platform {
            fingerprint: *fingerprint,
        },
        Target::Product { name } => record::Target::Product {
            name: name.to_string(),
        },
    })
}

/// Whose objects a freeze is about: that of an administrator on an owner is that owner's to read about.
fn whom(freeze: &Freeze) -> Option<Name> {
    match (&freeze.owner, &freeze.target) {
        (Some(owner), _) => Some(owner.clone()),
        (None, Target::Owner { name }) => Some(name.clone()),
        (None, _) => None,
    }
}

pub(super) fn unfreeze(
    c: &Connection,
    owner: Option<&Name>,
    id: Uuid,
    word: Word,
    act: &Act,
) -> Result<Taken<Freeze>, RowError> {
    let Some(mut freeze) = find(c, owner, id)? else {
        return Ok(Taken::Missing);
    };
    if let Some(last) = freeze.lifted.last() {
        return Ok(Taken::Refused(format!(
            "{} lifted the freeze at {}",
            last.by.name, last.time
        )));
    }
    if freeze.owner.as_ref() != owner {
        return Ok(Taken::Refused(format!(
            "the administrator {} froze this, and only an administrator lifts it",
            freeze.word.by.name
        )));
    }
    let (time, reason) = (word.time, word.reason.clone());
    let agreed = match owner {
        None => Agreed::By(vec![word]),
        Some(owner) => {
            let required = limits::approvals(c, owner)?.approvals_required;
            agreed(c, owner, &Change::Unfreeze { freeze: id }, word, required)?
        }
    };
    if let Some(missing) = agreed.missing() {
        let event = Event::Unfrozen {
            target: recorded(&freeze.target)?,
            missing,
            reason,
        };
        log::append(c, &act.record(Uuid::new_v4(), whom(&freeze), event))?;
    }
    freeze.lifted = match agreed {
        Agreed::By(words) => words,
        Agreed::Pending(proposal) => return Ok(Taken::Pending(proposal)),
        Agreed::Refused(why) => return Ok(Taken::Refused(why)),
    };
    c.execute(
        "UPDATE freezes SET lifted = ?2, document = ?3 WHERE id = ?1",
        params![
            id.as_bytes().as_slice(),
            time.millis(),
            rows::to_json("a freeze", &freeze)?
        ],
    )?;
    Ok(Taken::Done(freeze))
}

/// The condition that a freeze is to be seen by `?1`: one's own, and an administrator's that stops one's releases.
/// Administrators see their own.
const SEEN: &str = "(owner IS NOT DISTINCT FROM ?1 OR (owner IS NULL AND (kind <> 'owner' OR name = ?1)))";

pub(super) fn page(c: &Connection, owner: Option<&Name>, query: FreezeQuery) -> Result<FreezePage, RowError> {
    let limit = query.limit.clamp(1, PAGE);
    let in_force = if query.in_force { "AND lifted IS NULL" } else { "" };
    let mut statement = c.prepare_cached(&format!(
        "SELECT seq, document FROM freezes WHERE seq < ?2 AND {SEEN} {in_force} ORDER BY seq DESC LIMIT ?3"
    ))?;
    let mut found = statement.query(params![
        owner.map(Name::as_str),
        query.before.unwrap_or(i64::MAX),
        limit + 1,
    ])?;
    let (mut freezes, mut next, mut last) = (Vec::new(), None, None);
    while let Some(row) = found.next()? {
        if freezes.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = last;
            break;
        }
        last = Some(row.get(0)?);
        freezes.push(rows::json("a freeze", row, 1)?);
    }
    Ok(FreezePage { freezes, next })
}

pub(super) fn find(c: &Connection, owner: Option<&Name>, id: Uuid) -> Result<Option<Freeze>, RowError> {
    c.prepare_cached(&format!("SELECT document FROM freezes WHERE id = ?2 AND {SEEN}"))?
        .query_row(
            params![owner.map(Name::as_str), id.as_bytes().as_slice()],
            |row| Ok(rows::json("a freeze", row, 0)),
        )
        .optional()?
        .transpose()
}
