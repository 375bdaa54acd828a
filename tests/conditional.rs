//! Entity tags: who saw an object in one state does not overwrite it in another.

use keyward::domain::Base64Bytes;
use keyward::domain::etag::ETag;
use keyward::domain::state::SecretInfo;
use openssl::nid::Nid;
use serde_json::{Value, json};

use crate::policy_signing::{ec, public_pem};
use crate::support::app::{Options, bundle};
use crate::support::hooked::Hook;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest};
use crate::support::{App, Reply, platform};

/// An owner's request with one header more.
fn with(app: &App, method: &str, path: &str, header: (&str, &str), body: &Value) -> Reply {
    let bearer = format!("Bearer {}", app.token);
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    app.request(method, path, &[("authorization", &bearer), header], &body)
}

fn etag(app: &App, path: &str) -> String {
    app.owner("GET", path, &Value::Null).ok().headers["etag"].clone()
}

fn secret(value: &str) -> Value {
    json!({"name": "disk", "type": "luks-passphrase", "value": {"base64": value}, "policies": ["release.any"]})
}

fn firmware() -> Base64Bytes {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    Base64Bytes(std::fs::read(path).unwrap())
}

#[test]
fn whoever_saw_another_state_changes_and_removes_nothing() {
    let app = App::new();
    app.standard();
    let key = json!({"public_key": public_pem(&ec(Nid::X9_62_PRIME256V1))});
    let set = json!({"name": "set", "secrets": ["disk"], "policies": ["release.any"]});
    let policies = json!({"files": {"release/any.rego": Base64Bytes(ALLOW.as_bytes().to_vec())},
                          "policies": ["release.any"]});
    for (path, body) in [
        ("/v1/secrets/disk", secret("aHVudGVyMw==")),
        ("/v1/keysets/set", set),
        (
            "/v1/firmware/board",
            json!({"name": "board", "content": firmware()}),
        ),
        ("/v1/bundles/active", policies),
        // Last, as bundles need a signature from then on.
        ("/v1/signing-keys/ours", key),
    ] {
        let other = "\"00000000000000000000000000000000\"";
        with(&app, "PUT", path, ("if-match", other), &body).expect(412, "precondition-failed");
        if app.owner("GET", path, &Value::Null).status == 404 {
            with(&app, "PUT", path, ("if-match", "*"), &body).expect(412, "precondition-failed");
            with(&app, "PUT", path, ("if-none-match", "*"), &body).ok();
        }
        with(&app, "PUT", path, ("if-none-match", "*"), &body).expect(412, "precondition-failed");
        app.owner("PUT", path, &body);
        let now = etag(&app, path);
        let put = with(&app, "PUT", path, ("if-match", &now), &body);
        assert_eq!(put.status, 200, "{path}: {}", put.body);
        assert_eq!(put.headers["etag"], etag(&app, path), "{path}");
        with(&app, "PUT", path, ("if-match", "unquoted"), &body).expect(400, "malformed");
        if path != "/v1/bundles/active" {
            with(&app, "DELETE", path, ("if-match", other), &Value::Null).expect(412, "precondition-failed");
        }
        let known = with(&app, "GET", path, ("if-none-match", &now), &Value::Null);
        assert_eq!((known.status, &known.body), (304, &json!("")), "{path}");
        assert_eq!(known.headers["etag"], now, "{path}");
        assert_eq!(
            with(&app, "GET", path, ("if-none-match", other), &Value::Null).status,
            200
        );
    }
    let workload = format!("/v1/workloads/{WORKLOAD}");
    let seen = etag(&app, &workload);
    app.apply(json!([{"kind": "Workload", "name": "web", "uuid": WORKLOAD, "scheme": "amd-sev", "policy": 3,
                      "launch_digests": [digest(IMAGE), "00".repeat(32)], "secrets": ["disk"], "policies": []}]));
    with(&app, "DELETE", &workload, ("if-match", &seen), &Value::Null).expect(412, "precondition-failed");
    let seen = etag(&app, &workload);
    assert_eq!(
        with(&app, "DELETE", &workload, ("if-match", &seen), &Value::Null).status,
        204
    );
    with(&app, "DELETE", &workload, ("if-match", &seen), &Value::Null).expect(412, "precondition-failed");
}

