//! The life of a token: made, shown once, used, expired, revoked.

use std::time::Duration;

use keyward::domain::{Clock as _, Role};
use keyward::store::{SqlStore, sqlite::FILE};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::App;
use crate::support::other::Other;

fn list(app: &App) -> Vec<Value> {
    let all = app.owner("GET", "/v1/tokens?limit=1000", &Value::Null).ok().body;
    all["items"].as_array().unwrap().clone()
}

fn entry(app: &App, id: &Value) -> Value {
    list(app).into_iter().find(|entry| entry["id"] == *id).unwrap()
}

/// Makes a token of the usual owner.
fn make(app: &App, body: &Value) -> Value {
    app.owner("POST", "/v1/tokens", body).expect(201, "ok").body
}

#[test]
fn the_text_is_in_one_answer_and_nowhere_else() {
    let app = App::new();
    let reply = app.owner(
        "POST",
        "/v1/tokens",
        &json!({"name": "ci", "role": "secret-writer"}),
    );
    let reply = reply.expect(201, "ok");
    assert_eq!(reply.headers["cache-control"], "no-store");
    let text = reply.body["token"].as_str().unwrap();
    assert!(text.starts_with("kw_") && text.len() == 46, "{text}");
    let mut listed = entry(&app, &reply.body["id"]);
    assert_eq!(listed["owner"], "acme");
    assert_eq!(listed["role"], "secret-writer");
    for unset in ["expires", "last_used", "revoked"] {
        assert_eq!(listed[unset], Value::Null, "{unset}");
    }
    listed["token"] = text.into();
    assert_eq!(listed, reply.body);
    assert!(!list(&app).iter().any(|entry| entry["token"].is_string()));
    for file in std::fs::read_dir(app.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "the data folder holds the token itself");
    }
    app.as_token(text, "GET", "/v1/secrets", &Value::Null).ok();
}

#[test]
fn one_that_has_expired_or_was_revoked_is_refused_at_once() {
    let app = App::new();
    let end = app.clock.now().after(Duration::from_secs(3600));
    let short = make(&app, &json!({"name": "short", "role": "auditor", "expires": end}));
    let revoked = make(&app, &json!({"name": "gone", "role": "auditor"}));
    let get = |token: &Value| {
        app.as_token(
            token["token"].as_str().unwrap(),
            "GET",
            "/v1/secrets",
            &Value::Null,
        )
    };
    get(&short).ok();
    get(&revoked).ok();
    let path = format!("/v1/tokens/{}", revoked["id"].as_str().unwrap());
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    get(&revoked).expect(401, "unauthorized");
    assert_eq!(
        entry(&app, &revoked["id"])["revoked"],
        json!(app.clock.now().to_string())
    );
    let first = entry(&app, &revoked["id"]);
    app.clock.advance(Duration::from_millis(3_599_999));
    get(&short).ok();
    app.clock.advance(Duration::from_millis(1));
    get(&short).expect(401, "unauthorized");
    // A second time changes nothing.
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    assert_eq!(entry(&app, &revoked["id"])["revoked"], first["revoked"]);
}

#[test]
fn none_grants_more_than_its_own_role_and_bad_wishes_are_explained() {
    let app = App::new();
    Other::of(&app);
    let admin = app.mint(Role::Admin, None, None).text;
    let past = "2020-01-01T00:00:00.000Z";
    for (token, body, status, problem, detail) in [
        (
            &app.token,
            json!({"name": "x", "role": "admin"}),
            403,
            "forbidden",
            "a token of role owner can't make one of role admin",
        ),
        (
            &app.token,
            json!({"name": "x", "role": "auditor", "owner": "umbra"}),
            404,
            "not-found",
            "there is no such owner",
        ),
        (
            &admin,
            json!({"name": "x", "role": "auditor", "owner": "nobody"}),
            404,
            "not-found",
            "there is no such owner",
        ),
        (
            &admin,
            json!({"name": "x", "role": "auditor"}),
            400,
            "malformed",
            "`owner`: whose token is it? Expected the name of an owner",
        ),
        (
            &admin,
            json!({"name": "x", "role": "admin", "owner": "acme"}),
            400,
            "malformed",
            "`owner`: a token of role admin belongs to no owner: leave it out",
        ),
        (
            &app.token,
            json!({"name": "x", "role": "auditor", "expires": past}),
            400,
            "malformed",
            "`expires`: 2020-01-01T00:00:00.000Z is not in the future: it is 2026-01-02T03:04:05.000Z now",
        ),
    ] {
        let reply = app.as_token(token, "POST", "/v1/tokens", &body);
        assert_eq!(reply.expect(status, problem).detail(), detail);
    }
    for wrong in [
        json!({"name": "x", "role": "root"}),
        json!({"name": "a b", "role": "auditor"}),
        json!({"name": "x"}),
        json!({"name": "x", "role": "auditor", "scope": "all"}),
        json!({"name": "x", "role": "auditor", "expires": "90d"}),
    ] {
        app.owner("POST", "/v1/tokens", &wrong).expect(400, "malformed");
    }
    assert_eq!(list(&app).len(), 1, "something was made");
    for role in Role::ALL {
        let owner = (role != Role::Admin).then_some("umbra");
        let body = json!({"name": "x", "role": role, "owner": owner});
        app.as_token(&admin, "POST", "/v1/tokens", &body)
            .expect(201, "ok");
    }
    assert_eq!(list(&app).len(), 1, "an owner sees the tokens of another");
}

