//! Why a policy decided as it did: the rules that were asked, the conditions that held and those that did not, with
//! the values they looked at.
//!
//! Nothing here knows what a policy checks. Each condition is taken from the policy's own text and asked again of the
//! same engine with the same input ([`probe`]), as part of a rule that is added to the policy's package; so an
//! explanation can't say something else than the decision. A rule that a condition needs is explained in turn.
//!
//! What is explained is owners' text, so all of it runs where evaluation does, within a time and a number of
//! conditions; what was left out is said to be.

mod asked;
mod literal;
mod probe;
mod rules;
mod shown;
mod source;
mod target;
mod terms;
mod text;
mod values;

use regorus::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::{ErrorKind, Phase, Verdict};
use super::limits::Deadline;
use super::load::PolicyFacts;
use super::names::Names;
use super::syntax::Module;
use rules::Explainer;
pub use text::explanation_lines;

/// Most conditions that are looked at for one policy.
const MAX_CONDITIONS: usize = 400;

/// Why one policy decided as it did.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// The policy's name.
    pub policy: String,
    /// The phase it was asked in.
    pub phase: Phase,
    /// The decision, as it is taken on this input.
    pub allow: bool,
    /// Why, in one line, as in a verdict.
    pub reason: String,
    /// The rules that led to it.
    pub rules: Vec<ExplainedRule>,
    /// Whether there was more to explain than time or room for it.
    pub cut: bool,
}

/// One rule, or one call of a function.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainedRule {
    /// Its path without `data.`, such as `release.database.allow`.
    pub rule: String,
    /// Its value as Rego text, shortened; null: it is undefined.
    pub value: Option<String>,
    /// Where the rule holds, the definitions that made it; else the one that came closest.
    pub definitions: Vec<ExplainedDefinition>,
    /// How many other definitions did not hold either.
    pub others: u32,
}

/// One definition of a rule.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainedDefinition {
    /// Its file, as a path in the bundle; the library's begin with `keyward/`.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// Whether all of its conditions held.
    pub held: bool,
    /// Its conditions, in the order of the text.
    pub conditions: Vec<ExplainedCondition>,
}

/// One condition of a definition.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainedCondition {
    /// Its line, from 1.
    pub line: u32,
    /// Its text, in one line.
    pub text: String,
    /// What became of it.
    pub outcome: ConditionOutcome,
    /// What it looked at.
    pub values: Vec<LookedAt>,
    /// Why the evaluation of it failed, where it did.
    pub error: Option<String>,
    /// The rules and functions that it needs and that explain the outcome.
    pub because: Vec<ExplainedRule>,
}

/// What became of a condition.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionOutcome {
    /// It held.
    Held,
    /// It did not.
    Failed,
    /// Its evaluation failed, which is no holding either.
    Error,
    /// It needs a value that a condition above it would have given.
    NotReached,
}

/// A value that a condition looked at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookedAt {
    /// How the policy names it, such as `input.platform.product`.
    pub name: String,
    /// The value as Rego text, shortened; null: there is none (it is undefined).
    pub value: Option<String>,
}

/// Explains what a policy says about the input that `engine` has. Runs on a big stack only.
pub(super) fn explain(
    engine: Engine,
    facts: &PolicyFacts,
    verdict: &Verdict,
    phase: Phase,
    deadline: Deadline,
) -> Explanation {
    let mut explanation = Explanation {
        policy: verdict.policy.clone(),
        phase,
        allow: verdict.allow,
        reason: verdict.reason.clone(),
        rules: Vec::new(),
        cut: false,
    };
    // What took all its time, or is too large to be looked at, would only do so again.
    let kind = verdict.error.as_ref().map(|error| error.kind);
    if matches!(
        kind,
        Some(ErrorKind::TimeLimit | ErrorKind::TooLarge | ErrorKind::Internal)
    ) {
        explanation.cut = true;
        return explanation;
    }
    let asked: &[(&str, bool)] = match phase {
        Phase::Launch => &[
            ("allow_launch", facts.has_allow_launch),
            ("deny_launch", facts.has_deny_launch),
        ],
        Phase::Release => &[
            ("allow", true),
            ("deny", facts.has_deny),
            ("release_limit", facts.has_release_limit),
        ],
    };
    let mut engine = engine;
    let trees = engine.get_modules().clone();
    let modules: Vec<Module> = trees.iter().map(|tree| Module::of(tree)).collect();
    let names = Names::of(&modules);
    let mut explainer = Explainer::new(&names, &trees, deadline, MAX_CONDITIONS);
    for (rule, _) in asked.iter().filter(|(_, there)| *there) {
        let path: Vec<String> = facts.name.split('.').chain([*rule]).map(str::to_owned).collect();
        let explained = explainer.rule(&engine, &path, &[], 0);
        // A set of messages that is empty has denied nothing, and there is nothing to say about it.
        let silent = rule.starts_with("deny") && !explained.definitions.iter().any(|one| one.held);
        if !silent {
            explanation.rules.push(explained);
        }
    }
    explanation.cut = explainer.was_cut();
    explanation
}

/// The conditions of a rule of tests that did not hold, as lines of text.
pub(super) fn failing_lines(engine: &mut Engine, path: &[String], deadline: Deadline) -> Vec<String> {
    let trees = engine.get_modules().clone();
    let modules: Vec<Module> = trees.iter().map(|tree| Module::of(tree)).collect();
    let names = Names::of(&modules);
    let mut explainer = Explainer::new(&names, &trees, deadline, MAX_CONDITIONS);
    let explained = explainer.rule(engine, path, &[], 0);
    text::failing(&explained)
}
