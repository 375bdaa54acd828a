//! One decision about one launch: measure, evaluate, count and record, and only then release.

use uuid::Uuid;

use super::binding;
use super::facts::{Attested, Facts};
use super::floor;
use super::host::{Host, ReleaseAnswer, ValidateRequest};
use super::launch::Releases;
use super::table::Unpacked;
use super::turns::Turn;
use super::validate::candidates;
use super::{Refusal, Service};
use crate::domain::decision::{CountSeen, Decision, Outcome, SecretVersion, WorkloadRef};
use crate::domain::launch::{BoundVerdict, Launch, LaunchState};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{Name, Time};
use crate::policy::{Input, Phase};
use crate::sev::packet;
use crate::store::{Committed, CountUp, ReleaseCommit, ReleaseCounts};

/// The longest reason that is recorded, in bytes.
const REASON: usize = 4096;

impl Service {
    /// One decision, from measuring to committing; none when what it was taken on changed meanwhile.
    pub(super) fn attempt(
        &self,
        launch: &Launch,
        asked: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<Option<ReleaseAnswer>, Refusal> {
        let context = self.store().workload(launch.workload)?.ok_or(Refusal::NotFound)?;
        if context.owner != launch.owner {
            // The UUID is another owner's by now, who never admitted this platform.
            return Err(Refusal::NotFound);
        }
        let now = self.parts.clock.now();
        let Some((attested, keys)) = self.measured(launch, request, candidates(&context, request))? else {
            self.store().charge_try(launch.id)?;
            let reason = "the measurement matches no launch digest of the workload".to_owned();
            self.note_refused(&context, host, Phase::Release, "measurement", reason, now);
            return Err(Refusal::MeasurementMismatch);
        };
        let names = request
            .secrets
            .as_ref()
            .unwrap_or(&context.registered.workload.secrets);
        let trusted = self.trusts(launch.facts.platform.root(), &context.owner)?;
        let stop = self.stopped(&context, launch, names)?;
        let admitted = stop.map_or_else(|| admitted(&context, launch, trusted, &attested, names), Err);
        let looked = match &admitted {
            Ok((_, questions)) => self.reads_releases(&context, questions)?,
            Err(_) => false,
        };
        // Decisions that depend on how many releases there were can't be taken side by side: each one
        // that is committed would undo the others.
        let turn = looked.then(|| self.turn(launch, asked)).transpose()?;
        let now = turn.as_ref().map_or(now, |(_, since)| *since);
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
            asked,
            request,
            context: &context,
            host,
            names,
            now,
        };

        let (secrets, questions) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                let input = facts.input(Phase::Release, None, ReleaseCounts::default());
                return Err(draft.deny(why, input, Vec::new(), Vec::new()));
            }
        };
        let releases = Releases::read(self, &context, &secrets, now)?;
        let input = || facts.input(Phase::Release, None, releases.of(None));
        let answers = self.ask(&context, questions, Phase::Release, &facts, &releases)?;
        let counts = binding::counts(&context, &secrets, &answers.verdicts);
        if !answers.allowed {
            return Err(draft.deny_counted(answers.reason(), input(), answers.verdicts, &counts));
        }

        let Some(table) = self.table(&context, &secrets, &attested)? else {
            return Ok(None);
        };
        let sealed = table.and_then(|table| {
            packet::seal(&keys, &attested.launch, &table, self.parts.random.as_ref()).map_err(Unpacked::from)
        });
        let packet = match sealed {
            Ok(packet) => packet,
            Err(Unpacked::Never(why)) => {
                return Err(draft.deny_counted(why, input(), answers.verdicts, &counts));
            }
            Err(Unpacked::NotNow(why)) => {
                log::error!("a packet could not be made: {why}");
                return Err(Refusal::unavailable("a packet could not be made"));
            }
        };
        let released = secrets.iter().map(|secret| SecretVersion {
            name: secret.name.clone(),
            version: secret.version,
        });
        let reason = "every policy allows".to_owned();
        let decision = Decision {
            released: released.collect(),
            ..draft.decision(
                self.fresh_uuid()?,
                Outcome::Released,
                reason,
                input(),
                answers.verdicts,
            )
        };
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
            hold: self.fresh_uuid()?,
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
            Committed::Denied(decision) => Err(Refusal::Denied { decision }),
            Committed::Gone => Err(self.gone(launch.id, asked)),
        }
    }

    /// The launch's turn to be decided, and since when it is; while others had it, the launch may have ended.
    fn turn(&self, launch: &Launch, asked: Uuid) -> Result<(Turn<'_, Uuid>, Time), Refusal> {
        let Some(turn) = self.turns.take(launch.workload) else {
            return Err(Refusal::unavailable(
                "too many releases of this workload are being decided",
            ));
        };
        let state = self.store().launch(launch.id)?.map(|launch| launch.state);
        let now = self.parts.clock.now();
        if state != Some(LaunchState::Pending) || now >= launch.expires {
            return Err(self.gone(launch.id, asked));
        }
        Ok((turn, now))
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
                    .facts
                    .resolve(&question.policy)
                    .is_ok_and(|facts| facts.reads_releases)
            }))
    }
}

