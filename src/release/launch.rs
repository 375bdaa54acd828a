//! `launch`: prove the platform, ask the policies, make a session, remember it.

use std::sync::Arc;

use uuid::Uuid;

use super::binding::{self, Answers};
use super::facts::Facts;
use super::floor;
use super::host::{Claimed, Host, LaunchAnswer, LaunchRequest};
use super::meter::{Reason, Step};
use super::platform::{Platform, Presented};
use super::refusals::Refused;
use super::seen::Releases;
use super::{Refusal, Service};
use crate::domain::freeze::{Stop, Subject};
use crate::domain::launch::{BoundVerdict, Launch, LaunchFacts, LaunchState};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{Name, Time};
use crate::policy::{Input, Phase};
use crate::sealing::Place;
use crate::sev::policy::SevPolicy;
use crate::sev::session::{self, SessionError};
use crate::store::{LaunchBegun, ReleaseCounts};

/// What is read when a launch begins, in one moment.
struct Seen {
    context: Arc<WorkloadContext>,
    presented: Result<Presented, Refusal>,
    /// What stops it, if anything does; nothing where the platform is not known yet.
    stop: Option<Option<Stop>>,
}

impl Service {
    /// A session for the platform behind this chain, if it may launch the workload.
    ///
    /// What this proves: certificates. They are public, so that the platform's PSP takes part at all
    /// is proved only by the measurement; nothing secret leaves here, and refusals are recorded in
    /// aggregate.
    ///
    /// # Errors
    /// See [`Refusal`]; in every case nothing was remembered and no session exists.
    pub fn launch(&self, uuid: Uuid, host: &Host, request: &LaunchRequest) -> Result<LaunchAnswer, Refusal> {
        let seen = self.together(|| self.seen(uuid, request))??;
        let context = &seen.context;
        let now = self.parts.clock.now();
        let platform = match seen.presented {
            Ok(Presented::Whole(platform)) => Ok(*platform),
            Ok(Presented::ButForCek(chain)) => self.completed(&context.owner, host, request.cpu_id, &chain),
            Err(refusal) => Err(refusal),
        };
        let platform = platform.inspect_err(|refusal| {
            if let Refusal::ChainInvalid(why) = refusal {
                let reason = format!("the certificate chain is invalid: {why}");
                self.note_refused(context, host, Phase::Launch, Reason::Chain, reason, now);
            }
        })?;
        let policy = self.agreed_policy(context, host, request, now)?;
        let facts = LaunchFacts {
            scheme: context.registered.workload.scheme,
            policy: policy.bits(),
            platform: platform.stored.clone(),
            chip_id: platform.chip_id,
            claimed_cpu_id: request.cpu_id,
        };
        let stop = match seen.stop {
            Some(stop) => stop,
            None => {
                let uuid = context.registered.workload.uuid;
                let subject = Subject::of_launch(&context.owner, uuid, &facts);
                self.store().stopped(&subject)?
            }
        };
        self.may_launch(context, host, &facts, stop, now)?;
        self.begin(context, host, facts, &platform, policy, now)
    }

    /// What is read of the workload and its platform.
    fn seen(&self, uuid: Uuid, request: &LaunchRequest) -> Result<Seen, Refusal> {
        let context = self.store().workload(uuid)?.ok_or(Refusal::NotFound)?;
        let presented = self.presented(&context.owner, request);
        let stop = match &presented {
            Ok(Presented::Whole(platform)) => {
                let uuid = context.registered.workload.uuid;
                let subject = Subject::of_platform(&context.owner, uuid, &platform.stored);
                Some(self.store().stopped(&subject)?)
            }
            _ => None,
        };
        Ok(Seen {
            context,
            presented,
            stop,
        })
    }