#[test]
fn an_owner_keeps_a_token_of_its_own_and_an_administrator_may_take_the_last() {
    let app = App::new();
    let first = list(&app)[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/tokens/{first}");
    make(&app, &json!({"name": "a", "role": "auditor"}));
    let end = app.clock.now().after(Duration::from_secs(60));
    make(&app, &json!({"name": "ends", "role": "owner", "expires": end}));
    app.clock.advance(Duration::from_secs(60));
    let reply = app.owner("DELETE", &path, &Value::Null).expect(409, "conflict");
    assert!(
        reply.detail().contains("make another first"),
        "{}",
        reply.detail()
    );
    app.owner("GET", "/v1/secrets", &Value::Null).ok();

    let second = make(&app, &json!({"name": "second", "role": "owner"}));
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    app.owner("GET", "/v1/secrets", &Value::Null)
        .expect(401, "unauthorized");

    let admin = app.mint(Role::Admin, None, None).text;
    let path = format!("/v1/tokens/{}", second["id"].as_str().unwrap());
    app.as_token(&admin, "DELETE", &path, &Value::Null)
        .expect(204, "ok");
    let text = second["token"].as_str().unwrap();
    app.as_token(text, "GET", "/v1/secrets", &Value::Null)
        .expect(401, "unauthorized");
}

#[test]
fn an_administrator_makes_owners_and_sees_no_object_of_theirs() {
    let app = App::new();
    app.standard();
    let admin = app.mint(Role::Admin, None, None).text;
    let send = |method: &str, path: &str, body: Value| app.as_token(&admin, method, path, &body);
    let made = send("POST", "/v1/owners", json!({"name": "nova"})).expect(201, "ok");
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!(made.body["owner"], "nova");
    let warning = made.body["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("the extra root test names no owners"),
        "{warning}"
    );
    let token = made.body["token"].as_str().unwrap();
    let items = app.as_token(token, "GET", "/v1/secrets", &Value::Null).ok().body["items"].clone();
    assert_eq!(items, json!([]));
    send("POST", "/v1/owners", json!({"name": "nova"})).expect(409, "conflict");
    let owners = send("GET", "/v1/owners", Value::Null).ok().body;
    assert_eq!(owners["items"], json!([{"name": "acme"}, {"name": "nova"}]));
    let of = |query: &str| {
        let all = send("GET", &format!("/v1/tokens{query}"), Value::Null).ok().body;
        all["items"].as_array().unwrap().len()
    };
    assert_eq!((of(""), of("?owner=acme"), of("?owner=nova")), (3, 1, 1));
    send("GET", "/v1/tokens?owner=none", Value::Null).expect(404, "not-found");
    send("GET", "/v1/tokens?of=acme", Value::Null).expect(400, "malformed");
    let reply = send("GET", "/v1/secrets", Value::Null).expect(403, "forbidden");
    assert_eq!(
        reply.detail(),
        "this needs the role owner, secret-writer or auditor; the token a-admin has the role admin"
    );
}

#[test]
fn the_last_use_is_written_in_passing_and_at_most_once_a_minute() {
    let app = App::new();
    let made = make(&app, &json!({"name": "ci", "role": "auditor"}));
    let text = made["token"].as_str().unwrap();
    let get = || app.as_token(text, "GET", "/v1/secrets", &Value::Null).ok();
    let last = || entry(&app, &made["id"])["last_used"].clone();
    let now = || json!(app.clock.now().to_string());
    get();
    assert_eq!(last(), Value::Null, "a request waited for it to be written");
    app.service.tidy().unwrap();
    let first = now();
    assert_eq!(last(), first);
    app.clock.advance(Duration::from_secs(59));
    get();
    app.service.tidy().unwrap();
    assert_eq!(last(), first, "it was written twice in a minute");
    let second = now();
    app.clock.advance(Duration::from_secs(1));
    app.service.tidy().unwrap();
    assert_eq!(last(), second);
    app.clock.advance(Duration::from_secs(600));
    app.service.tidy().unwrap();
    assert_eq!(last(), second, "it was not used since");
}

#[test]
fn those_that_ended_longest_ago_give_way_to_new_ones_and_valid_ones_never_do() {
    let app = App::new();
    let soon = |seconds| app.clock.now().after(Duration::from_secs(seconds));
    let later = app.mint(Role::Auditor, Some("acme"), Some(soon(20)));
    let earlier = app.mint(Role::Auditor, Some("acme"), Some(soon(10)));
    for _ in 3..1000 {
        app.mint(Role::Auditor, Some("acme"), None);
    }
    let body = json!({"name": "one-more", "role": "auditor"});
    let full = app.owner("POST", "/v1/tokens", &body).expect(409, "conflict");
    assert!(full.detail().contains("1000 valid tokens"), "{}", full.detail());
    app.clock.advance(Duration::from_secs(20));
    make(&app, &body);
    let ids: Vec<_> = list(&app).iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.contains(&json!(later.id)) && !ids.contains(&json!(earlier.id)));
}

