//! Evaluation: a prepared bundle, a policy's name, a phase and an input become a verdict.
//!
//! Every problem is a verdict that denies and says why; nothing here fails in another way.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use regorus::Engine;

use super::bundle::Bundle;
use super::decision::{ErrorKind, Phase, Verdict};
use super::diagnostic::{Diagnostic, nearest};
use super::input::Input;
use super::load::{self, Loaded, PolicyFacts};
use super::pool::{self, Deadline, NoAnswer};
use super::question::Question;

/// How much an evaluation may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time of one evaluation: all of a policy's rules together. 200 ms.
    pub time: Duration,
    /// Time to load a bundle: scan, parse, check. 10 s.
    pub load_time: Duration,
    /// How long a request waits for a free thread before it is denied as busy. 5 s.
    pub queue_time: Duration,
    /// Most messages of a `deny` set that are kept. 64.
    pub max_messages: usize,
    /// Most bytes of one message; longer ones are cut. 1024.
    pub max_message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_millis(200),
            load_time: Duration::from_secs(10),
            queue_time: Duration::from_secs(5),
            max_messages: 64,
            max_message_bytes: 1024,
        }
    }
}

/// What the engine may overrun its own timer by, between two looks at it, before its thread is given up.
const GRACE: Duration = Duration::from_millis(50);

/// Why a bundle can't be loaded.
#[derive(Debug)]
pub enum ReloadError {
    /// Something is wrong with it.
    Refused(Vec<Diagnostic>),
    /// There was no time for it; there may be later.
    NotNow(String),
}

impl ReloadError {
    fn into_diagnostics(self) -> Vec<Diagnostic> {
        match self {
            ReloadError::Refused(diagnostics) => diagnostics,
            ReloadError::NotNow(why) => vec![Diagnostic::on_file("", why)],
        }
    }
}

/// A bundle that is loaded, checked and ready: one per bundle digest, shared through `Arc`.
pub struct PreparedBundle {
    engine: Engine,
    policies: BTreeMap<String, PolicyFacts>,
    limits: Limits,
    warnings: Vec<String>,
}

impl std::fmt::Debug for PreparedBundle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PreparedBundle")
            .field("policies", &self.packages())
            .finish_non_exhaustive()
    }
}

impl PreparedBundle {
    /// Loads a bundle: scans the text, parses it, checks it, and evaluates each policy once on
    /// [`Input::example`] for both phases, to find what would exhaust its time at each request.
    ///
    /// # Errors
    /// What is wrong with the bundle, with file, line and column; at most fifty problems.
    pub fn prepare(bundle: &Bundle, limits: &Limits) -> Result<PreparedBundle, Vec<Diagnostic>> {
        let taken = bundle.clone();
        let mut prepared = PreparedBundle::on_pool(limits, move || load::load(&taken))
            .map_err(ReloadError::into_diagnostics)?;
        prepared.warnings = prepared.trial()?;
        Ok(prepared)
    }

    /// Loads a bundle that [`PreparedBundle::prepare`] accepted before, without trying it again.
    ///
    /// # Errors
    /// What is wrong with it, told apart from there being no time for it now.
    pub fn reload(bundle: &Bundle, limits: &Limits) -> Result<PreparedBundle, ReloadError> {
        let taken = bundle.clone();
        PreparedBundle::on_pool(limits, move || load::load(&taken))
    }

    /// The library alone: the policies `keyward.…` that the server binds itself. Loaded once per process.
    ///
    /// # Errors
    /// None in a build whose tests pass: the library is part of the binary.
    pub fn library() -> Result<Arc<PreparedBundle>, Vec<Diagnostic>> {
        static LIBRARY: OnceLock<Arc<PreparedBundle>> = OnceLock::new();
        if let Some(library) = LIBRARY.get() {
            return Ok(Arc::clone(library));
        }
        let library = PreparedBundle::on_pool(&Limits::default(), load::load_library)
            .map_err(ReloadError::into_diagnostics)?;
        Ok(Arc::clone(LIBRARY.get_or_init(|| Arc::new(library))))
    }

    fn on_pool(
        limits: &Limits,
        load: impl FnOnce() -> Result<Loaded, Vec<Diagnostic>> + Send + 'static,
    ) -> Result<PreparedBundle, ReloadError> {
        let loaded = match pool::run(limits.load_time, limits.load_time, load) {
            Ok(loaded) => loaded.map_err(ReloadError::Refused)?,
            Err(NoAnswer::TimedOut) => {
                return Err(ReloadError::NotNow(format!(
                    "the bundle was not loaded within {:?}",
                    limits.load_time
                )));
            }
            Err(NoAnswer::Busy) => {
                return Err(ReloadError::NotNow("all evaluation threads are busy".to_owned()));
            }
            Err(NoAnswer::Panicked(text)) => {
                let message = format!("the bundle can't be loaded: {text}");
                return Err(ReloadError::Refused(vec![Diagnostic::on_file("", message)]));
            }
        };
        let Loaded { engine, policies } = loaded;
        Ok(PreparedBundle {
            engine,
            policies,
            limits: limits.clone(),
            warnings: Vec::new(),
        })
    }

