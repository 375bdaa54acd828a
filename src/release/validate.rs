//! `validate`: finds the launch, whatever it was named by, and has it decided.

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::facts::{Attested, Source};
use super::host::{Host, ReleaseAnswer, ValidateRequest};
use super::meter::{Reason, Step};
use super::{Refusal, Service};
use crate::domain::launch::{Launch, LaunchState};
use crate::domain::state::WorkloadContext;
use crate::domain::workload::Candidate;
use crate::domain::{HexDigest, Name};
use crate::policy::Phase;
use crate::sealing::{Place, SealError};
use crate::sev::{LaunchKeys, measurement};
use crate::store::StoreError;

/// Launches that one search tries.
const SEARCHED_LAUNCHES: u32 = 256;
/// MACs that one search computes.
const SEARCHED_MACS: usize = 4096;
/// Launches whose keys one search opens at once.
const OPENED: usize = 16;
/// How often a decision is taken again because what it was taken on has changed.
const ATTEMPTS: usize = 16;
/// An earlier answer, opened, and whose workload it was for.
type Earlier = (Name, Zeroizing<Vec<u8>>);

/// The launch that was named, or none where it is to be searched for, and the workload.
struct Found {
    launch: Option<Launch>,
    context: Option<Arc<WorkloadContext>>,
}

/// How long an expired launch still reads as expired.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

