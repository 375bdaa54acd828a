//! `validate`: measure, evaluate, count and record, and only then release.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::binding;
use super::facts::{Attested, Facts, Source};
use super::floor;
use super::host::{Host, ReleaseAnswer, ValidateRequest};
use super::launch::Releases;
use super::{Refusal, Service};
use crate::domain::decision::{Decision, Outcome, SecretVersion, WorkloadRef};
use crate::domain::launch::{BoundVerdict, Launch, LaunchState};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{HexDigest, Name, Time};
use crate::policy::{Input, Phase};
use crate::sealing::Place;
use crate::sev::measurement;
use crate::sev::{LaunchKeys, packet, secret_table};
use crate::store::{Committed, ReleaseCommit};

/// Launches that one search tries.
const SEARCHED_LAUNCHES: u32 = 256;
/// MACs that one search computes.
const SEARCHED_MACS: usize = 4096;
/// How often a decision is taken again because what it was taken on has changed.
const ATTEMPTS: usize = 16;
/// How long an expired launch still reads as expired.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// The longest reason that is recorded, in bytes.
const REASON: usize = 4096;

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
        if let Some(answer) = self.given_before(uuid, request)? {
            return Ok(answer);
        }
        let launch = match self.store().launch(uuid)? {
            Some(launch) => self.named(launch, request)?,
            None => match self.store().workload(uuid)? {
                Some(context) => self.search(&context, host, request)?,
                None => return Err(Refusal::NotFound),
            },
        };
        for _ in 0..ATTEMPTS {
            if let Some(answer) = self.attempt(&launch, uuid, host, request)? {
                return Ok(answer);
            }
        }
        Err(Refusal::unavailable("the owner's objects change too quickly"))
    }

    /// The same answer to the same request: a lost answer must not cost a paused guest.
    fn given_before(&self, uuid: Uuid, request: &ValidateRequest) -> Result<Option<ReleaseAnswer>, Refusal> {
        let Some((key, hash)) = request.idempotency else {
            return Ok(None);
        };
        let now = self.parts.clock.now();
        let Some((launch, owner, sealed)) = self.store().answered(uuid, key, hash, now)? else {
            return Ok(None);
        };
        let opened = self.parts.sealer.open(
            Place::Answer {
                owner: &owner,
                launch,
            },
            &sealed,
        )?;
        let answer = ReleaseAnswer::from_bytes(&opened);
        answer
            .map(Some)
            .ok_or_else(|| Refusal::unavailable("the earlier answer is damaged"))
    }

    /// A launch named by its own id: whether it can be validated still.
    fn named(&self, launch: Launch, request: &ValidateRequest) -> Result<Launch, Refusal> {
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
        self.budgets.check(&bucket, now).map_err(too_many)?;
        let uuid = context.registered.workload.uuid;
        let policy = request.policy.bits();
        let launches = self
            .store()
            .pending_launches(uuid, policy, &bucket, now, SEARCHED_LAUNCHES + 1)?;
        let candidates = candidates(context, request);
        let mut tried = 0;
        let mut cut = false;
        for (number, launch) in launches.into_iter().enumerate() {
            if number >= SEARCHED_LAUNCHES as usize || tried + candidates.len() > SEARCHED_MACS {
                cut = true;
                break;
            }
            tried += candidates.len();
            if self.measured(&launch, request, candidates.clone())?.is_some() {
                return Ok(launch);
            }
        }
        self.budgets.charge(&bucket, now);
        self.note_refused(
            context,
            host,
            Phase::Release,
            "measurement",
            "the measurement matches no waiting launch with any launch digest of the workload".to_owned(),
            now,
        );
        if cut {
            Err(too_many(std::time::Duration::from_secs(5)))
        } else {
            Err(Refusal::MeasurementMismatch)
        }
    }

    /// What is proved of the guest of a launch, if the MAC holds with one of these digests.
    fn measured<'a>(
        &self,
        launch: &Launch,
        request: &ValidateRequest,
        candidates: Vec<(crate::sev::Digest, Source<'a>)>,
    ) -> Result<Option<(Attested<'a>, LaunchKeys)>, Refusal> {
        let place = Place::LaunchKeys {
            owner: &launch.owner,
            launch: launch.id,
        };
        let opened = self.parts.sealer.open(place, &launch.sealed_keys)?;
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(opened.as_slice()).map_err(|_| {
            log::error!("keys of a launch are damaged");
            Refusal::unavailable("stored values are damaged")
        })?);
        let keys = LaunchKeys::from_bytes(&bytes);
        let policy = launch.facts.sev_policy();
        let proved = measurement::verify(&keys, &request.measurement, request.build, policy, candidates);
        Ok(proved.map(|(launch, source)| (Attested { launch, source }, keys)))
    }

    /// One decision, from measuring to committing; none when what it was taken on changed meanwhile.
    fn attempt(
        &self,
        launch: &Launch,
        asked: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<Option<ReleaseAnswer>, Refusal> {
        let context = self.store().workload(launch.workload)?.ok_or(Refusal::NotFound)?;
        let now = self.parts.clock.now();
        let candidates = candidates(&context, request);
        let Some((attested, keys)) = self.measured(launch, request, candidates)? else {
            self.store().charge_try(launch.id)?;
            let reason = "the measurement matches no launch digest of the workload".to_owned();
            self.note_refused(&context, host, Phase::Release, "measurement", reason, now);
            return Err(Refusal::MeasurementMismatch);
        };

        let names = request
            .secrets
            .as_ref()
            .unwrap_or(&context.registered.workload.secrets);
        let facts = Facts {
            context: &context,
            launch: &launch.facts,
            attested: Some(&attested),
            claimed: &request.claimed,
            host,
            secrets: names,
            now,
        };
        let draft = Draft {
            service: self,
            launch,
            context: &context,
            host,
            names,
            now,
        };

        let failed = floor::at_release(
            &context.registered.workload,
            &attested.launch,
            launch.facts.platform.product(),
        );
        if !failed.is_empty() {
            let input = facts.input(Phase::Release, None, crate::store::ReleaseCounts::default());
            return Err(draft.deny(failed.join("; "), input, Vec::new()));
        }
        let secrets = match asked_for(&context, names) {
            Ok(secrets) => secrets,
            Err(why) => {
                let input = facts.input(Phase::Release, None, crate::store::ReleaseCounts::default());
                return Err(draft.deny(why, input, Vec::new()));
            }
        };

        let releases = Releases::read(self, &context, &secrets, now)?;
        let input = |secret: Option<&Name>| facts.input(Phase::Release, secret, releases.of(secret));
        let questions = match binding::questions(&context, &secrets) {
            Ok(questions) => questions,
            Err(why) => return Err(draft.deny(why, input(None), Vec::new())),
        };
        let looked = self.reads_releases(&context, &questions)?;
        let answers = self.ask(&context, questions, Phase::Release, &input)?;
        if !answers.allowed {
            return Err(draft.deny(answers.reason(), input(None), answers.verdicts));
        }

        let Some(table) = self.table(&context, &secrets, &attested)? else {
            return Ok(None);
        };
        let table = match table {
            Ok(table) => table,
            Err(why) => return Err(draft.deny(why, input(None), answers.verdicts)),
        };
        let packet = match packet::seal(&keys, &attested.launch, &table, self.parts.random.as_ref()) {
            Ok(packet) => packet,
            Err(error) => return Err(draft.deny(error.to_string(), input(None), answers.verdicts)),
        };

        let counts = binding::counts(&context, &secrets, &answers.verdicts);
        let mut decision = draft.decision(
            self.fresh_uuid()?,
            Outcome::Released,
            "every policy allows".to_owned(),
            input(None),
            answers.verdicts,
        );
        decision.released = secrets
            .iter()
            .map(|secret| SecretVersion {
                name: secret.name.clone(),
                version: secret.version,
            })
            .collect();
        let answer = ReleaseAnswer {
            header: packet.header.to_vec(),
            payload: packet.payload,
            decision: decision.id,
        };
        let kept = request
            .idempotency
            .map(|(key, hash)| self.keep(launch, key, hash, &answer))
            .transpose()?;
        let committed = self.store().commit_release(ReleaseCommit {
            decision,
            launch: launch.id,
            generation: context.generation,
            counts,
            seen: if looked { releases.seen() } else { Vec::new() },
            answer: kept,
        })?;
        match committed {
            Committed::Released => Ok(Some(answer)),
            Committed::Changed => Ok(None),
            Committed::Held { hold, decision } => Err(Refusal::ConfirmationRequired {
                decision,
                hold,
                retry_after: self.settings.hold_retry,
            }),
            Committed::Gone => self.gone(launch.id, asked, request).map(Some),
        }
    }

    /// Another request was quicker, or time was: the answer that one was given, if it was this same one.
    fn gone(&self, id: Uuid, asked: Uuid, request: &ValidateRequest) -> Result<ReleaseAnswer, Refusal> {
        if let Some(answer) = self.given_before(asked, request)? {
            return Ok(answer);
        }
        match self.store().launch(id)?.map(|launch| launch.state) {
            Some(LaunchState::Used | LaunchState::Exhausted) => Err(Refusal::LaunchUsed),
            Some(LaunchState::Pending | LaunchState::Evicted) | None => Err(Refusal::LaunchExpired),
        }
    }

    fn keep(
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

    /// Whether one of the policies asked looks at how many releases there were.
    fn reads_releases(
        &self,
        context: &WorkloadContext,
        questions: &[binding::Question],
    ) -> Result<bool, Refusal> {
        let Some(Ok(bundle)) = self.active_bundle(context)? else {
            return Ok(false);
        };
        Ok(questions
            .iter()
            .filter(|question| !question.policy.starts_with(binding::LIBRARY))
            .any(|question| {
                bundle
                    .resolve(&question.policy)
                    .is_ok_and(|facts| facts.reads_releases)
            }))
    }

    /// The secret table; none when a secret was replaced meanwhile, and why where it can't be built.
    #[expect(
        clippy::type_complexity,
        reason = "outer: try again; inner: a deny with its reason"
    )]
    fn table(
        &self,
        context: &WorkloadContext,
        secrets: &[&SecretInfo],
        attested: &Attested<'_>,
    ) -> Result<Option<Result<Zeroizing<Vec<u8>>, String>>, Refusal> {
        let versions: Vec<_> = secrets
            .iter()
            .map(|secret| (secret.name.clone(), secret.version))
            .collect();
        let sealed = self.store().sealed_secrets(&context.owner, &versions)?;
        let mut entries = Vec::with_capacity(secrets.len());
        for (secret, sealed) in secrets.iter().zip(sealed) {
            let Some(sealed) = sealed else { return Ok(None) };
            let place = Place::Secret {
                owner: &context.owner,
                name: &secret.name,
                version: secret.version,
            };
            let data = self.parts.sealer.open(place, &sealed)?;
            entries.push(secret_table::Entry {
                guid: secret.guid,
                data,
            });
        }
        let area = match &attested.source {
            Source::Candidate(candidate) => candidate.secret_area,
            Source::Hint => None,
        };
        let area = area.map_or(secret_table::DEFAULT_AREA, |area| {
            usize::try_from(area).unwrap_or(usize::MAX)
        });
        Ok(Some(
            secret_table::build_for_area(&entries, area.min(secret_table::MAX)).map_err(|e| e.to_string()),
        ))
    }
}

