//! `/v1/apply` as programs call it: what is removed, by whom, what is recorded of it, and what is wrong with a body.

use keyward::domain::Role;
use serde_json::{Value, json};

use crate::policy_signing::{ec, public_pem};
use crate::support::App;
use crate::support::host::{WORKLOAD, standard};

/// Everything that there is a kind of, with a label.
fn all() -> Value {
    let mut all = standard(json!({"labels": {"app": "web"}}));
    let secret = json!({"kind": "Secret", "name": "spare", "type": "luks-passphrase", "value": {"generate": 9},
                        "policies": [], "labels": {"app": "web"}});
    let set = json!({"kind": "KeySet", "name": "spare", "secrets": ["disk"], "labels": {"app": "web"}});
    all.as_array_mut().unwrap().extend([secret, set]);
    all
}

/// Signs bundles from now on.
fn key(app: &App, name: &str) {
    let key = ec(openssl::nid::Nid::X9_62_PRIME256V1);
    let object = json!({"kind": "SigningKey", "name": name, "public_key": public_pem(&key),
                        "labels": {"app": "web"}});
    app.apply(json!([object]));
}

#[test]
fn who_may_remove_an_object_by_itself_may_remove_it_here_and_nobody_else() {
    let app = App::new();
    app.apply(all());
    key(&app, "one");
    key(&app, "two");
    for (kind, name, who) in [
        ("Secret", "spare", &[Role::Owner, Role::SecretWriter][..]),
        ("KeySet", "spare", &[Role::Owner]),
        ("Workload", "web", &[Role::Owner]),
        ("SigningKey", "one", &[Role::Owner]),
    ] {
        for role in [Role::Owner, Role::SecretWriter, Role::PolicyAuthor] {
            let token = app.mint(role, Some("acme"), None).text;
            let body = json!({"objects": [], "remove": [{"kind": kind, "name": name}], "dry_run": true});
            let reply = app.as_token(&token, "POST", "/v1/apply", &body);
            if who.contains(&role) {
                assert_eq!(reply.ok().body["changes"][0]["action"], "removed");
            } else {
                let reply = reply.expect(403, "forbidden");
                assert_eq!(
                    reply.body["errors"][0]["object"],
                    format!("{kind} {name}"),
                    "{role}"
                );
            }
        }
    }
}

#[test]
fn what_is_removed_is_recorded_object_by_object_and_a_dry_run_is_not() {
    let app = App::new();
    app.apply(all());
    let body = |dry_run: bool| {
        json!({"objects": [], "dry_run": dry_run, "prune": {"app": "web"},
               "remove": [{"kind": "Workload", "name": WORKLOAD}]})
    };
    let deleted = || -> Vec<String> {
        let log = app
            .owner("GET", "/v1/audit/entries?limit=1000", &Value::Null)
            .ok()
            .body;
        let entries = log["items"].as_array().unwrap().iter();
        let events = entries.map(|entry| &entry["record"]["event"]);
        let deleted = events.filter(|event| event["kind"] == "object-deleted");
        let named = deleted.map(|event| format!("{} {}", event["object"]["kind"], event["object"]["name"]));
        named.map(|name| name.replace('"', "")).collect()
    };
    let tried = app.owner("POST", "/v1/apply", &body(true)).ok().body;
    assert_eq!(deleted(), [""; 0]);
    let done = app.owner("POST", "/v1/apply", &body(false)).ok().body;
    let names = |reply: &Value| -> Vec<String> {
        let changes = reply["changes"].as_array().unwrap().iter();
        changes
            .map(|change| format!("{} {}", change["kind"], change["name"]).replace('"', ""))
            .collect()
    };
    assert_eq!(names(&done), ["Workload web", "KeySet spare", "Secret spare"]);
    assert_eq!(names(&tried), names(&done));
    let mut recorded = deleted();
    recorded.sort();
    assert_eq!(recorded.len(), 3, "{recorded:?}");
    assert!(recorded.iter().any(|name| name.ends_with(" web")), "{recorded:?}");
}

