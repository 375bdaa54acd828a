//! Several servers on one PostgreSQL database: one service, whichever is asked, and whichever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use serde_json::json;

use crate::crash::{Waiting, logged};
use crate::support::command::keyward;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest};
use crate::support::postgres::{Cluster, Database};
use crate::support::server::{Host, Server};
use crate::support::{ca, platform};

/// The data folders of servers on one database.
pub(crate) struct Fleet {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) token: String,
}

impl Fleet {
    /// Folders `0`, `1` and so on: the first is made by `init`, the others get its key file and configuration.
    pub(crate) fn new(url: &str, servers: usize, limit: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Self {
            token: String::new(),
            folder,
        };
        let first = fleet.data(0);
        std::fs::create_dir(&first).unwrap();
        std::fs::write(fleet.path("test.ark"), ca().ark().as_bytes()).unwrap();
        let config = json!({
            "log": "off",
            "kds": {"url": ""},
            "store": {"postgres": {"url": url, "connections": 8}},
            "danger_extra_roots": [{"name": "test", "file": fleet.path("test.ark")}],
        });
        std::fs::write(first.join("keyward.yaml"), config.to_string()).unwrap();
        let (data, token) = (text(&first), text(&fleet.path("token")));
        keyward([
            "init",
            "--owner",
            "acme",
            "--data-dir",
            &data,
            "--token-file",
            &token,
        ])
        .ok();
        for number in 1..servers {
            std::fs::create_dir(fleet.data(number)).unwrap();
            for file in ["keyward.yaml", "keyward.key"] {
                std::fs::copy(first.join(file), fleet.data(number).join(file)).unwrap();
            }
        }
        std::fs::create_dir_all(fleet.path("policy/release")).unwrap();
        let policy = format!("{ALLOW}\nrelease_limit := {limit}\n");
        std::fs::write(fleet.path("policy/release/any.rego"), policy).unwrap();
        let manifest = format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\n\
             launch_digests: [{}]\nsecrets: [disk]\n",
            digest(IMAGE)
        );
        std::fs::write(fleet.path("manifest.yaml"), manifest).unwrap();
        let server = fleet.start(0);
        let manifest = text(&fleet.path("manifest.yaml"));
        keyward([
            "apply",
            "-f",
            &manifest,
            "--server",
            &server.base,
            "--token-file",
            &token,
        ])
        .ok();
        drop(server);
        let token = std::fs::read_to_string(token).unwrap().trim().to_owned();
        Self { token, ..fleet }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.path(&number.to_string())
    }

    pub(crate) fn start(&self, number: usize) -> Server {
        Server::start(&self.data(number))
    }

    /// The ids of decisions in the audit log by their outcome, once an export of it has been verified.
    pub(crate) fn logged(&self) -> BTreeMap<String, BTreeSet<String>> {
        logged(self.folder.path(), "0")
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Lets guests ask whichever server, and kills one of them each time that so many were answered. What was not answered is
/// asked again, of another, with the same idempotency key. The decisions that were told, by what they were.
fn storm(
    fleet: &Fleet,
    servers: usize,
    guests: usize,
    kill_every: usize,
) -> BTreeMap<&'static str, BTreeSet<String>> {
    let host = Host::new(&fleet.token);
    let running: Vec<Mutex<Server>> = (0..servers)
        .map(|number| Mutex::new(fleet.start(number)))
        .collect();
    let bases: Vec<RwLock<String>> = running
        .iter()
        .map(|server| RwLock::new(server.lock().unwrap().base.clone()))
        .collect();
    let platforms = [platform(), platform()];
    let queue = Mutex::new((0..guests).collect::<Vec<_>>());
    let told = Mutex::new(BTreeMap::<&'static str, BTreeSet<String>>::new());
    let (answered, turn, kills) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let any = || {
        let number = turn.fetch_add(1, Ordering::SeqCst) % servers;
        bases[number].read().unwrap().clone()
    };
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (queue, told, host, platforms) = (&queue, &told, &host, &platforms);
            let (answered, kills, running, bases, any, fleet) =
                (&answered, &kills, &running, &bases, &any, fleet);
            scope.spawn(move || {
                while let Some(_guest) = { queue.lock().unwrap().pop() } {
                    let waiting = loop {
                        if let Some(waiting) = Waiting::start(host, &any(), &platforms[worker % 2]) {
                            break waiting;
                        }
                    };
                    let reply = loop {
                        if let Some(reply) = waiting.validate(host, &any())
                            && reply.status != 503
                        {
                            break reply;
                        }
                    };
                    let decision = reply.body["decision"].to_string();
                    let outcome = if reply.problem() == "confirmation-required" {
                        "held"
                    } else {
                        assert_eq!(waiting.vm.unwrap(&reply.ok())[0].1, b"hunter2");
                        "released"
                    };
                    let new = told.lock().unwrap().entry(outcome).or_default().insert(decision);
                    assert!(new, "a decision was given twice");
                    if answered.fetch_add(1, Ordering::SeqCst) % kill_every == kill_every - 1 {
                        let victim = kills.fetch_add(1, Ordering::SeqCst) % running.len();
                        let mut server = running[victim].lock().unwrap();
                        server.kill();
                        *server = fleet.start(victim);
                        *bases[victim].write().unwrap() = server.base.clone();
                    }
                }
            });
        }
    });
    assert!(kills.into_inner() > servers, "too few were killed");
    told.into_inner().unwrap()
}

