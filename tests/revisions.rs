//! Revisions of an owner's policies over the owner API: pushed, applied, gone back to, signed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::policy::Bundle;
use keyward::policy::opa::{self, Claims, SignatureAlgorithm};
use keyward::store::SqlStore;
use keyward::store::Store as _;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use serde_json::{Value, json};

use crate::policy_signing::{ec, private, public_pem};
use crate::support::App;
use crate::support::app::{Options, bundle};
use crate::support::hooked::{Fate, Hook};
use crate::support::host::ALLOW;

const OTHER: &str = "package release.any\n\nallow if input.attested.build_id == 9\n";

fn files(policy: &str) -> BTreeMap<String, Vec<u8>> {
    let manifest = r#"{"revision": "v7", "metadata": {"vcs_revision": "c0ffee"}}"#;
    [(".manifest", manifest), ("release/any.rego", policy)]
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
        .into()
}

fn body(files: &BTreeMap<String, Vec<u8>>, message: &str) -> Value {
    let files: BTreeMap<_, _> = files
        .iter()
        .map(|(path, bytes)| (path, STANDARD.encode(bytes)))
        .collect();
    json!({"files": files, "message": message})
}

fn signed(policy: &str, id: &str, key: &PKey<Private>) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(policy);
    let bundle = Bundle::from_files(files.clone()).unwrap();
    let text = opa::sign(
        &bundle,
        id,
        &private(key, SignatureAlgorithm::Es256),
        &Claims::default(),
    )
    .unwrap();
    files.insert(opa::SIGNATURES.to_owned(), text.into_bytes());
    files
}

fn push(app: &App, files: &BTreeMap<String, Vec<u8>>, message: &str) -> crate::support::Reply {
    app.owner("POST", "/v1/bundles", &body(files, message))
}

fn log(app: &App) -> Value {
    app.owner("GET", "/v1/revisions", &Value::Null).ok().body
}

fn add_key(app: &App, name: &str, key: &PKey<Private>) {
    app.owner(
        "PUT",
        &format!("/v1/signing-keys/{name}"),
        &json!({"public_key": public_pem(key)}),
    )
    .ok();
}

#[test]
fn every_activation_is_a_revision_with_who_when_why_and_whence() {
    let app = App::new();
    let first = push(&app, &files(ALLOW), "the first").expect(201, "ok").body;
    assert_eq!(
        (&first["action"], &first["revision"]["number"]),
        (&json!("created"), &json!(1))
    );
    let same = push(&app, &files(ALLOW), "again").ok().body;
    assert_eq!(
        (&same["action"], &same["revision"]),
        (&json!("unchanged"), &Value::Null)
    );
    app.clock.advance(Duration::from_secs(60));
    app.apply(json!([bundle(&[("release/any.rego", OTHER)])]));
    let mut back = json!({"number": 1, "message": "OTHER was wrong", "dry_run": true});
    let would = app.owner("POST", "/v1/revisions", &back).ok().body;
    assert_eq!(would["revision"]["number"], 3);
    back["dry_run"] = json!(false);
    app.owner("POST", "/v1/revisions", &back).expect(201, "ok");

    let log = log(&app);
    assert_eq!((&log["active"], &log["next"]), (&json!(3), &Value::Null));
    let items = log["items"].as_array().unwrap();
    let column = |member: &str| items.iter().map(|item| item[member].clone()).collect::<Vec<_>>();
    assert_eq!(column("number"), [3, 2, 1].map(|n| json!(n)));
    assert_eq!(column("action"), ["rollback", "apply", "push"].map(|a| json!(a)));
    assert_eq!(column("of"), [json!(1), Value::Null, Value::Null]);
    assert_eq!(
        column("message"),
        [json!("OTHER was wrong"), Value::Null, json!("the first")]
    );
    assert_eq!(column("source"), [json!("c0ffee"), Value::Null, json!("c0ffee")]);
    assert_eq!(column("revision"), [json!("v7"), Value::Null, json!("v7")]);
    assert_eq!(column("digest")[0], column("digest")[2]);
    assert_eq!(items[2]["activated"], "2026-01-02T03:04:05.000Z");
    assert_eq!(items[0]["activated"], "2026-01-02T03:05:05.000Z");
    for item in items {
        assert_eq!(item["by"]["name"], "init");
        assert!(
            item["by"]["token"]
                .as_str()
                .unwrap()
                .parse::<uuid::Uuid>()
                .is_ok()
        );
    }
    let page = app
        .owner("GET", "/v1/revisions?limit=1&before=3", &Value::Null)
        .ok()
        .body;
    assert_eq!(
        (&page["items"][0]["number"], &page["active"]),
        (&json!(2), &json!(3))
    );
    let path = format!("/v1/revisions?limit=1&cursor={}", page["next"].as_str().unwrap());
    let page = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(
        (&page["items"][0]["number"], &page["next"]),
        (&json!(1), &Value::Null)
    );
    let one = app.owner("GET", "/v1/revisions/2", &Value::Null).ok().body;
    assert_eq!(one, items[1]);
}

