//! Checkpoints and proofs: what is signed continues what was signed, or nothing is.

use keyward::audit::checkpoint::Checkpoint;
use keyward::audit::proof::{verify_consistency, verify_inclusion};
use keyward::domain::HexDigest;
use serde_json::{Value, json};

use crate::support::app::{bundle, log_key};
use crate::support::host::ALLOW;
use crate::support::{App, platform};

fn signed(app: &App) -> Checkpoint {
    let reply = app.owner("GET", "/v1/audit/checkpoint", &Value::Null).ok().body;
    assert_eq!(reply["key"], log_key().verifier().to_string());
    let note = reply["checkpoint"].as_str().unwrap();
    let checkpoint = Checkpoint::open(note, log_key().verifier()).unwrap();
    assert_eq!(reply["size"], checkpoint.head().size);
    checkpoint
}

fn hashes(reply: &Value) -> Vec<HexDigest> {
    serde_json::from_value(reply["proof"].clone()).unwrap()
}

/// Something more to record.
fn grow(app: &App, text: &str) {
    app.bundle(&[("release/any.rego", &format!("{ALLOW}\n# {text}\n"))]);
}

#[test]
fn a_checkpoint_is_signed_when_the_log_grew_and_not_again() {
    let app = App::new();
    app.owner("GET", "/v1/audit/checkpoint", &Value::Null)
        .expect(404, "not-found");
    assert!(app.service.checkpoint().unwrap().is_some());
    assert_eq!(signed(&app).head().size, 2);
    assert_eq!(app.service.checkpoint().unwrap(), None);
    grow(&app, "a");
    let note = app.service.checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::open(&note, log_key().verifier()).unwrap();
    assert_eq!(checkpoint, signed(&app));
    assert_eq!(checkpoint.head().size, 3);
    let list = app.owner("GET", "/v1/audit/checkpoints", &Value::Null).ok().body;
    let sizes: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["size"].clone())
        .collect();
    assert_eq!(sizes, [2, 3]);
}

#[test]
fn a_decision_is_pending_until_a_checkpoint_counts_it_and_then_proved() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.service.checkpoint().unwrap();
    let decision = app.run(&platform).1.ok().body["decision"].clone();
    let path = format!("/v1/audit/proof/{}", decision.as_str().unwrap());
    let pending = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(pending["status"], "pending");
    for text in ["a", "b", "c"] {
        grow(&app, text);
    }
    app.service.checkpoint().unwrap();
    let proved = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(
        (&proved["status"], &proved["index"]),
        (&json!("included"), &json!(5))
    );
    let note = proved["checkpoint"].as_str().unwrap();
    let head = Checkpoint::open(note, log_key().verifier()).unwrap().head();
    let leaf: HexDigest = serde_json::from_value(proved["leaf"].clone()).unwrap();
    verify_inclusion(head, 5, leaf, &hashes(&proved)).unwrap();
    assert!(verify_inclusion(head, 4, leaf, &hashes(&proved)).is_err());
    for id in ["00000000-0000-4000-8000-000000000000", "nothing"] {
        app.owner("GET", &format!("/v1/audit/proof/{id}"), &Value::Null)
            .expect(404, "not-found");
    }
}

#[test]
fn every_tree_is_proved_to_be_the_beginning_of_every_later_one() {
    let app = App::new();
    let mut heads = Vec::new();
    for number in 0..12 {
        grow(&app, &number.to_string());
        app.service.checkpoint().unwrap();
        heads.push(signed(&app).head());
    }
    for (at, old) in heads.iter().enumerate() {
        for new in &heads[at..] {
            let path = format!("/v1/audit/consistency?from={}&to={}", old.size, new.size);
            let reply = app.owner("GET", &path, &Value::Null).ok().body;
            verify_consistency(*old, *new, &hashes(&reply)).unwrap();
        }
    }
    for query in ["from=5&to=4", "from=1&to=99", "from=1", "from=a&to=2"] {
        app.owner("GET", &format!("/v1/audit/consistency?{query}"), &Value::Null)
            .expect(400, "malformed");
    }
}

