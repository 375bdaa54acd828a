//! Two people: nobody confirms, lowers a count, or does away with the second person alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::standard;
use crate::support::{App, Reply, platform};

fn require(app: &App, people: u8) -> Reply {
    app.owner(
        "PUT",
        "/v1/approvals",
        &json!({"approvals_required": people, "reason": "a rule of the house"}),
    )
}

/// A server whose one release is made, and a launch that is held.
fn held(app: &App) -> Value {
    let platform = platform();
    app.apply(standard(json!({"max_releases": 1})));
    app.run(&platform).1.ok();
    let reply = app.run(&platform).1.expect(403, "confirmation-required");
    reply.body["hold"].clone()
}

#[test]
fn two_people_are_needed_who_say_the_same() {
    let app = App::new();
    let hold = held(&app);
    let alone = require(&app, 2).expect(409, "wrong-state");
    assert!(alone.detail().contains("this owner has 1"), "{}", alone.body);
    let bob = app.person("bob");
    let namesake = app.person("init");
    require(&app, 2).ok();

    let pending = app.confirm(&hold, 1).ok().body;
    assert_eq!(pending["state"], "pending");
    assert_eq!(pending["allowances"], json!([]));
    for again in [app.confirm(&hold, 1), namesake.confirm(&hold, 1)] {
        let again = again.expect(409, "wrong-state");
        assert!(again.detail().contains("2 different people"), "{}", again.body);
    }
    let more = bob.confirm(&hold, 2).expect(409, "wrong-state");
    assert!(
        more.detail().contains("init approved of 1 additional"),
        "{}",
        more.body
    );
    let any = json!({"additional": 1, "any": true, "reason": "a test"});
    bob.say(&hold, "confirm", &any).expect(409, "wrong-state");
    assert_eq!(app.hold(&hold)["state"], "pending");

    let confirmed = bob.confirm(&hold, 1).ok().body;
    assert_eq!(confirmed["state"], "confirmed");
    let names: Vec<_> = confirmed["approvals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|approval| approval["by"]["name"].clone())
        .collect();
    assert_eq!(names, ["init", "bob"]);
    assert_eq!(confirmed["allowances"][0]["additional"], 1);
}

#[test]
fn a_token_that_its_owner_made_has_no_word() {
    let app = App::new();
    let hold = held(&app);
    let made = json!({"name": "puppet", "role": "approver"});
    let puppet = app.owner("POST", "/v1/tokens", &made).expect(201, "ok").body;
    let alone = require(&app, 2).expect(409, "wrong-state");
    assert!(
        alone
            .detail()
            .contains("an administrator made, and this owner has 1"),
        "{}",
        alone.body
    );
    let bob = app.person("bob");
    require(&app, 2).ok();
    let path = format!("/v1/holds/{}/confirm", hold.as_str().unwrap());
    let word = json!({"additional": 1, "reason": "a test"});
    let token = puppet["token"].as_str().unwrap();
    let refused = app
        .as_token(token, "POST", &path, &word)
        .expect(409, "wrong-state");
    assert!(
        refused.detail().contains("puppet was made with another token"),
        "{}",
        refused.body
    );
    // Against it, it has one.
    app.confirm(&hold, 1).ok();
    let path = path.replace("confirm", "reject");
    app.as_token(token, "POST", &path, &json!({"reason": "no"})).ok();
    drop(bob);
}

#[test]
fn the_word_of_a_token_that_was_revoked_counts_no_more() {
    let app = App::new();
    let hold = held(&app);
    let thief = app.mint(keyward::domain::Role::Approver, Some("acme"), None);
    app.person("bob");
    require(&app, 2).ok();
    let path = format!("/v1/holds/{}/confirm", hold.as_str().unwrap());
    let word = json!({"additional": 1, "reason": "a test"});
    app.as_token(&thief.text, "POST", &path, &word).ok();
    let reset = reset(0);
    app.as_token(&thief.text, "POST", "/v1/limits/reset", &reset).ok();
    app.owner("DELETE", &format!("/v1/tokens/{}", thief.id), &Value::Null)
        .expect(204, "ok");
    let first = app.confirm(&hold, 1).ok().body;
    assert_eq!(first["state"], "pending", "{first}");
    assert_eq!(first["approvals"].as_array().unwrap().len(), 1);
    let again = app.owner("POST", "/v1/limits/reset", &reset).ok().body;
    assert_eq!(again["reset"], Value::Null, "{again}");
    // A word counts for a day.
    app.clock.advance(Duration::from_secs(24 * 3600));
    let late = app.person("carol").confirm(&hold, 1).ok().body;
    assert_eq!(
        (&late["state"], late["approvals"].as_array().unwrap().len()),
        (&json!("pending"), 1)
    );
}

#[test]
fn whom_somebody_else_vouches_for_is_no_second_person() {
    let app = App::new();
    let hold = held(&app);
    app.person("bob");
    require(&app, 2).ok();
    let vouched = keyward::domain::token::Identity::vouched(
        Some("acme".parse().unwrap()),
        "corp/bob".to_owned(),
        keyward::domain::Role::Approver,
        keyward::domain::token::Proof::Jwt {
            issuer: "https://id.example.com".to_owned(),
            subject: "bob".to_owned(),
        },
    );
    let caller = keyward::domain::token::Caller {
        owner: "acme".parse().unwrap(),
        token: vouched.token,
        name: vouched.name,
        role: vouched.role,
        proof: vouched.proof,
        once: None,
    };
    let confirm = keyward::domain::hold::Confirm {
        additional: 1,
        any: true,
        launch_digest: None,
        cek: None,
    };
    let id = hold.as_str().unwrap().parse().unwrap();
    match app.service.confirm_hold(&caller, id, confirm, "a test").unwrap() {
        keyward::store::Taken::Refused(why) => assert!(why.contains("no token of this server"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_rollback_one_person_s_word_from_before_counts_no_more_and_new_owners_count_nothing_as_known() {
    let app = App::new();
    let hold = held(&app);
    let bob = app.person("bob");
    require(&app, 2).ok();
    app.confirm(&hold, 1).ok();
    app.service.accept_rollback(1000).unwrap();
    let open = app.hold(&hold);
    assert_eq!((&open["state"], &open["approvals"]), (&json!("open"), &json!([])));
    assert_eq!(bob.confirm(&hold, 1).ok().body["state"], "pending");

    crate::support::other::Other::of(&app);
    let database = rusqlite::Connection::open(app.folder.path().join("keyward.db")).unwrap();
    let sql = "SELECT count(*) FROM rolled_back WHERE owner IN ('acme', 'umbra')";
    let unknown: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(unknown, 2);
}

#[test]
fn once_one_person_is_enough_again_a_hold_is_not_stuck() {
    let app = App::new();
    let hold = held(&app);
    let bob = app.person("bob");
    require(&app, 2).ok();
    app.confirm(&hold, 3).ok();
    require(&app, 1).ok();
    bob.send(
        "PUT",
        "/v1/approvals",
        &json!({"approvals_required": 1, "reason": "we are few"}),
    )
    .ok();
    assert_eq!(app.confirm(&hold, 1).ok().body["state"], "confirmed");
}

#[test]
fn only_valid_tokens_that_have_a_word_make_two_people() {
    let app = App::new();
    app.mint(keyward::domain::Role::Auditor, Some("acme"), None);
    let gone = app.mint(keyward::domain::Role::Approver, Some("acme"), None);
    let path = format!("/v1/tokens/{}", gone.id);
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    let alone = require(&app, 2).expect(409, "wrong-state");
    assert!(alone.detail().contains("this owner has 1"), "{}", alone.body);
}

#[test]
fn one_person_is_enough_to_reject_what_another_approved_of() {
    let app = App::new();
    let hold = held(&app);
    let bob = app.person("bob");
    require(&app, 2).ok();
    app.confirm(&hold, 1).ok();
    let rejected = bob.say(&hold, "reject", &json!({"reason": "no"})).ok().body;
    assert_eq!(
        (&rejected["state"], &rejected["allowances"]),
        (&json!("rejected"), &json!([]))
    );
}

#[test]
fn the_second_person_is_done_away_with_by_two() {
    let app = App::new();
    let bob = app.person("bob");
    assert_eq!(
        app.owner("GET", "/v1/approvals", &Value::Null).ok().body["approvals_required"],
        1
    );
    require(&app, 3).expect(400, "malformed");
    require(&app, 2).ok();
    assert_eq!(require(&app, 2).ok().body["number"], 1, "it is so already");

    let proposed = require(&app, 1).ok().body;
    assert_eq!(
        (
            &proposed["approvals_required"],
            &proposed["proposal"]["by"]["name"]
        ),
        (&json!(2), &json!("init"))
    );
    require(&app, 1).expect(409, "wrong-state");
    // A word counts for a day.
    app.clock.advance(Duration::from_secs(24 * 3600));
    let body = json!({"approvals_required": 1, "reason": "we are few"});
    let late = bob.send("PUT", "/v1/approvals", &body).ok().body;
    assert_eq!(late["approvals_required"], 2);
    let done = require(&app, 1).ok().body;
    assert_eq!(
        (&done["approvals_required"], &done["number"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(done["words"].as_array().unwrap().len(), 2);
}

fn reset(to: u64) -> Value {
    let workload = crate::support::host::WORKLOAD;
    json!({
        "binding": {"kind": "workload", "name": workload}, "secret": "disk", "to": to, "reason": "moved",
    })
}

#[test]
fn a_count_is_lowered_by_two_people_and_that_is_recorded_for_ever() {
    let app = App::new();
    held(&app);
    let bob = app.person("bob");
    require(&app, 2).ok();
    let limits = || app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    let proposed = app.owner("POST", "/v1/limits/reset", &reset(0)).ok().body;
    assert_eq!(
        (&proposed["reset"], &proposed["proposal"]["by"]["name"]),
        (&Value::Null, &json!("init"))
    );
    assert_eq!(limits()["proposals"].as_array().unwrap().len(), 1);
    app.owner("POST", "/v1/limits/reset", &reset(0))
        .expect(409, "wrong-state");

    let done = bob.send("POST", "/v1/limits/reset", &reset(0)).ok().body;
    let record = &done["reset"];
    assert_eq!((&record["before"], &record["after"]), (&json!(1), &json!(0)));
    assert_eq!(record["words"][1]["by"]["name"], "bob");
    assert_eq!(limits()["resets"], json!([record]));
    assert_eq!(limits()["proposals"], json!([]));
    app.run(&platform()).1.ok();

    for table in ["limit_resets", "approvals_required"] {
        for statement in [
            format!("UPDATE {table} SET number = 9"),
            format!("DELETE FROM {table}"),
        ] {
            let file = app.folder.path().join(keyward::store::sqlite::FILE);
            let connection = rusqlite::Connection::open(file).unwrap();
            let refused = connection.execute(&statement, []).unwrap_err().to_string();
            assert!(refused.contains("never"), "{statement}: {refused}");
        }
    }
}

#[test]
fn a_reset_only_lowers_and_only_what_was_counted() {
    let app = App::new();
    held(&app);
    for to in [1, 2] {
        let refused = app
            .owner("POST", "/v1/limits/reset", &reset(to))
            .expect(409, "wrong-state");
        assert!(refused.detail().contains("the count is 1"), "{}", refused.body);
    }
    let mut unknown = reset(0);
    unknown["secret"] = json!("unknown");
    app.owner("POST", "/v1/limits/reset", &unknown)
        .expect(404, "not-found");
    let mut nameless = reset(0);
    nameless["binding"]["name"] = json!("");
    app.owner("POST", "/v1/limits/reset", &nameless)
        .expect(400, "malformed");
    app.owner("POST", "/v1/limits/reset", &reset(0)).ok();
}

#[test]
fn a_hold_that_an_earlier_version_opened_is_kept_and_can_be_rejected() {
    use keyward::store::HoldStore as _;
    use keyward::store::{SqlStore, sqlite::FILE};

    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection
        .execute_batch(include_str!("../src/store/sqlite/schema.sql"))
        .unwrap();
    connection
        .execute_batch(include_str!("../src/store/sqlite/schema_2.sql"))
        .unwrap();
    let id = uuid::Uuid::new_v4();
    let document = json!({
        "id": id, "workload": {"uuid": crate::support::host::WORKLOAD, "name": "web"}, "secrets": ["disk"],
        "attested": [{"launch_digest": "00".repeat(32), "cek": "11".repeat(32), "launches": 1}],
        "created": "2026-01-02T03:04:05.000Z", "last_try": "2026-01-02T03:04:05.000Z",
        "launches": 1, "requests": 4, "reason": "used up",
    });
    let hex = id.simple().to_string();
    connection
        .execute_batch(&format!(
            "INSERT INTO owners (name, created) VALUES ('acme', 0);
             INSERT INTO holds VALUES (x'{hex}', 'acme', x'00', '[\"disk\"]', 'open', 0, '{document}');
             INSERT INTO hold_launches VALUES (x'{hex}', x'01', x'02', 4);
             PRAGMA user_version = 2; PRAGMA application_id = 0x4b575244;"
        ))
        .unwrap();
    drop(connection);

    let store = SqlStore::open(folder.path(), false).unwrap();
    let owner = "acme".parse().unwrap();
    let hold = store.hold(&owner, id).unwrap().unwrap();
    assert_eq!(
        (hold.state, hold.requests),
        (keyward::domain::hold::HoldState::Open, 4)
    );
    let word = keyward::domain::approval::Word {
        by: keyward::domain::revision::By {
            token: uuid::Uuid::nil(),
            name: "a test".to_owned(),
        },
        time: hold.created,
        reason: "a test".to_owned(),
    };
    let confirm = keyward::domain::hold::Confirm {
        additional: 1,
        any: true,
        launch_digest: None,
        cek: None,
    };
    let act = keyward::audit::actor::Act::of_server(hold.created);
    let verb = keyward::store::Verb::Confirm(confirm);
    match store.settle_hold(&owner, id, &verb, &word, &act).unwrap() {
        keyward::store::Taken::Refused(why) => assert!(why.contains("once a launch asks again"), "{why}"),
        other => panic!("{other:?}"),
    }
    let verb = keyward::store::Verb::Reject;
    let rejected = store.settle_hold(&owner, id, &verb, &word, &act).unwrap();
    assert!(matches!(rejected, keyward::store::Taken::Done(_)), "{rejected:?}");
}
