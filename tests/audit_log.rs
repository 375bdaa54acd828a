//! The audit log under a running server: what is done is recorded in the same transaction, and nothing else is.

use keyward::audit::record::document_digest;
use keyward::domain::Role;
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::other::Other;
use crate::support::{App, platform};

fn database(app: &App) -> rusqlite::Connection {
    rusqlite::Connection::open(app.folder.path().join("keyward.db")).unwrap()
}

/// The log as the owner sees it.
fn entries(app: &App) -> Vec<Value> {
    let reply = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    reply["items"].as_array().unwrap().clone()
}

/// One line for each record: what was done to what, by whom.
fn told(app: &App) -> Vec<String> {
    let line = |entry: &Value| {
        let record = &entry["record"];
        let (event, actor) = (&record["event"], &record["actor"]);
        let object = &event["object"];
        let what = match event["kind"].as_str().unwrap_or("hash") {
            "decision" => format!("decision {}", event["outcome"].as_str().unwrap()),
            kind if object.is_object() => format!(
                "{kind} {} {}{}",
                object["kind"].as_str().unwrap(),
                object["name"].as_str().unwrap(),
                object["version"]
                    .as_u64()
                    .map_or_else(String::new, |version| format!("@{version}"))
            ),
            kind => kind.to_owned(),
        };
        format!("{what} by {}", actor["type"].as_str().unwrap_or("nobody"))
    };
    entries(app).iter().map(line).collect()
}

const MADE: [&str; 5] = [
    "object-created Owner acme by server",
    "token-created by server",
    "bundle-activated by token",
    "object-created Secret disk@1 by token",
    "object-created Workload web by token",
];

#[test]
fn decisions_and_owners_actions_are_recorded_in_their_order() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    assert_eq!(told(&app), MADE);
    // Nothing changes, nothing is recorded.
    app.standard();
    assert_eq!(told(&app), MADE);

    let released = app.run(&platform).1.ok();
    let other = standard(json!({}))[1].clone();
    let mut newer = other.clone();
    newer["value"] = json!({"base64": "Z2VoZWlt"});
    app.apply(json!([newer]));
    app.bundle(&[("release/any.rego", "package release.any\n\nallow := false\n")]);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.denied(&vm, &request);
    let path = format!("/v1/workloads/{WORKLOAD}");
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    app.owner("DELETE", "/v1/secrets/disk", &Value::Null)
        .expect(204, "ok");
    assert_eq!(
        told(&app)[5..],
        [
            "decision released by host",
            "object-updated Secret disk@2 by token",
            "bundle-activated by token",
            "decision denied by host",
            "object-deleted Workload web by token",
            "object-deleted Secret disk@2 by token",
        ]
    );

    // A decision's record has the decision's id and the digest of its document as it is stored.
    let record = entries(&app)[5]["record"].clone();
    assert_eq!(record["id"], released.body["decision"]);
    assert_eq!(record["event"]["id"], released.body["decision"]);
    assert_eq!(
        record["event"]["released"],
        json!([{"name": "disk", "version": 1}])
    );
    let sql = "SELECT document FROM decisions WHERE outcome = 'released'";
    let document: String = database(&app).query_row(sql, [], |row| row.get(0)).unwrap();
    let digest = document_digest(document.as_bytes());
    assert_eq!(record["event"]["document"], digest.to_string());
    // Both bundles are named.
    let (first, second) = (&entries(&app)[2]["record"], &entries(&app)[7]["record"]);
    assert_eq!(first["event"]["replaced"], Value::Null);
    assert_eq!(second["event"]["replaced"], first["event"]["revision"]);
    assert_eq!(second["actor"]["name"], "init");
}

#[test]
fn a_signing_key_and_a_rollback_are_recorded_too() {
    let app = App::new();
    for allow in ["true", "false"] {
        app.bundle(&[(
            "release/any.rego",
            &format!("package release.any\n\nallow := {allow}\n"),
        )]);
    }
    app.owner(
        "POST",
        "/v1/revisions",
        &json!({"number": 1, "message": "as it was"}),
    )
    .expect(201, "ok");
    let revisions = entries(&app);
    let [.., first, _, last] = revisions.as_slice() else {
        panic!("{revisions:?}")
    };
    assert_eq!(last["record"]["event"]["kind"], "bundle-activated");
    assert_eq!(
        last["record"]["event"]["revision"],
        first["record"]["event"]["revision"]
    );
    let key = openssl::ec::EcKey::generate(
        &openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap(),
    )
    .unwrap();
    let pem = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    app.owner("PUT", "/v1/signing-keys/ci", &json!({"public_key": pem}))
        .ok();
    app.owner("DELETE", "/v1/signing-keys/ci?allow-unsigned=true", &Value::Null)
        .expect(204, "ok");
    let told = told(&app);
    let last: Vec<_> = told.iter().rev().take(2).collect();
    assert_eq!(
        last,
        [
            "object-deleted SigningKey ci by token",
            "object-created SigningKey ci by token"
        ]
    );
}