    /// What the trial evaluation found that does not keep the bundle from being loaded: policies that
    /// took all their time. They deny when that happens in earnest.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Asks each policy once. A policy may well deny the example, or fail on it; it may not crash on it.
    ///
    /// One that takes all its time is a warning and no refusal: how long it takes depends on the machine and on
    /// what else that does, and a bundle that was accepted must not fail to load on a busy day.
    fn trial(&self) -> Result<Vec<String>, Vec<Diagnostic>> {
        let mut warnings = Vec::new();
        for name in self.policies.keys() {
            for phase in [Phase::Launch, Phase::Release] {
                let verdict = self.evaluate(name, phase, &Input::example(phase));
                let Some(error) = verdict.error else { continue };
                let message = format!(
                    "the trial evaluation of `{name}` at {} failed: {}",
                    phase.as_str(),
                    error.message
                );
                match error.kind {
                    ErrorKind::Internal | ErrorKind::TooLarge => {
                        return Err(vec![Diagnostic::on_file("", message)]);
                    }
                    ErrorKind::TimeLimit => warnings.push(message),
                    _ => {}
                }
            }
        }
        Ok(warnings)
    }

    /// What is known of a policy: for names that are about to be bound.
    ///
    /// # Errors
    /// The bundle has no such package, or the package has no rule `allow`; names the nearest policy.
    pub fn resolve(&self, policy: &str) -> Result<PolicyFacts, Diagnostic> {
        if let Some(facts) = self.policies.get(policy) {
            return Ok(facts.clone());
        }
        if is_builtin(policy)
            && let Ok(library) = PreparedBundle::library()
            && let Some(facts) = library.policies.get(policy)
        {
            return Ok(facts.clone());
        }
        let diagnostic = Diagnostic::on_file("", format!("there is no policy `{policy}`"));
        let bare = policy.strip_prefix("data.").unwrap_or(policy);
        let bare = ["allow", "deny"]
            .iter()
            .find_map(|rule| bare.strip_suffix(&format!(".{rule}")))
            .unwrap_or(bare);
        let near = nearest(bare, self.policies.keys().map(String::as_str));
        Err(match near {
            Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            None => diagnostic.with_hint(format!(
                "a policy is a package with a rule `allow`; this bundle has {}",
                self.packages().join(", ")
            )),
        })
    }

    /// The names of all policies: packages that have a rule `allow`.
    pub fn packages(&self) -> Vec<String> {
        self.policies.keys().cloned().collect()
    }

    /// Asks a policy. Never panics and takes no longer than the limits' time, and a little, once it has a thread;
    /// whatever goes wrong is a verdict that denies.
    ///
    /// `input.registration` is shown to policies under `keyward` only, and those are always the library's.
    pub fn evaluate(&self, policy: &str, phase: Phase, input: &Input) -> Verdict {
        if is_builtin(policy) {
            return match PreparedBundle::library() {
                Ok(library) => library.ask(policy, phase, input.clone()),
                Err(_) => Verdict::failed(
                    policy,
                    ErrorKind::Internal,
                    "the built-in policies can't be loaded",
                ),
            };
        }
        self.ask(
            policy,
            phase,
            Input {
                registration: None,
                ..input.clone()
            },
        )
    }

    fn ask(&self, policy: &str, phase: Phase, input: Input) -> Verdict {
        let Some(facts) = self.policies.get(policy) else {
            let message = format!("the bundle has no policy `{policy}`");
            return Verdict::failed(policy, ErrorKind::MissingPolicy, message);
        };
        if input.phase != phase {
            let message = format!(
                "asked at {} about an input for {}",
                phase.as_str(),
                input.phase.as_str()
            );
            return Verdict::failed(policy, ErrorKind::Internal, message);
        }
        if phase == Phase::Launch && !facts.has_allow_launch && !facts.has_deny_launch {
            return Verdict {
                policy: policy.to_owned(),
                allow: true,
                deny: Vec::new(),
                release_limit: None,
                error: None,
                reason: "allowed: the policy has no rule for launch".to_owned(),
            };
        }
        let Limits { time, queue_time, .. } = self.limits;
        let question = Question {
            engine: self.engine.clone(),
            facts: facts.clone(),
            phase,
            limits: self.limits.clone(),
        };
        let answer = pool::run(queue_time, time.saturating_add(GRACE), move || {
            question.answer(&input, Deadline::after(time))
        });
        match answer {
            Ok(verdict) => verdict,
            Err(NoAnswer::TimedOut) => Verdict::failed(
                policy,
                ErrorKind::TimeLimit,
                format!("not decided within {time:?}"),
            ),
            Err(NoAnswer::Busy) => {
                Verdict::failed(policy, ErrorKind::Busy, "every evaluation thread was taken")
            }
            Err(NoAnswer::Panicked(text)) => Verdict::failed(
                policy,
                ErrorKind::Internal,
                format!("the evaluator failed: {text}"),
            ),
        }
    }
}

/// Names under `keyward` are the server's own.
fn is_builtin(policy: &str) -> bool {
    policy == "keyward" || policy.starts_with("keyward.")
}