#[test]
fn a_body_that_is_wrong_is_refused_with_the_object_and_its_member() {
    let app = App::new();
    app.standard();
    let mut image = standard(json!({"images": [{"name": "one", "firmware": "ovmf", "vcpus": [1, "two"]}]}));
    let reply = app
        .owner("POST", "/v1/apply", &json!({"objects": image}))
        .expect(400, "malformed");
    assert_eq!(reply.body["errors"][0]["object"], "objects[2]");
    assert_eq!(reply.body["errors"][0]["member"], "images[0].vcpus[1]");
    image[2]["images"][0]["vcpus"] = json!([1, 4096]);
    let reply = app
        .owner("POST", "/v1/apply", &json!({"objects": image}))
        .expect(422, "invalid");
    assert_eq!(reply.body["errors"][0]["object"], "Workload web");
    assert_eq!(reply.body["errors"][0]["member"], "images[0].vcpus[1]");
    for (body, status, problem, detail) in [
        (
            json!({"objects": [], "prune": {}}),
            422,
            "invalid",
            "prune: needs a label",
        ),
        (
            json!({"objects": [], "prune": "app=web"}),
            400,
            "malformed",
            "`prune`",
        ),
        (
            json!({"objects": [], "prune": {"a b": ""}}),
            400,
            "malformed",
            "the label's key",
        ),
        (
            json!({"objects": [], "remove": [{"kind": "Owner", "name": "acme"}]}),
            400,
            "malformed",
            "`remove[0].kind`",
        ),
        (
            json!({"objects": [], "removes": []}),
            400,
            "malformed",
            "unknown field `removes`",
        ),
        (
            json!({"objects": [], "remove": [{"kind": "Secret", "name": "nobody"}]}),
            404,
            "not-found",
            "Secret nobody",
        ),
        (
            json!({"objects": [{"kind": "Secret", "name": "disk", "type": "luks-passphrase"}],
                   "remove": [{"kind": "Secret", "name": "disk"}]}),
            422,
            "invalid",
            "Secret disk: it is to be registered and removed at once",
        ),
    ] {
        let reply = app.owner("POST", "/v1/apply", &body).expect(status, problem);
        assert!(reply.detail().contains(detail), "{body}: {}", reply.detail());
    }
}

#[test]
fn labels_outlive_a_registration_in_a_form_that_can_t_say_them() {
    let app = App::new();
    let uuid = "99999999-2222-4333-8444-555555555555";
    let digest = "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c";
    let form = |policy: u32| {
        json!({"scheme": "amd-sev", "policy": policy, "launch-digests": [digest],
               "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}]})
    };
    let path = format!("/vm/{uuid}");
    assert_eq!(app.owner("POST", &path, &form(3)).status, 201);
    let list = || app.owner("GET", "/v1/objects", &Value::Null).ok().body["items"].clone();
    let labelled: Vec<Value> = list()
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| {
            let mut manifest = shown["manifest"].clone();
            manifest["labels"] = json!({"app": "web"});
            manifest
        })
        .collect();
    assert_eq!(labelled.len(), 2);
    app.apply(json!(labelled));
    app.owner("PUT", &path, &form(35)).ok();
    for shown in list().as_array().unwrap() {
        assert_eq!(shown["labels"], json!({"app": "web"}), "{shown}");
    }
}

#[test]
fn a_version_that_is_held_fast_is_shown_as_a_manifest_says_it() {
    let app = App::new();
    app.standard();
    let new = json!({"kind": "Secret", "name": "disk", "type": "luks-passphrase", "value": {"generate": 32},
                     "policies": ["release.any"]});
    app.apply(json!([new]));
    let set = |secret: &str| json!({"kind": "KeySet", "name": "held", "secrets": [secret], "policies": []});
    app.apply(json!([set("disk@1")]));
    let shown = app.owner("GET", "/v1/objects", &Value::Null).ok().body["items"].clone();
    let of = |kind: &str| {
        let mut all = shown.as_array().unwrap().iter();
        all.find(|shown| shown["kind"] == kind).unwrap().clone()
    };
    assert_eq!(of("KeySet")["manifest"]["secrets"], json!(["disk@1"]));
    assert_eq!(of("KeySet")["manifest"].get("pins"), None);
    // Who registered a version is known of it, and no part of what registers it again.
    assert!(of("Secret")["status"]["by"]["name"].is_string());
    assert_eq!(of("Secret")["manifest"].get("by"), None);
    let manifests: Vec<_> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| shown["manifest"].clone())
        .collect();
    let again = app.owner(
        "POST",
        "/v1/apply",
        &json!({"objects": manifests, "dry_run": true}),
    );
    for change in again.ok().body["changes"].as_array().unwrap() {
        assert_eq!(change["action"], "unchanged", "{change}");
    }
    let body = json!({"objects": [set("disk")], "dry_run": true});
    let change = &app.owner("POST", "/v1/apply", &body).ok().body["changes"][0];
    assert_eq!(change["before"]["secrets"], json!(["disk@1"]));
    assert_eq!(change["after"]["secrets"], json!(["disk"]));
}
