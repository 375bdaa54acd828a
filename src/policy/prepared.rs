//! A bundle that is loaded, checked and ready: a policy's name, a phase and an input become a verdict.
//!
//! Every problem is a verdict that denies and says why; nothing here fails in another way. What owners wrote may
//! still hang or abort the process that evaluates it, so that a server does it in [`worker`](super::worker)
//! processes; here it is done in this one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use regorus::Engine;

use super::bundle::Bundle;
use super::decision::{ErrorKind, EvaluationError, Phase, Verdict};
use super::diagnostic::Diagnostic;
use super::evaluator::{BundleFacts, is_builtin};
use super::explain::{self, Explanation};
use super::input::Input;
use super::limits::{Deadline, Limits, on_big_stack, text_of};
use super::load::{self, Loaded, PolicyFacts};
use super::question::Question;

/// A bundle that is loaded, checked and ready.
pub struct PreparedBundle {
    engine: Engine,
    facts: BundleFacts,
    limits: Limits,
}

impl std::fmt::Debug for PreparedBundle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PreparedBundle")
            .field("policies", &self.facts.packages())
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
        on_big_stack(|| {
            let mut prepared = PreparedBundle::load_here(bundle, limits)?;
            prepared.try_here()?;
            Ok(prepared)
        })
        .unwrap_or_else(|panic| Err(vec![failed_inside(&panic)]))
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
        let loaded =
            on_big_stack(load::load_library).unwrap_or_else(|panic| Err(vec![failed_inside(&panic)]))?;
        let library = PreparedBundle::of(loaded, &Limits::default());
        Ok(Arc::clone(LIBRARY.get_or_init(|| Arc::new(library))))
    }

    fn of(loaded: Loaded, limits: &Limits) -> PreparedBundle {
        let Loaded {
            engine,
            policies,
            warnings,
        } = loaded;
        PreparedBundle {
            engine,
            facts: BundleFacts { policies, warnings },
            limits: limits.clone(),
        }
    }

    /// Loads a bundle on this thread, which must have a [big stack](super::STACK), without trying it.
    pub(super) fn load_here(bundle: &Bundle, limits: &Limits) -> Result<PreparedBundle, Vec<Diagnostic>> {
        let loaded = catch_unwind(AssertUnwindSafe(|| load::load(bundle)))
            .unwrap_or_else(|panic| Err(vec![failed_inside(&text_of(&*panic))]))?;
        Ok(PreparedBundle::of(loaded, limits))
    }

    /// What is known of it.
    pub fn facts(&self) -> &BundleFacts {
        &self.facts
    }

    /// Asks each policy once, on this thread. A policy may well deny the example, or fail on it; it may not crash
    /// on it.
    ///
    /// One that takes all its time is a warning and no refusal: how long it takes depends on the machine and on
    /// what else that does, and a bundle that was accepted must not fail to load on a busy day.
    pub(super) fn try_here(&mut self) -> Result<(), Vec<Diagnostic>> {
        for name in self.facts.packages() {
            for phase in [Phase::Launch, Phase::Release] {
                let verdict = self.ask_here(&name, phase, &text(&Input::example(phase)), &self.limits);
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
                    ErrorKind::TimeLimit => {
                        let hint = "a server denies what is not decided within its `policy.time_limit_ms`";
                        let warning = Diagnostic::on_file("", message).with_hint(hint).warning();
                        self.facts.warnings.push(warning);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What is known of a policy, the library's included: [`BundleFacts::resolve`].
    ///
    /// # Errors
    /// There is no such policy.
    pub fn resolve(&self, policy: &str) -> Result<PolicyFacts, Diagnostic> {
        self.facts.resolve(policy)
    }

    /// The names of all policies: packages that have a rule `allow`.
    pub fn packages(&self) -> Vec<String> {
        self.facts.packages()
    }

    /// Asks a policy, on a thread with a big stack. The library's own are asked on this thread.
    ///
    /// `input.registration` is shown to policies under `keyward` only, and those are always the library's.
    pub fn evaluate(&self, policy: &str, phase: Phase, input: &Input) -> Verdict {
        if input.phase != phase {
            let message = format!(
                "asked at {} about an input for {}",
                phase.as_str(),
                input.phase.as_str()
            );
            return Verdict::failed(policy, ErrorKind::Internal, message);
        }
        if is_builtin(policy) {
            return match PreparedBundle::library() {
                Ok(library) => library.ask_here(policy, phase, &text(input), &self.limits),
                Err(_) => Verdict::failed(
                    policy,
                    ErrorKind::Internal,
                    "the built-in policies can't be loaded",
                ),
            };
        }
        let input = text(&Input {
            registration: None,
            ..input.clone()
        });
        on_big_stack(|| self.ask_here(policy, phase, &input, &self.limits))
            .unwrap_or_else(|panic| crashed(policy, &panic))
    }

    /// Explains what a policy says, on a thread with a big stack: [`Explanation`].
    ///
    /// # Errors
    /// There is no such policy, or the evaluator failed.
    pub fn explain(&self, policy: &str, phase: Phase, input: &Input) -> Result<Explanation, EvaluationError> {
        let built_in = is_builtin(policy);
        if built_in && !self.facts.policies.contains_key(policy) {
            let library = PreparedBundle::library().map_err(|_| {
                EvaluationError::new(ErrorKind::Internal, "the built-in policies can't be loaded")
            })?;
            return library.explain(policy, phase, input);
        }
        let input = text(&Input {
            registration: input.registration.clone().filter(|_| built_in),
            ..input.clone()
        });
        on_big_stack(|| self.explain_here(policy, phase, &input, &self.limits))
            .unwrap_or_else(|panic| Err(failed_to_explain(&panic)))
    }

    /// The same on this thread, about an input that is JSON text. Takes no longer than
    /// [`Limits::explain_time`].
    pub(super) fn explain_here(
        &self,
        policy: &str,
        phase: Phase,
        input: &str,
        limits: &Limits,
    ) -> Result<Explanation, EvaluationError> {
        let deadline = Deadline::after(limits.explain_time());
        let verdict = self.ask_here(policy, phase, input, limits);
        let Some(facts) = self.facts.policies.get(policy) else {
            return Err(EvaluationError::new(ErrorKind::MissingPolicy, verdict.reason));
        };
        let mut engine = self.engine.clone();
        engine.set_input_json(input).map_err(|error| {
            EvaluationError::new(ErrorKind::Internal, format!("the input can't be read: {error}"))
        })?;
        catch_unwind(AssertUnwindSafe(|| {
            explain::explain(engine, facts, &verdict, phase, deadline)
        }))
        .map_err(|panic| failed_to_explain(&text_of(&*panic)))
    }

    /// Asks a policy on this thread, which must have a [big stack](super::STACK), about an input that is JSON text.
    /// Takes no longer than the limits' time, unless a built-in hangs; a panic is a verdict that denies.
    pub fn ask_here(&self, policy: &str, phase: Phase, input: &str, limits: &Limits) -> Verdict {
        let Some(facts) = self.facts.policies.get(policy) else {
            let message = format!("the bundle has no policy `{policy}`");
            return Verdict::failed(policy, ErrorKind::MissingPolicy, message);
        };
        if phase == Phase::Launch && !facts.is_asked_at_launch() {
            return Verdict::silent_at_launch(policy);
        }
        let question = Question {
            engine: self.engine.clone(),
            facts: facts.clone(),
            phase,
            limits: limits.clone(),
        };
        let deadline = Deadline::after(limits.time);
        catch_unwind(AssertUnwindSafe(|| question.answer(input, deadline)))
            .unwrap_or_else(|panic| crashed(policy, &text_of(&*panic)))
    }
}

/// An input as the engine reads it.
pub(super) fn text(input: &Input) -> String {
    // INVARIANT: the input is made of strings, numbers and lists, which always serialise; nothing would deny.
    serde_json::to_string(input).unwrap_or_default()
}

fn crashed(policy: &str, panic: &str) -> Verdict {
    Verdict::failed(
        policy,
        ErrorKind::Internal,
        format!("the evaluator failed: {panic}"),
    )
}

fn failed_to_explain(panic: &str) -> EvaluationError {
    EvaluationError::new(ErrorKind::Internal, format!("the evaluator failed: {panic}"))
}

fn failed_inside(panic: &str) -> Diagnostic {
    Diagnostic::on_file("", format!("the loader failed: {panic}"))
}
