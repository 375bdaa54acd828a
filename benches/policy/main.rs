//! What one decision costs: evaluated in this process, through a worker, and by an engine that is made anew for each
//! request, all in one run; a thousand owners in turn; and the first load of a bundle. `docs/performance.md` says how
//! the figures are read.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that can't be set up has nothing to measure"
)]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use keyward::isolation::{Launcher, Workers};
use keyward::policy::{Archived, Asked, Bundle, Evaluator as _, Input, Limits, Phase, PreparedBundle, STACK};

/// Twelve conditions and fifty digests.
const POLICY: &str = include_str!("database.rego");
const DATA: &str = include_str!("approved.json");
const NAME: &str = "release.database";
/// Decisions that the table's medians are taken of.
const ROUNDS: usize = 3_000;
const OWNERS: usize = 1_000;

fn main() {
    // The engine recurses on what it reads, so that it is asked where a worker asks it: on a big stack.
    let bench = std::thread::Builder::new().stack_size(STACK).spawn(|| {
        let quick = std::env::args().any(|argument| argument == "--test");
        let mut criterion = Criterion::default().configure_from_args();
        one_decision(&mut criterion);
        compared(if quick { 3 } else { ROUNDS });
        many_owners(if quick { 3 } else { OWNERS });
        criterion.final_summary();
    });
    bench.expect("a thread").join().expect("the benchmark");
}

fn limits() -> Limits {
    Limits {
        // So long that a busy machine's pauses are no denials.
        time: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn workers(count: usize) -> Workers {
    let launcher = Launcher {
        program: env!("CARGO_BIN_EXE_keyward").into(),
        memory_mib: 512,
    };
    Workers::new(launcher, count, limits())
}

/// The policy repository of an owner; each has other bytes.
fn bundle(owner: usize) -> Bundle {
    let files = [
        ("release/database.rego", format!("{POLICY}\n# {owner}\n")),
        ("approved/data.json", DATA.to_owned()),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
    Bundle::from_files(files.into()).expect("a bundle")
}

fn asked() -> Vec<Asked<'static>> {
    vec![Asked {
        policy: NAME,
        phase: Phase::Release,
        input: Input::example(Phase::Release),
    }]
}

/// The three ways of one decision.
struct Ways {
    prepared: PreparedBundle,
    input: String,
    workers: Workers,
    archived: Archived,
}

impl Ways {
    fn warm() -> Self {
        let bundle = bundle(0);
        let prepared = PreparedBundle::prepare(&bundle, &limits()).expect("a bundle that loads");
        let input = serde_json::to_string(&Input::example(Phase::Release)).expect("an input");
        let archived = Archived::from(&bundle);
        let ways = Self {
            prepared,
            input,
            workers: workers(1),
            archived,
        };
        for _ in 0..50 {
            ways.in_process();
            ways.worker();
            ways.anew();
        }
        ways
    }

    fn in_process(&self) {
        let verdict = self
            .prepared
            .ask_here(NAME, Phase::Release, &self.input, &limits());
        assert!(black_box(verdict).allow);
    }

    fn worker(&self) {
        let verdicts = self.workers.ask("acme", &self.archived, asked());
        assert!(black_box(verdicts).iter().all(|verdict| verdict.allow));
    }

    /// The way there and back alone: a policy that is not there is not evaluated.
    fn round_trip(&self) {
        let mut asked = asked();
        asked[0].policy = "release.nothing";
        assert!(
            black_box(self.workers.ask("acme", &self.archived, asked))[0]
                .error
                .is_some()
        );
    }

    /// A new engine, the text parsed, the rules asked.
    fn anew(&self) {
        let mut engine = regorus::Engine::new();
        engine.set_strict_builtin_errors(true);
        engine
            .add_policy("database.rego".to_owned(), POLICY.to_owned())
            .expect("a policy");
        let data = format!("{{\"approved\": {DATA}}}");
        engine.add_data_json(&data).expect("data");
        engine.set_input_json(&self.input).expect("an input");
        for rule in ["allow", "deny", "release_limit"] {
            black_box(engine.eval_rule(format!("data.{NAME}.{rule}")).expect("a value"));
        }
    }
}

fn one_decision(criterion: &mut Criterion) {
    let ways = Ways::warm();
    let mut group = criterion.benchmark_group("one decision");
    group.bench_function("in process", |b| b.iter(|| ways.in_process()));
    group.bench_function("through a worker", |b| b.iter(|| ways.worker()));
    group.bench_function("new engine", |b| b.iter(|| ways.anew()));
    group.finish();
    let bundle = bundle(0);
    criterion.bench_function("cold load of a bundle", |b| {
        b.iter(|| PreparedBundle::prepare(black_box(&bundle), &limits()).expect("a bundle that loads"));
    });
}

/// The ways by turns, so that what else the machine does falls on all of them.
fn compared(rounds: usize) {
    let ways = Ways::warm();
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let runs: [&dyn Fn(); 4] = [&|| ways.in_process(), &|| ways.worker(), &|| ways.anew(), &|| {
            ways.round_trip()
        }];
        for (run, times) in runs.iter().zip(&mut times) {
            let begun = Instant::now();
            run();
            times.push(begun.elapsed());
        }
    }
    let [in_process, worker, anew, round_trip] = times.map(median);
    let ratio = |time: Duration| time.as_secs_f64() / in_process.as_secs_f64();
    println!("one decision by turns, medians of {rounds}:");
    for (way, time) in [
        ("in process", in_process),
        ("through a worker", worker),
        ("new engine, parse, evaluate", anew),
        ("to a worker and back alone", round_trip),
    ] {
        println!("  {way:<28} {:>8.1} µs  {:.2}", micros(time), ratio(time));
    }
    println!(
        "  a worker's cost beyond the evaluation: {:.1} µs",
        micros(worker) - micros(in_process)
    );
}

/// Owners one after the other, each with a bundle of its own, through as many workers as a server has.
fn many_owners(count: usize) {
    let bundles: Vec<_> = (0..count).map(|owner| Archived::from(&bundle(owner))).collect();
    let names: Vec<_> = (0..count).map(|owner| format!("owner-{owner}")).collect();
    let workers = workers(Workers::usual_count());
    println!(
        "{count} owners in turn, {} workers at most:",
        Workers::usual_count()
    );
    for round in ["first", "second", "third"] {
        let begun = Instant::now();
        let times = names.iter().zip(&bundles).map(|(name, bundle)| {
            let begun = Instant::now();
            let verdicts = workers.ask(name, bundle, asked());
            assert!(verdicts[0].allow, "{verdicts:?}");
            begun.elapsed()
        });
        let median = median(times.collect());
        let mean = begun.elapsed() / u32::try_from(count).expect("a count");
        println!(
            "  {round:<6} round  {:>8.1} µs at the median, {:.1} µs on average",
            micros(median),
            micros(mean)
        );
    }
    for (id, resident) in resident() {
        println!("  worker {id} has {resident} resident");
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// This process's workers and their resident memory.
fn resident() -> Vec<(String, String)> {
    let own = format!("PPid:\t{}", std::process::id());
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let entry = entry.ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        status.lines().any(|line| line == own).then(|| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                resident.trim().to_owned(),
            )
        })
    });
    processes.collect()
}