/// Launch digests to try: the workload's, those with more to say first, then the host's hint.
fn candidates<'a>(
    context: &'a WorkloadContext,
    request: &ValidateRequest,
) -> Vec<(crate::sev::Digest, Source<'a>)> {
    let registered = &context.registered.candidates;
    let (images, bare): (Vec<_>, Vec<_>) = registered.iter().partition(|c| c.image.is_some());
    let mut all: Vec<_> = images
        .into_iter()
        .chain(bare)
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

/// The secrets by these names. What the workload does not have reads the same as what nobody has.
fn asked_for<'a>(context: &'a WorkloadContext, names: &[Name]) -> Result<Vec<&'a SecretInfo>, String> {
    if names.is_empty() {
        return Err("no secret was asked for".to_owned());
    }
    let mut secrets: Vec<&SecretInfo> = Vec::with_capacity(names.len());
    for name in names {
        if secrets.iter().any(|secret| secret.name == *name) {
            return Err(format!("the secret {name} was asked for twice"));
        }
        let listed = context.registered.workload.secrets.contains(name);
        let secret = context.secrets.iter().find(|secret| secret.name == *name);
        match secret.filter(|_| listed) {
            Some(secret) => secrets.push(secret),
            None => return Err(format!("the workload has no secret {name}")),
        }
    }
    Ok(secrets)
}

