//! Versions of a secret: the current one is released unless another is held fast, and what is destroyed is gone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::psp::Platform;
use keyward::store::SqlStore;
use serde_json::{Value, json};

use crate::sealing::{files, lies_in};
use crate::support::cli::{masked, transcript};
use crate::support::host::standard;
use crate::support::{App, Shell, platform};

fn disk(value: &str) -> Value {
    json!({
        "kind": "Secret", "name": "disk", "type": "luks-passphrase",
        "value": {"base64": STANDARD.encode(value)}, "policies": ["release.any"],
    })
}

/// The usual workload with these secrets in place of `disk`.
fn workload(secrets: Value) -> Value {
    standard(json!({ "secrets": secrets }))[2].clone()
}

/// What a guest is given, and the version that the decision records.
#[track_caller]
fn released(app: &App, platform: &Platform) -> (String, u64) {
    let (vm, reply) = app.run(platform);
    let reply = reply.ok();
    let value = vm.unwrap(&reply).remove(0).1;
    let decision = app.decision(&reply.body["decision"]);
    assert_eq!(decision["released"][0]["name"], "disk");
    let version = decision["released"][0]["version"].as_u64().unwrap();
    (String::from_utf8(value).unwrap(), version)
}

fn versions(app: &App) -> Vec<Value> {
    let list = app.owner("GET", "/v1/secret-versions/disk", &Value::Null).ok();
    list.body["items"].as_array().unwrap().clone()
}

/// Number and state of each version, newest first.
fn states(app: &App) -> Vec<(u64, String)> {
    let state = |one: &Value| {
        (
            one["version"].as_u64().unwrap(),
            one["state"].as_str().unwrap().to_owned(),
        )
    };
    versions(app).iter().map(state).collect()
}

/// What the audit log says of secrets, oldest first: the event's kind and the version.
fn recorded(app: &App) -> Vec<(String, u64)> {
    let reply = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    let records = reply["items"].as_array().unwrap().iter();
    let events = records.map(|entry| entry["record"]["event"].clone());
    let about = |event: Value| {
        let kind = event["kind"].as_str()?.to_owned();
        let of_object = event["object"]["version"].as_u64();
        Some((kind, of_object.or(event["version"].as_u64())?))
    };
    events.filter_map(about).collect()
}

fn purge(app: &App, version: u64) -> crate::support::Reply {
    let path = format!("/v1/secret-versions/disk?version={version}");
    app.owner("DELETE", &path, &Value::Null)
}

fn rollback(app: &App, version: u64) -> crate::support::Reply {
    app.owner("POST", "/v1/secret-versions/disk", &json!({ "version": version }))
}

#[test]
fn the_current_version_is_released_and_recorded_unless_the_workload_holds_another_fast() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.apply(json!([disk("the second")]));
    assert_eq!(released(&app, &platform), ("the second".to_owned(), 2));

    app.apply(json!([workload(json!(["disk@1"]))]));
    assert_eq!(released(&app, &platform), ("hunter2".to_owned(), 1));
    app.apply(json!([disk("the third")]));
    assert_eq!(released(&app, &platform), ("hunter2".to_owned(), 1));
    let listed = versions(&app);
    assert_eq!(listed[2]["pinned_by"], json!(["Workload web"]));
    let same = app.apply(json!([workload(json!(["disk@1"]))])).body;
    assert_eq!(same["changes"][0]["action"], "unchanged");

    app.apply(json!([workload(json!(["disk"]))]));
    assert_eq!(released(&app, &platform), ("the third".to_owned(), 3));
    // One that comes in the same breath can be held fast at once.
    app.apply(json!([disk("the fourth"), workload(json!(["disk@4"]))]));
    assert_eq!(released(&app, &platform), ("the fourth".to_owned(), 4));
}

#[test]
fn a_key_set_holds_a_version_fast_and_the_workload_s_own_word_counts_more() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.apply(json!([disk("the second")]));
    let set = |name: &str, secret: &str| json!({"kind": "KeySet", "name": name, "secrets": [secret], "policies": []});
    app.apply(json!([set("frozen", "disk@1")]));
    assert_eq!(released(&app, &platform), ("hunter2".to_owned(), 1));
    app.apply(json!([workload(json!(["disk@2"]))]));
    assert_eq!(released(&app, &platform), ("the second".to_owned(), 2));

    app.apply(json!([set("thawed", "disk@2")]));
    let torn = app
        .try_apply(json!([workload(json!(["disk"]))]))
        .expect(422, "invalid");
    let expected = "Workload web: key sets frozen and thawed hold different versions of disk: name one in the \
                    workload, as `disk@VERSION`";
    assert_eq!(torn.detail(), expected);
    assert_eq!(released(&app, &platform), ("the second".to_owned(), 2));
}

