//! The inventory: platforms whose measurement held, and those that an owner enrols or refuses.

use std::sync::Arc;

use keyward::domain::Time;
use keyward::domain::platform::Platform;
use serde_json::{Value, json};

use crate::support::app::Options;
use crate::support::hooked::Hook;
use crate::support::host::{IMAGE, launch_request};
use crate::support::other::{Other, shared};
use crate::support::{App, Reply, platform};

/// What an owner says of the platform with this CEK.
type Change = fn(&App, &Value);

fn list(app: &App) -> Vec<Value> {
    let page = app.owner("GET", "/v1/platforms", &Value::Null).ok().body;
    page["items"].as_array().unwrap().clone()
}

fn judge(app: &App, cek: &Value, verb: &str) -> Reply {
    let path = format!("/v1/platforms/{}/{verb}", cek.as_str().unwrap());
    app.owner("POST", &path, &json!({"reason": "a test"}))
}

fn accept(app: &App, accepted: &str) {
    let body = json!({"accepted": accepted, "reason": "a rule"});
    app.owner("PUT", "/v1/platforms/accepted", &body).ok();
}

/// The CEK of the platform that a decision is about.
fn cek(app: &App, reply: &Reply) -> Value {
    app.decision(&reply.body["decision"])["input"]["platform"]["fingerprints"]["cek"].clone()
}

#[test]
fn a_platform_is_listed_once_it_measured_a_guest_with_what_was_seen_of_it() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    assert_eq!(list(&app), [] as [Value; 0], "a chain is public");
    let mut wrong = vm.measure(b"what nobody ever reviewed, 32 by");
    app.post(&vm.path(), &wrong).expect(422, "measurement-mismatch");
    assert_eq!(list(&app), [] as [Value; 0], "so is what a host says");

    wrong["launch-digest"] = json!(crate::support::host::digest(b"what nobody ever reviewed, 32 by"));
    for _ in 0..2 {
        app.post(&vm.path(), &wrong).expect(403, "denied");
    }
    let denied = list(&app);
    assert_eq!(denied.len(), 1);
    assert_eq!(
        (&denied[0]["seen"]["launches"], &denied[0]["seen"]["releases"]),
        (&json!(1), &json!(0))
    );

    app.clock.advance(std::time::Duration::from_secs(60));
    let released = app.run(&platform).1.ok();
    let listed = list(&app);
    let seen = &listed[0]["seen"];
    assert_eq!(listed[0]["cek"], cek(&app, &released));
    assert_eq!(listed[0]["standing"], "seen");
    assert_eq!((&seen["launches"], &seen["releases"]), (&json!(2), &json!(1)));
    assert_eq!(seen["first"], "2026-01-02T03:04:05.000Z");
    assert_eq!(seen["last"], "2026-01-02T03:05:05.000Z");
    assert_eq!((&seen["root"], &seen["product"]), (&json!("test"), &Value::Null));
    let build = &seen["builds"][0];
    assert_eq!(
        (&build["api_major"], &build["api_minor"], &build["build_id"]),
        (&json!(1), &json!(55), &json!(8))
    );
    assert_eq!(seen["ocas"].as_array().unwrap().len(), 1);
    let path = format!("/v1/platforms/{}", listed[0]["cek"].as_str().unwrap());
    assert_eq!(app.owner("GET", &path, &Value::Null).ok().body, listed[0]);
}

#[test]
fn a_held_launch_is_a_launch_and_no_release_however_often_it_asks() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n\nrelease_limit := 0\n",
    )]);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let mut hold = Value::Null;
    for _ in 0..3 {
        hold = app
            .post(&vm.path(), &request)
            .expect(403, "confirmation-required")
            .body["hold"]
            .clone();
    }
    let counted = || {
        let seen = &list(&app)[0]["seen"];
        (seen["launches"].clone(), seen["releases"].clone())
    };
    assert_eq!(counted(), (json!(1), json!(0)));
    app.confirm(&hold, 1).ok();
    app.post(&vm.path(), &request).ok();
    assert_eq!(counted(), (json!(1), json!(1)));
}

