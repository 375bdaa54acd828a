//! What a policy said: the verdict on one phase of one launch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The two moments at which policies are asked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before a launch session is handed out; nothing about the guest is attested yet.
    Launch,
    /// After the measurement was verified, before secrets are wrapped.
    Release,
}

impl Phase {
    /// The word that the contract uses: `launch` or `release`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Launch => "launch",
            Phase::Release => "release",
        }
    }
}

/// What one policy decided in one phase.
///
/// Only `allow == true` allows. A verdict that carries an `error` never allows, whatever else it holds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The policy's name: its package path without `data.`, such as `release.database`.
    pub policy: String,
    /// The decision. True only if `allow` was exactly `true`, nothing was denied and nothing went wrong.
    pub allow: bool,
    /// The messages of the `deny` set, sorted, bounded in number and bytes.
    pub deny: Vec<String>,
    /// How many releases this policy permits within its binding, where it names a limit (release phase only).
    pub release_limit: Option<u64>,
    /// What went wrong, where something did. `allow` is then false.
    pub error: Option<EvaluationError>,
    /// One line that says why, for those who may read it: owners and auditors, never hosts.
    pub reason: String,
}

/// A problem that turned a decision into a deny.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationError {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// The text, for people.
    pub message: String,
}

impl EvaluationError {
    /// A problem.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> EvaluationError {
        EvaluationError {
            kind,
            message: message.into(),
        }
    }
}

/// The kinds of problem that deny.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// `allow` (or a declared `allow_launch`) has no value for this input.
    UndefinedAllow,
    /// `allow` is not a boolean, or `deny` is not a set.
    WrongType,
    /// A body that was evaluated failed: a conflict, a built-in's error, an unsafe value.
    EvaluationError,
    /// The policy did not finish within its time.
    TimeLimit,
    /// A declared `release_limit` is not a whole number from 0 to 2^53.
    InvalidReleaseLimit,
    /// The bundle has no such policy.
    MissingPolicy,
    /// A result exceeds its bound.
    TooLarge,
    /// Every worker is taken and none came free in time.
    Busy,
    /// The process that evaluated it died: its stack or its memory was used up.
    Crashed,
    /// The evaluator itself failed: a caught panic, or an input for another phase.
    Internal,
}

impl Verdict {
    /// What a policy without a rule for launch says at launch; nobody needs to evaluate it.
    pub fn silent_at_launch(policy: &str) -> Verdict {
        Verdict {
            policy: policy.to_owned(),
            allow: true,
            deny: Vec::new(),
            release_limit: None,
            error: None,
            reason: "allowed: the policy has no rule for launch".to_owned(),
        }
    }

    /// A deny because of a problem, with the problem's message as its reason.
    pub fn failed(policy: &str, kind: ErrorKind, message: impl Into<String>) -> Verdict {
        let message = message.into();
        Verdict {
            policy: policy.to_owned(),
            allow: false,
            deny: Vec::new(),
            release_limit: None,
            reason: message.clone(),
            error: Some(EvaluationError { kind, message }),
        }
    }
}