#[test]
fn what_is_held_fast_must_be_there() {
    let app = App::new();
    app.standard();
    for (said, status, expected) in [
        ("disk@2", 422, "there is no version 2 of disk"),
        ("nothing@1", 422, "there is no secret nothing"),
        ("disk@0", 400, "expected a secret's name, or a name and a version"),
        (
            "disk@01",
            400,
            "expected a secret's name, or a name and a version",
        ),
        ("disk@", 400, "expected a secret's name, or a name and a version"),
        (
            "disk@one",
            400,
            "expected a secret's name, or a name and a version",
        ),
        (
            "disk@1@1",
            400,
            "expected a secret's name, or a name and a version",
        ),
        (
            "disk@99999999999999999999",
            400,
            "expected a secret's name, or a name and a version",
        ),
    ] {
        let reply = app.try_apply(json!([workload(json!([said]))]));
        assert_eq!(reply.status, status, "{said}: {}", reply.body);
        assert!(reply.detail().contains(expected), "{said}: {}", reply.body);
    }
}

#[test]
fn going_back_makes_a_new_version_with_the_old_value_and_counts_go_on() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let limited = "package release.any\n\nallow if input.attested.launch_digest\n\nrelease_limit := 3\n";
    app.bundle(&[("release/any.rego", limited)]);
    released(&app, &platform);
    app.apply(json!([disk("a mistake")]));
    assert_eq!(released(&app, &platform), ("a mistake".to_owned(), 2));
    let back = rollback(&app, 1).ok().body;
    assert_eq!(
        back["changes"][0]["detail"],
        "version 3, with the value of version 1"
    );
    assert_eq!(released(&app, &platform), ("hunter2".to_owned(), 3));
    let newest = &versions(&app)[0];
    assert_eq!(
        (&newest["rollback_of"], &newest["state"]),
        (&json!(1), &json!("current"))
    );
    assert_eq!(newest["by"]["name"], "init");
    // Three were released, of three versions.
    app.run(&platform).1.expect(403, "confirmation-required");

    let updated = ("object-updated".to_owned(), 3);
    assert_eq!(recorded(&app).last(), Some(&updated));
    assert_eq!(rollback(&app, 3).ok().body["changes"][0]["action"], "unchanged");
    assert_eq!(recorded(&app).last(), Some(&updated));
    rollback(&app, 9).expect(404, "not-found");
    purge(&app, 1).expect(204, "ok");
    let refused = rollback(&app, 1).expect(409, "conflict");
    assert_eq!(refused.detail(), "the value of version 1 was destroyed");
}

#[test]
fn a_purged_value_is_nowhere_in_the_data_folder_and_its_record_stays() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let store = SqlStore::open(app.folder.path(), false).unwrap();
    let owner = "acme".parse().unwrap();
    let sealed = |version| {
        let asked = [("disk".parse().unwrap(), version)];
        keyward::store::Store::sealed_secrets(&store, &owner, &asked)
            .unwrap()
            .remove(0)
    };
    app.apply(json!([disk("the second")]));
    app.apply(json!([workload(json!(["disk@1"])), disk("the third")]));
    let (first, second) = (sealed(1).unwrap(), sealed(2).unwrap());
    let refused = purge(&app, 3).expect(409, "conflict");
    assert_eq!(
        refused.detail(),
        "version 3 is the current one: register another value first, or delete the secret"
    );
    let refused = purge(&app, 1).expect(409, "conflict");
    assert_eq!(refused.detail(), "version 1 is pinned by Workload web");
    assert_eq!(refused.body["errors"][0]["object"], "Secret disk");
    purge(&app, 4).expect(404, "not-found");
    assert!(lies_in(&files(app.folder.path()), &second[40..]));

    purge(&app, 2).expect(204, "ok");
    purge(&app, 2).expect(204, "ok");
    let purges = recorded(&app)
        .into_iter()
        .filter(|(kind, _)| kind == "secret-purged");
    assert_eq!(purges.map(|(_, version)| version).collect::<Vec<_>>(), [2]);
    assert_eq!(sealed(2), None);
    let left = files(app.folder.path());
    assert!(!lies_in(&left, &second[40..]), "the sealed bytes are there still");
    assert!(lies_in(&left, &first[40..]));
    let two = &versions(&app)[1];
    assert_eq!(
        (&two["state"], &two["purged_by"]["name"]),
        (&json!("purged"), &json!("init"))
    );
    assert!(two["purged"].is_string() && two["created"].is_string());
    assert_eq!(released(&app, &platform), ("hunter2".to_owned(), 1));

    let refused = app
        .try_apply(json!([workload(json!(["disk@2"]))]))
        .expect(422, "invalid");
    assert!(
        refused.detail().contains("the value of disk@2 was destroyed"),
        "{}",
        refused.body
    );
}