#[test]
fn a_refused_platform_begins_no_launch_and_gets_nothing_and_the_others_do() {
    let (app, one, other) = (App::new(), platform(), platform());
    app.standard();
    let bad = cek(&app, &app.run(&one).1.ok());
    let mut vm = app.start(&one);
    let request = vm.measure(IMAGE);
    let refused = judge(&app, &bad, "refuse").ok().body;
    assert_eq!(
        (&refused["standing"], &refused["word"]["reason"]),
        (&json!("refused"), &json!("a test"))
    );
    let denied = app.post(&vm.path(), &request).expect(403, "denied");
    assert!(
        app.reason(&denied).contains("is refused: init refused it at"),
        "{}",
        app.reason(&denied)
    );
    let denied = app.ask_launch(&launch_request(&one)).expect(403, "denied");
    assert!(app.reason(&denied).contains("is refused"));
    app.run(&other).1.ok();
    judge(&app, &bad, "enrol").ok();
    app.post(&vm.path(), &request).ok();
}

#[test]
fn where_only_enrolled_platforms_are_accepted_a_new_one_is_listed_and_gets_nothing_until_it_is() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    accept(&app, "enrolled");
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let reason = app.denied(&vm, &request);
    assert!(
        reason.contains("is not enrolled, and only enrolled platforms are accepted"),
        "{reason}"
    );
    let listed = list(&app);
    assert_eq!(listed.len(), 1);
    assert!(reason.ends_with(&format!(
        "keyward platform enrol {}",
        listed[0]["cek"].as_str().unwrap()
    )));
    judge(&app, &listed[0]["cek"], "enrol").ok();
    app.post(&vm.path(), &request).ok();
    assert_eq!(list(&app)[0]["seen"]["launches"], 1);
    let page = app.owner("GET", "/v1/platforms", &Value::Null).ok().body;
    assert_eq!(page["accepted"], "enrolled");

    app.run(&super::support::platform()).1.expect(403, "denied");
    accept(&app, "any");
    app.run(&super::support::platform()).1.ok();
}

#[test]
fn what_an_owner_says_of_platforms_between_a_decision_and_its_commit_counts() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    let platform = platform();
    let known = cek(&app, &app.run(&platform).1.ok());
    let beside = Arc::new(app.again(Options::default()));
    let changes: [(Change, &str); 2] = [
        (|app, _| accept(app, "enrolled"), "is not enrolled"),
        (
            |app, known| {
                judge(app, known, "refuse").ok();
            },
            "is refused",
        ),
    ];
    for (change, said) in changes {
        accept(&app, "any");
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let (other, known) = (beside.clone(), known.clone());
        hook.before("commit_release", move || change(&other, &known));
        let denied = app.post(&vm.path(), &request).expect(403, "denied");
        hook.clear();
        assert!(app.reason(&denied).contains(said), "{}", app.reason(&denied));
    }
}

#[test]
fn another_owner_s_inventory_is_its_own() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.standard();
    let platform = platform();
    let seen = cek(&app, &app.run(&platform).1.ok());
    assert_eq!(other.items("/v1/platforms"), [] as [Value; 0]);
    let path = format!("/v1/platforms/{}", seen.as_str().unwrap());
    other.get(&path).expect(404, "not-found");
    // What one says of it is heard by nobody else.
    other
        .send("POST", &format!("{path}/refuse"), &json!({"reason": "no"}))
        .ok();
    let rule = json!({"accepted": "enrolled", "reason": "a rule"});
    other.send("PUT", "/v1/platforms/accepted", &rule).ok();
    assert_eq!(list(&app)[0]["standing"], "seen");
    app.run(&platform).1.ok();
}

