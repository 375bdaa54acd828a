//! Two people who register: nobody alone makes `allow := true` the policy, where the owner asks for two.

use keyward::domain::Role;
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, standard};
use crate::support::{App, Reply, platform};

const DENY: &str = "package release.any\n\nallow := false\n";
const ALLOW: &str = "package release.any\n\nallow := true\n";

fn require(app: &App, people: u8, policies: bool) -> Reply {
    let body = json!({"approvals_required": people, "policies": policies, "reason": "a rule of the house"});
    app.owner("PUT", "/v1/approvals", &body)
}

/// A server with the standard objects under a policy that denies, whose owner asks for two; and a second person's token.
fn guarded() -> (App, String) {
    let app = App::new();
    app.apply(standard(json!({})));
    app.bundle(&[("release/any.rego", DENY)]);
    let refused = require(&app, 2, true).expect(409, "wrong-state");
    assert!(refused.detail().contains("2 people need"), "{}", refused.body);
    app.mint(Role::Approver, Some("acme"), None);
    let refused = require(&app, 2, true).expect(409, "wrong-state");
    assert!(
        refused.detail().contains("role owner with different names"),
        "{}",
        refused.body
    );
    app.mint(Role::Owner, Some("acme"), None);
    let author = app.mint(Role::PolicyAuthor, Some("acme"), None);
    require(&app, 1, true).expect(400, "malformed");
    require(&app, 2, true).ok();
    (app, author.text)
}

fn apply(app: &App, objects: Value) -> Reply {
    app.owner("POST", "/v1/apply", &json!({"objects": objects}))
}

fn push(app: &App, token: &str, policy: &str) -> Reply {
    let body = json!({"files": bundle(&[("release/any.rego", policy)])["files"]});
    app.as_token(token, "POST", "/v1/bundles", &body)
}

#[test]
fn a_bundle_is_active_once_another_person_sent_the_same() {
    let (app, author) = guarded();
    let platform = platform();
    let active = || app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    let before = active();

    let proposed =
        apply(&app, json!([bundle(&[("release/any.rego", ALLOW)])])).expect(403, "approval-required");
    assert!(proposed.detail().contains("another person"), "{}", proposed.body);
    let again = apply(&app, json!([bundle(&[("release/any.rego", ALLOW)])])).expect(409, "wrong-state");
    assert!(again.detail().contains("different people"), "{}", again.body);
    push(&app, &author, &format!("{ALLOW}\n# another\n")).expect(403, "approval-required");
    assert_eq!(active(), before);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.denied(&vm, &request);

    push(&app, &author, ALLOW).expect(201, "ok");
    assert_ne!(active(), before);
    app.run(&platform).1.ok();
    // Who wanted it first is in the log, and what still waits is listed.
    let log = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    let proposed = |entry: &&Value| entry["record"]["event"]["kind"] == "registration-proposed";
    let proposed: Vec<_> = log["items"].as_array().unwrap().iter().filter(proposed).collect();
    assert_eq!(proposed.len(), 2);
    assert_eq!(proposed[0]["record"]["actor"]["name"], "init");
    let agreed = log["items"].as_array().unwrap().iter();
    let agreed: Vec<_> = agreed
        .filter(|entry| entry["record"]["event"]["kind"] == "registration-agreed")
        .collect();
    assert_eq!(agreed.len(), 1);
    let words = &agreed[0]["record"]["event"]["words"];
    assert_eq!(
        [&words[0]["name"], &words[1]["name"]],
        ["init", "a-policy-author"]
    );
    assert_eq!(
        agreed[0]["record"]["event"]["digest"],
        proposed[0]["record"]["event"]["digest"]
    );
    let waits = app.owner("GET", "/v1/limits", &Value::Null).ok().body["proposals"].clone();
    assert_eq!(waits.as_array().unwrap().len(), 1, "{waits}");
    assert_eq!(waits[0]["by"]["name"], "a-policy-author");
}

