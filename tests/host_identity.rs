//! Hosts that say who they are: workloads that require it, policies that look at it, records that keep it.

use std::path::Path;

use keyward::domain::{Role, Time};
use keyward::store::Tokens as _;
use keyward::store::{SqlStore, sqlite::FILE};
use serde_json::{Value, json};

use crate::identity_jwt::trusting;
use crate::support::app::Options;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request, standard};
use crate::support::other::{OTHERS_WORKLOAD, Other, shared};
use crate::support::{App, Reply, Vm, platform};

/// A token of role `host` that the owner makes for a host of this name.
fn host_token(app: &App, name: &str) -> String {
    let body = json!({"name": name, "role": "host"});
    let made = app.owner("POST", "/v1/tokens", &body).expect(201, "ok");
    made.body["token"].as_str().unwrap().to_owned()
}

fn post(app: &App, token: Option<&str>, path: &str, body: &Value) -> Reply {
    match token {
        Some(token) => app.as_token(token, "POST", path, body),
        None => app.post(path, body),
    }
}

fn launch(app: &App, token: Option<&str>) -> Reply {
    let platform = platform();
    post(
        app,
        token,
        &format!("/vm/{WORKLOAD}/launch"),
        &launch_request(&platform),
    )
}

/// A guest that was launched by a host with this token, and what that sends to be validated.
fn launched(app: &App, token: Option<&str>) -> (Vm, Value) {
    let platform = platform();
    let reply = post(
        app,
        token,
        &format!("/vm/{WORKLOAD}/launch"),
        &launch_request(&platform),
    );
    let mut vm = Vm::start(&platform, &reply.ok());
    let request = vm.measure(IMAGE);
    (vm, request)
}

const ABSENT: &str = "the host did not identify itself, as the workload requires";

#[track_caller]
fn assert_denied(app: &App, reply: Reply, why: &str) {
    let reply = reply.expect(403, "denied");
    assert_eq!(reply.detail(), "denied", "a host learns that, not why");
    assert!(app.reason(&reply).contains(why), "{}", app.reason(&reply));
}

#[test]
fn a_workload_that_requires_it_is_launched_and_released_only_to_hosts_that_prove_who_they_are() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.apply(standard(json!({"require_host_identity": true})));
    let node = host_token(&app, "node-7");
    let theirs = app.mint(Role::Host, Some("umbra"), None).text;
    let auditor = app.mint(Role::Auditor, Some("acme"), None).text;
    // Nobody, another owner's host, and one who is no host at all.
    let nobody = [
        None,
        Some(theirs.as_str()),
        Some(app.token.as_str()),
        Some(auditor.as_str()),
    ];
    for token in nobody {
        let reply = launch(&app, token);
        let decision = app.decision(&reply.body["decision"]);
        assert_eq!(decision["input"]["host"]["identity"], Value::Null);
        assert_eq!(decision.get("host_identity"), None);
        assert_denied(&app, reply, ABSENT);
    }
    let (vm, request) = launched(&app, Some(&node));
    for token in nobody {
        let reply = post(&app, token, &vm.path(), &request);
        assert_denied(&app, reply, ABSENT);
    }
    let by_workload = app.post(&format!("/vm/{WORKLOAD}/validate"), &request);
    assert_denied(&app, by_workload, ABSENT);
    let reply = app.as_token(&node, "POST", &vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    let decision = app.decision(&reply.body["decision"]);
    assert_eq!(decision["input"]["host"]["identity"], "token/node-7");
    assert_eq!(decision["host_identity"], "token/node-7");

    // The same holds for the other owner, with the other's tokens; and who requires nothing asks nobody.
    let objects = standard(json!({"uuid": OTHERS_WORKLOAD, "require_host_identity": true}));
    other.send("POST", "/v1/apply", &json!({"objects": objects})).ok();
    let path = format!("/vm/{OTHERS_WORKLOAD}/launch");
    let asked = launch_request(&platform());
    app.as_token(&node, "POST", &path, &asked).expect(403, "denied");
    app.as_token(&theirs, "POST", &path, &asked).ok();
    app.apply(standard(json!({})));
    launch(&app, None).ok();
    launch(&app, Some(&theirs)).ok();
}