#[test]
fn only_so_many_values_are_kept_and_never_one_that_is_held_fast_goes() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.apply(json!([disk("number 2")]));
    app.apply(json!([workload(json!(["disk@2"]))]));
    for number in 3..=8 {
        app.apply(json!([disk(&format!("number {number}"))]));
    }
    // Four are kept (`tests/support/app.rs`), and the one besides.
    let expected = [
        (8, "current"),
        (7, "earlier"),
        (6, "earlier"),
        (5, "earlier"),
        (4, "purged"),
        (3, "purged"),
        (2, "earlier"),
        (1, "purged"),
    ];
    assert_eq!(
        states(&app),
        expected.map(|(number, state)| (number, state.to_owned()))
    );
    assert!(versions(&app)[4]["purged_by"].is_null());
    assert_eq!(released(&app, &platform), ("number 2".to_owned(), 2));
    app.apply(json!([workload(json!(["disk"]))]));
    app.apply(json!([disk("number 9")]));
    assert_eq!(states(&app)[7], (2, "purged".to_owned()));
}

#[test]
fn a_deleted_secret_leaves_no_version_and_its_numbers_are_not_used_again() {
    let app = App::new();
    app.standard();
    let spare = |value: &str| {
        json!([{
            "kind": "Secret", "name": "spare", "type": "luks-passphrase",
            "value": {"base64": STANDARD.encode(value)}, "policies": ["release.any"],
        }])
    };
    app.apply(spare("one"));
    app.apply(spare("two"));
    app.owner("DELETE", "/v1/secrets/spare", &Value::Null)
        .expect(204, "ok");
    app.owner("GET", "/v1/secret-versions/spare", &Value::Null)
        .expect(404, "not-found");
    app.apply(spare("one"));
    let listed = app
        .owner("GET", "/v1/secret-versions/spare", &Value::Null)
        .ok()
        .body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["version"], 3);
}

#[test]
fn versions_at_the_terminal() {
    let mut shell = Shell::initialised();
    let server = shell.served();
    shell.write("policy/release/any.rego", crate::support::host::ALLOW);
    shell.write("p.yaml", "kind: PolicyBundle\npath: policy\n");
    shell.run(&["apply", "-f", "p.yaml"]).done();
    for value in ["one", "two", "three"] {
        shell.write("value", value);
        shell.write(
            "s.yaml",
            "kind: Secret\nname: db/password\ntype: luks-passphrase\nvalue: {file: value}\npolicies: [release.any]\n",
        );
        shell.run(&["apply", "-f", "s.yaml"]).done();
    }
    shell.write(
        "set.yaml",
        "kind: KeySet\nname: old\nsecrets: ['db/password@1']\npolicies: []\n",
    );
    shell.run(&["apply", "-f", "set.yaml"]).done();
    let mut all = String::new();
    for arguments in [
        "secret versions db/password",
        "secret rollback db/password 2",
        "secret purge db/password 2",
        "secret purge db/password 1",
        "secret purge db/password 4",
        "secret rollback db/password 2",
        "secret versions db/password",
        "secret versions nothing",
    ] {
        let ran = shell.run(&arguments.split(' ').collect::<Vec<_>>());
        let exit = if ran.code == 0 {
            String::new()
        } else {
            format!("(exit code {})\n", ran.code)
        };
        let text = format!("{}{}", ran.out, ran.err).replace(&server.url, "<server>");
        all.push_str(&format!("$ keyward {arguments}\n{}{exit}\n", masked(&text)));
    }
    transcript("secret-versions.txt", &all);
}
