//! Explanations for people: lines of text, indented.

use super::{ConditionOutcome, ExplainedCondition, ExplainedDefinition, ExplainedRule, Explanation};

/// Longest condition that is shown, in characters.
const LONGEST: usize = 160;

/// An explanation for people, a line each; none ends with a line break.
pub fn explanation_lines(explanation: &Explanation) -> Vec<String> {
    let word = if explanation.allow { "ALLOWED" } else { "DENIED" };
    let mut lines = vec![format!("{word}  {}: {}", explanation.policy, explanation.reason)];
    for one in &explanation.rules {
        rule(one, true, 1, &mut lines);
    }
    if explanation.cut {
        lines.push("  (there is more; it was left out)".to_owned());
    }
    lines
}

/// The conditions of a rule that did not hold, for people, each with the values that it looked at.
pub(super) fn failing(explained: &ExplainedRule) -> Vec<String> {
    let mut lines = Vec::new();
    let conditions = explained.definitions.iter().flat_map(|one| &one.conditions);
    for condition in conditions {
        match condition.outcome {
            ConditionOutcome::Held | ConditionOutcome::NotReached => continue,
            ConditionOutcome::Failed => {
                lines.push(format!(
                    "line {} did not hold: {}",
                    condition.line,
                    cut(&condition.text)
                ));
            }
            ConditionOutcome::Error => {
                lines.push(format!(
                    "line {} failed: {}",
                    condition.line,
                    cut(&condition.text)
                ));
            }
        }
        details(condition, "", true, &mut lines);
        condition
            .because
            .iter()
            .for_each(|because| rule(because, false, 1, &mut lines));
    }
    lines
}

/// The highest limit, by which `keyward.workload` says that there is none.
const NO_LIMIT: &str = "9007199254740992";

fn rule(explained: &ExplainedRule, outermost: bool, depth: usize, lines: &mut Vec<String>) {
    if explained.value.as_deref() == Some(NO_LIMIT) && explained.rule.ends_with(".release_limit") {
        return;
    }
    let indent = "  ".repeat(depth);
    let name = if outermost {
        explained.rule.rsplit('.').next().unwrap_or(&explained.rule)
    } else {
        explained.rule.as_str()
    };
    let value = explained.value.as_deref().unwrap_or("undefined");
    if explained.definitions.is_empty() {
        lines.push(format!("{indent}{name} is {value}"));
    }
    for (at, one) in explained.definitions.iter().enumerate() {
        let place = format!("{}:{}", one.file, one.line);
        lines.push(if at == 0 {
            format!("{indent}{name} is {value}  ({place})")
        } else {
            format!("{indent}also  ({place})")
        });
        for condition in &one.conditions {
            self::condition(condition, one, outermost, depth + 1, lines);
        }
    }
    match explained.others {
        0 => {}
        1 => lines.push(format!("{indent}  1 other definition did not hold either")),
        others => lines.push(format!(
            "{indent}  {others} other definitions did not hold either"
        )),
    }
}

fn condition(
    explained: &ExplainedCondition,
    definition: &ExplainedDefinition,
    outermost: bool,
    depth: usize,
    lines: &mut Vec<String>,
) {
    let indent = "  ".repeat(depth);
    let word = match explained.outcome {
        ConditionOutcome::Held => "held       ",
        ConditionOutcome::Failed => "FAILED     ",
        ConditionOutcome::Error => "ERROR      ",
        ConditionOutcome::NotReached => "not reached",
    };
    lines.push(format!(
        "{indent}{word}  line {}: {}",
        explained.line,
        cut(&explained.text)
    ));
    // What held on the way to a failure is told without its values: they are not what is looked for.
    let told = explained.outcome != ConditionOutcome::Held || (definition.held && outermost);
    details(explained, &format!("{indent}  "), told, lines);
    for because in &explained.because {
        rule(because, false, depth + 2, lines);
    }
}

/// What went wrong in a condition, and what it looked at.
fn details(explained: &ExplainedCondition, indent: &str, values: bool, lines: &mut Vec<String>) {
    if let Some(error) = &explained.error {
        lines.push(format!("{indent}  {error}"));
    }
    for seen in explained.values.iter().filter(|_| values) {
        lines.push(match &seen.value {
            Some(value) => format!("{indent}  {} = {value}", seen.name),
            None => format!("{indent}  {} is missing", seen.name),
        });
    }
}

/// A condition of a bearable length.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