/// What every record of one attempt has in common.
struct Draft<'a> {
    service: &'a Service,
    launch: &'a Launch,
    context: &'a WorkloadContext,
    host: &'a Host,
    names: &'a [Name],
    now: Time,
}

impl Draft<'_> {
    fn decision(
        &self,
        id: Uuid,
        outcome: Outcome,
        mut reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
    ) -> Decision {
        let workload = &self.context.registered.workload;
        if reason.len() > REASON {
            reason.truncate(reason.floor_char_boundary(REASON));
            reason.push('…');
        }
        Decision {
            id,
            time: self.now,
            owner: self.context.owner.clone(),
            workload: WorkloadRef {
                uuid: workload.uuid,
                name: workload.name.clone(),
            },
            launch: Some(self.launch.id),
            phase: Phase::Release,
            outcome,
            reason,
            count: 1,
            address: self.host.address.to_string(),
            secrets: self.names.to_vec(),
            released: Vec::new(),
            hold: None,
            danger_weak_policy: workload.danger_weak_policy,
            input: Some(input),
            policies,
        }
    }

    /// Records the denial; a host is told of it only once it is recorded.
    fn deny(&self, reason: String, input: Input, policies: Vec<BoundVerdict>) -> Refusal {
        let id = match self.service.fresh_uuid() {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let decision = self.decision(id, Outcome::Denied, reason, input, policies);
        match self.service.store().record_denied(&decision) {
            Ok(()) => Refusal::Denied { decision: id },
            Err(error) => error.into(),
        }
    }
}
