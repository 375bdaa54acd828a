//! When something has gone wrong: what stops releases, who said so, and what is to be done.

use uuid::Uuid;

use super::holds::WordError;
use super::host::Host;
use super::meter::{Reason, Why};
use super::refusals::Refused;
use super::{Refusal, Service};
use crate::domain::approval::Word;
use crate::domain::freeze::{Freeze, Subject, Target};
use crate::domain::impact::{Cause, Rotation};
use crate::domain::launch::LaunchFacts;
use crate::domain::platform::{Accepted, Platform, Standing};
use crate::domain::revision::By;
use crate::domain::state::WorkloadContext;
use crate::domain::token::{Caller, Identity};
use crate::domain::{HexDigest, Name, Time};
use crate::policy::Phase;
use crate::store::{Frozen, ImpactPage, StoreError, Taken};

impl Service {
    /// Stops releases, also of launches that wait: once this returns, none of them is committed.
    ///
    /// An owner's tokens freeze what is the owner's, and platforms and products for the owner's releases. An
    /// administrator's freeze owners, platforms, products and the server, for everybody.
    ///
    /// # Errors
    /// [`WordError`], when it is not the caller's to freeze, or the store fails.
    pub fn freeze(&self, by: &Identity, target: Target, reason: &str) -> Result<Frozen, WordError> {
        let malformed = |why: &str| {
            let why = why.to_owned();
            let member = "target";
            Err(WordError::Malformed { member, why })
        };
        match (&by.owner, &target) {
            (Some(_), Target::Server) => {
                return malformed(
                    "only an administrator freezes the server; the target `owner` freezes all of your own releases",
                );
            }
            (Some(own), Target::Owner { name }) if own != name => return Ok(Frozen::Missing),
            (None, Target::Workload { .. } | Target::Secret { .. }) => {
                return malformed(
                    "an administrator freezes owners, platforms, products and the server: workloads and secrets are their owners'",
                );
            }
            _ => {}
        }
        let word = self.word_of(person(by), reason)?;
        let act = self.act(by);
        Ok(self.store().freeze(by.owner.as_ref(), &target, &word, &act)?)
    }

    /// Lets releases go on. Where an owner asks for two people, that takes two.
    ///
    /// # Errors
    /// [`WordError`]; what can't be done as things stand is no error but [`Taken::Refused`].
    pub fn unfreeze(&self, by: &Identity, id: Uuid, reason: &str) -> Result<Taken<Freeze>, WordError> {
        let word = self.word_of(person(by), reason)?;
        let act = self.act(by);
        Ok(self.store().unfreeze(by.owner.as_ref(), id, &word, &act)?)
    }

    /// Enrols or refuses a platform, also one that was never seen. Where the owner asks for two people, it takes two
    /// to enrol one, and one to refuse one.
    ///
    /// # Errors
    /// [`WordError`].
    pub fn judge_platform(
        &self,
        caller: &Caller,
        cek: HexDigest,
        standing: Standing,
        reason: &str,
    ) -> Result<Taken<Platform>, WordError> {
        let word = self.word_of(caller.by(), reason)?;
        let act = self.act(caller);
        Ok(self
            .store()
            .judge_platform(&caller.owner, cek, standing, &word, &act)?)
    }

    /// Says which platforms get releases from now on. Where the owner asks for two people, it takes two to accept any.
    ///
    /// # Errors
    /// [`WordError`].
    pub fn accept_platforms(
        &self,
        caller: &Caller,
        accepted: Accepted,
        reason: &str,
    ) -> Result<Taken<Word>, WordError> {
        let word = self.word_of(caller.by(), reason)?;
        let act = self.act(caller);
        Ok(self
            .store()
            .accept_platforms(&caller.owner, accepted, &word, &act)?)
    }

    /// Launches that something which went wrong has touched, a page of them, and what is to be done because of these.
    ///
    /// # Errors
    /// When the store fails.
    pub fn impact(
        &self,
        owner: &Name,
        cause: &Cause,
        before: Option<i64>,
        limit: u32,
    ) -> Result<(ImpactPage, Vec<Rotation>), StoreError> {
        let page = self.store().impact(owner, cause, before, limit)?;
        let rotation = Rotation::of(cause, &page.touched, |name| page.in_use.get(name));
        Ok((page, rotation))
    }

    /// Why this release is stopped, if it is. The commit asks again.
    pub(super) fn stopped(
        &self,
        context: &WorkloadContext,
        facts: &LaunchFacts,
        secrets: &[Name],
    ) -> Result<Option<Why>, StoreError> {
        let workload = context.registered.workload.uuid;
        let subject = Subject::of_guest(&context.owner, workload, facts, secrets);
        Ok(self
            .store()
            .stopped(&subject)?
            .map(|stop| (Reason::Stopped, stop.reason())))
    }

    /// Refuses an answer that was given before, where a release like it would be stopped now.
    pub(super) fn not_stopped_since(
        &self,
        owner: &Name,
        decision: Uuid,
        host: &Host,
        now: Time,
    ) -> Result<(), Refusal> {
        let damaged = || Refusal::unavailable("the record of the earlier answer is damaged");
        let decision = self.store().decision(owner, decision)?.ok_or_else(damaged)?;
        let input = decision.input.as_ref().ok_or_else(damaged)?;
        let uuid = decision.workload.uuid;
        let subject = Subject::of_input(owner, uuid, &decision.secrets, input).ok_or_else(damaged)?;
        let Some(stop) = self.store().stopped(&subject)? else {
            return Ok(());
        };
        // Where the workload is gone there is nobody to tell, and nothing to be sent again either.
        let context = self.store().workload(uuid)?.ok_or(Refusal::NotFound)?;
        let refused = Refused {
            id: self.fresh_uuid()?,
            context: &context,
            host,
            phase: Phase::Release,
            class: Reason::Stopped,
            reason: format!("an answer given before was not sent again: {}", stop.reason()),
            input: None,
            policies: Vec::new(),
        };
        let decision = self.noted(refused, now)?;
        Err(Refusal::Denied { decision })
    }
}

fn person(by: &Identity) -> By {
    By {
        token: by.token,
        name: by.name.clone(),
    }
}