/// Lets the test do what an attacker with the database can do.
const UNGUARDED: [&str; 2] = [
    "DROP TRIGGER audit_leaves_are_never_changed",
    "DROP TRIGGER audit_leaves_are_never_deleted",
];

#[test]
fn a_log_that_does_not_continue_its_last_checkpoint_is_never_signed() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let cut = format!("UPDATE audit_head SET size = 0, root = x'{empty}', subtrees = x''");
    let table = [
        (
            "a leaf rewritten",
            "UPDATE audit_leaves SET hash = zeroblob(32) WHERE idx = 1",
            "does not continue",
        ),
        ("a leaf gone", "DELETE FROM audit_leaves WHERE idx = 1", "damaged"),
        ("the whole log cut", cut.as_str(), "a log never shrinks"),
        (
            "another root",
            "UPDATE audit_head SET root = zeroblob(32), subtrees = zeroblob(32) WHERE size = 4",
            "does not continue",
        ),
        (
            "a checkpoint of somebody else",
            "UPDATE audit_checkpoints SET note = replace(note, '— example.com', '— example.org')",
            "checkpoint",
        ),
    ];
    for (name, damage, says) in table {
        let app = App::new();
        grow(&app, "a");
        app.service.checkpoint().unwrap();
        grow(&app, "b");
        for statement in UNGUARDED {
            app.sql(statement);
        }
        assert!(app.sql(damage) > 0, "{name}");
        let before = app.owner("GET", "/v1/audit/checkpoints", &Value::Null).ok().body;
        let error = app.service.checkpoint().expect_err(name).to_string();
        assert!(error.contains(says), "{name}: {error}");
        let after = app.owner("GET", "/v1/audit/checkpoints", &Value::Null).ok().body;
        assert_eq!(after, before, "{name}");
        app.request("GET", "/readyz", &[], b"").expect(503, "unavailable");
    }
}

#[test]
fn a_head_whose_parts_do_not_agree_stops_every_act() {
    let app = App::new();
    app.sql("UPDATE audit_head SET root = zeroblob(32)");
    app.try_apply(json!([bundle(&[("x.rego", "package x\n\nallow := false\n")])]))
        .expect(503, "unavailable");
    assert!(app.service.checkpoint().is_err());
}

#[test]
fn records_are_not_changed_or_deleted_by_mistake() {
    let app = App::new();
    let file = app.folder.path().join("keyward.db");
    let database = rusqlite::Connection::open(file).unwrap();
    for statement in [
        "DELETE FROM audit_leaves",
        "UPDATE audit_leaves SET record = '{}' WHERE idx = 0",
        "UPDATE audit_leaves SET hash = zeroblob(32) WHERE idx = 0",
        "UPDATE audit_leaves SET idx = 9 WHERE idx = 0",
        "UPDATE audit_leaves SET owner = 'umbra' WHERE idx = 0",
    ] {
        let error = database.execute(statement, []).unwrap_err().to_string();
        assert!(
            error.contains("of the audit log is never"),
            "{statement}: {error}"
        );
    }
    // Forgetting what one says is not changing it: the hash stays.
    assert_eq!(
        database
            .execute("UPDATE audit_leaves SET record = NULL WHERE idx = 0", [])
            .unwrap(),
        1
    );
    assert!(app.service.checkpoint().unwrap().is_some());
}

#[test]
fn two_servers_on_one_store_sign_one_log() {
    let app = App::new();
    let beside = app.again(crate::support::app::Options::default());
    for round in 0..5 {
        grow(&app, &format!("a{round}"));
        grow(&beside, &format!("b{round}"));
        let (one, other) = (&app.service, &beside.service);
        std::thread::scope(|scope| {
            let signing = [
                scope.spawn(|| one.checkpoint().unwrap()),
                scope.spawn(|| other.checkpoint().unwrap()),
            ];
            let notes: Vec<_> = signing
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect();
            assert_eq!(notes.len(), 1, "{notes:?}");
        });
    }
    assert_eq!(signed(&app).head().size, 12);
}