#[test]
fn platforms_come_in_pages_and_bad_words_are_named() {
    let app = App::new();
    app.standard();
    let ceks: Vec<Value> = (0..5_u8).map(|n| json!(hex::encode([n; 32]))).collect();
    for cek in &ceks {
        assert_eq!(judge(&app, cek, "enrol").ok().body["seen"], Value::Null);
    }
    let (mut walked, mut after) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = app
            .owner("GET", &format!("/v1/platforms?limit=2{after}"), &Value::Null)
            .ok()
            .body;
        walked.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["cek"].clone()),
        );
        after = format!("&cursor={}", page["next"].as_str().unwrap_or("end"));
    }
    assert_eq!((walked, after.as_str()), (ceks, "&cursor=end"));
    for query in ["cursor=x", "after=x", "limit=x", "standing=seen"] {
        app.owner("GET", &format!("/v1/platforms?{query}"), &Value::Null)
            .expect(400, "malformed");
    }
    judge(&app, &json!("00"), "enrol").expect(404, "not-found");
    let path = format!("/v1/platforms/{}/refuse", "00".repeat(32));
    app.owner("POST", &path, &json!({"reason": ""}))
        .expect(400, "malformed");
    let rule = json!({"accepted": "some", "reason": "a rule"});
    app.owner("PUT", "/v1/platforms/accepted", &rule)
        .expect(400, "malformed");
}

#[test]
fn each_act_on_platforms_is_in_the_audit_log() {
    let app = App::new();
    app.standard();
    let cek = json!("00".repeat(32));
    judge(&app, &cek, "enrol").ok();
    judge(&app, &cek, "refuse").ok();
    accept(&app, "enrolled");
    let log = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    let items = log["items"].as_array().unwrap();
    let events: Vec<_> = items
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(|entry| entry["record"]["event"].clone())
        .collect();
    assert_eq!(
        events,
        [
            json!({"kind": "platform-enrolled", "fingerprint": cek, "reason": "a test"}),
            json!({"kind": "platform-refused", "fingerprint": cek, "reason": "a test"}),
            json!({"kind": "platforms-accepted", "accepted": "enrolled", "reason": "a rule"}),
        ]
    );
}

#[test]
fn a_machine_that_makes_new_keys_at_will_fills_no_list() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let reply = app.run(&platform).1.ok();
    let input = app.decision(&reply.body["decision"])["input"].clone();
    let mut seen = Platform::new([0; 32].into());
    for n in 0..100_u8 {
        let mut input = input.clone();
        input["platform"]["fingerprints"]["oca"] = json!(hex::encode([n; 32]));
        input["attested"]["build_id"] = json!(n);
        let input = serde_json::from_value(input).unwrap();
        seen.note(&input, Time::from_millis(n.into()), true, false);
    }
    let seen = seen.seen.unwrap();
    assert_eq!((seen.ocas.len(), seen.builds.len(), seen.launches), (16, 32, 100));
    assert_eq!(seen.ocas[0].fingerprint, [99; 32].into());
    assert_eq!(seen.builds[0].build_id, 99);

    // Nor do machines without end: what was seen longest ago is forgotten, never what somebody said something of.
    let row = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10001)
        INSERT INTO platforms SELECT 'acme', CAST(printf('%032d', n) AS BLOB),
          CASE n WHEN 1 THEN 'refused' ELSE 'seen' END, n, '{}' FROM n";
    assert_eq!(app.sql(row), 10_001);
    app.run(&super::support::platform()).1.ok();
    assert_eq!(
        app.sql("UPDATE platforms SET last = last WHERE standing = 'seen'"),
        10_000
    );
    assert_eq!(
        app.sql("UPDATE platforms SET last = last WHERE standing = 'refused'"),
        1
    );
    assert_eq!(
        app.sql("UPDATE platforms SET last = last WHERE last IN (2, 3)"),
        0
    );
}