#[test]
fn what_would_not_hold_together_is_refused_and_changes_nothing() {
    let app = App::new();
    app.standard();
    let before = log(&app);
    let unbound = files("package release.another\n\nallow := true\n");
    let refused = push(&app, &unbound, "m").expect(422, "invalid");
    assert!(refused.detail().contains("release.any"), "{}", refused.body);
    let broken = push(&app, &files("package release.any\n\nallow if {\n"), "m").expect(422, "invalid");
    let place = &broken.body["errors"][0];
    assert_eq!(place["file"], "release/any.rego", "{place}");
    assert!(
        place["line"].as_u64() >= Some(3) && place["column"].as_u64() >= Some(1),
        "{place}"
    );
    for (member, text) in [
        ("message", "m".repeat(4097)),
        ("message", " ".to_owned()),
        ("source", "s".repeat(257)),
    ] {
        let mut body = body(&files(ALLOW), "m");
        body[member] = json!(text);
        let refused = app.owner("POST", "/v1/bundles", &body).expect(422, "invalid");
        assert!(refused.detail().contains(member), "{}", refused.body);
    }
    for (body, status, problem) in [
        (json!({"number": 7}), 404, "not-found"),
        (json!({"digest": "00".repeat(32)}), 404, "not-found"),
        (json!({}), 400, "malformed"),
        (json!({"number": 1, "digest": "00".repeat(32)}), 400, "malformed"),
    ] {
        app.owner("POST", "/v1/revisions", &body).expect(status, problem);
    }
    assert_eq!(log(&app), before);
}

#[test]
fn an_owner_with_keys_takes_only_what_one_of_them_signed_however_it_comes() {
    let app = App::new();
    push(&app, &files(OTHER), "unsigned").expect(201, "ok");
    let (old, new) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::X9_62_PRIME256V1));
    add_key(&app, "old", &old);

    let unsigned = push(&app, &files(ALLOW), "m").expect(422, "invalid");
    assert_eq!(unsigned.body["errors"][0]["file"], ".signatures.json");
    app.try_apply(json!([bundle(&[("release/any.rego", ALLOW)])]))
        .expect(422, "invalid");
    app.owner("POST", "/v1/revisions", &json!({"number": 1}))
        .expect(422, "invalid");
    let stranger = push(&app, &signed(ALLOW, "new", &new), "m").expect(422, "invalid");
    assert!(stranger.detail().contains("no key \"new\""), "{}", stranger.body);
    push(&app, &signed(ALLOW, "old", &new), "m").expect(422, "invalid");
    assert_eq!(log(&app)["active"], 1);

    let reply = push(&app, &signed(ALLOW, "old", &old), "m")
        .expect(201, "ok")
        .body;
    assert_eq!(reply["revision"]["key"], "old");
    let mut object = body(&signed(OTHER, "old", &old), "");
    object.as_object_mut().unwrap().remove("message");
    object["kind"] = json!("PolicyBundle");
    app.apply(json!([object]));
    assert_eq!(log(&app)["items"][0]["key"], "old");

    // Rotation: both count until the old key goes; then its revisions are not gone back to.
    add_key(&app, "new", &new);
    app.owner("POST", "/v1/revisions", &json!({"number": 2}))
        .expect(201, "ok");
    app.owner("DELETE", "/v1/signing-keys/old", &Value::Null)
        .expect(204, "ok");
    app.owner("POST", "/v1/revisions", &json!({"number": 3}))
        .expect(422, "invalid");
    // The active bundle, signed anew, is a revision that can be gone back to.
    let again = push(&app, &signed(ALLOW, "new", &new), "signed anew")
        .expect(201, "ok")
        .body;
    assert_eq!(
        (&again["revision"]["number"], &again["revision"]["key"]),
        (&json!(5), &json!("new"))
    );
    push(&app, &signed(OTHER, "new", &new), "m").expect(201, "ok");
    app.owner("POST", "/v1/revisions", &json!({"digest": again["digest"]}))
        .expect(201, "ok");

    let keys = app.owner("GET", "/v1/signing-keys", &Value::Null).ok().body;
    assert_eq!(
        (&keys["items"][0]["name"], &keys["items"][0]["algorithm"]),
        (&json!("new"), &json!("ES256"))
    );
    let other = json!({"public_key": public_pem(&old)});
    app.owner("PUT", "/v1/signing-keys/new", &other)
        .expect(409, "conflict");
    let secret = String::from_utf8(new.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let refused = app
        .owner("PUT", "/v1/signing-keys/x", &json!({"public_key": secret}))
        .expect(422, "invalid");
    assert!(refused.detail().contains("this is a private key") && !refused.detail().contains("BEGIN"));
}

