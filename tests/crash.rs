//! kill -9 in the middle of releases: nothing is given twice, nothing that was given is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use keyward::psp::Platform;
use keyward::store::SqlStore;
use keyward::store::{ReleaseScope, Store as _};
use serde_json::{Value, json};

use crate::support::command::keyward;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::server::{Host, Server};
use crate::support::{Reply, Vm, ca, platform};

const LIMIT: usize = 50;

/// How often the server is killed; more by `CRASH_KILLS`, in a multiple of five.
fn kills() -> usize {
    std::env::var("CRASH_KILLS").map_or(5, |kills| kills.parse().unwrap())
}

/// A guest that was measured and waits for its secret.
pub(crate) struct Waiting {
    pub(crate) vm: Vm,
    request: Value,
}

impl Waiting {
    /// Starts a guest, if the server answers.
    pub(crate) fn start(host: &Host, base: &str, platform: &Platform) -> Option<Self> {
        let url = format!("{base}/vm/{WORKLOAD}/launch");
        let reply = host.post(&url, None, &launch_request(platform))?.ok();
        let mut vm = Vm::start(platform, &reply);
        let request = vm.measure(IMAGE);
        Some(Self { vm, request })
    }

    pub(crate) fn validate(&self, host: &Host, base: &str) -> Option<Reply> {
        let url = format!("{base}{}", self.vm.path());
        host.post(&url, Some(&self.vm.id.to_string()), &self.request)
    }
}

/// Makes a data folder with the usual workload behind a limit; the token.
pub(crate) fn prepare(folder: &Path, limit: usize) -> String {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (data, token) = (folder.join("data"), folder.join("token"));
    keyward([
        "init",
        "--owner",
        "acme",
        "--data-dir",
        &text(&data),
        "--token-file",
        &text(&token),
    ])
    .ok();
    std::fs::write(data.join("test.ark"), ca().ark().as_bytes()).unwrap();
    let config = json!({
        "log": "off",
        "kds": {"url": ""},
        "danger_extra_roots": [{"name": "test", "file": data.join("test.ark")}],
    });
    std::fs::write(data.join("keyward.yaml"), config.to_string()).unwrap();

    std::fs::create_dir_all(folder.join("policy/release")).unwrap();
    let policy = format!("{ALLOW}\nrelease_limit := {limit}\n");
    std::fs::write(folder.join("policy/release/any.rego"), policy).unwrap();
    let manifest = format!(
        "kind: PolicyBundle\npath: policy\n---\n\
         kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
         kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\n\
         launch_digests: [{}]\nsecrets: [disk]\n",
        digest(IMAGE)
    );
    std::fs::write(folder.join("manifest.yaml"), manifest).unwrap();
    let server = Server::start(&data);
    let manifest = text(&folder.join("manifest.yaml"));
    keyward([
        "apply",
        "-f",
        &manifest,
        "--server",
        &server.base,
        "--token-file",
        &text(&token),
    ])
    .ok();
    std::fs::read_to_string(token).unwrap().trim().to_owned()
}

/// What hosts were told, over all lives of the server.
#[derive(Default)]
struct Told {
    released: BTreeSet<String>,
    held: BTreeSet<String>,
}

/// One life of the server: hosts ask from eight threads, and when as many as these were given their secret it is
/// killed, with requests under way. Returned are those that had no answer.
fn life(
    folder: &Path,
    host: &Host,
    guests: Vec<Option<Waiting>>,
    kill_after: usize,
    told: &Mutex<Told>,
) -> Vec<Option<Waiting>> {
    let mut server = Server::start(&folder.join("data"));
    let base = server.base.clone();
    let platforms: Vec<Platform> = (0..2).map(|_| platform()).collect();
    let (queue, unanswered) = (Mutex::new(guests), Mutex::new(Vec::new()));
    let (sender, given) = mpsc::channel();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (sender, platform) = (sender.clone(), &platforms[number % 2]);
            let (queue, unanswered, base, over) = (&queue, &unanswered, &base, &over);
            scope.spawn(move || {
                while let Some(guest) = { queue.lock().unwrap().pop() } {
                    if over.load(Ordering::SeqCst) {
                        unanswered.lock().unwrap().push(guest);
                        continue;
                    }
                    let waiting = guest.or_else(|| Waiting::start(host, base, platform));
                    let reply = waiting.as_ref().and_then(|waiting| waiting.validate(host, base));
                    let (Some(waiting), Some(reply)) = (&waiting, reply) else {
                        unanswered.lock().unwrap().push(waiting);
                        continue;
                    };
                    let decision = reply.body["decision"].to_string();
                    if reply.problem() == "confirmation-required" {
                        assert!(told.lock().unwrap().held.insert(decision));
                    } else {
                        assert_eq!(waiting.vm.unwrap(&reply.ok())[0].1, b"hunter2");
                        assert!(
                            told.lock().unwrap().released.insert(decision),
                            "a decision was given twice"
                        );
                        let _ = sender.send(());
                    }
                }
            });
        }
        drop(sender);
        // Fewer, when nobody is left to be given one.
        let answered = given.iter().take(kill_after).count();
        if answered == kill_after {
            over.store(true, Ordering::SeqCst);
            server.kill();
        }
    });
    unanswered.into_inner().unwrap()
}

