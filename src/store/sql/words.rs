//! What people say of holds: taken, recorded, and made so.

use crate::store::engine::Connection;
use uuid::Uuid;

use super::holds::{find, update};
use super::{RowError, allowances, limits, log, tokens};
use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::approval::{PATIENCE, Word};
use crate::domain::hold::{Hold, HoldState};
use crate::domain::{Name, Time};
use crate::store::{Taken, Verb};

/// Takes a person's word on a hold.
pub(super) fn settle(
    c: &Connection,
    owner: &Name,
    id: Uuid,
    verb: &Verb,
    word: Word,
    act: &Act,
) -> Result<Taken<Hold>, RowError> {
    let Some(mut hold) = find(c, owner, id)? else {
        return Ok(Taken::Missing);
    };
    let reason = word.reason.clone();
    let required = limits::approvals(c, owner)?.approvals_required;
    if let Verb::Confirm(_) = verb {
        if required > 1
            && let Some(why) = tokens::without_word(c, owner, &word.by, word.time)?
        {
            return Ok(Taken::Refused(why));
        }
        forget_words(c, owner, &mut hold, required, word.time)?;
    }
    let taken = match verb {
        Verb::Confirm(_) if hold.counts.is_empty() => Err(
            "the hold was opened by an earlier version and does not say which counts are in the way: it will once a launch asks again"
                .to_owned(),
        ),
        Verb::Confirm(asked) => hold.confirm(asked, word, required),
        Verb::Reject => hold.reject(word),
        Verb::Withdraw => hold.withdraw(word),
    };
    if let Err(why) = taken {
        return Ok(Taken::Refused(why));
    }
    match verb {
        Verb::Confirm(_) if hold.state == HoldState::Confirmed => allowances::give(c, owner, &hold)?,
        Verb::Withdraw => allowances::withdraw(c, id)?,
        Verb::Confirm(_) | Verb::Reject => {}
    }
    update(c, &mut hold)?;
    hold.allowances = allowances::of_hold(c, id)?;
    let event = match verb {
        Verb::Confirm(asked) => Event::HoldConfirmed {
            hold: id,
            additional: asked.additional,
            guest: hold.approvals.last().and_then(|approval| approval.guest),
            missing: usize::from(required)
                .saturating_sub(hold.approvals.len())
                .try_into()
                .unwrap_or(0),
            reason,
        },
        Verb::Reject => Event::HoldRejected { hold: id, reason },
        Verb::Withdraw => Event::HoldWithdrawn { hold: id, reason },
    };
    log::append(c, &act.record(Uuid::new_v4(), Some(owner.clone()), event))?;
    Ok(Taken::Done(hold))
}

/// Forgets approvals that count no more: of tokens that are no longer valid, or a day old, or that nobody asks for.
fn forget_words(
    c: &Connection,
    owner: &Name,
    hold: &mut Hold,
    required: u8,
    now: Time,
) -> Result<(), RowError> {
    if hold.state != HoldState::Pending {
        return Ok(());
    }
    for approval in std::mem::take(&mut hold.approvals) {
        let counts = required > 1
            && approval.word.time.after(PATIENCE) > now
            && tokens::without_word(c, owner, &approval.word.by, now)?.is_none();
        if counts {
            hold.approvals.push(approval);
        }
    }
    if hold.approvals.is_empty() {
        hold.state = HoldState::Open;
    }
    Ok(())
}
