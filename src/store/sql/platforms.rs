//! The inventory of platforms, written in the transaction of the decision that measured a guest there.

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::proposals::{Agreed, agreed};
use super::{RowError, limits, log, proposals, rows};
use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::approval::{Change, Word};
use crate::domain::decision::{Decision, Outcome};
use crate::domain::freeze::{Stop, Subject};
use crate::domain::platform::{Accepted, Platform, Standing};
use crate::domain::trust::{self, Listed, Trust, TrustChange};
use crate::domain::{HexDigest, Name, Time};
use crate::store::{PlatformList, Taken};

/// Platforms in a page, at most.
const PAGE: u32 = 1000;
/// Platforms of an owner that were only seen, at most: beyond it the one not seen for longest is forgotten.
const MOST: i64 = 10_000;

/// Whether the owner's lists stop a release or, where nothing is measured yet, a launch.
pub(super) fn stopped(c: &Connection, subject: &Subject) -> Result<Option<Stop>, RowError> {
    let cek = subject.cek;
    let known = find(c, &subject.owner, cek)?;
    if let Some(Platform {
        standing: Standing::Refused,
        word: Some(word),
        ..
    }) = known
    {
        return Ok(Some(Stop::Refused { cek, word }));
    }
    let enrolled = known.is_some_and(|known| known.standing == Standing::Enrolled);
    // Not at launch: a platform that nobody saw yet is listed once it is measured, to be enrolled.
    let needed = subject.measured && accepted(c, &subject.owner)? == Accepted::Enrolled;
    Ok((needed && !enrolled).then_some(Stop::NotEnrolled { cek }))
}

fn accepted(c: &Connection, owner: &Name) -> Result<Accepted, RowError> {
    let text: Option<String> = c
        .prepare_cached("SELECT platforms FROM owners WHERE name = ?1")?
        .query_row([owner.as_str()], |row| row.get(0))
        .optional()?;
    let text = text.ok_or_else(|| rows::damaged("an owner", "no such owner"))?;
    text.parse()
        .map_err(|()| rows::damaged("which platforms are accepted", text))
}

pub(super) fn find(c: &Connection, owner: &Name, cek: HexDigest) -> Result<Option<Platform>, RowError> {
    c.prepare_cached("SELECT document FROM platforms WHERE owner = ?1 AND cek = ?2")?
        .query_row(params![owner.as_str(), cek.0.as_slice()], |row| {
            Ok(rows::json("a platform", row, 0))
        })
        .optional()?
        .transpose()
}

fn write(c: &Connection, owner: &Name, platform: &Platform, time: Time) -> Result<(), RowError> {
    c.prepare_cached(
        "INSERT INTO platforms VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (owner, cek) DO UPDATE SET standing = ?3, last = ?4, document = ?5",
    )?
    .execute(params![
        owner.as_str(),
        platform.cek.0.as_slice(),
        platform.standing.as_str(),
        time.millis(),
        rows::to_json("a platform", platform)?
    ])?;
    Ok(())
}

/// Notes the platform of a decision in which something is attested.
pub(super) fn note(c: &Connection, decision: &Decision) -> Result<(), RowError> {
    let Some(input) = decision
        .input
        .as_ref()
        .filter(|input| input.attested.launch_digest.is_some())
    else {
        return Ok(());
    };
    let cek = &input.platform.fingerprints.cek;
    let cek: HexDigest = cek.parse().map_err(|e| rows::damaged("a fingerprint", e))?;
    let new_launch = match decision.launch {
        Some(launch) => {
            c.prepare_cached("UPDATE launches SET measured = 1 WHERE id = ?1 AND measured = 0")?
                .execute([launch.as_bytes().as_slice()])?
                == 1
        }
        None => false,
    };
    let known = find(c, &decision.owner, cek)?;
    let is_new = known.is_none();
    let mut platform = known.unwrap_or_else(|| Platform::new(cek));
    let released = decision.outcome == Outcome::Released;
    platform.note(input, decision.time, new_launch, released);
    write(c, &decision.owner, &platform, decision.time)?;
    if is_new {
        forget(c, &decision.owner)?;
    }
    Ok(())
}

