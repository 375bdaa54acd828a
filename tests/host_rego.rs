//! Policies that misbehave, through the whole server: each is a deny with its own reason, and holds up nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward::policy::Limits;
use serde_json::{Value, json};

use crate::support::app::{Options, bundle};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Vm, platform};

/// The usual objects, with these rules (and data) in the policy that is bound to the secret.
fn with_rules(rules: &str) -> Value {
    let mut objects = standard(json!({}));
    let text = format!("package release.any\n\n{rules}\n");
    objects[0] = bundle(&[("release/any.rego", &text), ("lists/data.json", DATA)]);
    objects
}

/// A list long enough that walking its cross product has no end in sight.
const DATA: &str =
    r#"{"n": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31]}"#;

const LOOP: &str = "default allow := false\n\nallow if {\n\tsome a in data.lists.n\n\tsome b in data.lists.n\n\t\
    some c in data.lists.n\n\tsome d in data.lists.n\n\tsome e in data.lists.n\n\ta + b + c + d + e < 0\n}";

/// The verdict on the one secret, as it is recorded.
fn verdict(app: &App) -> Value {
    let decision = app.decisions().swap_remove(0);
    let policies = decision["policies"].as_array().unwrap();
    policies
        .iter()
        .find(|v| v["policy"] == "release.any")
        .unwrap()
        .clone()
}

#[test]
fn a_policy_without_an_answer_denies_with_the_kind_and_the_place_and_the_host_sees_denied() {
    let (app, platform) = (App::new(), platform());
    for (rules, kind, reason) in [
        (
            "allow if input.owner == \"nobody\"",
            "undefined-allow",
            "`allow` is undefined",
        ),
        (
            "allow := [\"true\"][0]",
            "wrong-type",
            "`allow` is the string \"true\"",
        ),
        ("allow := [1][0]", "wrong-type", "`allow` is a number"),
        ("allow := [[true]][0]", "wrong-type", "`allow` is an array"),
        (
            "allow := [{\"allow\": true}][0]",
            "wrong-type",
            "`allow` is an object",
        ),
        ("allow := [null][0]", "wrong-type", "`allow` is null"),
        (
            "allow := true\n\ndeny := [true][0]",
            "wrong-type",
            "`deny` is a boolean",
        ),
        (
            "allow := true\n\ndeny := [[\"a\"]][0]",
            "wrong-type",
            "`deny` is an array",
        ),
        (
            "allow if to_number(input.owner) == 1",
            "evaluation-error",
            "`allow` failed",
        ),
        (
            "allow := true\n\nallow := false if input.owner == \"acme\"",
            "evaluation-error",
            "`allow` failed",
        ),
        (
            "default allow := false\n\nallow if input.owner == \"acme\"\n\nallow if to_number(input.owner) == 1",
            "evaluation-error",
            "`allow` failed",
        ),
        (
            "allow := true\n\ndeny contains \"x\" if to_number(input.owner) == 1",
            "evaluation-error",
            "`deny` failed",
        ),
        (
            "allow := true\n\nrelease_limit := [-1][0]",
            "invalid-release-limit",
            "`release_limit` is -1",
        ),
        (
            "allow := true\n\nrelease_limit := [1.5][0]",
            "invalid-release-limit",
            "`release_limit` is 1.5",
        ),
        (
            "allow := true\n\nrelease_limit := [\"5\"][0]",
            "invalid-release-limit",
            "is the string",
        ),
        (
            "allow := true\n\nrelease_limit := [null][0]",
            "invalid-release-limit",
            "is null",
        ),
        (
            "allow := true\n\nrelease_limit := [[5]][0]",
            "invalid-release-limit",
            "is an array",
        ),
        (
            "allow := true\n\nrelease_limit := [9007199254740993][0]",
            "invalid-release-limit",
            "expected a whole number from 0 to 2^53",
        ),
        (
            "allow := true\n\nrelease_limit := 5 if input.owner == \"nobody\"",
            "invalid-release-limit",
            "`release_limit` is undefined",
        ),
    ] {
        app.apply(with_rules(rules));
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let recorded = app.denied(&vm, &request);
        assert!(
            recorded.contains("release.any for disk: ") && recorded.contains(reason),
            "{rules}: {recorded}"
        );
        let verdict = verdict(&app);
        assert_eq!(
            (&verdict["allow"], &verdict["error"]["kind"]),
            (&json!(false), &json!(kind)),
            "{rules}"
        );
    }
}

