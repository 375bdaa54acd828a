//! `release_limit`: exact, however many ask at once, and counted where the policy is bound.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::psp::Platform;
use serde_json::{Value, json};

use crate::support::app::{Options, bundle};
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, Vm, platform};

const OTHER: &str = "22222222-2222-4333-8444-555555555555";
const GUIDS: [&str; 2] = [
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
];

fn limited(name: &str, limit: u64) -> String {
    format!("package release.{name}\n\nallow := true\n\nrelease_limit := {limit}\n")
}

/// Runs `work` for each number below `count`, on some threads at once.
fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    let result = work(number);
                    done.lock().unwrap().push(result);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn of_two_hundred_launches_at_once_exactly_fifty_are_released_and_the_others_share_a_hold() {
    let app = App::new();
    app.standard();
    app.bundle(&[("release/any.rego", &limited("any", 50))]);
    // Of one platform 64 launches may wait.
    let platforms: Vec<Platform> = (0..4).map(|_| platform()).collect();
    let waiting = at_once(200, |number| {
        let platform = &platforms[number % platforms.len()];
        let mut vm = app.start(platform);
        let request = vm.measure(IMAGE);
        (vm, request)
    });
    let replies = at_once(200, |number| {
        let (vm, request) = &waiting[number];
        (vm, app.post(&vm.path(), request))
    });

    let (released, held): (Vec<_>, Vec<_>) = replies.iter().partition(|(_, reply)| reply.status == 200);
    assert_eq!((released.len(), held.len()), (50, 150));
    for (vm, reply) in &released {
        assert_eq!(vm.unwrap(reply)[0].1, b"hunter2");
    }
    for (_, reply) in &held {
        assert_eq!((reply.status, reply.problem()), (403, "confirmation-required"));
    }
    let hold: BTreeSet<_> = held
        .iter()
        .map(|(_, reply)| reply.body["hold"].to_string())
        .collect();
    assert_eq!(hold.len(), 1);
    let holds = app.owner("GET", "/v1/holds", &Value::Null).ok().body;
    assert_eq!(holds["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&holds["items"][0]["launches"], &holds["items"][0]["requests"]),
        (&json!(150), &json!(150))
    );

    let decisions = app.decisions();
    let with = |outcome: &str| -> BTreeSet<String> {
        let found = decisions.iter().filter(|decision| decision["outcome"] == outcome);
        found.map(|decision| decision["id"].to_string()).collect()
    };
    let told = |replies: &[&(&Vm, Reply)]| -> BTreeSet<String> {
        replies
            .iter()
            .map(|(_, reply)| reply.body["decision"].to_string())
            .collect()
    };
    assert_eq!(with("released"), told(&released));
    assert_eq!(with("held"), told(&held));
    assert_eq!(decisions.len(), 200);

    // A launch that is held asks again: it is counted, and has one decision.
    let (vm, first) = held[0];
    let (_, request) = waiting.iter().find(|(other, _)| other.id == vm.id).unwrap();
    let again = app.post(&vm.path(), request).expect(403, "confirmation-required");
    assert_eq!(again.body["decision"], first.body["decision"]);
    let holds = app.owner("GET", "/v1/holds", &Value::Null).ok().body;
    assert_eq!(
        (&holds["items"][0]["launches"], &holds["items"][0]["requests"]),
        (&json!(150), &json!(151))
    );
}

#[test]
fn two_servers_on_one_data_folder_share_the_limit() {
    let app = App::new();
    app.standard();
    app.bundle(&[("release/any.rego", &limited("any", 5))]);
    let servers = [&app, &app.again(Options::default())];
    let platform = platform();
    let waiting = at_once(20, |number| {
        let mut vm = servers[number % 2].start(&platform);
        let request = vm.measure(IMAGE);
        (vm.path(), request)
    });
    let replies = at_once(20, |number| {
        servers[number % 2].post(&waiting[number].0, &waiting[number].1)
    });
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 5);
    let holds: BTreeSet<_> = replies
        .iter()
        .filter_map(|reply| reply.body["hold"].as_str())
        .collect();
    assert_eq!(holds.len(), 1);
}

