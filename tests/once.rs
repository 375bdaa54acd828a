//! Idempotency keys of the owner API: what a POST asks for is done once, however often it is sent.

use std::time::Duration;

use keyward::domain::{Base64Bytes, Role};
use serde_json::{Value, json};

use crate::support::hooked::{Fate, Hook};
use crate::support::host::ALLOW;
use crate::support::{App, Reply, platform};

fn post(app: &App, token: &str, key: &str, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
    app.request("POST", path, &headers, body.to_string().as_bytes())
}

fn own(app: &App, key: &str, path: &str, body: &Value) -> Reply {
    post(app, &app.token.clone(), key, path, body)
}

/// A body that registers a new value each time that it is done.
fn value(text: &str) -> Value {
    json!({"objects": [{"kind": "Secret", "name": "disk", "type": "luks-passphrase",
                        "value": {"base64": Base64Bytes(text.as_bytes().to_vec())}, "policies": ["release.any"]}]})
}

fn version(app: &App) -> Value {
    app.owner("GET", "/v1/secrets/disk", &Value::Null).ok().body["version"].clone()
}

fn push(note: &str) -> Value {
    let text = format!("{ALLOW}\n# {note}\n");
    json!({"files": {"release/any.rego": Base64Bytes(text.into_bytes())}})
}

#[test]
fn the_same_request_is_answered_the_same_and_done_once_also_after_a_restart() {
    let mut app = App::new();
    app.standard();
    let body = value("one");
    let first = own(&app, "a", "/v1/apply", &body).ok().body;
    assert_eq!(first["changes"][0]["action"], "updated");
    app.owner("POST", "/v1/apply", &value("two")).ok();
    app.restart();
    // Done anew, it would put the first value back.
    assert_eq!(own(&app, "a", "/v1/apply", &body).ok().body, first);
    assert_eq!(version(&app), 3);

    let pushed = own(&app, "b", "/v1/bundles", &push("x")).expect(201, "ok").body;
    app.owner("POST", "/v1/bundles", &push("y")).expect(201, "ok");
    let again = own(&app, "b", "/v1/bundles", &push("x")).expect(201, "ok").body;
    assert_eq!(again, pushed);
    let back = json!({"number": 1});
    let first = own(&app, "c", "/v1/revisions", &back).expect(201, "ok").body;
    assert_eq!(
        own(&app, "c", "/v1/revisions", &back).expect(201, "ok").body,
        first
    );

    app.clock.advance(Duration::from_secs(24 * 3600));
    app.service.tidy().unwrap();
    own(&app, "a", "/v1/apply", &body).ok();
    assert_eq!(version(&app), 4, "after a day the key is forgotten");
}

#[test]
fn a_key_is_one_request_s_and_one_caller_s() {
    let app = App::new();
    app.standard();
    own(&app, "a", "/v1/apply", &value("one")).ok();
    own(&app, "a", "/v1/apply", &value("two")).expect(409, "idempotency-key-used");
    own(&app, "a", "/v1/bundles", &value("one")).expect(409, "idempotency-key-used");
    let other = app.mint(Role::Owner, Some("acme"), None).text;
    post(&app, &other, "a", "/v1/apply", &value("two")).ok();
    assert_eq!(version(&app), 3);
    for bad in ["a b", "é", &"a".repeat(256)] {
        own(&app, bad, "/v1/apply", &value("three")).expect(400, "malformed");
    }
    own(&app, &"a".repeat(255), "/v1/apply", &value("three")).ok();
}

#[test]
fn what_was_refused_did_nothing_and_is_decided_anew() {
    let app = App::new();
    app.standard();
    let body = json!({"objects": [{"kind": "KeySet", "name": "set", "secrets": ["more"], "policies": []}]});
    own(&app, "a", "/v1/apply", &body).expect(422, "invalid");
    let mut more = value("more");
    more["objects"][0]["name"] = json!("more");
    own(&app, "b", "/v1/apply", &more).ok();
    own(&app, "a", "/v1/apply", &body).ok();
}

#[test]
fn a_word_on_a_hold_is_taken_once() {
    let (app, platform) = (App::new(), platform());
    app.apply(crate::support::host::standard(json!({"max_releases": 0})));
    let hold = app.run(&platform).1.body["hold"].clone();
    let path = format!("/v1/holds/{}/confirm", hold.as_str().unwrap());
    let body = json!({"additional": 1, "any": true, "reason": "a test"});
    let first = own(&app, "a", &path, &body).ok().body;
    assert_eq!(own(&app, "a", &path, &body).ok().body, first);
    assert_eq!(
        app.hold(&hold)["words"].as_array().map(Vec::len),
        first["words"].as_array().map(Vec::len)
    );
}

