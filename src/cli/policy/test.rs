//! `policy test`: the tests of a repository.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::{bundle, in_folder};
use crate::cli::{Ended, output};
use crate::policy::{Covered, Diagnostic, TestOutcome, TestReport, TestResult, run_tests};

#[derive(Args)]
pub(in crate::cli) struct Test {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Name the tests that passed too, and what they printed
    #[arg(short, long)]
    verbose: bool,
    /// Only tests whose `package.name` this finds
    #[arg(long, value_name = "REGEX")]
    run: Option<Regex>,
    /// Tell which lines of the policies the tests reach
    #[arg(long)]
    coverage: bool,
    /// Fail if they reach less than this, in percent
    #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: Option<u8>,
    /// Time that one test may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    time_limit_ms: u64,
    /// Tests that run at once; 0 is as many as there are processors
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    parallel: u16,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "pretty", value_name = "FORMAT")]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Pretty,
    /// As `opa test --format json` writes it
    Json,
    /// JUnit's XML
    Junit,
    /// The Test Anything Protocol
    Tap,
}

impl Test {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let refused = |found: Vec<Diagnostic>| {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            anyhow!(found.join("\n\n"))
        };
        let bundle = bundle(&self.folder)?.map_err(refused)?;
        let chosen = |path: &str| self.run.as_ref().is_none_or(|run| run.is_match(path));
        let parallel = match self.parallel {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => usize::from(count),
        };
        let report = run_tests(
            &bundle,
            Duration::from_millis(self.time_limit_ms),
            parallel,
            &chosen,
        )
        .map_err(|found| refused(in_folder(found, &self.folder)))?;
        match self.output {
            Form::Pretty => self.pretty(&report)?,
            Form::Json => output::line(&serde_json::to_string_pretty(&self.json(&report))?)?,
            Form::Junit => output::line(junit(&report).trim_end())?,
            Form::Tap => output::line(tap(&report).trim_end())?,
        }
        let failed = report.results.iter().any(|result| failure(result).is_some());
        let low = self
            .threshold
            .is_some_and(|least| percent(report.coverage.values()) < f64::from(least));
        if low && self.output != Form::Json {
            let (reached, least) = (percent(report.coverage.values()), self.threshold.unwrap_or(0));
            output::line(&format!(
                "coverage {reached:.1}% is below the threshold of {least}%"
            ))?;
        }
        Ok(if failed || low { Ended::Denied } else { Ended::Done })
    }

    fn pretty(&self, report: &TestReport) -> anyhow::Result<()> {
        for result in &report.results {
            let word = match &result.outcome {
                TestOutcome::Passed if !self.verbose => continue,
                TestOutcome::Passed => "PASS",
                TestOutcome::Skipped => "SKIPPED",
                TestOutcome::Failed(_) => "FAIL",
                TestOutcome::Error(_) => "ERROR",
            };
            let TestResult { package, name, .. } = result;
            output::line(&format!("data.{package}.{name}: {word}"))?;
            match &result.outcome {
                // It names its place itself.
                TestOutcome::Error(error) => output::line(&format!("  {error}"))?,
                TestOutcome::Failed(why) => {
                    let why = why.as_deref().unwrap_or("it is not true");
                    output::line(&format!(
                        "  {}:{}: {}",
                        result.file,
                        result.place.0,
                        why.replace('\n', "\n    ")
                    ))?;
                }
                TestOutcome::Passed | TestOutcome::Skipped => {}
            }
            for printed in &result.output {
                output::line(&format!("  {}", printed.trim_end()))?;
            }
        }
        if self.coverage {
            for (file, covered) in &report.coverage {
                let missed: Vec<String> = ranges(&covered.not_covered)
                    .into_iter()
                    .map(|(from, to)| {
                        if from == to {
                            from.to_string()
                        } else {
                            format!("{from}-{to}")
                        }
                    })
                    .collect();
                let missed = if missed.is_empty() {
                    String::new()
                } else {
                    format!("  not reached: {}", missed.join(", "))
                };
                output::line(&format!("{file}: {:.1}%{missed}", percent([covered])))?;
            }
        }
        let count = |wanted: &str| {
            let words = report.results.iter().map(|result| match result.outcome {
                TestOutcome::Passed => "PASS",
                TestOutcome::Failed(_) => "FAIL",
                TestOutcome::Error(_) => "ERROR",
                TestOutcome::Skipped => "SKIPPED",
            });
            words.filter(|word| *word == wanted).count()
        };
        let all = report.results.len();
        if all == 0 {
            return output::line("There are no tests: a test is a rule `test_…` in a file `…_test.rego`");
        }
        for word in ["PASS", "FAIL", "ERROR", "SKIPPED"] {
            let number = count(word);
            if number > 0 {
                output::line(&format!("{word}: {number}/{all}"))?;
            }
        }
        Ok(())
    }

    /// What `opa test --format json` prints; with coverage, what it prints then.
    fn json(&self, report: &TestReport) -> Value {
        if self.coverage {
            let files: Map<String, Value> = report
                .coverage
                .iter()
                .map(|(file, covered)| (file.clone(), coverage(covered)))
                .collect();
            return json!({"files": files, "coverage": percent(report.coverage.values())});
        }
        let tests = report.results.iter().map(|result| {
            use base64::Engine as _;
            let (row, col) = result.place;
            let output = (!result.output.is_empty())
                .then(|| base64::engine::general_purpose::STANDARD.encode(result.output.join("\n")));
            let error = match &result.outcome {
                TestOutcome::Error(error) => Some(json!({"message": error})),
                _ => None,
            };
            let members = [
                (
                    "location",
                    Some(json!({"file": result.file, "row": row, "col": col})),
                ),
                ("package", Some(format!("data.{}", result.package).into())),
                ("name", Some(result.name.clone().into())),
                (
                    "duration",
                    Some(
                        u64::try_from(result.duration.as_nanos())
                            .unwrap_or(u64::MAX)
                            .into(),
                    ),
                ),
                (
                    "fail",
                    matches!(result.outcome, TestOutcome::Failed(_)).then(|| true.into()),
                ),
                (
                    "skip",
                    (result.outcome == TestOutcome::Skipped).then(|| true.into()),
                ),
                ("error", error),
                ("output", output.map(Value::from)),
            ];
            let said = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(said.collect())
        });
        Value::Array(tests.collect())
    }
}

