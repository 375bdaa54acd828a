//! What was found, check by check: a line each for people, a list for programs.

use serde::Serialize;

use crate::cli::output::{self, Format};
use crate::cli::paint::Paint;

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It is as it should be.
    Ok,
    /// It works, and should be otherwise.
    Warning,
    /// It does not work, or is not safe.
    Failed,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
}

/// One check.
#[derive(Serialize)]
struct Check {
    check: &'static str,
    outcome: Outcome,
    /// What was found.
    detail: String,
    /// What to do about it.
    advice: Option<String>,
}

/// All that was found.
#[derive(Serialize, Default)]
pub(super) struct Report {
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Outcome::Ok, detail.into(), None);
    }

    pub(super) fn skip(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Outcome::Skipped, detail.into(), None);
    }

    pub(super) fn warn(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Outcome::Warning, detail.into(), Some(advice.into()));
    }

    pub(super) fn fail(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Outcome::Failed, detail.into(), Some(advice.into()));
    }

    /// One that failed with an error that says itself what to do.
    pub(super) fn error(&mut self, check: &'static str, error: &anyhow::Error) {
        self.add(check, Outcome::Failed, chain(error), None);
    }

    fn add(&mut self, check: &'static str, outcome: Outcome, detail: String, advice: Option<String>) {
        self.checks.push(Check {
            check,
            outcome,
            detail,
            advice,
        });
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.checks
            .iter()
            .filter(|check| check.outcome == outcome)
            .count()
    }

    /// Whether nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.count(Outcome::Failed) == 0
    }

    pub(super) fn tell(&self, format: Format) -> anyhow::Result<()> {
        if output::structured(format, self)? {
            return Ok(());
        }
        let paint = Paint::for_stdout();
        for check in &self.checks {
            // Padded before it is painted, as colours have no width.
            let word = match check.outcome {
                Outcome::Ok => paint.added("ok      "),
                Outcome::Warning => paint.changed("warning "),
                Outcome::Failed => paint.removed("failed  "),
                Outcome::Skipped => "skipped ".to_owned(),
            };
            let mut line = format!("{word} {:<20} {}", check.check, plain(&check.detail));
            if let Some(advice) = &check.advice {
                line.push_str(&format!(" → {}", plain(advice)));
            }
            output::line(&line)?;
        }
        let (warnings, failed) = (self.count(Outcome::Warning), self.count(Outcome::Failed));
        let number = |count: usize, one: &str| match count {
            0 => format!("no {one}s"),
            1 => format!("1 {one}"),
            many => format!("{many} {one}s"),
        };
        output::line(&format!(
            "\n{}: {}, {}.",
            number(self.checks.len(), "check"),
            number(failed, "failure"),
            number(warnings, "warning")
        ))
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own words.
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}

/// One line, whatever names and errors bring along.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
