//! One decision about one guest: evaluate, count and record, and only then release.

use uuid::Uuid;

use super::binding;
use super::entries::{self, FreshConnection, Order};
use super::facts::{Attested, Facts};
use super::floor;
use super::host::{Asked, Claimed, Host};
use super::launch::Releases;
use super::meter::{Reason, Why};
use super::report;
use super::table::Unpacked;
use super::{Refusal, Service};
use crate::domain::decision::{CountSeen, Decision, Outcome, SecretVersion, WorkloadRef};
use crate::domain::launch::{BoundVerdict, LaunchFacts};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{HexDigest, Name, Time};
use crate::policy::{Input, Phase};
use crate::sev::secret_table::Entry;
use crate::store::{Committed, CountUp, Link, ReleaseCommit, ReleaseCounts};

/// The longest reason that is recorded, in bytes.
const REASON: usize = 4096;

/// A guest that was measured, and what is asked for it.
pub(super) struct Case<'a> {
    /// Its launch.
    pub(super) launch: Uuid,
    /// What was established when that began.
    pub(super) facts: &'a LaunchFacts,
    pub(super) context: &'a WorkloadContext,
    pub(super) attested: &'a Attested<'a>,
    pub(super) claimed: &'a Claimed,
    pub(super) host: &'a Host,
    pub(super) asked: &'a Asked,
    pub(super) now: Time,
}

/// What is released, before it is wrapped.
pub(super) struct Filled {
    pub(super) pieces: Vec<entries::Piece>,
    pub(super) entries: Vec<Entry>,
    pub(super) versions: Vec<SecretVersion>,
    pub(super) connection: Option<FreshConnection>,
}

/// What is answered, and what is committed with it.
pub(super) struct Made<T> {
    pub(super) answer: T,
    /// Hash of the idempotency key, hash of the request, and the sealed answer.
    pub(super) kept: Option<(HexDigest, HexDigest, Vec<u8>)>,
    pub(super) link: Link,
}

/// How secrets reach the guest: in a packet for its launch, or over a connection.
pub(super) trait Way {
    /// What is answered.
    type Answer;

    /// The connection that is asked over.
    fn over(&self) -> Option<Uuid>;

    /// The time, if it can still be asked after others had their turn.
    fn waits(&self, service: &Service) -> Result<Option<Time>, Refusal>;

    /// Whether the same request was answered meanwhile.
    fn answered(&self, service: &Service, host: &Host) -> Result<bool, Refusal>;

    /// Wraps what is released.
    fn wrap(
        &self,
        service: &Service,
        case: &Case<'_>,
        filled: Filled,
        decision: Uuid,
    ) -> Result<Result<Made<Self::Answer>, Unpacked>, Refusal>;

    /// Why it can't be asked any more.
    fn gone(&self, service: &Service) -> Refusal;
}