/// Two workloads with two secrets in one key set, and a policy with limit 2 bound in one place.
fn bound_to(place: &str) -> App {
    let policies = |here: &str, besides: &[&str]| {
        let limited = if place == here {
            vec!["release.limited"]
        } else {
            vec![]
        };
        json!([besides, limited.as_slice()].concat())
    };
    let mut bundle = bundle(&[
        ("release/any.rego", "package release.any\n\nallow := true\n"),
        ("release/limited.rego", &limited("limited", 2)),
    ]);
    bundle["policies"] = policies("owner", &[]);
    let secret = |name: &str, guid: &str| {
        json!({
            "kind": "Secret", "name": name, "type": "opaque", "guid": guid,
            "value": {"base64": "aHVudGVyMg=="}, "policies": policies("secret", &["release.any"]),
        })
    };
    let set = json!({
        "kind": "KeySet", "name": "both", "secrets": ["one", "two"], "policies": policies("keyset", &[]),
    });
    let workload = |name: &str, uuid: &str| {
        let changes = json!({
            "name": name, "uuid": uuid, "secrets": ["one", "two"], "policies": policies("workload", &[]),
        });
        standard(changes)[2].clone()
    };
    let app = App::new();
    app.apply(json!([
        bundle,
        secret("one", GUIDS[0]),
        secret("two", GUIDS[1]),
        set,
        workload("web", WORKLOAD),
        workload("other", OTHER),
    ]));
    app
}

/// A new guest of a workload that asks for one secret.
fn ask(app: &App, workload: &str, secret: &str) -> Reply {
    let platform = platform();
    let reply = app
        .post(&format!("/vm/{workload}/launch"), &launch_request(&platform))
        .ok();
    let mut vm = Vm::start(&platform, &reply);
    let mut request = vm.measure(IMAGE);
    request["secrets"] = json!([secret]);
    app.post(&vm.path(), &request)
}

#[test]
fn a_limit_counts_within_its_binding_and_for_each_secret_by_itself() {
    // Where the policy is bound, and whether another workload shares the count.
    for (place, shared) in [
        ("owner", true),
        ("workload", false),
        ("keyset", true),
        ("secret", true),
    ] {
        let app = bound_to(place);
        ask(&app, WORKLOAD, "one").ok();
        ask(&app, WORKLOAD, "one").ok();
        let held = ask(&app, WORKLOAD, "one");
        assert_eq!(held.problem(), "confirmation-required", "{place}: {}", held.body);
        let reason = app.decision(&held.body["decision"])["reason"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            reason.contains(place) && reason.contains("2 are allowed"),
            "{place}: {reason}"
        );

        let elsewhere = ask(&app, OTHER, "one");
        let expected = if shared { "confirmation-required" } else { "ok" };
        assert_eq!(elsewhere.problem(), expected, "{place}: {}", elsewhere.body);
        let second = ask(&app, WORKLOAD, "two");
        assert_eq!(second.problem(), "ok", "{place}: {}", second.body);
    }
}

#[test]
fn a_limit_is_exact_wherever_its_policy_is_bound() {
    for place in ["owner", "workload", "keyset", "secret"] {
        let app = bound_to(place);
        let platform = platform();
        let waiting = at_once(12, |_| {
            let mut vm = app.start(&platform);
            let request = vm.measure(IMAGE);
            (vm.path(), request)
        });
        let replies = at_once(12, |number| app.post(&waiting[number].0, &waiting[number].1));
        let released = replies.iter().filter(|reply| reply.status == 200).count();
        let held = replies
            .iter()
            .filter(|reply| reply.problem() == "confirmation-required")
            .count();
        assert_eq!((released, held), (2, 10), "{place}");
    }
}