#[test]
fn a_secret_s_tag_tells_its_versions_apart_and_nothing_of_its_value() {
    let (app, other) = (App::new(), App::new());
    app.standard();
    other.standard();
    let path = "/v1/secrets/disk";
    let first = etag(&app, path);
    app.owner("PUT", path, &secret("aHVudGVyMw==")).ok();
    let second = etag(&app, path);
    assert_ne!(first, second);
    // Whatever the value is: the tag is one of what is shown, and no more.
    other.owner("PUT", path, &secret("aHVudGVyNA==")).ok();
    for (app, tag) in [(&app, second), (&other, etag(&other, path))] {
        let shown = app.owner("GET", path, &Value::Null).ok().body;
        let shown: SecretInfo = serde_json::from_value(shown).unwrap();
        assert_eq!(ETag::of(&shown).unwrap().quoted(), tag);
    }
}

#[test]
fn labels_are_part_of_the_state_that_was_seen() {
    let app = App::new();
    app.standard();
    let path = "/v1/secrets/disk";
    let before = etag(&app, path);
    let mut labelled = secret("aHVudGVyMg==");
    labelled.as_object_mut().unwrap().remove("value");
    labelled["labels"] = json!({"app": "web"});
    let reply = with(&app, "PUT", path, ("if-match", &before), &labelled).ok();
    assert_ne!(reply.headers["etag"], before);
    assert_eq!(reply.headers["etag"], etag(&app, path));
    labelled["labels"] = json!({"app": "shop"});
    with(&app, "PUT", path, ("if-match", &before), &labelled).expect(412, "precondition-failed");
    let shown = app.owner("GET", path, &Value::Null).ok();
    assert_eq!(shown.body["labels"], json!({"app": "web"}));
}

#[test]
fn of_two_who_saw_the_same_state_one_is_refused() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    let path = "/v1/secrets/disk";
    let seen = etag(&app, path);
    let beside = app.again(Options::default());
    // Between the check of the first and its commit, the second changes the object.
    let (tag, done) = (seen.clone(), std::sync::Arc::new(std::sync::Mutex::new(None)));
    let told = done.clone();
    hook.before("apply", move || {
        let reply = with(&beside, "PUT", path, ("if-match", &tag), &secret("aHVudGVyNA=="));
        *told.lock().unwrap() = Some(reply.status);
    });
    let late = with(&app, "PUT", path, ("if-match", &seen), &secret("aHVudGVyMw=="));
    assert_eq!(done.lock().unwrap().take(), Some(200));
    late.expect(412, "precondition-failed");
    assert_eq!(app.owner("GET", path, &Value::Null).ok().body["version"], 2);
}

#[test]
fn how_many_people_are_asked_for_is_changed_in_the_state_that_was_seen() {
    let app = App::new();
    app.standard();
    let _other = app.person("mara");
    let path = "/v1/approvals";
    let (before, body) = (
        etag(&app, path),
        json!({"approvals_required": 2, "reason": "a test"}),
    );
    let done = with(&app, "PUT", path, ("if-match", &before), &body).ok();
    assert_eq!(done.headers["etag"], etag(&app, path));
    let body = json!({"approvals_required": 1, "reason": "a test"});
    with(&app, "PUT", path, ("if-match", &before), &body).expect(412, "precondition-failed");
    assert_eq!(
        app.owner("GET", path, &Value::Null).ok().body["approvals_required"],
        2
    );
}

#[test]
fn what_never_changes_keeps_its_tag_and_a_hold_does_not() {
    let (app, platform) = (App::new(), platform());
    app.apply(crate::support::host::standard(json!({"max_releases": 1})));
    let decision = app.run(&platform).1.ok().body["decision"].clone();
    let decision = format!("/v1/decisions/{}", decision.as_str().unwrap());
    assert_eq!(etag(&app, &decision), etag(&app, &decision));
    let hold = app.run(&platform).1.body["hold"].clone();
    let path = format!("/v1/holds/{}", hold.as_str().unwrap());
    let open = etag(&app, &path);
    app.confirm(&hold, 1).ok();
    assert_ne!(etag(&app, &path), open);
    let active = etag(&app, "/v1/bundles/active");
    app.apply(json!([bundle(&[(
        "release/any.rego",
        &format!("{ALLOW}\n# more\n")
    )])]));
    assert_ne!(etag(&app, "/v1/bundles/active"), active);
}