impl Service {
    /// One decision, from what was attested to committing; none when what it was taken on changed meanwhile.
    pub(super) fn decide<W: Way>(&self, case: &Case<'_>, way: &W) -> Result<Option<W::Answer>, Refusal> {
        let Case { context, host, .. } = *case;
        let order = Order::of(context, case.asked);
        let trusted = self.trusts(case.facts.platform.root(), &context.owner)?;
        let stop = self.stopped(context, case.facts, &order.names)?;
        let admitted = stop.map_or_else(|| admitted(case, trusted, &order), Err);
        let looked = match &admitted {
            Ok((_, questions)) => self.reads_releases(context, questions, Phase::Release)?,
            Err(_) => false,
        };
        // Decisions that depend on how many releases there were can't be taken side by side: each one
        // that is committed would undo the others.
        let turn = looked.then(|| self.turns.take(context.registered.workload.uuid));
        let now = match &turn {
            None => case.now,
            Some(None) => {
                return Err(Refusal::unavailable(
                    "too many releases of this workload are being decided",
                ));
            }
            // While others had it, the launch may have ended.
            Some(Some(_)) => way.waits(self)?.ok_or_else(|| way.gone(self))?,
        };
        let facts = Facts {
            context,
            launch: case.facts,
            attested: Some(case.attested),
            claimed: case.claimed,
            host,
            secrets: &order.names,
            now,
        };
        let draft = Draft {
            service: self,
            case,
            way,
            names: &order.names,
            now,
        };

        let (secrets, questions) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                let input = facts.input(Phase::Release, None, ReleaseCounts::default());
                return Err(draft.deny(why, input, Vec::new(), Vec::new()));
            }
        };
        let releases = Releases::read(self, context, &secrets, now)?;
        let input = || facts.input(Phase::Release, None, releases.of(None));
        let answers = self.ask(context, questions, Phase::Release, &facts, &releases)?;
        let counts = binding::counts(context, &secrets, &answers.verdicts);
        if !answers.allowed {
            return Err(draft.deny_counted(answers.why(), input(), answers.verdicts, &counts));
        }

        let id = self.fresh_uuid()?;
        let Some(filled) = self.filled(case, &order, &secrets)? else {
            return Ok(None);
        };
        let made = match filled {
            Ok(filled) => way.wrap(self, case, filled, id)?,
            Err(why) => Err(why),
        };
        let made = match made {
            Ok(made) => made,
            Err(Unpacked::Never(why)) => {
                let why = (Reason::Packet, why);
                return Err(draft.deny_counted(why, input(), answers.verdicts, &counts));
            }
            Err(Unpacked::NotNow(why)) => {
                log::error!("a packet could not be made: {why}");
                return Err(Refusal::unavailable("a packet could not be made"));
            }
        };
        let reason = "every policy allows".to_owned();
        let decision = Decision {
            released: versions(&secrets),
            connection: match &made.link {
                Link::Opens(connection) => Some(connection.id),
                link => link.over(),
            },
            ..draft.decision(id, Outcome::Released, reason, input(), answers.verdicts)
        };
        let committed = self.store().commit_release(ReleaseCommit {
            decision,
            launch: case.launch,
            hold: self.fresh_uuid()?,
            generation: context.generation,
            counts,
            seen: if looked { releases.seen() } else { Vec::new() },
            answer: made.kept,
            link: made.link,
        })?;
        self.tell(&committed);
        match committed {
            Committed::Released => Ok(Some(made.answer)),
            Committed::Changed => Ok(None),
            Committed::Held { hold, decision } => Err(Refusal::ConfirmationRequired {
                decision,
                hold,
                retry_after: self.settings.hold_retry,
            }),
            Committed::Denied(decision) => Err(Refusal::Denied { decision }),
            Committed::Gone => Err(way.gone(self)),
        }
    }

    /// The entries with their bytes; none when a secret was replaced meanwhile.
    fn filled(
        &self,
        case: &Case<'_>,
        order: &Order<'_>,
        secrets: &[&SecretInfo],
    ) -> Result<Option<Result<Filled, Unpacked>>, Refusal> {
        let versions = versions(secrets);
        let Some(values) = self.values(&case.context.owner, &versions)? else {
            return Ok(None);
        };
        let pieces = match order.pieces(case.context, secrets) {
            Ok(pieces) => pieces,
            Err(why) => return Ok(Some(Err(Unpacked::Never(why)))),
        };
        let connection = order.connection().map(|_| self.fresh_connection()).transpose()?;
        let facts = report::Facts::new(
            case.launch,
            case.context.registered.workload.uuid,
            case.facts,
            case.attested,
            case.claimed.description.as_deref(),
        );
        let mut entries = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            let of = piece.secrets.iter().filter_map(|name| {
                let value = values.iter().find(|(n, _)| n == name)?;
                Some((name.clone(), value.1.as_slice()))
            });
            let of: Vec<_> = of.collect();
            match entries::fill(&piece.wanted.form, &of, &facts, connection.as_ref()) {
                Ok(data) => entries.push(Entry {
                    guid: piece.wanted.guid,
                    data,
                }),
                Err(why) => return Ok(Some(Err(why))),
            }
        }
        Ok(Some(Ok(Filled {
            pieces,
            entries,
            versions,
            connection,
        })))
    }

    /// Whether one of the policies asked looks at how many releases there were. The library's do not.
    pub(super) fn reads_releases(
        &self,
        context: &WorkloadContext,
        questions: &[binding::Question],
        phase: Phase,
    ) -> Result<bool, Refusal> {
        let Some(Ok(bundle)) = self.active_bundle(context)? else {
            return Ok(false);
        };
        Ok(questions
            .iter()
            .filter(|question| !question.policy.starts_with(binding::LIBRARY))
            .any(|question| {
                bundle.facts.resolve(&question.policy).is_ok_and(|facts| {
                    facts.reads_releases && (phase == Phase::Release || facts.is_asked_at_launch())
                })
            }))
    }
}

