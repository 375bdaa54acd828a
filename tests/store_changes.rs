//! What changes between a decision and its commit: it is decided again.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::app::{Options, bundle};
use crate::support::hooked::{Fate, Hook};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, standard};
use crate::support::{App, Reply, Vm, platform};

/// A server with a hook in its store, and one beside it on the same data folder without.
struct Pair {
    hook: Hook,
    app: App,
    beside: Arc<App>,
}

impl Pair {
    fn new() -> Self {
        let hook = Hook::default();
        let app = App::with(hook.options());
        app.standard();
        let beside = Arc::new(app.again(Options::default()));
        Self { hook, app, beside }
    }

    /// A release into which `change` comes after the decision and before its commit.
    fn released_across(&self, change: impl FnOnce(&App) + Send + 'static) -> (Vm, Reply) {
        let platform = platform();
        let mut vm = self.app.start(&platform);
        let request = vm.measure(IMAGE);
        let beside = self.beside.clone();
        self.hook.before("commit_release", move || change(&beside));
        let reply = self.app.post(&vm.path(), &request);
        (vm, reply)
    }
}

#[test]
fn a_policy_that_no_longer_allows_is_heard() {
    let pair = Pair::new();
    let (_, reply) = pair.released_across(|app| {
        let policy = "package release.any\n\nallow if input.claimed.cpu_count == 7\n";
        app.bundle(&[("release/any.rego", policy)]);
    });
    let reply = reply.expect(403, "denied");
    let active = pair.app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    let decision = pair.app.decision(&reply.body["decision"]);
    let verdicts = decision["policies"].as_array().unwrap();
    let verdict = verdicts.iter().find(|v| v["policy"] == "release.any").unwrap();
    assert_eq!(verdict["bundle"], active);
    assert_eq!(pair.app.decisions().len(), 1);
}

#[test]
fn a_secret_replaced_meanwhile_is_released_as_it_is_now() {
    let pair = Pair::new();
    let (vm, reply) = pair.released_across(|app| {
        app.apply(json!([{
            "kind": "Secret", "name": "disk", "type": "luks-passphrase",
            "value": {"base64": "Z2VoZWlt"}, "policies": ["release.any"],
        }]));
    });
    let reply = reply.ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"geheim");
    let decision = pair.app.decision(&reply.body["decision"]);
    assert_eq!(decision["released"], json!([{"name": "disk", "version": 2}]));
}

#[test]
fn what_was_taken_away_meanwhile_is_not_released() {
    type Change = fn(&App);
    let table: [(&str, Change, u16, &str); 4] = [
        (
            "the workload",
            |app| drop(app.owner("DELETE", &format!("/v1/workloads/{WORKLOAD}"), &Value::Null)),
            404,
            "not-found",
        ),
        (
            "its secret",
            |app| {
                let mut objects = standard(json!({"secrets": ["other"]}));
                objects[1]["name"] = json!("other");
                app.apply(objects);
                app.owner("DELETE", "/v1/secrets/disk", &Value::Null);
            },
            403,
            "denied",
        ),
        (
            "its launch digest",
            |app| drop(app.apply(standard(json!({"launch_digests": ["00".repeat(32)]})))),
            422,
            "measurement-mismatch",
        ),
        (
            "the room under its limit",
            |app| {
                let policy = format!("{ALLOW}\nrelease_limit := 1\n");
                app.bundle(&[("release/any.rego", &policy)]);
                app.run(&platform()).1.ok();
            },
            403,
            "confirmation-required",
        ),
    ];
    for (name, change, status, problem) in table {
        let pair = Pair::new();
        let platform = platform();
        let mut vm = pair.app.start(&platform);
        let mut request = vm.measure(IMAGE);
        request["secrets"] = json!(["disk"]);
        let beside = pair.beside.clone();
        pair.hook.before("commit_release", move || change(&beside));
        let reply = pair.app.post(&vm.path(), &request);
        assert_eq!(
            (reply.status, reply.problem()),
            (status, problem),
            "{name}: {}",
            reply.body
        );
        assert_eq!(reply.body.get("secret-payload"), None, "{name}");
    }
}

#[test]
fn a_policy_that_reads_how_many_releases_there_were_sees_the_one_that_came_between() {
    let first_only = [
        ("of itself", "allow if input.releases.total < 1\n", "denied"),
        (
            "through a function",
            "fresh(r) if r.total < 1\n\nallow if fresh(input.releases)\n",
            "denied",
        ),
        (
            "through the library",
            "import data.keyward.limit\n\nallow if limit.fewer_in_all(1)\n",
            "denied",
        ),
        ("not at all", "allow := true\n", "ok"),
    ];
    for (name, rule, expected) in first_only {
        let pair = Pair::new();
        let policy = format!("package release.any\n\n{rule}");
        pair.app.bundle(&[("release/any.rego", &policy)]);
        let (_, reply) = pair.released_across(|app| drop(app.run(&platform()).1.ok()));
        assert_eq!(reply.problem(), expected, "{name}: {}", reply.body);
    }
}