#[test]
fn each_revision_can_be_had_again_as_opa_has_it_with_its_signature() {
    let app = App::new();
    let key = ec(Nid::X9_62_PRIME256V1);
    add_key(&app, "k", &key);
    let files = signed(ALLOW, "k", &key);
    let digest = push(&app, &files, "m").expect(201, "ok").body["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    push(&app, &signed(OTHER, "k", &key), "m").expect(201, "ok");
    for path in [
        format!("/v1/bundles/{digest}/archive"),
        "/v1/revisions/1/archive".to_owned(),
    ] {
        let mut response = ureq::get(format!("{}{path}", app.base))
            .config()
            .proxy(None)
            .build()
            .header("authorization", format!("Bearer {}", app.token))
            .call()
            .unwrap();
        assert_eq!(response.headers()["content-type"], "application/gzip");
        assert_eq!(
            opa::unpack(&response.body_mut().read_to_vec().unwrap()).unwrap(),
            files
        );
    }
    app.owner("GET", "/v1/revisions/9/archive", &Value::Null)
        .expect(404, "not-found");
}

#[test]
fn a_key_registered_meanwhile_counts_for_the_push_that_was_under_way() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    let beside = Arc::new(app.again(Options::default()));
    let other = beside.clone();
    let key = ec(Nid::X9_62_PRIME256V1);
    hook.before("apply", move || add_key(&other, "k", &key));
    push(&app, &files(ALLOW), "m").expect(422, "invalid");
    assert_eq!(log(&app)["active"], Value::Null);
}

#[test]
fn a_store_that_fails_leaves_no_half_of_a_revision() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    hook.once("apply", Fate::FailsUndone);
    push(&app, &files(ALLOW), "m").expect(503, "unavailable");
    assert_eq!(log(&app)["active"], Value::Null);
    hook.once("apply", Fate::FailsDone);
    push(&app, &files(ALLOW), "m").expect(503, "unavailable");
    let same = push(&app, &files(ALLOW), "m").ok().body;
    assert_eq!(
        (&same["action"], &log(&app)["active"]),
        (&json!("unchanged"), &json!(1))
    );
}

#[test]
fn a_revision_is_never_changed_or_deleted_not_even_in_the_database() {
    let app = App::new();
    push(&app, &files(ALLOW), "m").expect(201, "ok");
    let connection =
        rusqlite::Connection::open(app.folder.path().join(keyward::store::sqlite::FILE)).unwrap();
    for statement in ["UPDATE revisions SET document = '{}'", "DELETE FROM revisions"] {
        let refused = connection.execute(statement, []).unwrap_err();
        assert!(refused.to_string().contains("a revision is never"), "{refused}");
    }
}

#[test]
fn a_database_of_version_1_keeps_its_bundles_as_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(keyward::store::sqlite::FILE);
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch(include_str!("../src/store/sqlite/schema.sql"))
        .unwrap();
    let archives: Vec<_> = [ALLOW, OTHER]
        .map(|policy| Bundle::from_files(files(policy)).unwrap())
        .into();
    connection
        .execute_batch("PRAGMA user_version = 1; PRAGMA application_id = 0x4b575244;")
        .unwrap();
    for owner in ["acme", "bolt"] {
        connection
            .execute("INSERT INTO owners (name, created) VALUES (?1, 0)", [owner])
            .unwrap();
    }
    for (bundle, at) in archives.iter().zip([1_767_323_045_007_i64, 1_767_323_045_007]) {
        let row = ("acme", bundle.digest().to_vec(), bundle.to_archive(), at);
        connection
            .execute("INSERT INTO bundles VALUES (?1, ?2, ?3, ?4)", row)
            .unwrap();
    }
    // The first of the two is active, though both have the same time.
    connection
        .execute(
            "UPDATE owners SET bundle = ?1 WHERE name = 'acme'",
            [archives[0].digest().as_slice()],
        )
        .unwrap();
    drop(connection);

    let store = SqlStore::open(folder.path(), false).unwrap();
    let owner = "acme".parse().unwrap();
    let revisions = store.revisions(&owner, None, 10).unwrap();
    let seen: Vec<_> = revisions.iter().map(|r| (r.number, r.digest.0)).collect();
    assert_eq!(seen, [(2, archives[0].digest()), (1, archives[1].digest())]);
    assert_eq!(revisions[0].activated.to_string(), "2026-01-02T03:04:05.007Z");
    assert!(revisions.iter().all(|r| r.by.is_none() && r.message.is_none()));
    assert_eq!(store.owner_state(&owner).unwrap().revision, 2);
    assert_eq!(
        store.bundle(&owner, revisions[1].digest).unwrap().unwrap(),
        archives[1].to_archive()
    );
    assert!(
        store
            .revisions(&"bolt".parse().unwrap(), None, 10)
            .unwrap()
            .is_empty()
    );
    drop(store);
    SqlStore::open(folder.path(), false).unwrap();
}