#[test]
fn making_and_revoking_tokens_and_owners_is_recorded_with_the_role_of_who_did_it() {
    let app = App::new();
    let admin = app.mint(Role::Admin, None, None);
    let made = app.owner(
        "POST",
        "/v1/tokens",
        &json!({"name": "ci", "role": "secret-writer"}),
    );
    let made = made.expect(201, "ok").body;
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        // What is revoked already changes nothing.
        app.as_token(&admin.text, "DELETE", &path, &Value::Null)
            .expect(204, "ok");
    }
    app.as_token(&admin.text, "POST", "/v1/owners", &json!({"name": "nova"}))
        .expect(201, "ok");

    let log = entries(&app);
    let records: Vec<_> = log.iter().filter_map(|entry| entry.get("record")).collect();
    let [.., created, revoked] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(created["event"]["kind"], "token-created");
    assert_eq!(
        [
            &created["event"]["name"],
            &created["event"]["role"],
            &created["actor"]["role"]
        ],
        ["ci", "secret-writer", "owner"]
    );
    assert_eq!(
        [
            &revoked["event"]["kind"],
            &revoked["event"]["id"],
            &revoked["actor"]["role"]
        ],
        [&json!("token-revoked"), &made["id"], &json!("admin")]
    );
    assert_eq!(revoked["actor"]["id"], admin.id.to_string());
    // The new owner and its token are the new owner's to see; an administrator sees the server's own records.
    assert_eq!(log.len(), records.len() + 3, "{log:#?}");
    let own = app
        .as_token(&admin.text, "GET", "/v1/audit/entries", &Value::Null)
        .ok()
        .body;
    let own = own["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry.get("record"));
    let own: Vec<_> = own.map(|record| record["event"]["role"].clone()).collect();
    assert_eq!(own, ["admin"]);
}

#[test]
fn of_another_owners_records_there_are_only_the_hashes() {
    let app = App::new();
    let other = Other::of(&app);
    app.standard();
    let (mine, theirs) = (entries(&app), other.items("/v1/audit/entries"));
    assert_eq!(mine.len(), 7);
    assert_eq!(theirs.len(), 7);
    for (index, (mine, theirs)) in mine.iter().zip(&theirs).enumerate() {
        assert_eq!(
            (&mine["index"], &mine["leaf"]),
            (&theirs["index"], &theirs["leaf"])
        );
        let about_them = index == 2 || index == 3;
        assert_eq!(mine.get("record").is_none(), about_them, "{index}");
        assert_eq!(theirs.get("record").is_some(), about_them, "{index}");
    }
    app.service.checkpoint().unwrap();
    let path = format!("/v1/audit/proof/{}", mine[4]["record"]["id"].as_str().unwrap());
    other.get(&path).expect(404, "not-found");
    app.owner("GET", &path, &Value::Null).ok();
}

#[test]
fn refusals_that_one_decision_stands_for_are_recorded_again_only_when_there_are_more() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n\nallow_launch := false\n",
    )]);
    let refuse = || {
        app.ask_launch(&launch_request(&platform)).expect(403, "denied");
    };
    let recorded = || {
        let told = told(&app);
        told.iter()
            .filter(|line| *line == "decision refused by host")
            .count()
    };
    refuse();
    assert_eq!(recorded(), 1);
    app.service.tidy().unwrap();
    assert_eq!(recorded(), 1);
    refuse();
    refuse();
    assert_eq!(recorded(), 1);
    app.service.tidy().unwrap();
    app.service.tidy().unwrap();
    assert_eq!(recorded(), 2);
    let all = entries(&app);
    let [.., first, second] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(first["record"]["event"]["id"], second["record"]["event"]["id"]);
    assert_ne!(first["record"]["id"], second["record"]["id"]);
    // 3 are written; within the minute, they are again when they have doubled, or the minute is over.
    refuse();
    app.service.tidy().unwrap();
    assert_eq!(recorded(), 2);
    app.clock.advance(std::time::Duration::from_secs(60));
    app.service.tidy().unwrap();
    app.service.tidy().unwrap();
    assert_eq!(recorded(), 3);
    refuse();
    refuse();
    refuse();
    refuse();
    app.service.tidy().unwrap();
    let before = recorded();
    refuse();
    app.service.tidy_for_good().unwrap();
    assert_eq!(recorded(), before + 1);
}