#[test]
fn what_a_policy_refuses_is_a_deny_with_its_messages_and_no_error() {
    let (app, platform) = (App::new(), platform());
    for (rules, reason) in [
        ("allow := false", "allow is false"),
        (
            "allow := true\n\ndeny contains \"not on a Friday\"",
            "denied: not on a Friday",
        ),
        (
            "allow := true\n\ndeny contains {\"msg\": \"a\"}\n\ndeny contains \"b\"",
            "(and 1 more)",
        ),
    ] {
        app.apply(with_rules(rules));
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let recorded = app.denied(&vm, &request);
        assert!(recorded.contains(reason), "{recorded}");
        assert_eq!(verdict(&app)["error"], Value::Null);
    }
}

#[test]
fn a_release_limit_is_a_whole_number_however_it_is_written() {
    let (app, platform) = (App::new(), platform());
    for (number, rules) in ["3.0", "2 + 1", "count({1, 2, 3})"].iter().enumerate() {
        app.apply(with_rules(&format!("allow := true\n\nrelease_limit := {rules}")));
        let reply = app.run(&platform).1;
        reply.ok();
        assert_eq!(verdict(&app)["release_limit"], 3, "{rules}, release {number}");
    }
    let (_, held) = app.run(&platform);
    let held = held.expect(403, "confirmation-required");
    assert!(
        app.reason(&held).contains("3 are allowed"),
        "{}",
        app.reason(&held)
    );
    // None at all are allowed at once.
    app.apply(with_rules("allow := true\n\nrelease_limit := 0"));
    app.run(&platform).1.expect(403, "confirmation-required");
}

#[test]
fn a_loop_ends_as_a_deny_within_its_time_while_others_are_served() {
    // Long enough that what is quick is done long before, on any machine.
    let time = Duration::from_secs(3);
    let app = App::with(Options {
        policy: Limits {
            time,
            ..Limits::default()
        },
        workers: 5,
        ..Options::default()
    });
    let platform = platform();
    let mut objects = with_rules(LOOP);
    let other = "99999999-2222-4333-8444-555555555555";
    let mut workload = objects[2].clone();
    (workload["name"], workload["uuid"]) = (json!("other"), json!(other));
    workload["secrets"] = json!(["quick"]);
    let mut secret = objects[1].clone();
    (secret["name"], secret["policies"]) = (json!("quick"), json!(["quick"]));
    let quick = ALLOW.replace("release.any", "quick");
    let looping = format!("package release.any\n\n{LOOP}\n");
    objects[0] = bundle(&[
        ("any.rego", &looping),
        ("quick.rego", &quick),
        ("lists/data.json", DATA),
    ]);
    objects.as_array_mut().unwrap().extend([secret, workload]);
    let warnings = app.apply(objects).body["warnings"].to_string();
    assert!(
        warnings.contains("release.any") && warnings.contains("not decided within"),
        "{warnings}"
    );

    let mut slow: Vec<Vm> = (0..3).map(|_| app.start(&platform)).collect();
    let requests: Vec<Value> = slow.iter_mut().map(|vm| vm.measure(IMAGE)).collect();
    let started = |uuid: &str| {
        let reply = app
            .post(&format!("/vm/{uuid}/launch"), &launch_request(&platform))
            .ok();
        let mut vm = Vm::start(&platform, &reply);
        let request = vm.measure(IMAGE);
        (vm, request)
    };
    let quick: Vec<_> = (0..4).map(|_| started(other)).collect();
    let ended = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (vm, request) in slow.iter().zip(&requests) {
            let (app, ended) = (&app, &ended);
            scope.spawn(move || {
                let begun = Instant::now();
                let reply = app.post(&vm.path(), request).expect(403, "denied");
                ended.fetch_add(1, Ordering::SeqCst);
                assert!(begun.elapsed() < 2 * time, "{:?}", begun.elapsed());
                assert!(
                    app.reason(&reply).contains("not decided within 3s"),
                    "{}",
                    app.reason(&reply)
                );
            });
        }
        for (vm, request) in &quick {
            app.post(&vm.path(), request).ok();
        }
        assert_eq!(
            ended.load(Ordering::SeqCst),
            0,
            "what is quick waited for what is slow"
        );
    });
    let kinds: Vec<_> = app.decisions().iter().map(|d| d["outcome"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "released").count(), 4);
    assert_eq!(kinds.iter().filter(|kind| *kind == "denied").count(), 3);
}

