//! The request evaluator: the use cases of hosts and owners, and the only place that orders steps.
//!
//! In come parsed requests; out come sessions, packets, or a [`Refusal`]. Order is safety here:
//! a platform is verified before a policy sees it, a guest is measured before it is evaluated,
//! evaluated before it is counted, and counted and recorded before a wrapped byte leaves.

pub mod audit_log;
mod binding;
mod budget;
mod bundles;
mod decide;
mod draft;
mod entries;
mod evaluation;
mod explanation;
mod facts;
pub mod floor;
mod holds;
pub mod host;
mod identities;
mod incidents;
mod launch;
pub mod meter;
mod online;
mod packet;
mod platform;
mod refusals;
pub mod register;
pub mod replay;
mod report;
mod retention;
mod rollback;
mod seen;
pub mod simple_kbs;
mod table;
pub mod tokens;
mod turns;
mod uses;
mod validate;

use std::sync::{Arc, Once};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::launch::LaunchBounds;
use crate::domain::{Clock, Name, Time};
use crate::identity::Identities;
use crate::kds::CekSource;
use crate::policy::{Evaluator, PreparedBundle};
use crate::sealing::{SealError, Sealer};
use crate::sev::authority::{self, TrustedRoots};
use crate::sev::verified::VerifiedChains;
use crate::sev::{Random, RandomError};
use crate::store::{Store, StoreError};
use budget::Budgets;
use bundles::Bundles;
use refusals::Refusals;
use turns::Turns;
use uses::Uses;

pub use evaluation::{DryRun, Evaluation, EvaluationFault};
pub use explanation::{DecisionExplanation, ExplainedPolicy};
pub(crate) use facts::{fingerprints, policy_bits};
pub use holds::WordError;
pub use host::{Host, LaunchAnswer, LaunchRequest, ReleaseAnswer, ValidateRequest};
pub use retention::Kept;
pub use rollback::Standing;

/// How long a decision waits for those before it about the same workload.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rules that a server is run under; every value has its key in the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a launch may be validated.
    pub launch_lifetime: Duration,
    /// How many failed validations end a launch.
    pub launch_tries: u32,
    /// How many launches may wait.
    pub bounds: LaunchBounds,
    /// Failed searches by workload UUID that one address may make in a minute.
    pub failed_searches_per_minute: u32,
    /// How long a host is told to wait when its release is held.
    pub hold_retry: Duration,
    /// How long it is remembered that no CEK exists for a chip.
    pub cek_miss: Duration,
    /// Versions of a secret whose values are kept, with the current one.
    pub kept_versions: usize,
    /// Loaded bundles kept in memory.
    pub cached_bundles: usize,
    /// Certificate chains whose verification is remembered; 0: none.
    pub cached_chains: usize,
    /// For an extra trust root, the owners for whom it counts; a root that is not here counts for the only
    /// owner, and for nobody where there are more.
    pub root_owners: Vec<(String, Vec<String>)>,
}

/// What the use cases need from outside.
pub struct Parts {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Opens and seals secrets and launch keys.
    pub sealer: Sealer,
    /// The roots that chains must lead to.
    pub roots: TrustedRoots,
    /// Where owners' policies are evaluated.
    pub evaluator: Arc<dyn Evaluator>,
    /// Where unsigned CEKs are completed.
    pub ceks: Arc<dyn CekSource>,
    /// Who vouches for callers without a token.
    pub identities: Identities,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// The use cases.
pub struct Service {
    parts: Parts,
    settings: Settings,
    bundles: Bundles,
    /// Chains that were verified a moment ago.
    chains: VerifiedChains,
    library: Arc<PreparedBundle>,
    budgets: Budgets,
    refusals: Refusals,
    /// Taken by decisions that depend on how many releases there were.
    turns: Turns<Uuid>,
    /// Taken by explanations: an owner has one at a time, as workers are there for launches first.
    explaining: Turns<Name>,
    /// When tokens were last used.
    uses: Uses,
    /// What signs the audit log.
    log: audit_log::Signing,
    /// Whether it was logged that an extra root counts for nobody.
    warned: Once,
    /// Who is told of decisions, and of what steps cost.
    meter: Arc<dyn meter::Meter>,
}

/// The server can't be started with what it ships.
#[derive(Debug, thiserror::Error)]
#[error("the built-in policy library does not load: {0}")]
pub struct LibraryError(String);

impl Service {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the built-in policy library does not load.
    pub fn new(parts: Parts, settings: Settings) -> Result<Self, LibraryError> {
        let library =
            PreparedBundle::library().map_err(|diagnostics| LibraryError(register::render(&diagnostics)))?;
        Ok(Self {
            bundles: Bundles::new(settings.cached_bundles, parts.evaluator.clone()),
            chains: VerifiedChains::new(settings.cached_chains),
            budgets: Budgets::new(settings.failed_searches_per_minute),
            refusals: Refusals::default(),
            turns: Turns::new(PATIENCE),
            explaining: Turns::new(Duration::ZERO),
            uses: Uses::default(),
            log: audit_log::Signing::default(),
            warned: Once::new(),
            meter: Arc::new(meter::Unmetered),
            library,
            parts,
            settings,
        })
    }

