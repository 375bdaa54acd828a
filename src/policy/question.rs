//! One policy asked once: each rule that the phase calls for, evaluated on its own, and what their values mean.

use std::num::NonZeroU32;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use super::decision::{ErrorKind, EvaluationError, Phase, Verdict};
use super::evaluator::is_builtin;
use super::guards::size_within;
use super::limits::{Deadline, Limits};
use super::load::PolicyFacts;

/// The engine looks at its clock once in so many steps.
const CHECK_INTERVAL: NonZeroU32 = match NonZeroU32::new(32) {
    Some(interval) => interval,
    None => NonZeroU32::MIN,
};
/// Largest release limit: whole numbers are exact up to here in every JSON reader.
pub(super) const MAX_RELEASE_LIMIT: u64 = 1 << 53;
/// Most that a result may hold, in bytes and values, before it is looked at.
const MAX_RESULT: usize = 256 * 1024;

/// What is asked.
pub(super) struct Question {
    pub(super) engine: Engine,
    pub(super) facts: PolicyFacts,
    pub(super) phase: Phase,
    pub(super) limits: Limits,
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    deny: Vec<String>,
    release_limit: Option<u64>,
    error: Option<EvaluationError>,
    refused: bool,
}

impl Findings {
    /// The first problem is the one that is reported; the others follow from it or wait for its repair.
    fn problem(&mut self, kind: ErrorKind, message: String) {
        self.error.get_or_insert(EvaluationError { kind, message });
    }
}

impl Question {
    /// Evaluates the policy's rules on an input, JSON text. Needs a big stack, but for the library's policies.
    pub(super) fn answer(mut self, input: &str, deadline: Deadline) -> Verdict {
        let mut findings = Findings::default();
        match self.engine.set_input_json(input) {
            Err(error) => findings.problem(ErrorKind::Internal, format!("the input can't be read: {error}")),
            Ok(()) => self.ask(deadline, &mut findings),
        }
        self.verdict(findings)
    }

    fn ask(&mut self, deadline: Deadline, findings: &mut Findings) {
        let facts = self.facts.clone();
        let (allow, deny) = match self.phase {
            Phase::Launch => (
                facts.has_allow_launch.then_some("allow_launch"),
                facts.has_deny_launch.then_some("deny_launch"),
            ),
            Phase::Release => (Some("allow"), facts.has_deny.then_some("deny")),
        };
        let mut is_allowed = false;
        if let Some(rule) = allow
            && let Some(value) = self.evaluate(rule, deadline, findings)
        {
            is_allowed = value == Value::Bool(true);
            allowed(rule, &value, findings);
        }
        // The library's own allow where nothing is denied: what denies was evaluated with it.
        let denied_nothing = is_allowed && is_builtin(&facts.name);
        if let Some(rule) = deny.filter(|_| !denied_nothing)
            && let Some(value) = self.evaluate(rule, deadline, findings)
        {
            denied(rule, &value, &self.limits, findings);
        }
        if self.phase == Phase::Release
            && facts.has_release_limit
            && let Some(value) = self.evaluate("release_limit", deadline, findings)
        {
            limited(&value, findings);
        }
    }

    /// One rule's value, or nothing where it could not be had.
    fn evaluate(&mut self, rule: &str, deadline: Deadline, findings: &mut Findings) -> Option<Value> {
        let out_of_time = |limits: &Limits| format!("not decided within {:?}", limits.time);
        let Some(limit) = deadline.left() else {
            findings.problem(ErrorKind::TimeLimit, out_of_time(&self.limits));
            return None;
        };
        self.engine.set_execution_timer_config(ExecutionTimerConfig {
            limit,
            check_interval: CHECK_INTERVAL,
        });
        let result = self.engine.eval_rule(format!("data.{}.{rule}", self.facts.name));
        match result {
            Ok(value) if size_within(&value, MAX_RESULT).is_some() => Some(value),
            Ok(_) => {
                findings.problem(
                    ErrorKind::TooLarge,
                    format!("the value of `{rule}` holds more than {MAX_RESULT} bytes and values"),
                );
                None
            }
            Err(error) => {
                // Inside a function the engine turns its timer's error into a text, so the clock is asked as well.
                let timed_out = matches!(
                    error.downcast_ref::<LimitError>(),
                    Some(LimitError::TimeLimitExceeded { .. })
                );
                if timed_out || deadline.left().is_none() {
                    findings.problem(ErrorKind::TimeLimit, out_of_time(&self.limits));
                } else {
                    let text = cut(&one_line(&error.to_string()), self.limits.max_message_bytes);
                    findings.problem(ErrorKind::EvaluationError, format!("`{rule}` failed: {text}"));
                }
                None
            }
        }
    }