#[test]
fn of_several_limits_the_least_that_has_room_in_every_binding_counts() {
    // Limits on the secret, on the workload; how many are released.
    let table: [(&[u64], &[u64], usize); 6] = [
        (&[3, 1], &[], 1),
        (&[1, 3], &[], 1),
        (&[3], &[2], 2),
        (&[2], &[3], 2),
        (&[0], &[3], 0),
        (&[3], &[0], 0),
    ];
    for (secret, workload, expected) in table {
        let app = App::new();
        let name = |place: &str, number: usize| format!("{place}{number}");
        let named = |place: &str, limits: &[u64]| -> Vec<String> {
            (0..limits.len())
                .map(|number| format!("release.{}", name(place, number)))
                .collect()
        };
        let mut modules = Vec::new();
        for (place, limits) in [("secret", secret), ("workload", workload)] {
            for (number, limit) in limits.iter().enumerate() {
                let name = name(place, number);
                modules.push((format!("release/{name}.rego"), limited(&name, *limit)));
            }
        }
        let modules: Vec<_> = modules
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let mut objects = standard(json!({"policies": named("workload", workload)}));
        objects[0] = bundle(&modules);
        objects[1]["policies"] = json!(named("secret", secret));
        app.apply(objects);
        let platform = platform();
        let replies = at_once(4, |_| app.run(&platform).1);
        let released = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(released, expected, "{secret:?} {workload:?}");
        let held = replies
            .iter()
            .filter(|reply| reply.problem() == "confirmation-required")
            .count();
        assert_eq!(held, 4 - expected, "{secret:?} {workload:?}");
    }
}

#[test]
fn a_workload_s_max_releases_is_a_limit_in_either_form_of_registration() {
    for max in [0, 1, 3] {
        let app = App::new();
        app.apply(standard(json!({"max_releases": max})));
        let platform = platform();
        let replies = at_once(5, |_| app.run(&platform).1);
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), max);

        let app = App::new();
        let secret = json!({"type": "luks-passphrase", "passphrase": "hunter2"});
        let body = json!({
            "scheme": "amd-sev", "policy": 3, "launch-digests": [crate::support::host::digest(IMAGE)],
            "max-releases": max, "secrets": [secret],
        });
        let registered = app.owner("POST", &format!("/vm/{WORKLOAD}"), &body);
        assert_eq!(registered.status, 201, "{}", registered.body);
        let replies = at_once(5, |_| app.run(&platform).1);
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), max);
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            assert_eq!(reply.problem(), "confirmation-required", "{}", reply.body);
        }
    }
}

#[test]
fn a_limit_may_be_another_for_each_guest_and_counts_what_all_got() {
    let app = App::new();
    app.standard();
    let policy = "package release.any\n\nallow := true\n\nrelease_limit := 3 if input.claimed.cpu_count == 4\n\nrelease_limit := 1 if input.claimed.cpu_count == 1\n";
    app.bundle(&[("release/any.rego", policy)]);
    let platform = platform();
    let run = |cpus: u32| {
        let mut vm = app.start(&platform);
        let mut request = vm.measure(IMAGE);
        request["cpu-count"] = json!(cpus);
        app.post(&vm.path(), &request)
    };
    run(4).ok();
    run(1).expect(403, "confirmation-required");
    run(4).ok();
    run(4).ok();
    run(4).expect(403, "confirmation-required");
    // One that is defined for others only is no «without limit».
    run(2).expect(403, "denied");
    run(4).expect(403, "confirmation-required");
}

#[test]
fn a_limit_that_is_no_whole_number_is_a_deny_and_not_no_limit() {
    for limit in ["-1", "1.5", "\"3\"", "null", "9007199254740993", "[3]", "true"] {
        let app = App::new();
        app.standard();
        let policy = format!("package release.any\n\nallow := true\n\nrelease_limit := {limit}\n");
        let applied = app.try_apply(json!([bundle(&[("release/any.rego", &policy)])]));
        if applied.status != 200 {
            assert_eq!(applied.problem(), "invalid", "{limit}");
            continue;
        }
        let (_, reply) = app.run(&platform());
        assert_eq!(reply.problem(), "denied", "{limit}: {}", reply.body);
    }
}