#[test]
fn releases_stay_exact_and_recorded_however_often_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let kills = kills();
    let (limit, guests) = (LIMIT * kills / 5, 80 * kills / 5);
    let host = Host::new(&prepare(folder.path(), limit));
    let told = Mutex::new(Told::default());
    let mut guests: Vec<Option<Waiting>> = (0..guests).map(|_| None).collect();
    let (all, mut survivors) = (guests.len(), 0);
    for kill_after in [3, 11, 1, 17, 7].into_iter().cycle().take(kills) {
        guests = life(folder.path(), &host, guests, kill_after, &told);
        survivors += guests.iter().flatten().count();
        check(folder.path(), &told, limit);
    }
    println!("{kills} kills, {survivors} launches under way at one");
    assert!(survivors > 0, "no launch was under way at any kill");
    guests = life(folder.path(), &host, guests, usize::MAX, &told);
    assert_eq!(guests.len(), 0);

    let told = told.into_inner().unwrap();
    assert_eq!((told.released.len(), told.held.len()), (limit, all - limit));
    let server = Server::start(&folder.path().join("data"));
    let decisions = decisions(&host, &server.base);
    let with = |outcome: &str| -> BTreeSet<String> {
        let found = decisions.iter().filter(|decision| decision["outcome"] == outcome);
        found.map(|decision| decision["id"].to_string()).collect()
    };
    assert_eq!(with("released"), told.released);
    assert_eq!(with("held"), told.held);
    let holds = host.get(&format!("{}/v1/holds", server.base)).unwrap().ok().body;
    assert_eq!(holds["items"].as_array().unwrap().len(), 1);
    drop(server);
    let mut logged = logged(folder.path(), "data");
    assert_eq!(logged.remove("released"), Some(told.released));
    assert_eq!(logged.remove("held"), Some(told.held));
}

/// All decisions that the owner is shown.
fn decisions(host: &Host, base: &str) -> Vec<Value> {
    let (mut decisions, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("{base}/v1/decisions?limit=500{cursor}");
        let page = host.get(&url).unwrap().ok().body;
        decisions.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return decisions,
        }
    }
}

/// The decisions in the audit log, by what came of them, once its export has been verified.
pub(crate) fn logged(folder: &Path, data: &str) -> BTreeMap<String, BTreeSet<String>> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (data, log, key) = (path(data), path("log.jsonl"), path("log.pub"));
    // What the killed servers left unsigned is signed when the next one starts.
    drop(Server::start(Path::new(&data)));
    keyward(["audit", "export", "--data-dir", &data, "-o", &log]).ok();
    let public = keyward(["audit", "key", "--data-dir", &data]).ok().stdout;
    std::fs::write(&key, public).unwrap();
    let verified = keyward(["audit", "verify", &log, "--key", &key]).ok().stdout;
    assert!(verified.contains(" 0 of them as their hashes only"), "{verified}");
    let mut decisions = BTreeMap::<String, BTreeSet<String>>::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let event = &line["record"]["event"];
        if event["kind"] == "decision" {
            let outcome = event["outcome"].as_str().unwrap().to_owned();
            let new = decisions
                .entry(outcome)
                .or_default()
                .insert(event["id"].to_string());
            assert!(new, "{} is recorded twice", event["id"]);
        }
    }
    decisions
}

/// After each kill: not more than the limit, and every release that a host was given is recorded.
fn check(folder: &Path, told: &Mutex<Told>, limit: usize) {
    let store = SqlStore::open(&folder.join("data"), false).unwrap();
    let owner = "acme".parse().unwrap();
    let now = keyward::domain::Clock::now(&keyward::domain::SystemClock);
    let scope = ReleaseScope::Secret("disk".parse().unwrap());
    let counted = store.release_counts(&owner, &scope, now).unwrap().total;
    let told = told.lock().unwrap();
    assert!(counted as usize <= limit && counted as usize >= told.released.len());
    for id in told.released.iter().chain(&told.held) {
        assert!(
            store
                .decision(&owner, serde_json::from_str(id).unwrap())
                .unwrap()
                .is_some(),
            "{id} is not recorded"
        );
    }
}

#[test]
fn a_launch_that_waits_survives_a_kill_and_is_given_its_secret_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(&prepare(folder.path(), LIMIT));
    let data = folder.path().join("data");
    let mut server = Server::start(&data);
    let waiting = Waiting::start(&host, &server.base, &platform()).unwrap();
    server.kill();
    assert!(waiting.validate(&host, &server.base).is_none());

    let mut server = Server::start(&data);
    let given = waiting.validate(&host, &server.base).unwrap().ok();
    assert_eq!(waiting.vm.unwrap(&given)[0].1, b"hunter2");
    server.kill();

    let server = Server::start(&data);
    let again = waiting.validate(&host, &server.base).unwrap().ok();
    assert_eq!(again.body, given.body, "the same key, the same answer");
    let url = format!("{}{}", server.base, waiting.vm.path());
    host.post(&url, None, &waiting.request)
        .unwrap()
        .expect(409, "launch-used");
}