#[test]
fn a_workload_that_names_hosts_is_for_those_alone_letter_by_letter() {
    let (app, _folder) = trusting(Options::default());
    app.apply(standard(json!({"hosts": ["token/node-7", "corp/AbC"]})));
    let node = host_token(&app, "node-7");
    let other = host_token(&app, "node-8");
    let subject = |name: &str| app.jwt(json!({"scope": "node", "sub": name}));
    assert_denied(&app, launch(&app, None), ABSENT);
    let reply = launch(&app, Some(&other));
    assert_denied(
        &app,
        reply,
        "host token/node-8 is not one that the workload names",
    );
    let reply = launch(&app, Some(&subject("abc")));
    assert_denied(&app, reply, "host corp/abc is not one that the workload names");
    let (vm, request) = launched(&app, Some(&subject("AbC")));
    let reply = app.as_token(&subject("abc"), "POST", &vm.path(), &request);
    assert_denied(&app, reply, "host corp/abc is not one that the workload names");
    // Another named host may take over: both are the owner's.
    app.as_token(&node, "POST", &vm.path(), &request).ok();
}

#[test]
fn what_a_host_shows_must_be_valid_even_where_nobody_asks_for_it() {
    let (app, _folder) = trusting(Options::default());
    app.standard();
    let revoked = host_token(&app, "gone");
    let items = app.owner("GET", "/v1/tokens", &Value::Null).ok().body["items"].clone();
    let entry = items
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == "gone")
        .unwrap()
        .clone();
    assert_eq!(entry["role"], "host");
    let (vm, request) = launched(&app, Some(&revoked));
    let path = format!("/v1/tokens/{}", entry["id"].as_str().unwrap());
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    let now = 1_767_323_045;
    let shown = [
        revoked,
        format!("kw_{}", "A".repeat(43)),
        app.jwt(json!({"scope": "node", "exp": now - 60})),
        app.jwt(json!({"scope": "none"})),
        String::new(),
    ];
    for token in &shown {
        launch(&app, Some(token)).expect(401, "unauthorized");
        app.as_token(token, "POST", &vm.path(), &request)
            .expect(401, "unauthorized");
    }
    for header in ["Basic bm9kZTpwdw==", "Bearer", "kw_"] {
        let headers = [("authorization", header)];
        let path = format!("/vm/{WORKLOAD}/launch");
        let body = launch_request(&platform()).to_string();
        app.request("POST", &path, &headers, body.as_bytes())
            .expect(401, "unauthorized");
    }
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    app.request("POST", &vm.path(), &twice, b"{}")
        .expect(401, "unauthorized");
    app.post(&vm.path(), &request).ok();
}

#[test]
fn policies_see_who_the_host_is_in_both_phases() {
    let app = App::new();
    let policy = "package release.any\n\nimport data.keyward.platform\n\ndefault allow := false\n\n\
                  allow if {\n\tis_string(input.attested.launch_digest)\n\tplatform.host_in({\"token/node-7\"})\n}\n\n\
                  default allow_launch := false\n\nallow_launch if platform.host_identified\n";
    let mut objects = standard(json!({}));
    objects[0] = crate::support::app::bundle(&[("release/any.rego", policy)]);
    app.apply(objects);
    let (node, other) = (host_token(&app, "node-7"), host_token(&app, "node-8"));
    launch(&app, None).expect(403, "denied");
    let (vm, request) = launched(&app, Some(&other));
    app.as_token(&other, "POST", &vm.path(), &request)
        .expect(403, "denied");
    app.as_token(&node, "POST", &vm.path(), &request).ok();
    assert!(policy.contains("host_in") && !ALLOW.contains("host_in"));
}

