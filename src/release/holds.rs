//! What people say of holds and limits: who, when and why, checked, and handed to the store.

use uuid::Uuid;

use super::Service;
use crate::domain::Name;
use crate::domain::approval::{Approvals, Change, Reset, Word};
use crate::domain::etag::Precondition;
use crate::domain::hold::{Confirm, Hold, MOST};
use crate::domain::launch::{Binding, BindingKind};
use crate::domain::revision::{By, MAX_MESSAGE};
use crate::domain::token::Caller;
use crate::store::{StoreError, Taken, Verb};

/// Why a person's word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WordError {
    /// A member is out of range.
    #[error("`{member}`: {why}")]
    Malformed {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Lets releases be made beyond the limit: `additional` of them, for the hold's workload and secrets, and for one
    /// guest of the hold or any. The policies run again for each.
    ///
    /// # Errors
    /// [`WordError`]; what can't be done as things stand is no error but [`Taken::Refused`].
    pub fn confirm_hold(
        &self,
        caller: &Caller,
        id: Uuid,
        confirm: Confirm,
        reason: &str,
    ) -> Result<Taken<Hold>, WordError> {
        if !(1..=MOST).contains(&confirm.additional) {
            return Err(WordError::Malformed {
                member: "additional",
                why: format!("{} is not from 1 to {MOST}", confirm.additional),
            });
        }
        if confirm.any && (confirm.launch_digest.is_some() || confirm.cek.is_some()) {
            return Err(WordError::Malformed {
                member: "any",
                why: "a confirmation for any guest names no launch digest and no CEK".to_owned(),
            });
        }
        self.settle(caller, id, &Verb::Confirm(confirm), reason)
    }

    /// Refuses the launches of a hold any release beyond the limit.
    ///
    /// # Errors
    /// As [`Service::confirm_hold`].
    pub fn reject_hold(&self, caller: &Caller, id: Uuid, reason: &str) -> Result<Taken<Hold>, WordError> {
        self.settle(caller, id, &Verb::Reject, reason)
    }

    /// Takes back what is left of a confirmation.
    ///
    /// # Errors
    /// As [`Service::confirm_hold`].
    pub fn withdraw_hold(&self, caller: &Caller, id: Uuid, reason: &str) -> Result<Taken<Hold>, WordError> {
        self.settle(caller, id, &Verb::Withdraw, reason)
    }

    fn settle(&self, caller: &Caller, id: Uuid, verb: &Verb, reason: &str) -> Result<Taken<Hold>, WordError> {
        let word = self.word(caller, reason)?;
        Ok(self
            .store()
            .settle_hold(&caller.owner, id, verb, &word, &self.act(caller))?)
    }

    /// Lowers a count.
    ///
    /// # Errors
    /// As [`Service::confirm_hold`].
    pub fn reset_limit(
        &self,
        caller: &Caller,
        binding: Binding,
        secret: Name,
        to: u64,
        reason: &str,
    ) -> Result<Taken<Reset>, WordError> {
        if (binding.kind == BindingKind::Owner) != binding.name.is_empty() {
            return Err(WordError::Malformed {
                member: "binding",
                why: "all kinds but `owner` have a name; a workload's is its UUID".to_owned(),
            });
        }
        let word = self.word(caller, reason)?;
        let change = Change::ResetLimit { binding, secret, to };
        Ok(self
            .store()
            .reset_limit(&caller.owner, &change, &word, &self.act(caller))?)
    }

    /// Asks for so many people from now on.
    ///
    /// # Errors
    /// As [`Service::confirm_hold`].
    pub fn require_approvals(
        &self,
        caller: &Caller,
        people: u8,
        policies: bool,
        reason: &str,
        precondition: &Precondition,
    ) -> Result<Taken<Approvals>, WordError> {
        if !(1..=2).contains(&people) {
            return Err(WordError::Malformed {
                member: "approvals_required",
                why: format!("{people} is neither 1 nor 2"),
            });
        }
        if policies && people < 2 {
            return Err(WordError::Malformed {
                member: "policies",
                why: "it asks for two people where policies are registered, and `approvals_required` for one"
                    .to_owned(),
            });
        }
        let word = self.word(caller, reason)?;
        let change = Change::ApprovalsRequired { people, policies };
        Ok(self
            .store()
            .require_approvals(&caller.owner, &change, precondition, &word, &self.act(caller))?)
    }

    fn word(&self, caller: &Caller, reason: &str) -> Result<Word, WordError> {
        let by = By {
            token: caller.token,
            name: caller.name.clone(),
        };
        self.word_of(by, reason)
    }

    pub(super) fn word_of(&self, by: By, reason: &str) -> Result<Word, WordError> {
        let reason = reason.trim();
        let malformed = |why: String| WordError::Malformed {
            member: "reason",
            why,
        };
        if reason.is_empty() {
            return Err(malformed("say why, for who reads the record later".to_owned()));
        }
        if reason.len() > MAX_MESSAGE {
            return Err(malformed(format!(
                "{} bytes are more than {MAX_MESSAGE}",
                reason.len()
            )));
        }
        Ok(Word {
            by,
            time: self.parts.clock.now(),
            reason: reason.to_owned(),
        })
    }
}
