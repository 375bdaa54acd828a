//! Evaluation of owners' policies in processes of their own, so that what owners write hurts nobody else.
//!
//! A worker (`keyward policy worker`) is the same program with an address-space limit, no environment and nothing
//! open but the pipe it is asked through. It holds bundles and answers one question at a time. One that takes longer
//! than a policy may is killed, one that dies is noticed, and either is one denied request of the owner whose policy
//! it was; the next request gets another worker. Owners wait for a worker in turn, and as long as there are two
//! workers or more, no owner holds all of them.

mod process;
mod tally;
mod turns;

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::policy::worker::{Answer, Explained, Question, Request};
use crate::policy::{
    Archived, Asked, BundleFacts, Diagnostic, ErrorKind, EvaluationError, Evaluator, Explanation, Input,
    Limits, LoadError, Verdict,
};
use process::{Failure, Process};
use tally::Tally;
use turns::{Turn, Turns};

pub use tally::WorkerFigures;

/// Requests that wait for a worker, in all; past it they are told to come back.
const WAITING: usize = 256;

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program: `keyward` itself.
    pub program: PathBuf,
    /// Its address space, in MiB.
    pub memory_mib: u32,
}

impl Launcher {
    /// Workers of the program that runs now, even if its file has been replaced since.
    #[must_use]
    pub fn this_program(memory_mib: u32) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            memory_mib,
        }
    }
}

/// A pool of worker processes, each started when it is first needed.
pub struct Workers {
    launcher: Launcher,
    limits: Limits,
    turns: Turns<Process>,
    tally: Tally,
}

impl Workers {
    /// A pool of at most `count` workers, at least one.
    #[must_use]
    pub fn new(launcher: Launcher, count: usize, limits: Limits) -> Self {
        Self {
            launcher,
            limits,
            turns: Turns::new(count, WAITING),
            tally: Tally::default(),
        }
    }

    /// A pool of which one owner may hold every worker, as there is no other.
    #[must_use]
    pub fn of_one_owner(launcher: Launcher, count: usize, limits: Limits) -> Self {
        Self {
            launcher,
            limits,
            turns: Turns::of_one_owner(count, WAITING),
            tally: Tally::default(),
        }
    }

    /// As many workers as this machine keeps busy, and one more, so that a single owner keeps it busy too.
    #[must_use]
    pub fn usual_count() -> usize {
        std::thread::available_parallelism().map_or(2, usize::from) + 1
    }

    /// A worker for this owner, if one comes free in time; best one that holds the bundle, or has room for it.
    fn take(&self, owner: &str, bundle: &Archived) -> Result<(Turn<'_, Process>, Process), String> {
        let taken = self
            .turns
            .take(owner, self.limits.queue_time, |process: &Process| {
                process.fits(bundle)
            });
        let Some((turn, idle)) = taken else {
            return Err("every worker is taken, and none came free in time".to_owned());
        };
        let process = match idle.and_then(Process::alive) {
            Some(process) => process,
            None => {
                let started = Process::start(&self.launcher).map_err(|error| {
                    log::error!("a policy worker could not be started: {error}");
                    format!("a worker could not be started: {error}")
                })?;
                self.tally.started();
                started
            }
        };
        Ok((turn, process))
    }

