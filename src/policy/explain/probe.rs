//! Questions about parts of a policy: rules that are added to its package for the time of one question.

use std::num::NonZeroU32;

use regorus::unstable::Module as Tree;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use crate::policy::guards::size_within;
use crate::policy::limits::Deadline;
use crate::policy::question::one_line;
use crate::policy::syntax::Module;

/// What names of probes begin with.
const NAME: &str = "__keyward_probe_";
/// Most that an answer may hold, in bytes and values.
const MAX_ANSWER: usize = 256 * 1024;
/// The engine looks at its clock once in so many steps.
const CHECK_INTERVAL: NonZeroU32 = match NonZeroU32::new(32) {
    Some(interval) => interval,
    None => NonZeroU32::MIN,
};

/// An answer, or why there is none.
pub(super) type Answer = Result<Value, Unanswered>;

/// Why a probe has no answer.
#[derive(Clone, Debug)]
pub(super) enum Unanswered {
    /// The term makes no sense by itself: it needs a name that nothing binds here.
    Unreadable,
    /// Its evaluation failed.
    Failed(String),
    /// There was no time, or the answer is too large.
    Cut,
}

/// Asks for the values of terms, as they would be read in the file of `module`, about the input of `engine`.
pub(super) fn ask(
    engine: &Engine,
    tree: &Tree,
    module: &Module,
    terms: &[String],
    deadline: Deadline,
) -> Vec<Answer> {
    if terms.is_empty() {
        return Vec::new();
    }
    match Probed::prepare(engine, tree, module, terms, deadline) {
        Some(mut probed) => (0..terms.len()).map(|at| probed.answer(at, deadline)).collect(),
        // One that can't be read spoils the others; so each is asked by itself.
        None if terms.len() > 1 => {
            let alone = |term: &String| ask(engine, tree, module, std::slice::from_ref(term), deadline);
            terms.iter().flat_map(alone).collect()
        }
        None => vec![Err(Unanswered::Unreadable)],
    }
}

struct Probed {
    engine: Engine,
    package: String,
}

impl Probed {
    fn prepare(
        engine: &Engine,
        tree: &Tree,
        module: &Module,
        terms: &[String],
        deadline: Deadline,
    ) -> Option<Probed> {
        let package = module.package.join(".");
        let mut text = format!("package {package}\n\n");
        for import in &tree.imports {
            text.push_str(import.span.text());
            text.push('\n');
        }
        for (at, term) in terms.iter().enumerate() {
            text.push_str(&format!("\n{NAME}{at} := {term}\n"));
        }
        let mut engine = engine.clone();
        time(&mut engine, deadline)?;
        engine.add_policy("keyward/probe.rego".to_owned(), text).ok()?;
        engine.eval_query("true".to_owned(), false).ok()?;
        Some(Probed { engine, package })
    }

    fn answer(&mut self, at: usize, deadline: Deadline) -> Answer {
        time(&mut self.engine, deadline).ok_or(Unanswered::Cut)?;
        match self.engine.eval_rule(format!("data.{}.{NAME}{at}", self.package)) {
            Ok(value) => match size_within(&value, MAX_ANSWER) {
                Some(_) => Ok(value),
                None => Err(Unanswered::Cut),
            },
            Err(_) if deadline.left().is_none() => Err(Unanswered::Cut),
            Err(error) => {
                let text = one_line(&error.to_string());
                let message = text
                    .split_once("rego:")
                    .map_or(text.as_str(), |(_, message)| message);
                let message =
                    message.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
                Err(Unanswered::Failed(message.to_owned()))
            }
        }
    }
}

/// Gives an engine what time is left.
pub(super) fn time(engine: &mut Engine, deadline: Deadline) -> Option<()> {
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: deadline.left()?,
        check_interval: CHECK_INTERVAL,
    });
    Some(())
}