#[test]
fn a_freeze_its_end_a_platform_s_enrolment_and_a_rollback_are_done_once() {
    let app = App::new();
    app.standard();
    app.owner("POST", "/v1/apply", &value("two")).ok();
    let target = json!({"target": {"type": "secret", "name": "disk"}, "reason": "x"});
    let reason = json!({"reason": "x"});
    let frozen = own(&app, "a", "/v1/freezes", &target).expect(201, "ok").body;
    let lift = format!("/v1/freezes/{}/lift", frozen["id"].as_str().unwrap());
    let lifted = own(&app, "b", &lift, &reason).ok().body;
    // Done again, each would freeze anew, say that it was lifted, and make another version.
    assert_eq!(
        own(&app, "a", "/v1/freezes", &target).expect(201, "ok").body,
        frozen
    );
    assert_eq!(own(&app, "b", &lift, &reason).ok().body, lifted);
    let list = app.owner("GET", "/v1/freezes", &Value::Null).ok().body;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    let enrol = format!("/v1/platforms/{}/enrol", "00".repeat(32));
    let enrolled = own(&app, "c", &enrol, &reason).ok().body;
    let refuse = format!("/v1/platforms/{}/refuse", "00".repeat(32));
    own(&app, "d", &refuse, &reason).ok();
    assert_eq!(own(&app, "c", &enrol, &reason).ok().body, enrolled);
    let platforms = app.owner("GET", "/v1/platforms", &Value::Null).ok().body;
    assert_eq!(platforms["items"][0]["standing"], "refused");

    let back = json!({"version": 1});
    let done = own(&app, "e", "/v1/secret-versions/disk", &back).ok().body;
    assert_eq!(own(&app, "e", "/v1/secret-versions/disk", &back).ok().body, done);
    assert_eq!(version(&app), 3);
}

#[test]
fn an_answer_with_a_token_in_it_is_not_kept_and_the_token_is_made_once() {
    let app = App::new();
    let count = || {
        app.owner("GET", "/v1/tokens", &Value::Null).ok().body["items"]
            .as_array()
            .unwrap()
            .len()
    };
    let before = count();
    let body = json!({"name": "ci", "role": "auditor"});
    let made = own(&app, "a", "/v1/tokens", &body).expect(201, "ok").body;
    own(&app, "a", "/v1/tokens", &body).expect(409, "idempotency-key-used");
    assert_eq!(count(), before + 1);
    let text = made["token"].as_str().unwrap();
    for entry in std::fs::read_dir(app.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "the token's text is stored");
    }
}

#[test]
fn an_act_whose_answer_was_lost_is_not_done_again() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    // The server ends after the act and before its answer is kept, or does not even learn that it was done.
    for (key, method, fate, status) in [
        ("a", "keep_answer", Fate::FailsUndone, 200),
        ("b", "apply", Fate::FailsDone, 503),
    ] {
        let before = version(&app).as_u64().unwrap();
        hook.once(method, fate);
        assert_eq!(
            own(&app, key, "/v1/apply", &value(key)).status,
            status,
            "{method}"
        );
        hook.clear();
        assert_eq!(version(&app), before + 1, "{method}");
        app.owner("POST", "/v1/apply", &value("meanwhile")).ok();
        let again = own(&app, key, "/v1/apply", &value(key)).expect(409, "idempotency-key-used");
        assert!(again.detail().contains("is done"), "{}", again.detail());
        assert_eq!(version(&app), before + 2, "{method}");
    }
    // One that was not done is.
    let before = version(&app).as_u64().unwrap();
    hook.once("apply", Fate::FailsUndone);
    own(&app, "c", "/v1/apply", &value("c")).expect(503, "unavailable");
    hook.clear();
    own(&app, "c", "/v1/apply", &value("c")).ok();
    assert_eq!(version(&app), before + 1);
}

#[test]
fn of_two_tries_at_once_one_is_done() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    let beside = app.again(crate::support::app::Options::default());
    let body = push("once");
    let (token, told) = (app.token.clone(), body.clone());
    let done = std::sync::Arc::new(std::sync::Mutex::new(0));
    let status = done.clone();
    // After the first looked at the key, and before it commits, the second is done on the same data folder.
    hook.before("apply", move || {
        *status.lock().unwrap() = post(&beside, &token, "a", "/v1/bundles", &told).status;
    });
    let late = own(&app, "a", "/v1/bundles", &body);
    assert_eq!(*done.lock().unwrap(), 201);
    assert!(
        late.status == 503 || late.body["action"] == "unchanged",
        "{}",
        late.body
    );
    let log = app.owner("GET", "/v1/revisions", &Value::Null).ok().body;
    assert_eq!(log["active"], 2);
}