#[test]
fn text_that_no_parser_would_finish_is_refused_when_it_is_registered_with_its_place() {
    let app = App::new();
    for (line, message) in [
        (
            format!("x := {}1{}", "[".repeat(20), "]".repeat(20)),
            "brackets nested deeper than 8",
        ),
        (
            format!("x := {}1{}", "{".repeat(5000), "}".repeat(5000)),
            "brackets nested deeper than 8",
        ),
        (
            format!("x := {}1{}", "(".repeat(9), ")".repeat(9)),
            "brackets nested deeper than 8",
        ),
        (format!("x := {}1", "1 + ".repeat(5000)), "operators"),
        ("x := \"open".to_owned(), "has no end"),
    ] {
        let begun = Instant::now();
        let refused = app.try_apply(with_rules(&format!("allow := true\n\n{line}")));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let refused = refused.expect(422, "invalid");
        let place = &refused.body["errors"][0];
        assert_eq!(
            (&place["file"], &place["line"]),
            (&json!("release/any.rego"), &json!(5))
        );
        assert!(place["column"].as_u64().unwrap() > 1, "{place}");
        assert!(place["message"].as_str().unwrap().contains(message), "{place}");
        assert!(
            refused.detail().contains("release/any.rego:5:"),
            "{}",
            refused.detail()
        );
    }
    assert_eq!(
        app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"],
        Value::Null
    );
}

#[test]
fn at_launch_the_rules_for_launch_decide_and_undefined_denies() {
    let (app, platform) = (App::new(), platform());
    let allow = "allow if is_string(input.attested.launch_digest)\n\n";
    for (rules, reason) in [
        ("", None),
        ("allow_launch := true", None),
        (
            "deny_launch contains \"closed\" if input.owner == \"nobody\"",
            None,
        ),
        ("allow_launch := false", Some("allow_launch is false")),
        (
            "allow_launch if input.owner == \"nobody\"",
            Some("`allow_launch` is undefined"),
        ),
        (
            "allow_launch := [\"yes\"][0]",
            Some("`allow_launch` is the string"),
        ),
        (
            "allow_launch if to_number(input.owner) == 1",
            Some("`allow_launch` failed"),
        ),
        ("deny_launch contains \"closed\"", Some("denied: closed")),
        (
            "deny_launch := [\"closed\"][0]",
            Some("`deny_launch` is the string"),
        ),
        (
            "allow_launch := true\n\ndeny_launch contains \"closed\"",
            Some("denied: closed"),
        ),
        (
            "allow_launch if is_string(input.attested.launch_digest)",
            Some("`allow_launch` is undefined"),
        ),
        (
            "allow_launch if input.claimed.cpu_count == 1",
            Some("`allow_launch` is undefined"),
        ),
        // A limit is not asked at launch.
        ("allow_launch := true\n\nrelease_limit := 0", None),
    ] {
        app.apply(with_rules(&format!("{allow}{rules}")));
        app.clock.advance(Duration::from_secs(60));
        let reply = app.ask_launch(&launch_request(&platform));
        let Some(reason) = reason else {
            reply.ok();
            continue;
        };
        let denied = reply.expect(403, "denied");
        assert_eq!(denied.detail(), "denied");
        assert!(
            app.reason(&denied).contains(reason),
            "{rules}: {}",
            app.reason(&denied)
        );
        let decision = app.decision(&denied.body["decision"]);
        assert_eq!(
            (&decision["phase"], &decision["outcome"]),
            (&json!("launch"), &json!("refused"))
        );
        assert_eq!(decision["input"]["attested"]["launch_digest"], Value::Null);
        assert_eq!(decision["launch"], Value::Null);
    }
    // Nobody waits there that was denied.
    let waiting = app.sql(&format!(
        "UPDATE launches SET tries_left = tries_left WHERE workload = x'{}'",
        WORKLOAD.replace('-', "")
    ));
    assert_eq!(waiting, 4);
}

#[test]
fn every_bound_policy_must_allow_whatever_it_is_bound_to() {
    let (app, platform) = (App::new(), platform());
    let modules = [
        ("any.rego", ALLOW),
        ("no.rego", "package no\n\nallow := false\n"),
        (
            "broken.rego",
            "package broken\n\nallow if to_number(input.owner) == 1\n",
        ),
    ];
    for refusing in ["no", "broken"] {
        for at in ["owner", "workload", "keyset", "secret"] {
            let mut objects = standard(json!({}));
            objects[0] = bundle(&modules);
            objects[0]["policies"] = json!(["release.any"]);
            objects[2]["policies"] = json!(["release.any"]);
            let set = json!({
                "kind": "KeySet", "name": "set", "secrets": ["disk"], "policies": ["release.any"],
            });
            objects.as_array_mut().unwrap().push(set);
            let place = ["owner", "secret", "workload", "keyset"]
                .iter()
                .position(|p| *p == at)
                .unwrap();
            objects[place]["policies"] = json!(["release.any", refusing]);
            app.apply(objects);
            let mut vm = app.start(&platform);
            let request = vm.measure(IMAGE);
            let reason = app.denied(&vm, &request);
            assert!(reason.starts_with(refusing), "{at}: {reason}");
            let bound = app.decisions()[0]["policies"].take();
            let denying = bound
                .as_array()
                .unwrap()
                .iter()
                .find(|v| v["policy"] == refusing)
                .unwrap();
            assert_eq!(denying["binding"]["kind"], at);
        }
    }
}