#[test]
fn an_answer_is_given_again_only_to_the_host_that_got_it() {
    let app = App::new();
    app.apply(standard(json!({"require_host_identity": true})));
    let (node, other) = (host_token(&app, "node-7"), host_token(&app, "node-8"));
    let (vm, request) = launched(&app, Some(&node));
    let send = |token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("idempotency-key", "one")];
        headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
        app.request("POST", &vm.path(), &headers, request.to_string().as_bytes())
    };
    let first = send(Some(&node)).ok();
    send(None).expect(409, "launch-used");
    send(Some(&other)).expect(409, "launch-used");
    assert_eq!(send(Some(&node)).ok().body, first.body);
}

#[test]
fn hosts_that_could_be_nobody_are_refused_and_the_short_form_does_not_open_what_was_closed() {
    let app = App::new();
    for hosts in [
        json!(["node-7"]),
        json!(["token/"]),
        json!(["/x"]),
        json!(["corp/ä"]),
        json!([7]),
    ] {
        let reply = app.try_apply(standard(json!({"hosts": hosts})));
        assert_eq!(reply.status, 400, "{hosts}: {}", reply.body);
    }
    let many: Vec<String> = (0..1025).map(|n| format!("token/{n}")).collect();
    let reply = app
        .try_apply(standard(json!({"hosts": many})))
        .expect(422, "invalid");
    assert!(
        reply.detail().contains("names more than 1024 hosts"),
        "{}",
        reply.detail()
    );

    app.apply(standard(json!({"require_host_identity": true})));
    let short = json!({"scheme": "amd-sev", "policy": 3, "launch-digests": [digest(IMAGE)],
                       "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}]});
    let reply = app
        .owner("PUT", &format!("/vm/{WORKLOAD}"), &short)
        .expect(422, "invalid");
    assert!(
        reply.detail().contains("`require_host_identity`, `hosts`"),
        "{}",
        reply.detail()
    );
    let stored = app
        .owner("GET", &format!("/v1/workloads/{WORKLOAD}"), &Value::Null)
        .ok()
        .body;
    assert!(
        stored.to_string().contains("\"require_host_identity\":true"),
        "{stored}"
    );
}

#[test]
fn an_owner_s_host_token_opens_nothing_that_is_an_owner_s() {
    let app = App::new();
    app.standard();
    let node = host_token(&app, "node-7");
    for (method, path) in [
        ("GET", "/v1/secrets"),
        ("GET", "/v1/decisions"),
        ("POST", "/v1/tokens"),
        ("PUT", "/vm/x"),
    ] {
        app.as_token(&node, method, path, &json!({}))
            .expect(403, "forbidden");
    }
}

#[test]
fn tokens_of_a_database_from_before_hosts_stay_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    let old = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    let mut texts: Vec<_> = std::fs::read_dir(&sources)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    texts.retain(|path| path.extension().is_some_and(|ending| ending == "sql"));
    texts.sort_by_key(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.split('_')
            .nth(1)
            .map_or(1, |number| number.parse::<u32>().unwrap())
    });
    let before = texts
        .iter()
        .position(|path| path.to_str().unwrap().ends_with("_host_tokens.sql"))
        .unwrap();
    for text in &texts[..before] {
        old.execute_batch(&std::fs::read_to_string(text).unwrap())
            .unwrap();
    }
    old.execute_batch(&format!(
        "INSERT INTO owners (name, created) VALUES ('acme', 1);
         INSERT INTO tokens (hash, id, owner, name, role, created, expires, last_used, revoked)
         VALUES (zeroblob(32), zeroblob(16), 'acme', 'ci', 'auditor', 7, 8, 9, 10);
         PRAGMA user_version = {before}; PRAGMA application_id = 0x4b575244;"
    ))
    .unwrap();
    drop(old);
    let store = SqlStore::open(folder.path(), false).unwrap();
    let [token] = store.tokens(None).unwrap().try_into().unwrap();
    assert_eq!((token.name.as_str(), token.role), ("ci", Role::Auditor));
    let millis = |time: Option<Time>| time.unwrap().millis();
    assert_eq!(token.created.millis(), 7);
    assert_eq!(
        [
            millis(token.expires),
            millis(token.last_used),
            millis(token.revoked)
        ],
        [8, 9, 10]
    );
}
