//! `POST /v1/policies/evaluate`: what a policy would say, of whatever was active, about whatever is asked.

use serde_json::{Value, json};

use crate::support::host::{ALLOW, standard};
use crate::support::other::{Other, shared};
use crate::support::{App, Reply, platform};

const BUILD: &str = "package release.any\n\nallow if input.attested.build_id >= 9\n";

fn evaluate(app: &App, body: &Value) -> Reply {
    app.owner("POST", "/v1/policies/evaluate", body)
}

/// A server with a released decision, whose active policy would deny it by now.
fn released() -> (App, Value) {
    let app = App::with(shared());
    app.apply(standard(json!({"max_releases": 5})));
    let decision = app.run(&platform()).1.ok().body["decision"].clone();
    app.bundle(&[("release/any.rego", BUILD)]);
    (app, decision)
}

#[test]
fn a_recorded_input_is_asked_of_the_active_policy_and_of_earlier_ones() {
    let (app, decision) = released();
    let mut body = json!({"policy": "release.any", "decision": decision, "secret": "disk"});
    let now = evaluate(&app, &body).ok().body;
    assert_eq!(
        (&now["dry_run"], &now["allow"]),
        (&json!(true), &json!(false)),
        "{now}"
    );
    assert!(now.to_string().contains("build_id"), "{now}");
    body["revision"] = json!(1);
    let then = evaluate(&app, &body).ok().body;
    assert_eq!(then["allow"], true, "{then}");
    assert_ne!(then["bundle"], now["bundle"]);
    body["revision"] = Value::Null;
    body["bundle"] = then["bundle"].clone();
    assert_eq!(evaluate(&app, &body).ok().body, then);
    let library = json!({"policy": "keyward.workload", "decision": decision});
    let library = evaluate(&app, &library).ok().body;
    assert_eq!(
        (&library["allow"], &library["bundle"]),
        (&json!(true), &Value::Null),
        "{library}"
    );
}

#[test]
fn an_input_that_is_made_up_is_asked_about_and_leaves_no_trace() {
    let (app, decision) = released();
    let path = format!("/v1/decisions/{}", decision.as_str().unwrap());
    let mut input = app.owner("GET", &path, &Value::Null).ok().body["input"].clone();
    input["attested"]["build_id"] = json!(200);
    input["secret"] = json!("disk");
    let before = app.owner("GET", "/v1/decisions", &Value::Null).ok().body;
    let counted = app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    let body = json!({"policy": "release.any", "input": input});
    let said = evaluate(&app, &body).ok().body;
    assert_eq!(
        (&said["allow"], &said["phase"]),
        (&json!(true), &json!("release")),
        "{said}"
    );
    assert_eq!(app.owner("GET", "/v1/decisions", &Value::Null).ok().body, before);
    assert_eq!(app.owner("GET", "/v1/limits", &Value::Null).ok().body, counted);
}

#[test]
fn what_can_not_be_asked_is_said_and_another_owner_s_is_not_there() {
    let (app, decision) = released();
    let other = Other::of(&app);
    let theirs = standard(json!({"uuid": crate::support::other::OTHERS_WORKLOAD}));
    other.send("POST", "/v1/apply", &json!({"objects": theirs})).ok();
    other
        .send(
            "POST",
            "/v1/bundles",
            &json!({"files": {"release/any.rego": keyward::domain::Base64Bytes(
            format!("{ALLOW}\n# theirs\n").into_bytes())}}),
        )
        .expect(201, "ok");
    let their_bundle = other.get("/v1/bundles").ok().body["active"].clone();
    let their_decision = crate::support::other::run(&app, crate::support::other::OTHERS_WORKLOAD)
        .1
        .ok()
        .body["decision"]
        .clone();
    for (body, status, says) in [
        (
            json!({"policy": "release.any"}),
            400,
            "`input`: expected it or `decision`",
        ),
        (
            json!({"policy": "release.any", "decision": decision, "input": {}}),
            400,
            "input",
        ),
        (
            json!({"policy": "release.all", "decision": decision}),
            400,
            "did you mean `release.any`?",
        ),
        (
            json!({"policy": "release.any", "decision": decision, "revision": 1, "bundle": their_bundle}),
            400,
            "not both",
        ),
        (
            json!({"policy": "release.any", "decision": decision, "revision": 99}),
            404,
            "no such revision",
        ),
        (
            json!({"policy": "release.any", "decision": decision, "bundle": their_bundle}),
            404,
            "no such revision",
        ),
        (
            json!({"policy": "release.any", "decision": their_decision}),
            404,
            "no such decision",
        ),
        (
            json!({"policy": "release.any", "decision": decision, "limit": 1}),
            400,
            "unknown field",
        ),
    ] {
        let reply = evaluate(&app, &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(reply.detail().contains(says), "{body}: {}", reply.body);
    }
    let path = format!("/v1/decisions/{}", decision.as_str().unwrap());
    let mut input = app.owner("GET", &path, &Value::Null).ok().body["input"].clone();
    input["owner"] = json!("umbra");
    let reply = evaluate(&app, &json!({"policy": "release.any", "input": input})).expect(400, "malformed");
    assert!(reply.detail().contains("another than acme"), "{}", reply.body);
}