    /// The SEV policy that workload and request agree on, within the floor.
    fn agreed_policy(
        &self,
        context: &WorkloadContext,
        host: &Host,
        request: &LaunchRequest,
        now: Time,
    ) -> Result<SevPolicy, Refusal> {
        let workload = &context.registered.workload;
        let deny = |reason: String| {
            self.denied_launch(context, host, Reason::Agreement, reason, None, Vec::new(), now)
        };
        if let Some(scheme) = request.scheme.filter(|scheme| *scheme != workload.scheme) {
            return Err(deny(format!(
                "the host asked for {scheme}, the workload is {}",
                workload.scheme
            )));
        }
        let policy = match (workload.policy, request.policy) {
            (None, None) => {
                let why = "is needed, as the workload names none".to_owned();
                return Err(Refusal::Malformed {
                    member: "policy",
                    why,
                });
            }
            (Some(own), Some(asked)) if own != asked.bits() => {
                return Err(deny(format!(
                    "the host asked for SEV policy {:#06x}, the workload's is {own:#06x}",
                    asked.bits()
                )));
            }
            (Some(policy), _) => SevPolicy(policy),
            (None, Some(asked)) => asked,
        };
        let failed = floor::at_launch(workload, policy);
        if failed.is_empty() {
            return Ok(policy);
        }
        let reason = failed.join("; ");
        Err(self.denied_launch(context, host, Reason::Floor, reason, None, Vec::new(), now))
    }

    /// Asks every policy that a release of the workload's secrets would ask.
    fn may_launch(
        &self,
        context: &WorkloadContext,
        host: &Host,
        facts: &LaunchFacts,
        stop: Option<Stop>,
        now: Time,
    ) -> Result<(), Refusal> {
        let names = &context.registered.workload.secrets;
        let secrets: Vec<&SecretInfo> = context.secrets.iter().collect();
        let claimed = Claimed::default();
        let facts = Facts {
            context,
            launch: facts,
            attested: None,
            claimed: &claimed,
            host,
            secrets: names,
            now,
        };
        if let Some(stop) = stop {
            let input = facts.input(Phase::Launch, None, ReleaseCounts::default());
            let reason = stop.reason();
            return Err(self.denied_launch(
                context,
                host,
                Reason::Stopped,
                reason,
                Some(input),
                Vec::new(),
                now,
            ));
        }
        let input = |releases: &Releases| facts.input(Phase::Launch, None, releases.of(None));
        let questions = match binding::questions(context, &secrets) {
            Ok(questions) => questions,
            Err(why) => {
                let releases = Releases::read(self, context, &secrets, now)?;
                return Err(self.denied_launch(
                    context,
                    host,
                    Reason::Binding,
                    why,
                    Some(input(&releases)),
                    Vec::new(),
                    now,
                ));
            }
        };
        // Counting is dear where many were made; a launch that is allowed leaves no record that would show it.
        let looked = self.reads_releases(context, &questions, Phase::Launch)?;
        let mut releases = Releases::none(context);
        if looked {
            releases = Releases::read(self, context, &secrets, now)?;
        }
        let mut answers: Answers = self.ask(context, questions, Phase::Launch, &facts, &releases)?;
        if answers.allowed {
            return Ok(());
        }
        if !looked {
            releases = Releases::read(self, context, &secrets, now)?;
            for verdict in &mut answers.verdicts {
                let counts = |secret: &Name| releases.of(Some(secret)).into();
                verdict.releases = verdict.secret.as_ref().map(counts);
            }
        }
        let (class, reason) = answers.why();
        Err(self.denied_launch(
            context,
            host,
            class,
            reason,
            Some(input(&releases)),
            answers.verdicts,
            now,
        ))
    }

