//! The machine: can owners' policies be evaluated, are there descriptors and random bytes, does the unit fit?

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::report::Report;
use crate::config::{Config, PolicyConfig};
use crate::isolation::{Launcher, Workers};
use crate::policy::{Archived, Asked, Bundle, Evaluator as _, Input, Limits, Phase};
use crate::sev::{Random as _, SystemRandom};

/// Connections that a listener's thread takes, and a few for files and other listeners.
const CONNECTIONS: u64 = 4096;
/// Where systemd has units, first what an administrator wrote.
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
];
/// What the end of the server may take besides requests under way, in seconds.
const FINISH: u64 = 10;

pub(super) fn check(report: &mut Report, config: Option<&Config>, unit: Option<&Path>) {
    workers(report, config);
    match SystemRandom.fill(&mut [0; 32]) {
        Ok(()) => report.ok("randomness", "the system has random bytes"),
        Err(error) => report.error("randomness", &error.into()),
    }
    limits(report);
    self::unit(report, config, unit);
}

/// Evaluates a policy as the server would: in a process of its own.
fn workers(report: &mut Report, config: Option<&Config>) {
    let policy = config.map_or_else(PolicyConfig::default, |config| config.policy.clone());
    let launcher = Launcher::this_program(policy.worker_memory_mib);
    let workers = Workers::new(launcher, 1, Limits::default());
    let module = b"package doctor\n\nallow if input.attested.launch_digest != null\n".to_vec();
    let evaluated = || {
        let files = BTreeMap::from([("doctor.rego".to_owned(), module)]);
        let bundle = Bundle::from_files(files).map_err(|_| "the policy does not load".to_owned())?;
        let archived = Archived::from(&bundle);
        if let Err(error) = workers.load("doctor", &archived, false) {
            return Err(match error {
                crate::policy::LoadError::Refused(_) => "the policy does not load".to_owned(),
                crate::policy::LoadError::NotNow(why) => why,
            });
        }
        let asked = Asked {
            policy: "doctor",
            phase: Phase::Release,
            input: Input::example(Phase::Release),
        };
        match workers.ask("doctor", &archived, vec![asked]).first() {
            Some(verdict) if verdict.allow => Ok(()),
            Some(verdict) => Err(verdict.reason.clone()),
            None => Err("there was no answer".to_owned()),
        }
    };
    match evaluated() {
        Ok(()) => report.ok(
            "policy workers",
            format!("a policy was evaluated within {} MiB", policy.worker_memory_mib),
        ),
        Err(why) => report.fail(
            "policy workers",
            why,
            "the server starts itself for each worker: look at `noexec`, limits on processes and memory, and policy.worker_memory_mib",
        ),
    }
}

fn limits(report: &mut Report) {
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 16);
    let wanted = u64::try_from(threads).unwrap_or(2) * CONNECTIONS;
    let files = getrlimit(Resource::Nofile).current;
    match files {
        Some(files) if files < wanted => report.warn(
            "limits",
            format!("{files} open files, and the server takes up to {wanted} connections on this machine"),
            "raise it where the server is started (`LimitNOFILE=`, `ulimit -n`): beyond it connections are not accepted",
        ),
        Some(files) => report.ok("limits", format!("{files} open files")),
        None => report.ok("limits", "any number of open files"),
    }
    if getrlimit(Resource::Core).current != Some(0) {
        report.warn(
            "core dumps",
            "allowed here: keys and secrets are in the server's memory",
            "forbid them where it is started (`LimitCORE=0`, `ulimit -c 0`)",
        );
    }
}

fn unit(report: &mut Report, config: Option<&Config>, named: Option<&Path>) {
    let found = || {
        let all = UNITS
            .iter()
            .map(|folder| Path::new(folder).join("keyward.service"));
        all.into_iter().find(|path| path.exists())
    };
    let Some(path) = named.map(Path::to_owned).or_else(found) else {
        report.skip("unit", "there is no keyward.service on this machine");
        return;
    };
    match read(&path) {
        Err(error) => report.error("unit", &error),
        Ok(options) => compare(report, &path, &options, config),
    }
}

/// The options of a unit; of one that is given several times, the last.
fn read(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    use anyhow::Context as _;
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect())
}

fn compare(report: &mut Report, path: &Path, options: &BTreeMap<String, String>, config: Option<&Config>) {
    let get = |name: &str| options.get(name).map(String::as_str);
    let mut hints = Vec::new();
    if !get("Type").is_some_and(|kind| kind.starts_with("notify")) {
        hints.push("Type=notify, so that what is ordered after it waits until it serves".to_owned());
    }
    if get("WatchdogSec").is_none() {
        hints.push("WatchdogSec=60, so that a server whose store hangs is started anew".to_owned());
    }
    if get("ExecReload").is_none() && get("Type") != Some("notify-reload") {
        hints.push("ExecReload=kill -HUP $MAINPID, so that `systemctl reload` reads certificates".to_owned());
    }
    let drain = config.map_or(10, |config| u64::from(config.shutdown_seconds));
    let stop = get("TimeoutStopSec").map_or(Some(90), seconds);
    if stop.is_some_and(|stop| stop < drain + FINISH) {
        hints.push(format!(
            "TimeoutStopSec={} or more, as requests under way have {drain} s (shutdown_seconds) and the last checkpoint is signed after them",
            drain + FINISH
        ));
    }
    let path = path.display();
    match hints.is_empty() {
        true => report.ok("unit", format!("{path} fits")),
        false => report.warn("unit", path.to_string(), hints.join("; ")),
    }
}

/// A time span as systemd writes the plain ones (`30`, `30s`, `2min`); none: it is written otherwise, or without end.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "s" | "sec" => Some(number),
        "min" | "m" => Some(number * 60),
        _ => None,
    }
}