/// Forgets what was seen longest ago, beyond [`MOST`]; never what the owner said something of.
fn forget(c: &Connection, owner: &Name) -> Result<(), RowError> {
    // INVARIANT: the condition is that of the index platforms_to_forget, to the letter.
    c.prepare_cached(
        "DELETE FROM platforms WHERE owner = ?1 AND cek IN (SELECT cek FROM platforms
           WHERE owner = ?1 AND standing = 'seen' ORDER BY last DESC LIMIT 1000000 OFFSET ?2)",
    )?
    .execute(params![owner.as_str(), MOST])?;
    Ok(())
}

pub(super) fn page(
    c: &Connection,
    owner: &Name,
    after: Option<HexDigest>,
    limit: u32,
) -> Result<PlatformList, RowError> {
    let limit = limit.clamp(1, PAGE);
    let mut statement = c.prepare_cached(
        "SELECT document FROM platforms WHERE owner = ?1 AND cek > ?2 ORDER BY cek LIMIT ?3",
    )?;
    let after = after.map(|after| after.0.to_vec()).unwrap_or_default();
    let mut found = statement.query(params![owner.as_str(), after, limit + 1])?;
    let (mut platforms, mut next) = (Vec::<Platform>::new(), None);
    while let Some(row) = found.next()? {
        if platforms.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = platforms.last().map(|platform| platform.cek);
            break;
        }
        platforms.push(rows::json("a platform", row, 0)?);
    }
    Ok(PlatformList {
        platforms,
        next,
        accepted: accepted(c, owner)?,
    })
}

pub(super) fn judge(
    c: &Connection,
    owner: &Name,
    cek: HexDigest,
    standing: Standing,
    word: Word,
    act: &Act,
) -> Result<Taken<Platform>, RowError> {
    let known = find(c, owner, cek)?;
    let mut platform = known.unwrap_or_else(|| Platform::new(cek));
    if platform.standing == Standing::Seen && judged(c, owner)? >= trust::MOST {
        return Ok(Taken::Refused(format!(
            "{} platforms are enrolled or refused, which is the most: apply a Trust without those that are gone, or \
             freeze this one",
            trust::MOST
        )));
    }
    let was = platform.standing;
    let reason = word.reason.clone();
    let (event, agreed) = match standing {
        Standing::Refused => {
            let event = Event::PlatformRefused {
                fingerprint: cek,
                reason,
            };
            proposals::forget(c, owner, &Change::EnrolPlatform { cek })?;
            (Some(event), Agreed::By(vec![word.clone()]))
        }
        Standing::Enrolled => {
            let agreed = match was {
                Standing::Enrolled => Agreed::By(vec![word.clone()]),
                _ => loosening(c, owner, &Change::EnrolPlatform { cek }, &word)?,
            };
            let event = agreed.missing().map(|missing| Event::PlatformEnrolled {
                fingerprint: cek,
                missing,
                reason,
            });
            (event, agreed)
        }
        Standing::Seen => return Err(rows::damaged("a word on a platform", "it says nothing")),
    };
    record(c, owner, event, act)?;
    match agreed {
        Agreed::Pending(proposal) => return Ok(Taken::Pending(proposal)),
        Agreed::Refused(why) => return Ok(Taken::Refused(why)),
        Agreed::By(_) => {}
    }
    let time = word.time;
    platform.standing = standing;
    platform.word = Some(word);
    write(c, owner, &platform, time)?;
    if was != standing {
        raise(c, owner)?;
    }
    Ok(Taken::Done(platform))
}

pub(super) fn accept(
    c: &Connection,
    owner: &Name,
    accepted: Accepted,
    word: &Word,
    act: &Act,
) -> Result<Taken<Word>, RowError> {
    let was = self::accepted(c, owner)?;
    let agreed = match accepted {
        Accepted::Any if was != accepted => loosening(c, owner, &Change::AcceptPlatforms { accepted }, word)?,
        Accepted::Any => Agreed::By(vec![word.clone()]),
        Accepted::Enrolled => {
            let any = Accepted::Any;
            proposals::forget(c, owner, &Change::AcceptPlatforms { accepted: any })?;
            Agreed::By(vec![word.clone()])
        }
    };
    let event = agreed.missing().map(|missing| Event::PlatformsAccepted {
        accepted,
        missing,
        reason: word.reason.clone(),
    });
    record(c, owner, event, act)?;
    match agreed {
        Agreed::Pending(proposal) => return Ok(Taken::Pending(proposal)),
        Agreed::Refused(why) => return Ok(Taken::Refused(why)),
        Agreed::By(_) => {}
    }
    if was != accepted {
        set_accepted(c, owner.as_str(), accepted)?;
        raise(c, owner)?;
    }
    Ok(Taken::Done(word.clone()))
}