/// What is asked for and whom to ask, if the guest is above the floor; otherwise why it is not.
fn admitted<'a>(
    case: &Case<'a>,
    trusted: bool,
    order: &Order<'_>,
) -> Result<(Vec<&'a SecretInfo>, Vec<binding::Question>), Why> {
    let context = case.context;
    let platform = &case.facts.platform;
    let workload = &context.registered.workload;
    let mut failed = floor::at_release(workload, &case.attested.launch, platform.product());
    if !trusted {
        failed.push(format!(
            "the platform's root {} is not trusted any more",
            platform.root()
        ));
    }
    if !failed.is_empty() {
        return Err((Reason::Floor, failed.join("; ")));
    }
    let unbound = |why| (Reason::Binding, why);
    let secrets = order.secrets(context).map_err(unbound)?;
    let questions = binding::questions(context, &secrets).map_err(unbound)?;
    Ok((secrets, questions))
}

/// The versions that are released.
fn versions(secrets: &[&SecretInfo]) -> Vec<SecretVersion> {
    let versions = secrets.iter().map(|secret| SecretVersion {
        name: secret.name.clone(),
        version: secret.version,
    });
    versions.collect()
}

/// What every record of one attempt has in common.
struct Draft<'a, W> {
    service: &'a Service,
    case: &'a Case<'a>,
    way: &'a W,
    names: &'a [Name],
    now: Time,
}

impl<W: Way> Draft<'_, W> {
    fn decision(
        &self,
        id: Uuid,
        outcome: Outcome,
        mut reason: String,
        input: Input,
        policies: Vec<BoundVerdict>,
    ) -> Decision {
        let Case { context, host, .. } = *self.case;
        let workload = &context.registered.workload;
        if reason.len() > REASON {
            reason.truncate(reason.floor_char_boundary(REASON));
            reason.push('…');
        }
        Decision {
            id,
            time: self.now,
            owner: context.owner.clone(),
            workload: WorkloadRef {
                uuid: workload.uuid,
                name: workload.name.clone(),
            },
            launch: Some(self.case.launch),
            phase: Phase::Release,
            outcome,
            reason,
            count: 1,
            address: host.address.to_string(),
            host_identity: host.identity_for(&context.owner),
            secrets: self.names.to_vec(),
            released: Vec::new(),
            hold: None,
            danger_weak_policy: workload.danger_weak_policy,
            input: Some(input),
            policies,
            counts: Vec::new(),
            connection: self.way.over(),
        }
    }

    /// The same, with the counts that a release would have raised. They say what another policy would have done and
    /// decide nothing here, so that a denial does without them where they can't be read.
    fn deny_counted(
        &self,
        why: Why,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: &[CountUp],
    ) -> Refusal {
        let seen = self.service.store().counts(&self.case.context.owner, counts);
        let seen = seen.unwrap_or_else(|error| {
            log::warn!("counts could not be read for the record of a denial: {error}");
            Vec::new()
        });
        self.deny(why, input, policies, seen)
    }

    /// Records the denial; a host is told of it only once it is recorded.
    fn deny(&self, why: Why, input: Input, policies: Vec<BoundVerdict>, counts: Vec<CountSeen>) -> Refusal {
        match self.record(why, input, policies, counts) {
            Ok(refusal) | Err(refusal) => refusal,
        }
    }

    fn record(
        &self,
        (class, reason): Why,
        input: Input,
        policies: Vec<BoundVerdict>,
        counts: Vec<CountSeen>,
    ) -> Result<Refusal, Refusal> {
        if self.way.answered(self.service, self.case.host)? {
            // The same request was quicker by a moment, and its answer is this one's too.
            return Ok(Refusal::LaunchUsed);
        }
        let id = self.service.fresh_uuid()?;
        let decision = Decision {
            counts,
            ..self.decision(id, Outcome::Denied, reason, input, policies)
        };
        if self.service.store().record_denied(&decision)? {
            self.service.meter.decided(Phase::Release, Outcome::Denied, class);
            Ok(Refusal::Denied { decision: id })
        } else {
            Ok(self.way.gone(self.service))
        }
    }
}