#[test]
fn a_policy_of_the_workload_that_counts_releases_is_held_to_it_as_well() {
    let pair = Pair::new();
    let mut objects = standard(json!({"policies": ["release.first"]}));
    let first = "package release.first\n\nallow if input.releases.last_hour < 1\n";
    objects[0] = bundle(&[("release/any.rego", ALLOW), ("release/first.rego", first)]);
    pair.app.apply(objects);
    let (_, reply) = pair.released_across(|app| drop(app.run(&platform()).1.ok()));
    reply.expect(403, "denied");
}

#[test]
fn a_launch_that_ended_meanwhile_releases_nothing() {
    let (hook, platform) = (Hook::default(), platform());
    let app = App::with(hook.options());
    app.standard();
    let beside = Arc::new(app.again(Options::default()));

    // Another request of the same host was quicker.
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let (path, same, other) = (vm.path(), request.clone(), beside.clone());
    hook.before("commit_release", move || drop(other.post(&path, &same).ok()));
    app.post(&vm.path(), &request).expect(409, "launch-used");

    // Another guest of the same platform took its place: with one place for each platform.
    let mut options = hook.options();
    options.settings.bounds.per_pdh = 1;
    let narrow = app.again(options);
    let mut vm = narrow.start(&platform);
    let request = vm.measure(IMAGE);
    let newcomer = Arc::new(narrow.again({
        let mut options = Options::default();
        options.settings.bounds.per_pdh = 1;
        options
    }));
    let same = platform.clone();
    hook.before("commit_release", move || drop(newcomer.start(&same)));
    narrow.post(&vm.path(), &request).expect(410, "launch-expired");
}

#[test]
fn a_decision_that_was_taken_in_time_stands_though_the_commit_came_late() {
    let (hook, platform) = (Hook::default(), platform());
    let app = App::with(hook.options());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let clock = app.clock.clone();
    hook.before("commit_release", move || {
        clock.advance(std::time::Duration::from_secs(600))
    });
    app.post(&vm.path(), &request).ok();
    app.post(&vm.path(), &request).expect(409, "launch-used");
}

#[test]
fn a_launch_that_ended_while_others_had_their_turn_is_not_decided() {
    type Change = fn(&App);
    let table: [(Change, u16, &str); 3] = [
        (
            |app| app.clock.advance(std::time::Duration::from_secs(600)),
            410,
            "launch-expired",
        ),
        (
            |app| {
                app.sql("UPDATE launches SET state = 'evicted'");
            },
            410,
            "launch-expired",
        ),
        (
            |app| {
                app.sql("UPDATE launches SET state = 'used'");
            },
            409,
            "launch-used",
        ),
    ];
    for (change, status, problem) in table {
        let pair = Pair::new();
        // A policy that looks at how many releases there were, so that its decisions are taken in turn.
        let policy = "package release.any\n\nallow if input.releases.total == 7\n";
        pair.app.bundle(&[("release/any.rego", policy)]);
        let mut vm = pair.app.start(&platform());
        let request = vm.measure(IMAGE);
        let (beside, mut found) = (pair.beside.clone(), 0);
        // The launch is looked up when it is asked for, and again when its turn has come.
        pair.hook.set(move |called| {
            found += usize::from(called == "launch");
            if called == "launch" && found == 2 {
                change(&beside);
            }
            Fate::Done
        });
        pair.app.post(&vm.path(), &request).expect(status, problem);
        assert_eq!(pair.app.decisions().len(), 0, "{problem}");
    }
}

#[test]
fn registrations_and_releases_at_once_neither_lose_nor_mix_anything() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut guests: Vec<_> = (0..8).map(|_| app.start(&platform)).collect();
    let requests: Vec<Value> = guests.iter_mut().map(|vm| vm.measure(IMAGE)).collect();
    std::thread::scope(|scope| {
        for (number, (vm, request)) in guests.iter().zip(&requests).enumerate() {
            let app = &app;
            scope.spawn(move || {
                let reply = app.post(&vm.path(), request).ok();
                assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
            });
            scope.spawn(move || {
                app.apply(json!([{
                    "kind": "Secret", "name": format!("other-{number}"), "type": "luks-passphrase",
                    "value": {"base64": "Z2VoZWlt"}, "policies": ["release.any"],
                }]));
            });
        }
    });
    let secrets = app.owner("GET", "/v1/secrets", &Value::Null).ok().body;
    assert_eq!(secrets["items"].as_array().unwrap().len(), 9);
    assert_eq!(app.decisions().len(), 8);
}

#[test]
fn objects_that_never_stand_still_are_not_waited_for_for_ever() {
    let pair = Pair::new();
    let platform = platform();
    let mut vm = pair.app.start(&platform);
    let request = vm.measure(IMAGE);
    let (beside, mut round) = (pair.beside.clone(), 0);
    pair.hook.set(move |method| {
        if method == "commit_release" {
            round += 1;
            beside.bundle(&[("release/any.rego", &format!("{ALLOW}\n# {round}\n"))]);
        }
        Fate::Done
    });
    pair.app.post(&vm.path(), &request).expect(503, "unavailable");
    pair.hook.clear();
    pair.app.post(&vm.path(), &request).ok();
}