    /// The store, for what is only read.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        self.parts.store.as_ref()
    }

    /// Reads that belong together, as of one moment where the store has that cheaper.
    fn together<T>(&self, reads: impl FnOnce() -> T) -> Result<T, Refusal> {
        let (mut reads, mut read) = (Some(reads), None);
        self.store().together(&mut || {
            if let Some(reads) = reads.take() {
                read = Some(reads());
            }
        });
        read.ok_or_else(|| Refusal::unavailable("the store was not read"))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Time {
        self.parts.clock.now()
    }

    /// Names of the trust roots besides AMD's.
    #[must_use]
    pub fn extra_roots(&self) -> Vec<String> {
        self.parts.roots.extra_names().map(str::to_owned).collect()
    }

    /// Whether platforms under this root count for this owner.
    fn trusts(&self, root: &str, owner: &Name) -> Result<bool, StoreError> {
        if root == authority::AMD {
            return Ok(true);
        }
        if !self.parts.roots.extra_names().any(|name| name == root) {
            return Ok(false);
        }
        match self.settings.root_owners.iter().find(|(name, _)| name == root) {
            Some((_, owners)) => Ok(owners.iter().any(|name| name == owner.as_str())),
            // Asked each time: another owner can come while the server runs.
            None if self.store().owners()?.as_slice() == std::slice::from_ref(owner) => Ok(true),
            None => {
                self.warned.call_once(|| {
                    log::warn!(
                        "the extra root {root} counts for nobody: there are several owners and it names none; say for whom it counts with `owners` in danger_extra_roots"
                    );
                });
                Ok(false)
            }
        }
    }

    /// Extra trust roots that count for nobody, as they name no owners and there are several.
    ///
    /// # Errors
    /// When the store fails.
    pub fn ownerless_roots(&self) -> Result<Vec<String>, StoreError> {
        if self.store().owners()?.len() <= 1 {
            return Ok(Vec::new());
        }
        let mut names = self.extra_roots();
        names.retain(|name| self.settings.root_owners.iter().all(|(root, _)| root != name));
        Ok(names)
    }

    /// Forgets what has had its time, asks identity providers for their keys where it is time to, and writes down what was only kept in memory so far: refusals that were
    /// counted, and when tokens were used.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tidy(&self) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        if let Err(error) = self.parts.sealer.refresh() {
            log::error!("sealing: {error}");
        }
        self.refusals.flush(self.store(), Some(now))?;
        self.uses.flush(self.store(), now)?;
        self.parts.identities.refresh(now);
        while self.store().sweep(now)? {}
        Ok(())
    }

    /// The same when the server ends: what was counted and not written yet is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tidy_for_good(&self) -> Result<(), StoreError> {
        self.refusals.flush(self.store(), None)?;
        self.tidy()
    }
}

/// Why a host gets no session and no secret. What it says to a host is in its problem document; the
/// reasons of a denial are in the decision, for the owner.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such workload or launch.
    #[error("there is no workload or launch with this UUID")]
    NotFound,
    /// A member of the request is missing or contradicts another.
    #[error("`{member}`: {why}")]
    Malformed {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate chain proves no platform.
    #[error("{0}")]
    ChainInvalid(String),
    /// The measurement's MAC holds for no launch digest.
    #[error("the MAC holds for no launch that waits, with no launch digest that the workload accepts")]
    MeasurementMismatch,
    /// The floor or a policy forbids it.
    #[error("denied")]
    Denied {
        /// The recorded decision.
        decision: Uuid,
    },
    /// A count is used up; the owner must confirm.
    #[error("the release waits for the owner's confirmation")]
    ConfirmationRequired {
        /// The recorded decision.
        decision: Uuid,
        /// The hold.
        hold: Uuid,
        /// When to come back.
        retry_after: Duration,
    },
    /// The launch was validated before, or failed too often.
    #[error("this launch has ended")]
    LaunchUsed,
    /// The launch was not validated in time, or gave way to newer ones.
    #[error("this launch has expired")]
    LaunchExpired,
    /// Too much was asked for.
    #[error("too many requests: {why}")]
    TooMany {
        /// Of what there is too much.
        why: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// Something that the answer depends on is not to be had now.
    #[error("not now: {why}")]
    Unavailable {
        /// What, in words for the host.
        why: String,
        /// When to come back.
        retry_after: Duration,
    },
}

impl Refusal {
    fn unavailable(why: &str) -> Self {
        Self::Unavailable {
            why: why.to_owned(),
            retry_after: Duration::from_secs(2),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        log::error!("{error}");
        Self::unavailable("the store does not answer")
    }
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        log::error!("sealing: {error}");
        Self::unavailable(if error.is_of_the_value() {
            "stored values are damaged"
        } else {
            "stored values can't be opened or sealed now"
        })
    }
}

impl From<RandomError> for Refusal {
    fn from(error: RandomError) -> Self {
        log::error!("{error}");
        Self::unavailable("there are no random bytes")
    }
}