impl Service {
    /// The secrets of a launch, wrapped for the one guest that was measured, if every policy allows.
    ///
    /// # Errors
    /// See [`Refusal`]; whatever it is, no secret leaves, and none is counted as released.
    pub fn validate(
        &self,
        uuid: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<ReleaseAnswer, Refusal> {
        // By itself: keys are opened for it, and what was frozen meanwhile is to be seen.
        if let Some(answer) = self.given_before(uuid, host, request)? {
            return Ok(answer);
        }
        let found = self.together(|| self.found(uuid))??;
        self.found_and_decided(found, uuid, host, request)
            .or_else(|refusal| {
                if matches!(refusal, Refusal::Unavailable { .. }) {
                    // Whether it was committed is not known: the host comes back with the same key.
                    return Err(refusal);
                }
                // The same request may have been answered between the first look and the refusal: a host
                // that was too impatient must not lose its guest for it.
                self.given_before(uuid, host, request)?.ok_or(refusal)
            })
    }

    /// The launch that was named, and the workload.
    fn found(&self, uuid: Uuid) -> Result<Found, StoreError> {
        let launch = self.store().launch(uuid)?;
        let workload = launch.as_ref().map_or(uuid, |launch| launch.workload);
        Ok(Found {
            context: self.store().workload(workload)?,
            launch,
        })
    }

    fn found_and_decided(
        &self,
        found: Found,
        uuid: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<ReleaseAnswer, Refusal> {
        let Found { launch, mut context } = found;
        let launch = match (launch, &context) {
            (Some(launch), _) => self.named(launch, host, request)?,
            (None, Some(context)) => self.search(context, host, request)?,
            (None, None) => return Err(Refusal::NotFound),
        };
        for _ in 0..ATTEMPTS {
            // The first goes by what was read with the launch; where that is so no longer, nothing is committed.
            let context = match context.take() {
                Some(context) => Some(context),
                None => self.store().workload(launch.workload)?,
            };
            let context = context.ok_or(Refusal::NotFound)?;
            if let Some(answer) = self.attempt(&launch, &context, uuid, host, request)? {
                return Ok(answer);
            }
        }
        Err(Refusal::unavailable("the owner's objects change too quickly"))
    }

    /// The same answer to the same request: a lost answer must not cost a paused guest. What was frozen since is not
    /// sent again, as nobody knows whether the first answer arrived.
    pub(super) fn given_before(
        &self,
        uuid: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<Option<ReleaseAnswer>, Refusal> {
        let Some((key, hash)) = request.idempotency else {
            return Ok(None);
        };
        let now = self.parts.clock.now();
        let opened = self.opened(|| self.store().answered(uuid, key, hash, now))?;
        let Some((owner, opened)) = opened else {
            return Ok(None);
        };
        let answer = ReleaseAnswer::from_bytes(&opened)
            .ok_or_else(|| Refusal::unavailable("the earlier answer is damaged"))?;
        self.not_stopped_since(&owner, answer.decision, host, now)?;
        Ok(Some(answer))
    }

    /// The answer that `read` finds, opened, and whose it is. It is read again where its key was retired between the two.
    fn opened(
        &self,
        read: impl Fn() -> Result<Option<(Uuid, Name, Vec<u8>)>, StoreError>,
    ) -> Result<Option<Earlier>, Refusal> {
        let open = |(launch, owner, sealed): (Uuid, Name, Vec<u8>)| {
            let place = Place::Answer {
                owner: &owner,
                launch,
            };
            let opened = self.parts.sealer.open(place, &sealed)?;
            Ok::<_, SealError>((owner, opened))
        };
        let mut opened = read()?.map(open);
        if let Some(Err(SealError::Retired(_))) = opened {
            opened = read()?.map(open);
        }
        Ok(opened.transpose()?)
    }

    /// A launch named by its own id: whether it can be validated still.
    fn named(&self, launch: Launch, host: &Host, request: &ValidateRequest) -> Result<Launch, Refusal> {
        let now = self.parts.clock.now();
        if now >= launch.expires.after(REMEMBERED) {
            return Err(Refusal::NotFound);
        }
        match launch.state {
            LaunchState::Used | LaunchState::Exhausted => Err(Refusal::LaunchUsed),
            LaunchState::Evicted => Err(Refusal::LaunchExpired),
            LaunchState::Pending if now >= launch.expires => Err(Refusal::LaunchExpired),
            LaunchState::Pending if launch.facts.sev_policy() != request.policy => {
                self.store().charge_try(launch.id)?;
                if let Some(context) = self.store().workload(launch.workload)? {
                    let reason = "the host gave another SEV policy than the launch's".to_owned();
                    self.note_refused(&context, host, Phase::Release, Reason::Agreement, reason, now);
                }
                Err(Refusal::MeasurementMismatch)
            }
            LaunchState::Pending => Ok(launch),
        }
    }

    /// A launch named by its workload: the one whose TIK verifies the measurement.
    fn search(
        &self,
        context: &WorkloadContext,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<Launch, Refusal> {
        let now = self.parts.clock.now();
        let bucket = host.bucket();
        let too_many = |retry_after| Refusal::TooMany {
            why: "too many launches to search",
            retry_after,
        };
        // Given back on every way out but that of a failure.
        let search = self.budgets.begin(&bucket, now).map_err(too_many)?;
        let uuid = context.registered.workload.uuid;
        let policy = request.policy.bits();
        let launches = self
            .store()
            .pending_launches(uuid, policy, &bucket, now, SEARCHED_LAUNCHES + 1)?;
        let candidates = candidates(context, request);
        let most = SEARCHED_MACS / candidates.len().max(1);
        let searched = launches.len().min(SEARCHED_LAUNCHES as usize).min(most);
        let cut = searched < launches.len();
        let (launches, _) = launches.split_at(searched);
        for some in launches.chunks(OPENED) {
            for (launch, keys) in some.iter().zip(self.launch_keys(some)) {
                match keys {
                    Ok(keys) => {
                        let policy = launch.facts.sev_policy();
                        let (mac, build) = (&request.measurement, request.build);
                        if self.timed(Step::Measurement, || {
                            measurement::verify(&keys, mac, build, policy, candidates.clone()).is_some()
                        }) {
                            return Ok(launch.clone());
                        }
                    }
                    // One that is damaged is not the one that is looked for, and must not hide it.
                    Err(error) if error.is_of_the_value() => {
                        log::error!("launch {} can't be tried: {error}", launch.id);
                    }
                    // Nothing was found out about it, so that nothing may be said.
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if self.given_before(uuid, host, request)?.is_some() {
            return Err(Refusal::MeasurementMismatch);
        }
        search.failed();
        let reason =
            "the measurement matches no waiting launch with any launch digest of the workload".to_owned();
        self.note_refused(context, host, Phase::Release, Reason::Search, reason, now);
        if cut {
            Err(too_many(std::time::Duration::from_secs(5)))
        } else {
            Err(Refusal::MeasurementMismatch)
        }
    }

    /// The keys of launches, in their order.
    fn launch_keys(&self, launches: &[Launch]) -> Vec<Result<LaunchKeys, SealError>> {
        let sealed: Vec<_> = launches
            .iter()
            .map(|launch| {
                let place = Place::LaunchKeys {
                    owner: &launch.owner,
                    launch: launch.id,
                };
                (place, launch.sealed_keys.as_slice())
            })
            .collect();
        let opened = self.parts.sealer.open_all(&sealed).into_iter();
        let keys = opened.map(|opened| {
            let bytes = <[u8; 32]>::try_from(opened?.as_slice()).map_err(|_| SealError::Damaged)?;
            Ok(LaunchKeys::from_bytes(&Zeroizing::new(bytes)))
        });
        keys.collect()
    }

    /// What is proved of the guest of a launch, if the MAC holds with one of these digests.
    pub(super) fn measured<'a>(
        &self,
        launch: &Launch,
        request: &ValidateRequest,
        candidates: Vec<(crate::sev::Digest, Source<'a>)>,
    ) -> Result<Option<(Attested<'a>, LaunchKeys)>, Refusal> {
        let opened = |launch: &Launch| self.launch_keys(std::slice::from_ref(launch)).pop();
        let keys = match opened(launch) {
            // It was re-wrapped since it was read.
            Some(Err(SealError::Retired(_))) => match self.store().launch(launch.id)? {
                Some(launch) => opened(&launch),
                None => None,
            },
            keys => keys,
        };
        let keys = keys.unwrap_or(Err(SealError::Damaged))?;
        let policy = launch.facts.sev_policy();
        let proved = self.timed(Step::Measurement, || {
            measurement::verify(&keys, &request.measurement, request.build, policy, candidates)
        });
        Ok(proved.map(|(launch, source)| (Attested { launch, source }, keys)))
    }

    /// Another request was quicker, or time was. Only who named the launch itself learns which.
    pub(super) fn gone(&self, id: Uuid, asked: Uuid) -> Refusal {
        if asked != id {
            return Refusal::MeasurementMismatch;
        }
        match self
            .store()
            .launch(id)
            .map(|launch| launch.map(|launch| launch.state))
        {
            Ok(Some(LaunchState::Used | LaunchState::Exhausted)) => Refusal::LaunchUsed,
            Ok(Some(LaunchState::Pending | LaunchState::Evicted) | None) => Refusal::LaunchExpired,
            Err(error) => error.into(),
        }
    }

    pub(super) fn keep(
        &self,
        launch: &Launch,
        key: HexDigest,
        hash: HexDigest,
        answer: &ReleaseAnswer,
    ) -> Result<(HexDigest, HexDigest, Vec<u8>), Refusal> {
        let place = Place::Answer {
            owner: &launch.owner,
            launch: launch.id,
        };
        Ok((
            key,
            hash,
            self.parts
                .sealer
                .seal(place, &answer.to_bytes(), self.parts.random.as_ref())?,
        ))
    }
}

/// The launch digests that a workload names, those with more to say first.
pub(super) fn ordered(context: &WorkloadContext) -> impl Iterator<Item = &Candidate> {
    let all = &context.registered.candidates;
    let (images, bare): (Vec<_>, Vec<_>) = all.iter().partition(|c| c.image.is_some());
    images.into_iter().chain(bare)
}

/// Launch digests to try: the workload's in their order, then the host's hint.
pub(super) fn candidates<'a>(
    context: &'a WorkloadContext,
    request: &ValidateRequest,
) -> Vec<(crate::sev::Digest, Source<'a>)> {
    let registered = &context.registered.candidates;
    let mut all: Vec<_> = ordered(context)
        .map(|c| (c.digest.0, Source::Candidate(c)))
        .collect();
    if let Some(hint) = request
        .launch_digest
        .filter(|hint| !registered.iter().any(|c| c.digest == *hint))
    {
        all.push((hint.0, Source::Hint));
    }
    all
}