/// What is asked for and whom to ask, if the guest is above the floor; otherwise why it is not.
fn admitted<'a>(
    context: &'a WorkloadContext,
    launch: &Launch,
    trusted: bool,
    attested: &Attested<'_>,
    names: &[Name],
) -> Result<(Vec<&'a SecretInfo>, Vec<binding::Question>), String> {
    let platform = &launch.facts.platform;
    let mut failed = floor::at_release(&context.registered.workload, &attested.launch, platform.product());
    if !trusted {
        failed.push(format!(
            "the platform's root {} is not trusted any more",
            platform.root()
        ));
    }
    if !failed.is_empty() {
        return Err(failed.join("; "));
    }
    let secrets = asked_for(context, names)?;
    let questions = binding::questions(context, &secrets)?;
    Ok((secrets, questions))
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
    asked: Uuid,
    request: &'a ValidateRequest,
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
            host_identity: self.host.identity_for(&self.context.owner),
            secrets: self.names.to_vec(),
            released: Vec::new(),
            hold: None,
            danger_weak_policy: workload.danger_weak_policy,
            input: Some(input),
            policies,
            counts: Vec::new(),
        }
    }

    /// The same, with the counts that a release would have raised. They say what another policy would have done and
    /// decide nothing here, so that a denial does without them where they can't be read.
    fn deny_counted(
        &self,
        reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: &[CountUp],
    ) -> Refusal {
        let seen = self.service.store().counts(&self.context.owner, counts);
        let seen = seen.unwrap_or_else(|error| {
            log::warn!("counts could not be read for the record of a denial: {error}");
            Vec::new()
        });
        self.deny(reason, input, policies, seen)
    }

    /// Records the denial; a host is told of it only once it is recorded.
    fn deny(
        &self,
        reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: Vec<CountSeen>,
    ) -> Refusal {
        match self.record(reason, input, policies, counts) {
            Ok(refusal) | Err(refusal) => refusal,
        }
    }

    fn record(
        &self,
        reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: Vec<CountSeen>,
    ) -> Result<Refusal, Refusal> {
        let given = self.service.given_before(self.asked, self.host, self.request)?;
        if given.is_some() {
            // The same request was quicker by a moment, and its answer is this one's too.
            return Ok(Refusal::LaunchUsed);
        }
        let id = self.service.fresh_uuid()?;
        let decision = Decision {
            counts,
            ..self.decision(id, Outcome::Denied, reason, input, policies)
        };
        if self.service.store().record_denied(&decision)? {
            Ok(Refusal::Denied { decision: id })
        } else {
            Ok(self.service.gone(self.launch.id, self.asked))
        }
    }
}