/// A bundle that is not the usual one.
fn other_bundle() -> Value {
    bundle(&[("release/any.rego", "package release.any\n\nallow := false\n")])
}

/// Makes the database refuse what the log writes.
const BROKEN: [&str; 3] = [
    "CREATE TRIGGER broken BEFORE INSERT ON audit_leaves BEGIN SELECT RAISE(ABORT, 'broken'); END",
    "CREATE TRIGGER broken BEFORE UPDATE ON audit_leaves BEGIN SELECT RAISE(ABORT, 'broken'); END",
    "CREATE TRIGGER broken BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(ABORT, 'broken'); END",
];

#[test]
fn what_can_not_be_recorded_is_not_done_and_not_told() {
    let platform = platform();
    for broken in BROKEN {
        let app = App::new();
        app.standard();
        let (mut one, mut other) = (app.start(&platform), app.start(&platform));
        let (release, mut denied) = (one.measure(IMAGE), other.measure(IMAGE));
        denied["secrets"] = json!(["nothing"]);
        app.sql(broken);
        app.try_apply(json!([other_bundle()])).expect(503, "unavailable");
        app.owner("DELETE", &format!("/v1/workloads/{WORKLOAD}"), &Value::Null)
            .expect(503, "unavailable");
        let reply = app.post(&one.path(), &release).expect(503, "unavailable");
        assert_eq!(reply.body.get("secret-payload"), None);
        let reply = app.post(&other.path(), &denied).expect(503, "unavailable");
        assert_eq!(reply.body.get("decision"), None, "{}", reply.body);
        let service = app.service.clone();
        assert!(
            service
                .record(keyward::audit::record::Event::ServerStopped)
                .is_err()
        );
        app.sql("DROP TRIGGER broken");

        assert_eq!(told(&app), MADE, "{broken}");
        assert_eq!(app.decisions().len(), 0);
        assert_eq!(
            app.owner("GET", "/v1/workloads", &Value::Null).ok().body["items"][0]["name"],
            "web"
        );
        // The launch is as it was, and is released once it can be recorded.
        let reply = app.post(&one.path(), &release).ok();
        assert_eq!(one.unwrap(&reply)[0].1, b"hunter2");
        app.post(&other.path(), &denied).expect(403, "denied");
        assert_eq!(
            told(&app)[5..],
            ["decision released by host", "decision denied by host"]
        );
    }
}

#[test]
fn a_change_that_fails_leaves_no_record() {
    let app = App::new();
    app.standard();
    let mut objects = standard(json!({"secrets": ["nothing"]}));
    objects.as_array_mut().unwrap().remove(0);
    app.try_apply(objects).expect(422, "invalid");
    app.owner("DELETE", "/v1/secrets/disk", &Value::Null)
        .expect(422, "invalid");
    assert_eq!(told(&app), MADE);
}

#[test]
fn no_record_has_a_secrets_value_or_a_token() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.run(&platform).1.ok();
    let reply = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    let text = reply.to_string();
    assert_eq!(reply["items"].as_array().unwrap().len(), 6);
    for secret in ["hunter2", "aHVudGVyMg", &hex::encode("hunter2"), &app.token] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn pages_of_the_log_begin_and_end_where_they_are_asked_to() {
    let app = App::new();
    app.standard();
    let page = |query: &str| {
        let reply = app.owner("GET", &format!("/v1/audit/entries{query}"), &Value::Null);
        let items = reply.ok().body["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| item["index"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(page("?start=1&limit=2"), [1, 2]);
    assert_eq!(page("?start=3"), [3, 4]);
    assert_eq!(page("?start=5"), [0; 0]);
    assert_eq!(page("?start=18446744073709551615"), [0; 0]);
    for query in ["?start=-1", "?limit=x", "?begin=1"] {
        app.owner("GET", &format!("/v1/audit/entries{query}"), &Value::Null)
            .expect(400, "malformed");
    }
}