    /// Makes the session and remembers it; only then does it leave.
    fn begin(
        &self,
        context: &WorkloadContext,
        host: &Host,
        facts: LaunchFacts,
        platform: &Platform,
        policy: SevPolicy,
        now: Time,
    ) -> Result<LaunchAnswer, Refusal> {
        let random = self.parts.random.as_ref();
        let session = self.timed(Step::Session, || session::start(&platform.pdh, policy, random));
        let session = session.map_err(|error| match error {
            // Under an extra root a chain can hold with a key that no session can be made for.
            SessionError::Curve | SessionError::NotAPdh(_) => {
                let reason = format!("the certificate chain is invalid: PDH: {error}");
                self.note_refused(context, host, Phase::Launch, Reason::Chain, reason, now);
                Refusal::ChainInvalid(format!("PDH: {error}"))
            }
            error => {
                log::error!("a session could not be made: {error}");
                Refusal::unavailable("a session could not be made")
            }
        })?;
        let id = self.fresh_uuid()?;
        let place = Place::LaunchKeys {
            owner: &context.owner,
            launch: id,
        };
        let mut launch = Launch {
            id,
            owner: context.owner.clone(),
            workload: context.registered.workload.uuid,
            state: LaunchState::Pending,
            facts,
            bucket: host.bucket(),
            sealed_keys: self
                .parts
                .sealer
                .seal(place, session.keys.to_bytes().as_slice(), random)?,
            created: now,
            expires: now.after(self.settings.launch_lifetime),
            tries_left: self.settings.launch_tries,
        };
        let mut begun = self.store().begin_launch(&launch, self.settings.bounds)?;
        if begun == LaunchBegun::OldKey {
            let keys = session.keys.to_bytes();
            launch.sealed_keys = self.parts.sealer.seal(place, keys.as_slice(), random)?;
            begun = self.store().begin_launch(&launch, self.settings.bounds)?;
        }
        match begun {
            LaunchBegun::OldKey => Err(Refusal::unavailable("keys are being rotated")),
            LaunchBegun::Stored => {
                self.meter.begun();
                Ok(LaunchAnswer {
                    id,
                    session: session.blob,
                    owner_cert: session.owner_certificate,
                    policy,
                    expires_at: launch.expires,
                })
            }
            LaunchBegun::Stopped(stop) => {
                let reason = stop.reason();
                Err(self.denied_launch(context, host, Reason::Stopped, reason, None, Vec::new(), now))
            }
            LaunchBegun::Full { until } => {
                let reason = "too many launches were waiting to be validated".to_owned();
                self.note_refused(context, host, Phase::Launch, Reason::Full, reason, now);
                Err(Refusal::TooMany {
                    why: "too many launches are waiting to be validated",
                    retry_after: std::time::Duration::from_secs(until.seconds_since(now).clamp(1, 600)),
                })
            }
        }
    }

    pub(super) fn fresh_uuid(&self) -> Result<Uuid, Refusal> {
        let mut bytes = [0; 16];
        self.parts.random.fill(&mut bytes)?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one record, named at each call"
    )]
    fn denied_launch(
        &self,
        context: &WorkloadContext,
        host: &Host,
        class: Reason,
        reason: String,
        input: Option<Input>,
        policies: Vec<BoundVerdict>,
        now: Time,
    ) -> Refusal {
        let id = match self.fresh_uuid() {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let refused = Refused {
            id,
            context,
            host,
            phase: Phase::Launch,
            class,
            reason,
            input,
            policies,
        };
        match self.noted(refused, now) {
            Ok(decision) => Refusal::Denied { decision },
            Err(refusal) => refusal,
        }
    }

    /// Counts a refusal whose own answer stands whether it could be recorded or not.
    pub(super) fn note_refused(
        &self,
        context: &WorkloadContext,
        host: &Host,
        phase: Phase,
        class: Reason,
        reason: String,
        now: Time,
    ) {
        let noted = self.fresh_uuid().and_then(|id| {
            let refused = Refused {
                id,
                context,
                host,
                phase,
                class,
                reason,
                input: None,
                policies: Vec::new(),
            };
            self.noted(refused, now)
        });
        if let Err(error) = noted {
            log::warn!("a refusal could not be recorded: {error}");
        }
    }
}