#[test]
fn through_three_servers_that_are_killed_in_turn_every_limit_is_exact_and_every_release_is_logged() {
    let Some(database) = Database::new() else { return };
    // `REPLICA_GUESTS=5000` makes a long run of it.
    let guests = std::env::var("REPLICA_GUESTS").map_or(90, |guests| guests.parse().unwrap());
    let limit = guests / 3 * 2;
    let fleet = Fleet::new(&database.url(), 3, limit);
    let told = storm(&fleet, 3, guests, if guests > 1000 { 40 } else { 12 });
    assert_eq!(
        (told["released"].len(), told["held"].len()),
        (limit, guests - limit)
    );
    let logged = fleet.logged();
    assert_eq!(logged["released"], told["released"]);
    assert_eq!(logged["held"], told["held"]);
    let counted = database.sql("SELECT released FROM counts WHERE kind = 'secret'");
    assert_eq!(counted.trim(), limit.to_string());
}

#[test]
fn a_guest_launches_at_one_server_is_held_at_another_confirmed_at_a_third_and_given_its_secret_at_the_first()
{
    let Some(database) = Database::new() else { return };
    let fleet = Fleet::new(&database.url(), 3, 0);
    let servers: Vec<Server> = (0..3).map(|number| fleet.start(number)).collect();
    let host = Host::new(&fleet.token);
    let guest = Waiting::start(&host, &servers[0].base, &platform()).unwrap();
    let held = guest
        .validate(&host, &servers[1].base)
        .unwrap()
        .expect(403, "confirmation-required");
    let hold = held.body["hold"].as_str().unwrap();
    let url = format!("{}/v1/holds/{hold}/confirm", servers[2].base);
    host.say("POST", &url, &json!({"additional": 1, "reason": "a spare"}))
        .unwrap()
        .ok();
    let given = guest.validate(&host, &servers[0].base).unwrap().ok();
    assert_eq!(guest.vm.unwrap(&given)[0].1, b"hunter2");
    // The same key, the same answer, from whichever.
    let again = guest.validate(&host, &servers[1].base).unwrap().ok();
    assert_eq!(again.body, given.body);
    // A freeze that one was told of stops a release at another.
    let next = Waiting::start(&host, &servers[0].base, &platform()).unwrap();
    let url = format!("{}/v1/freezes", servers[1].base);
    let target = json!({"target": {"type": "secret", "name": "disk"}, "reason": "stolen"});
    host.say("POST", &url, &target).unwrap().expect(201, "ok");
    next.validate(&host, &servers[2].base)
        .unwrap()
        .expect(403, "denied");
}

#[test]
fn a_database_that_is_killed_is_told_at_once_and_loses_nothing_that_was_answered() {
    let Some(cluster) = Cluster::alone(&["fsync=on"]) else {
        return;
    };
    let database = cluster.database();
    let fleet = Fleet::new(&database.url(), 1, 5);
    let (server, host) = (fleet.start(0), Host::new(&fleet.token));
    let ready = |status| {
        let reply = host.get(&format!("{}/readyz", server.base)).unwrap();
        assert_eq!(reply.status, status, "{:?}", reply.body);
    };
    ready(200);
    let (first, second) = (
        Waiting::start(&host, &server.base, &platform()).unwrap(),
        Waiting::start(&host, &server.base, &platform()).unwrap(),
    );
    let given = first.validate(&host, &server.base).unwrap().ok();
    cluster.kill();
    second
        .validate(&host, &server.base)
        .unwrap()
        .expect(503, "unavailable");
    host.get(&format!("{}/v1/decisions", server.base))
        .unwrap()
        .expect(503, "unavailable");
    cluster.start();
    assert_eq!(first.validate(&host, &server.base).unwrap().ok().body, given.body);
    second.validate(&host, &server.base).unwrap().ok();
    ready(200);
    drop(server);
    assert_eq!(fleet.logged()["released"].len(), 2);
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_a_release_leaves_nothing_half() {
    let Some(database) = Database::new() else { return };
    let (limit, guests) = (1000, 40);
    let fleet = Fleet::new(&database.url(), 1, limit);
    let (server, host) = (fleet.start(0), Host::new(&fleet.token));
    let platform = platform();
    let waiting: Vec<Waiting> = (0..guests)
        .map(|_| Waiting::start(&host, &server.base, &platform).unwrap())
        .collect();
    let (done, cuts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut released = BTreeSet::new();
    std::thread::scope(|scope| {
        // Whatever its connections are at is cut off, again and again, after pauses in which some come through.
        scope.spawn(|| {
            for pause in (0..).map(|round: u64| round * 13 % 60) {
                if done.load(Ordering::SeqCst) == guests {
                    break;
                }
                std::thread::sleep(Duration::from_millis(pause));
                let cut = database.sql(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE application_name = 'keyward' AND datname = current_database() AND state <> 'idle'",
                );
                cuts.fetch_add(cut.trim().parse().unwrap(), Ordering::SeqCst);
            }
        });
        for guest in &waiting {
            let reply = loop {
                let reply = guest.validate(&host, &server.base).unwrap();
                if reply.status != 503 {
                    break reply.ok();
                }
            };
            assert_eq!(guest.vm.unwrap(&reply)[0].1, b"hunter2");
            released.insert(reply.body["decision"].to_string());
            done.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert_eq!(released.len(), guests);
    assert!(cuts.load(Ordering::SeqCst) > 0, "nothing was cut");
    drop(server);
    assert_eq!(fleet.logged()["released"], released);
    let counted = database.sql("SELECT released FROM counts WHERE kind = 'secret'");
    assert_eq!(counted.trim(), guests.to_string());
}
