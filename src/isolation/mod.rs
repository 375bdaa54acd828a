//! Evaluation of owners' policies in processes of their own, so that what owners write hurts nobody else.
//!
//! A worker (`keyward policy worker`) is the same program with an address-space limit, no environment and nothing
//! open but the pipe it is asked through. It holds bundles and answers one question at a time. One that takes longer
//! than a policy may is killed, one that dies is noticed, and either is one denied request of the owner whose policy
//! it was; the next request gets another worker. Owners wait for a worker in turn, and as long as there are two
//! workers or more, no owner holds all of them.

mod process;
mod turns;

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::worker::{Answer, Explained};
use crate::policy::{
    Archived, Asked, BundleFacts, Diagnostic, ErrorKind, EvaluationError, Evaluator, Explanation, Input,
    Limits, LoadError, Verdict,
};
use process::{Failure, Process};
use turns::{Turn, Turns};

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
}

impl Workers {
    /// A pool of at most `count` workers, at least one.
    #[must_use]
    pub fn new(launcher: Launcher, count: usize, limits: Limits) -> Self {
        Self {
            launcher,
            limits,
            turns: Turns::new(count, WAITING),
        }
    }

    /// A pool of which one owner may hold every worker, as there is no other.
    #[must_use]
    pub fn of_one_owner(launcher: Launcher, count: usize, limits: Limits) -> Self {
        Self {
            launcher,
            limits,
            turns: Turns::of_one_owner(count, WAITING),
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
            None => Process::start(&self.launcher).map_err(|error| {
                log::error!("a policy worker could not be started: {error}");
                format!("a worker could not be started: {error}")
            })?,
        };
        Ok((turn, process))
    }

    /// Asks one policy; its verdict, and whether the worker survived it.
    fn ask_one(
        &self,
        owner: &str,
        process: &mut Process,
        bundle: &Archived,
        question: Asked<'_>,
    ) -> (Verdict, bool) {
        let Asked { policy, phase, input } = question;
        let failed = |kind, message: String| (Verdict::failed(policy, kind, message), false);
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
        // Twice at most: a worker that does not hold the bundle is given it, and asked again.
        for _ in 0..2 {
            match process.ask(&bundle.digest, policy, phase, &text, &self.limits) {
                Ok(Answer::Verdict(verdict)) => return (verdict, true),
                Ok(Answer::NotLoaded) => {}
                Err(Failure::TimedOut) => {
                    log::warn!(
                        "a policy of {owner} took more than its time and its worker was ended: {policy}"
                    );
                    return failed(ErrorKind::TimeLimit, not_decided(self.limits.time));
                }
                Err(Failure::Died(how)) => {
                    log::warn!("a policy of {owner} ended its worker ({how}): {policy}");
                    return failed(
                        ErrorKind::Crashed,
                        format!("its worker died of it ({how}): {DEATHS}"),
                    );
                }
            }
            match process.load(bundle, false, &self.limits) {
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

/// Why a policy ends a worker.
const DEATHS: &str = "a policy that recurses without end, or needs too much memory, does that";

fn not_decided(time: Duration) -> String {
    format!("not decided within {time:?}")
}

impl Evaluator for Workers {
    fn load(&self, owner: &str, bundle: &Archived, trial: bool) -> Result<BundleFacts, LoadError> {
        let (turn, mut process) = self.take(owner, bundle).map_err(LoadError::NotNow)?;
        match process.load(bundle, trial, &self.limits) {
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
        let mut verdicts = Vec::with_capacity(questions.len());
        for question in questions {
            let (verdict, survived) = self.ask_one(owner, &mut process, bundle, question);
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
        let Asked { policy, phase, input } = question;
        let failed = |kind, why: String| EvaluationError::new(kind, why);
        let (turn, mut process) = self
            .take(owner, bundle)
            .map_err(|why| failed(ErrorKind::Busy, why))?;
        let input = Input {
            registration: None,
            ..input
        };
        let text = serde_json::to_vec(&input)
            .map_err(|_| failed(ErrorKind::Internal, "the input can't be written".to_owned()))?;
        // Twice at most: a worker that does not hold the bundle is given it, and asked again.
        for _ in 0..2 {
            match process.explain(&bundle.digest, policy, phase, &text, &self.limits) {
                Ok(Explained::Policy(explained)) => {
                    turn.give_back(process);
                    return explained;
                }
                Ok(Explained::NotLoaded) => {}
                Err(Failure::TimedOut) => {
                    log::warn!(
                        "a policy of {owner} could not be explained in time and its worker was ended: {policy}"
                    );
                    let why = format!("it can't be explained within {:?}", self.limits.explain_time());
                    return Err(failed(ErrorKind::TimeLimit, why));
                }
                Err(failure) => {
                    log::warn!(
                        "a policy of {owner} ended its worker when it was explained ({}): {policy}",
                        failure.text()
                    );
                    return Err(failed(ErrorKind::Crashed, failure.text()));
                }
            }
            match process.load(bundle, false, &self.limits) {
                Ok(Ok(_)) => {}
                Ok(Err(found)) => {
                    turn.give_back(process);
                    let why = found.first().map(ToString::to_string).unwrap_or_default();
                    return Err(failed(
                        ErrorKind::MissingPolicy,
                        format!("the bundle does not load: {why}"),
                    ));
                }
                Err(failure) => return Err(failed(ErrorKind::Crashed, failure.text())),
            }
        }
        Err(failed(
            ErrorKind::Internal,
            "the worker does not keep the bundle".to_owned(),
        ))
    }
}