    fn verdict(self, findings: Findings) -> Verdict {
        let Findings {
            deny,
            release_limit,
            error,
            refused,
        } = findings;
        let mut reasons: Vec<String> = Vec::new();
        if let Some(error) = &error {
            reasons.push(error.message.clone());
        }
        if let Some(first) = deny.first() {
            let more = match deny.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            reasons.push(format!("denied: {first}{more}"));
        }
        if refused {
            let rule = if self.phase == Phase::Launch {
                "allow_launch"
            } else {
                "allow"
            };
            reasons.push(format!("{rule} is false"));
        }
        let allow = reasons.is_empty();
        Verdict {
            policy: self.facts.name,
            allow,
            deny,
            release_limit: release_limit.filter(|_| error.is_none()),
            error,
            reason: if allow {
                "allowed".to_owned()
            } else {
                reasons.join("; ")
            },
        }
    }
}

fn allowed(rule: &str, value: &Value, findings: &mut Findings) {
    match value {
        Value::Bool(true) => {}
        Value::Bool(false) => findings.refused = true,
        Value::Undefined => findings.problem(ErrorKind::UndefinedAllow, format!("`{rule}` is undefined")),
        other => {
            let message = format!("`{rule}` is {}, expected true or false", kind_of(other));
            findings.problem(ErrorKind::WrongType, message);
        }
    }
}

fn denied(rule: &str, value: &Value, limits: &Limits, findings: &mut Findings) {
    match value {
        Value::Undefined => {}
        Value::Set(messages) => {
            let mut texts: Vec<String> = messages
                .iter()
                .map(|message| match message {
                    Value::String(text) => cut(text, limits.max_message_bytes),
                    other => cut(
                        &serde_json::to_string(other).unwrap_or_default(),
                        limits.max_message_bytes,
                    ),
                })
                .collect();
            texts.sort();
            let left_out = texts.len().saturating_sub(limits.max_messages);
            texts.truncate(limits.max_messages);
            if left_out > 0 {
                texts.push(format!("… and {left_out} more messages"));
            }
            findings.deny = texts;
        }
        other => {
            let message = format!("`{rule}` is {}, expected a set of messages", kind_of(other));
            findings.problem(ErrorKind::WrongType, message);
        }
    }
}

fn limited(value: &Value, findings: &mut Findings) {
    let problem = match value {
        Value::Undefined => "`release_limit` is undefined".to_owned(),
        Value::Number(_) => match whole(value) {
            Some(limit) => {
                findings.release_limit = Some(limit);
                return;
            }
            None => format!(
                "`release_limit` is {}, expected a whole number from 0 to 2^53",
                cut(&serde_json::to_string(value).unwrap_or_default(), 64)
            ),
        },
        other => format!(
            "`release_limit` is {}, expected a whole number from 0 to 2^53",
            kind_of(other)
        ),
    };
    findings.problem(ErrorKind::InvalidReleaseLimit, problem);
}

/// A number as a release limit; `3.0` is 3.
fn whole(value: &Value) -> Option<u64> {
    let limit = match value.as_u64() {
        Ok(limit) => limit,
        Err(_) => {
            let float = value.as_f64().ok().filter(|float| float.fract() == 0.0)?;
            // The text of a whole float has no exponent, so parsing it is exact where it fits at all.
            format!("{float:.0}").parse().ok()?
        }
    };
    (limit <= MAX_RELEASE_LIMIT).then_some(limit)
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(text) => format!("the string {:?}", cut(text, 64)),
        Value::Array(_) => "an array".to_owned(),
        Value::Set(_) => "a set".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Undefined => "undefined".to_owned(),
    }
}

/// An engine's error, which shows the place over several lines, in one: `file:line: message`. Its columns
/// count a tab as four and point behind a call's name, so they are left out.
pub(super) fn one_line(error: &str) -> String {
    let place = error
        .split_once("--> ")
        .and_then(|(_, rest)| rest.lines().next()?.rsplit_once(':'));
    let message = error.rsplit_once("error: ").map_or(error, |(_, message)| message);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match place {
        Some((place, _)) => format!("{}: {message}", place.trim()),
        None => message,
    }
}

/// A text of at most so many bytes, cut at a character.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while end > 0 && !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}
