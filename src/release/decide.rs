//! One decision about one guest: evaluate, count and record, and only then release.

use uuid::Uuid;

use super::binding;
use super::draft::Draft;
use super::entries::{self, FreshConnection, Order};
use super::facts::{Attested, Facts};
use super::floor;
use super::host::{Asked, Claimed, Host};
use super::meter::{Reason, Why};
use super::report;
use super::seen::Releases;
use super::table::Unpacked;
use super::{Refusal, Service};
use crate::domain::decision::{Decision, Outcome, SecretVersion};
use crate::domain::launch::LaunchFacts;
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{HexDigest, Time};
use crate::policy::Phase;
use crate::sev::secret_table::Entry;
use crate::store::{Committed, Link, ReleaseCommit, ReleaseCounts};

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
        // Loaded before the moment, as that may take its time. Who is stopped needs none, and who is not is told below.
        drop(self.active_bundle(context));
        let Seen {
            admitted,
            looked,
            releases,
        } = self.together(|| self.seen_of(case, &order))??;
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
        let releases = match releases {
            Some(releases) => releases,
            None => Releases::read(self, context, &secrets, now)?,
        };
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

    /// What is read of a guest that was measured.
    fn seen_of<'a>(&self, case: &Case<'a>, order: &Order<'_>) -> Result<Seen<'a>, Refusal> {
        let context = case.context;
        let trusted = self.trusts(case.facts.platform.root(), &context.owner)?;
        let stop = self.stopped(context, case.facts, &order.names)?;
        let admitted = stop.map_or_else(|| admitted(case, trusted, order), Err);
        let (mut looked, mut releases) = (false, None);
        if let Ok((secrets, questions)) = &admitted {
            looked = self.reads_releases(context, questions, Phase::Release)?;
            // Where policies look at them they are read once nobody else decides.
            if !looked {
                releases = Some(Releases::read(self, context, secrets, case.now)?);
            }
        }
        Ok(Seen {
            admitted,
            looked,
            releases,
        })
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

/// Whose secrets and which questions, or why there are none.
type Admitted<'a> = Result<(Vec<&'a SecretInfo>, Vec<binding::Question>), Why>;

/// What is read before a guest is decided about, in one moment.
struct Seen<'a> {
    admitted: Admitted<'a>,
    /// Whether a policy looks at how many releases there were.
    looked: bool,
    /// How many there were, where none does.
    releases: Option<Releases>,
}

/// What is asked for and whom to ask, if the guest is above the floor; otherwise why it is not.
fn admitted<'a>(case: &Case<'a>, trusted: bool, order: &Order<'_>) -> Admitted<'a> {
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
