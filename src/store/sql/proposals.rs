//! Words of people where one is not enough: whose counts, for how long, and what comes of the last one.

use crate::store::engine::{Connection, Optional as _, params};

use super::limits::{approvals, documents};
use super::{RowError, log, rows, tokens};
use crate::domain::Name;
use crate::domain::approval::{Change, PATIENCE, Proposal, Word};
use crate::store::{Guarded, Taken};

/// Proposals of one person that wait at once.
const MOST: usize = 10;

/// Whether as many people as are asked for said the same.
pub(super) enum Agreed {
    By(Vec<Word>),
    Pending(Proposal),
    Refused(String),
}

impl Agreed {
    /// How many words are still needed, where one was taken. At most two people are asked for.
    pub(super) fn missing(&self) -> Option<u32> {
        match self {
            Self::By(_) => Some(0),
            Self::Pending(_) => Some(1),
            Self::Refused(_) => None,
        }
    }
}

pub(super) fn agreed(
    c: &Connection,
    owner: &Name,
    change: &Change,
    word: Word,
    required: u8,
) -> Result<Agreed, RowError> {
    let text = rows::to_json("a change", change)?;
    let first: Option<Proposal> = c
        .prepare_cached("SELECT document FROM proposals WHERE owner = ?1 AND act = ?2")?
        .query_row([owner.as_str(), &text], |row| {
            Ok(rows::json("a proposal", row, 0))
        })
        .optional()?
        .transpose()?;
    let mut first = first.filter(|proposal| proposal.expires > word.time);
    if required > 1 {
        if let Some(why) = tokens::without_word(c, owner, &word.by, word.time)? {
            return Ok(Agreed::Refused(why));
        }
        if let Some(proposal) = &first
            && tokens::without_word(c, owner, &proposal.word.by, word.time)?.is_some()
        {
            first = None;
        }
        match &first {
            None => {
                make_room(c, owner, &word)?;
                let proposal = Proposal {
                    change: change.clone(),
                    expires: word.time.after(PATIENCE),
                    word,
                };
                c.execute(
                    "INSERT INTO proposals VALUES (?1, ?2, ?3) ON CONFLICT (owner, act) DO UPDATE SET document = ?3",
                    params![owner.as_str(), text, rows::to_json("a proposal", &proposal)?],
                )?;
                return Ok(Agreed::Pending(proposal));
            }
            Some(first) if first.word.by.is_same_person(&word.by) => {
                return Ok(Agreed::Refused(format!(
                    "{} proposed this at {}: {required} different people must say the same, each with a token of a name of its own",
                    first.word.by.name, first.word.time
                )));
            }
            Some(_) => {}
        }
    }
    forget(c, owner, change)?;
    let first = first.map(|proposal| proposal.word).filter(|_| required > 1);
    Ok(Agreed::By(first.into_iter().chain([word]).collect()))
}

/// Forgets who proposed a change: what was said before something stricter counts no more.
pub(super) fn forget(c: &Connection, owner: &Name, change: &Change) -> Result<(), RowError> {
    let text = rows::to_json("a change", change)?;
    c.execute(
        "DELETE FROM proposals WHERE owner = ?1 AND act = ?2",
        [owner.as_str(), &text],
    )?;
    Ok(())
}

/// Why a registration waits, or is refused; none: it may be made.
pub(super) fn second_person(
    c: &Connection,
    owner: &Name,
    generation: i64,
    guarded: &Guarded,
) -> Result<Option<Taken<()>>, RowError> {
    let known = "SELECT EXISTS (SELECT 1 FROM owners WHERE name = ?1 AND generation = ?2)";
    let current: bool = c.query_row(known, params![owner.as_str(), generation], |row| row.get(0))?;
    let asked = approvals(c, owner)?;
    // On what has changed since, it is found out anew what is to be registered.
    let needed = asked.policies || (guarded.always && asked.approvals_required > 1);
    if !current || !needed {
        return Ok(None);
    }
    match agreed(
        c,
        owner,
        &guarded.change,
        guarded.word.clone(),
        asked.approvals_required,
    )? {
        Agreed::By(words) => {
            log::append(c, &guarded.agreed(&words))?;
            Ok(None)
        }
        Agreed::Refused(why) => Ok(Some(Taken::Refused(why))),
        Agreed::Pending(proposal) => {
            log::append(c, &guarded.proposed)?;
            Ok(Some(Taken::Pending(proposal)))
        }
    }
}

/// Forgets proposals that have expired, and the oldest of a person who has very many, so that nobody's keep others' out.
fn make_room(c: &Connection, owner: &Name, word: &Word) -> Result<(), RowError> {
    let all: Vec<Proposal> = documents(
        c,
        "a proposal",
        "SELECT document FROM proposals WHERE owner = ?1 ORDER BY act LIMIT ?2",
        owner,
        u32::MAX,
    )?;
    let (mut own, mut gone) = (Vec::new(), Vec::new());
    for proposal in all {
        if proposal.expires <= word.time {
            gone.push(proposal);
        } else if proposal.word.by.is_same_person(&word.by) {
            own.push(proposal);
        }
    }
    own.sort_by_key(|proposal| proposal.word.time);
    let over = (own.len() + 1).saturating_sub(MOST);
    gone.extend(own.into_iter().take(over));
    gone.iter()
        .try_for_each(|proposal| forget(c, owner, &proposal.change))
}