/// Whether as many people as the owner asks for want releases to go where none went.
fn loosening(c: &Connection, owner: &Name, change: &Change, word: &Word) -> Result<Agreed, RowError> {
    let required = limits::approvals(c, owner)?.approvals_required;
    agreed(c, owner, change, word.clone(), required)
}

/// How many platforms the owner said something of.
fn judged(c: &Connection, owner: &Name) -> Result<usize, RowError> {
    let sql = "SELECT count(*) FROM platforms WHERE owner = ?1 AND standing <> 'seen'";
    let count: i64 = c.query_row(sql, [owner.as_str()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn record(c: &Connection, owner: &Name, event: Option<Event>, act: &Act) -> Result<(), RowError> {
    match event {
        Some(event) => log::append(c, &act.record(Uuid::new_v4(), Some(owner.clone()), event)),
        None => Ok(()),
    }
}

/// What was read of the owner before is no longer so: a registration that goes by it begins anew.
fn raise(c: &Connection, owner: &Name) -> Result<(), RowError> {
    c.execute(
        "UPDATE owners SET generation = generation + 1 WHERE name = ?1",
        [owner.as_str()],
    )?;
    Ok(())
}

fn set_accepted(c: &Connection, owner: &str, accepted: Accepted) -> Result<(), RowError> {
    c.execute(
        "UPDATE owners SET platforms = ?2 WHERE name = ?1",
        [owner, accepted.as_str()],
    )?;
    Ok(())
}

/// What the owner says of platforms, as one object.
pub(super) fn trust(c: &Connection, owner: &Name) -> Result<Trust, RowError> {
    let mut trust = Trust {
        platforms: accepted(c, owner)?,
        ..Trust::default()
    };
    let mut statement = c.prepare_cached(
        "SELECT document FROM platforms WHERE owner = ?1 AND standing <> 'seen' ORDER BY cek",
    )?;
    let mut found = statement.query([owner.as_str()])?;
    while let Some(row) = found.next()? {
        let platform: Platform = rows::json("a platform", row, 0)?;
        let listed = Listed {
            cek: platform.cek,
            reason: platform.word.map(|word| word.reason).unwrap_or_default(),
        };
        match platform.standing {
            Standing::Enrolled => trust.enrolled.push(listed),
            Standing::Refused => trust.refused.push(listed),
            Standing::Seen => {}
        }
    }
    Ok(trust)
}

/// Writes what a registered object says of platforms.
pub(super) fn put_trust(c: &Connection, owner: &Name, change: &TrustChange) -> Result<(), RowError> {
    if let Some(accepted) = change.accepted {
        set_accepted(c, owner.as_str(), accepted)?;
        if accepted == Accepted::Enrolled {
            let any = Accepted::Any;
            proposals::forget(c, owner, &Change::AcceptPlatforms { accepted: any })?;
        }
    }
    for (cek, standing, reason) in &change.judged {
        if *standing != Standing::Enrolled {
            proposals::forget(c, owner, &Change::EnrolPlatform { cek: *cek })?;
        }
        let mut platform = find(c, owner, *cek)?.unwrap_or_else(|| Platform::new(*cek));
        platform.standing = *standing;
        platform.word = (*standing != Standing::Seen).then(|| Word {
            by: change.by.clone(),
            time: change.time,
            reason: reason.clone(),
        });
        // One of which nothing is known is not kept.
        if platform == Platform::new(*cek) {
            c.execute(
                "DELETE FROM platforms WHERE owner = ?1 AND cek = ?2",
                params![owner.as_str(), cek.0.as_slice()],
            )?;
            continue;
        }
        let last = platform.seen.as_ref().map_or(change.time, |seen| seen.last);
        write(c, owner, &platform, last)?;
    }
    Ok(())
}