    /// Has a worker answer a question about a bundle, which it is given where it does not hold it. After an error the
    /// worker is of no use any more.
    fn asked<T: DeserializeOwned>(
        &self,
        owner: &str,
        process: &mut Process,
        bundle: &Archived,
        question: Asked<'_>,
        of: &Kind,
    ) -> Result<T, EvaluationError> {
        let Asked { policy, phase, input } = question;
        let failed = |kind, message: String| Err(EvaluationError::new(kind, message));
        if input.phase != phase {
            let message = format!(
                "asked at {} about an input for {}",
                phase.as_str(),
                input.phase.as_str()
            );
            return failed(ErrorKind::Internal, message);
        }
        let input = Input {
            registration: None,
            ..input
        };
        let Ok(text) = serde_json::to_vec(&input) else {
            return failed(ErrorKind::Internal, "the input can't be written".to_owned());
        };
        let request = (of.request)(Question {
            digest: bundle.digest,
            policy: policy.to_owned(),
            phase,
            limits: self.limits.clone(),
        });
        // Twice at most: a worker that does not hold the bundle is given it, and asked again.
        for _ in 0..2 {
            let asked = process.ask(&bundle.digest, &request, &text, of.time);
            match asked.inspect_err(|failure| self.tally.ended(failure)) {
                Ok(Answer::Said(answer)) => return Ok(answer),
                Ok(Answer::NotLoaded) => {}
                Err(Failure::TimedOut) => {
                    let done = of.done;
                    log::warn!(
                        "a policy of {owner} was not {done} in its time and its worker was ended: {policy}"
                    );
                    return failed(ErrorKind::TimeLimit, format!("not {done} within {:?}", of.time));
                }
                Err(Failure::Died(how)) => {
                    log::warn!("a policy of {owner} ended its worker ({how}): {policy}");
                    return failed(
                        ErrorKind::Crashed,
                        format!("its worker died of it ({how}): {DEATHS}"),
                    );
                }
            }
            let loaded = process.load(bundle, false, &self.limits);
            match loaded.inspect_err(|failure| self.tally.ended(failure)) {
                Ok(Ok(_)) => {}
                Ok(Err(found)) => {
                    let why = found.first().map(ToString::to_string).unwrap_or_default();
                    return failed(
                        ErrorKind::MissingPolicy,
                        format!("the bundle does not load: {why}"),
                    );
                }
                Err(failure) => {
                    return failed(
                        ErrorKind::Crashed,
                        format!("the bundle does not load: {}", failure.text()),
                    );
                }
            }
        }
        failed(
            ErrorKind::Internal,
            "the worker does not keep the bundle".to_owned(),
        )
    }
}

/// What is asked for.
struct Kind {
    request: fn(Question) -> Request,
    /// How long it may take.
    time: Duration,
    /// What a policy is when it has been done.
    done: &'static str,
}

/// Why a policy ends a worker.
const DEATHS: &str = "a policy that recurses without end, or needs too much memory, does that";

impl Evaluator for Workers {
    fn load(&self, owner: &str, bundle: &Archived, trial: bool) -> Result<BundleFacts, LoadError> {
        let (turn, mut process) = self.take(owner, bundle).map_err(LoadError::NotNow)?;
        let loaded = process.load(bundle, trial, &self.limits);
        match loaded.inspect_err(|failure| self.tally.ended(failure)) {
            Ok(loaded) => {
                turn.give_back(process);
                loaded.map_err(LoadError::Refused)
            }
            Err(failure) => {
                drop(process);
                log::warn!("a bundle of {owner} ended its worker: {}", failure.text());
                let message = format!("the bundle can't be loaded: {}", failure.text());
                let hint = match failure {
                    Failure::TimedOut => "it is too large, or a policy hangs in a built-in",
                    Failure::Died(_) => DEATHS,
                };
                Err(LoadError::Refused(vec![
                    Diagnostic::on_file("", message).with_hint(hint),
                ]))
            }
        }
    }

    fn ask(&self, owner: &str, bundle: &Archived, questions: Vec<Asked<'_>>) -> Vec<Verdict> {
        let Some(first) = questions.first().map(|question| question.policy) else {
            return Vec::new();
        };
        let (turn, mut process) = match self.take(owner, bundle) {
            Ok(taken) => taken,
            Err(why) => return vec![Verdict::failed(first, ErrorKind::Busy, why)],
        };
        let of = Kind {
            request: Request::Ask,
            time: self.limits.time,
            done: "decided",
        };
        let mut verdicts = Vec::with_capacity(questions.len());
        for question in questions {
            let policy = question.policy;
            let asked = self.asked(owner, &mut process, bundle, question, &of);
            let survived = asked.is_ok();
            let verdict: Verdict =
                asked.unwrap_or_else(|error| Verdict::failed(policy, error.kind, error.message));
            let timed_out = verdict.error.as_ref().map(|error| error.kind) == Some(ErrorKind::TimeLimit);
            verdicts.push(verdict);
            if !survived {
                // It is ended with what it may still be doing; the next one starts anew.
                return verdicts;
            }
            if timed_out {
                break;
            }
        }
        turn.give_back(process);
        verdicts
    }

    fn explain(
        &self,
        owner: &str,
        bundle: &Archived,
        question: Asked<'_>,
    ) -> Result<Explanation, EvaluationError> {
        let busy = |why: String| EvaluationError::new(ErrorKind::Busy, why);
        let (turn, mut process) = self.take(owner, bundle).map_err(busy)?;
        let of = Kind {
            request: Request::Explain,
            time: self.limits.explain_time(),
            done: "explained",
        };
        let explained: Explained = self.asked(owner, &mut process, bundle, question, &of)?;
        turn.give_back(process);
        explained
    }
}