#[test]
fn what_decides_over_releases_is_guarded_and_new_values_are_not() {
    let (app, _) = guarded();
    let objects = standard(json!({}));
    let (secret, workload) = (objects[1].clone(), objects[2].clone());
    assert_eq!(
        (&secret["kind"], &workload["kind"]),
        (&json!("Secret"), &json!("Workload"))
    );
    let with = |object: &Value, member: &str, value: Value| {
        let mut object = object.clone();
        object[member] = value;
        json!([object])
    };
    apply(&app, with(&secret, "value", json!({"base64": "bmV1"}))).ok();
    apply(&app, with(&secret, "name", json!("another"))).ok();

    let loosened = with(&secret, "policies", json!(["keyward.workload"]));
    for guarded in [
        with(&workload, "max_releases", json!(1000)),
        with(&workload, "launch_digests", json!(["00".repeat(32)])),
        loosened,
        with(&secret, "guid", json!("11111111-2222-4333-8444-555555555555")),
        json!([{"kind": "KeySet", "name": "all", "secrets": ["disk"], "policies": ["release.any"]}]),
        json!([{"kind": "Workload", "name": "mine", "scheme": "amd-sev", "policy": 3,
                "launch_digests": ["11".repeat(32)], "secrets": ["disk"], "policies": []}]),
    ] {
        apply(&app, guarded.clone()).expect(403, "approval-required");
    }
    let key =
        crate::policy_signing::public_pem(&crate::policy_signing::ec(openssl::nid::Nid::X9_62_PRIME256V1));
    app.owner("PUT", "/v1/signing-keys/ci", &json!({"public_key": key}))
        .expect(403, "approval-required");
    // A second owner's token with another name makes it so, though the server draws another UUID.
    let mine = json!([{"kind": "Workload", "name": "mine", "scheme": "amd-sev", "policy": 3,
                       "launch_digests": ["11".repeat(32)], "secrets": ["disk"], "policies": []}]);
    let second = app.mint(Role::Owner, Some("acme"), None);
    app.as_token(&second.text, "POST", "/v1/apply", &json!({"objects": mine}))
        .ok();
}

#[test]
fn only_two_people_do_away_with_the_second_person() {
    let (app, author) = guarded();
    let alone = require(&app, 2, false).ok().body;
    assert_eq!(
        (&alone["policies"], &alone["proposal"]["by"]["name"]),
        (&json!(true), &json!("init"))
    );
    push(&app, &author, ALLOW).expect(403, "approval-required");
    let admin = app.mint(Role::Admin, None, None);
    let body = json!({"name": "carol", "role": "approver", "owner": "acme"});
    let carol = app
        .as_token(&admin.text, "POST", "/v1/tokens", &body)
        .expect(201, "ok");
    let token = carol.body["token"].as_str().unwrap();
    let body = json!({"approvals_required": 2, "policies": false, "reason": "agreed"});
    let both = app.as_token(token, "PUT", "/v1/approvals", &body).ok().body;
    assert_eq!(
        (&both["policies"], &both["proposal"]),
        (&json!(false), &Value::Null)
    );
    push(&app, &author, ALLOW).expect(201, "ok");
}

#[test]
fn one_person_s_proposals_are_bounded_and_keep_nobody_else_s_out() {
    let (app, author) = guarded();
    apply(&app, json!([bundle(&[("release/any.rego", ALLOW)])])).expect(403, "approval-required");
    let waits = || {
        let found = app.owner("GET", "/v1/limits", &Value::Null).ok().body["proposals"].clone();
        found.as_array().unwrap().len()
    };
    for n in 0..15 {
        push(&app, &author, &format!("{ALLOW}\n# {n}\n")).expect(403, "approval-required");
        app.clock.advance(std::time::Duration::from_millis(1));
    }
    assert_eq!(waits(), 11);
    // The first person's is still there: the second one's word makes it so.
    push(&app, &author, ALLOW).expect(201, "ok");
    app.clock.advance(std::time::Duration::from_secs(24 * 3600));
    push(&app, &author, &format!("{ALLOW}\n# more\n")).expect(403, "approval-required");
    assert_eq!(waits(), 1);
}

#[test]
fn a_workload_made_again_under_a_new_uuid_is_another_proposal() {
    let (app, _) = guarded();
    let second = app.mint(Role::Owner, Some("acme"), None);
    let path = format!("/v1/workloads/{}", crate::support::host::WORKLOAD);
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    let mut workload = standard(json!({}))[2].clone();
    let fresh = {
        let mut fresh = workload.clone();
        fresh["uuid"] = json!(uuid::Uuid::new_v4());
        fresh
    };
    workload.as_object_mut().unwrap().remove("uuid");
    apply(&app, json!([workload])).expect(403, "approval-required");
    app.as_token(&second.text, "POST", "/v1/apply", &json!({"objects": [fresh]}))
        .expect(403, "approval-required");
    app.as_token(&second.text, "POST", "/v1/apply", &json!({"objects": [workload]}))
        .ok();
    let made = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(made["name"], "web", "{made}");
}