#[test]
fn tokens_of_a_database_from_before_roles_are_owners() {
    let folder = tempfile::tempdir().unwrap();
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sqlite");
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    for text in ["schema.sql", "schema_2.sql"] {
        let text = std::fs::read_to_string(format!("{sources}/{text}")).unwrap();
        old.execute_batch(&text).unwrap();
    }
    old.execute_batch(
        "INSERT INTO owners (name, created) VALUES ('acme', 1);
         INSERT INTO tokens VALUES (zeroblob(32), zeroblob(16), 'acme', 'init', 7);
         PRAGMA user_version = 2; PRAGMA application_id = 0x4b575244;",
    )
    .unwrap();
    drop(old);
    let store = SqlStore::open(folder.path(), false).unwrap();
    let store: &dyn keyward::store::Store = &store;
    let all = store.tokens(None).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].role, all[0].created.millis()), (Role::Owner, 7));
    let hash = keyward::domain::token::TokenHash([0; 32]);
    let caller = store.caller(hash, all[0].created).unwrap().unwrap();
    assert_eq!(caller.owner, Some("acme".parse().unwrap()));
    assert_eq!((caller.role, caller.name.as_str()), (Role::Owner, "init"));
}

#[test]
fn who_only_writes_secrets_does_not_decide_who_gets_those_that_are_there() {
    let app = App::new();
    app.standard();
    let secret = |policies: &Value, value: &Value| json!({"name": "drawn", "type": "luks-passphrase", "value": value, "policies": policies});
    let (drawn, bound) = (json!({"generate": 32}), json!(["release.any"]));
    app.owner("PUT", "/v1/secrets/drawn", &secret(&bound, &drawn))
        .ok();
    let writer = make(&app, &json!({"name": "ci", "role": "secret-writer"}));
    let writer = writer["token"].as_str().unwrap();
    let put = |body: &Value| app.as_token(writer, "PUT", "/v1/secrets/drawn", body);
    // The value stays the server's, and so would be theirs under a policy of their own.
    for policies in [json!([]), json!(["keyward.workload"])] {
        let refused = put(&secret(&policies, &drawn)).expect(403, "forbidden");
        assert!(refused.detail().contains("Secret drawn"), "{}", refused.detail());
        let mut object = secret(&policies, &drawn);
        object["kind"] = json!("Secret");
        let body = json!({"objects": [object]});
        app.as_token(writer, "POST", "/v1/apply", &body)
            .expect(403, "forbidden");
    }
    let stored = app.owner("GET", "/v1/secrets/drawn", &Value::Null).ok().body;
    assert_eq!(stored["policies"], bound);
    // A new value under the same policies is what the role is for.
    put(&secret(&bound, &json!({"base64": "bmV3"}))).ok();
    app.owner(
        "PUT",
        "/v1/secrets/drawn",
        &secret(&json!(["keyward.workload"]), &drawn),
    )
    .ok();
}

#[test]
fn who_only_writes_policies_does_not_decide_which_are_bound() {
    let app = App::new();
    app.standard();
    let files = |text: &str| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        json!({"release/any.rego": text})
    };
    let text = "package release.any\nallow if is_string(input.attested.launch_digest)\n";
    let bound = json!(["release.any"]);
    app.owner(
        "POST",
        "/v1/bundles",
        &json!({"files": files(text), "policies": bound}),
    )
    .expect(201, "ok");
    let author = make(&app, &json!({"name": "ci", "role": "policy-author"}));
    let author = author["token"].as_str().unwrap();
    let unbound = json!({"files": files(text), "policies": []});
    for (method, path) in [("POST", "/v1/bundles"), ("PUT", "/v1/bundles/active")] {
        let refused = app
            .as_token(author, method, path, &unbound)
            .expect(403, "forbidden");
        assert!(
            refused.detail().contains("bound to the owner"),
            "{}",
            refused.detail()
        );
    }
    let active = app.owner("GET", "/v1/bundles/active", &Value::Null).ok().body;
    assert_eq!(active["policies"], bound);
    // Other rules under the same bindings are what the role is for.
    let better = format!("{text}\ndeny contains \"closed\" if input.owner == \"nobody\"\n");
    app.as_token(
        author,
        "POST",
        "/v1/bundles",
        &json!({"files": files(&better), "policies": bound}),
    )
    .expect(201, "ok");
}
