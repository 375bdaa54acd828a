//! `test_` rules of a repository, run as `opa test` runs them: one that is true passed, one whose name begins with
//! `todo_` is skipped, all else failed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::bundle::Bundle;
use super::diagnostic::Diagnostic;
use super::explain;
use super::limits::{Deadline, on_big_stack, on_big_stacks};
use super::load;
use super::syntax::Module;

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestOutcome {
    /// Its rule is true.
    Passed,
    /// It is not; with the conditions that did not hold and the values they looked at, where they are known.
    Failed(Option<String>),
    /// It could not be evaluated.
    Error(String),
    /// Its name says that it is still to be written.
    Skipped,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Its package, without `data.`.
    pub package: String,
    /// Its rule.
    pub name: String,
    /// Its file, as a path in the bundle.
    pub file: String,
    /// Line and column of the rule, from 1.
    pub place: (u32, u32),
    /// How it ended.
    pub outcome: TestOutcome,
    /// How long it took.
    pub duration: Duration,
    /// What it printed.
    pub output: Vec<String>,
}

/// Lines of a policy that tests reached, and those that none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Reached.
    pub covered: BTreeSet<u32>,
    /// Not reached.
    pub not_covered: BTreeSet<u32>,
}

/// All tests of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// The tests, by file and line.
    pub results: Vec<TestResult>,
    /// Coverage of the policies, by file; test files are left out.
    pub coverage: BTreeMap<String, Covered>,
}

/// Runs the tests whose `package.name` is `chosen`, each for at most `time`, `parallel` of them at once. The report
/// is the same whatever their number, but for durations.
///
/// # Errors
/// What is wrong with the bundle or its test files.
pub fn run_tests(
    bundle: &Bundle,
    time: Duration,
    parallel: usize,
    chosen: &(dyn Fn(&str) -> bool + Sync),
) -> Result<TestReport, Vec<Diagnostic>> {
    on_big_stack(|| run(bundle, time, parallel, chosen)).unwrap_or_else(|panic| {
        let message = format!("the tests could not be run: {panic}");
        Err(vec![Diagnostic::on_file("", message)])
    })
}

fn run(
    bundle: &Bundle,
    time: Duration,
    parallel: usize,
    chosen: &dyn Fn(&str) -> bool,
) -> Result<TestReport, Vec<Diagnostic>> {
    // What the server would refuse is not tested.
    load::load(bundle)?;
    let (mut engine, modules) = load::with_tests(bundle)?;
    engine.set_enable_coverage(true);
    let mut report = TestReport::default();
    for (path, _) in bundle.modules() {
        report.coverage.insert(path.to_owned(), Covered::default());
    }
    let mut jobs = Vec::new();
    for module in &modules {
        let mut seen = BTreeSet::new();
        for rule in &module.rules {
            let Some(name) = rule.name.first() else { continue };
            let skipped = name.starts_with("todo_test_");
            let path = format!("{}.{name}", module.package.join("."));
            if !(skipped || name.starts_with("test_")) || !seen.insert(name) || !chosen(&path) {
                continue;
            }
            let place = Diagnostic::at_offset(&module.file, &module.text, rule.offset, "");
            let result = TestResult {
                package: module.package.join("."),
                name: name.clone(),
                file: module.file.clone(),
                place: (place.line, place.column),
                outcome: TestOutcome::Skipped,
                duration: Duration::ZERO,
                output: Vec::new(),
            };
            if skipped {
                report.results.push(result);
                continue;
            }
            jobs.push(Job { module, result });
        }
    }
    side_by_side(&engine, jobs, time, parallel, &mut report)?;
    for covered in report.coverage.values_mut() {
        let reached = covered.covered.clone();
        covered.not_covered.retain(|line| !reached.contains(line));
    }
    report
        .results
        .sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    Ok(report)
}

/// A test to be run.
struct Job<'m> {
    module: &'m Module,
    /// What is known of it already.
    result: TestResult,
}

/// Runs the tests on so many threads, each of which takes one after the other.
fn side_by_side(
    engine: &Engine,
    jobs: Vec<Job<'_>>,
    time: Duration,
    parallel: usize,
    report: &mut TestReport,
) -> Result<(), Vec<Diagnostic>> {
    let threads = parallel.clamp(1, jobs.len().max(1));
    let files = report.coverage.clone();
    let waiting = Mutex::new(jobs.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let (mut results, mut coverage) = (Vec::new(), files.clone());
        while let Some(Job { module, mut result }) = next() {
            one(&mut engine.clone(), module, time, &mut result, &mut coverage);
            results.push(result);
        }
        (results, coverage)
    };
    for done in on_big_stacks(threads, run) {
        let (results, coverage) = done.map_err(|panic| {
            let message = format!("the tests could not be run: {panic}");
            vec![Diagnostic::on_file("", message)]
        })?;
        report.results.extend(results);
        for (file, covered) in coverage {
            let all = report.coverage.entry(file).or_default();
            all.covered.extend(covered.covered);
            all.not_covered.extend(covered.not_covered);
        }
    }
    Ok(())
}

fn one(
    engine: &mut Engine,
    module: &Module,
    time: Duration,
    result: &mut TestResult,
    coverage: &mut BTreeMap<String, Covered>,
) {
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: time,
        check_interval: NonZeroU32::MIN,
    });
    let begun = Instant::now();
    let value = engine.eval_rule(format!("data.{}.{}", result.package, result.name));
    result.duration = begun.elapsed();
    result.output = engine.take_prints().unwrap_or_default();
    let report = engine.get_coverage_report().unwrap_or_default();
    result.outcome = match value {
        Ok(Value::Bool(true)) => TestOutcome::Passed,
        Ok(_) => {
            let path: Vec<String> = module.package.iter().chain([&result.name]).cloned().collect();
            let lines = explain::failing_lines(engine, &path, Deadline::after(time));
            TestOutcome::Failed((!lines.is_empty()).then(|| lines.join("\n")))
        }
        Err(error) => TestOutcome::Error(super::question::one_line(&error.to_string())),
    };
    for file in report.files {
        if let Some(covered) = coverage.get_mut(&file.path) {
            covered.covered.extend(&file.covered);
            covered.not_covered.extend(&file.not_covered);
        }
    }
}