/// Why a test did not pass.
fn failure(result: &TestResult) -> Option<&str> {
    match &result.outcome {
        TestOutcome::Failed(why) => Some(why.as_deref().unwrap_or("it is not true")),
        TestOutcome::Error(error) => Some(error),
        TestOutcome::Passed | TestOutcome::Skipped => None,
    }
}

fn junit(report: &TestReport) -> String {
    let escape = |text: &str| {
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let text = text.replace('"', "&quot;");
        text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}")
    };
    let results = &report.results;
    let count = |test: fn(&TestOutcome) -> bool| results.iter().filter(|r| test(&r.outcome)).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"keyward policy test\" \
         tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
        results.len(),
        count(|outcome| matches!(outcome, TestOutcome::Failed(_))),
        count(|outcome| matches!(outcome, TestOutcome::Error(_))),
        count(|outcome| *outcome == TestOutcome::Skipped),
    );
    for result in results {
        text.push_str(&format!(
            "    <testcase classname=\"data.{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.6}\"",
            escape(&result.package),
            escape(&result.name),
            escape(&result.file),
            result.place.0,
            result.duration.as_secs_f64(),
        ));
        text.push_str(&match &result.outcome {
            TestOutcome::Passed => "/>\n".to_owned(),
            TestOutcome::Skipped => ">\n      <skipped/>\n    </testcase>\n".to_owned(),
            TestOutcome::Failed(_) | TestOutcome::Error(_) => {
                let kind = if matches!(result.outcome, TestOutcome::Failed(_)) {
                    "failure"
                } else {
                    "error"
                };
                let why = escape(failure(result).unwrap_or_default()).replace('\n', "&#10;");
                format!(">\n      <{kind} message=\"{why}\"/>\n    </testcase>\n")
            }
        });
    }
    text + "  </testsuite>\n</testsuites>\n"
}

fn tap(report: &TestReport) -> String {
    let mut text = format!("TAP version 13\n1..{}\n", report.results.len());
    for (number, result) in report.results.iter().enumerate() {
        let (word, end) = match &result.outcome {
            TestOutcome::Passed => ("ok", ""),
            TestOutcome::Skipped => ("ok", " # SKIP"),
            TestOutcome::Failed(_) | TestOutcome::Error(_) => ("not ok", ""),
        };
        let number = number + 1;
        text.push_str(&format!(
            "{word} {number} - data.{}.{}{end}\n",
            result.package, result.name
        ));
        for line in failure(result).into_iter().flat_map(str::lines) {
            text.push_str(&format!("# {}:{}: {line}\n", result.file, result.place.0));
        }
    }
    text
}

/// Lines reached of all lines, in percent; of none, all.
fn percent<'c>(files: impl IntoIterator<Item = &'c Covered>) -> f64 {
    let (mut reached, mut all) = (0_u32, 0_u32);
    for file in files {
        let count = |lines: &BTreeSet<u32>| u32::try_from(lines.len()).unwrap_or(u32::MAX);
        reached = reached.saturating_add(count(&file.covered));
        all = all
            .saturating_add(count(&file.covered))
            .saturating_add(count(&file.not_covered));
    }
    if all == 0 {
        100.0
    } else {
        f64::from(reached) * 100.0 / f64::from(all)
    }
}

fn coverage(covered: &Covered) -> Value {
    let rows = |lines: &BTreeSet<u32>| -> Value {
        let ranges = ranges(lines).into_iter();
        ranges
            .map(|(from, to)| json!({"start": {"row": from}, "end": {"row": to}}))
            .collect()
    };
    json!({
        "covered": rows(&covered.covered),
        "not_covered": rows(&covered.not_covered),
        "coverage": percent([covered]),
    })
}

/// Lines that follow each other, as first and last.
fn ranges(lines: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match found.last_mut() {
            Some((_, last)) if last.saturating_add(1) == *line => *last = *line,
            _ => found.push((*line, *line)),
        }
    }
    found
}
