//! Records of the audit log: one line each, whose bytes are the leaf.

use keyward::audit::actor::Actor;
use keyward::audit::record::{
    AuditRecord, Event, MAX_RECORD, ObjectKind, ObjectRef, RECORD_VERSION, RecordError, Target,
};
use keyward::audit::tree::leaf_hash;
use keyward::domain::Time;
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) fn record(id: u128, event: Event) -> AuditRecord {
    AuditRecord {
        version: RECORD_VERSION,
        id: Uuid::from_u128(id),
        time: Time::from_millis(1_790_000_000_000 + id as i64),
        owner: Some("acme".parse().unwrap()),
        actor: Actor::Token {
            id: Uuid::from_u128(7),
            name: "ci\nof the team".to_owned(),
            role: "policy-author".parse().unwrap(),
        },
        event,
        once: None,
    }
}

pub(crate) fn secret(version: u64) -> Event {
    Event::ObjectUpdated {
        object: ObjectRef {
            kind: ObjectKind::Secret,
            name: "db/password".parse().unwrap(),
            version: Some(version),
        },
    }
}

#[test]
fn a_record_is_one_line_and_its_bytes_are_the_leaf() {
    let leaf = record(1, secret(3)).to_leaf().unwrap();
    assert_eq!(
        leaf.as_str(),
        r#"{"version":1,"id":"00000000-0000-0000-0000-000000000001","time":"2026-09-21T14:13:20.001Z","owner":"acme","actor":{"type":"token","id":"00000000-0000-0000-0000-000000000007","name":"ci\nof the team","role":"policy-author"},"event":{"kind":"object-updated","object":{"kind":"Secret","name":"db/password","version":3}}}"#
    );
    assert_eq!(leaf.hash(), leaf_hash(leaf.as_str().as_bytes()));
    assert_eq!(
        AuditRecord::from_leaf(leaf.as_str()).unwrap(),
        record(1, secret(3))
    );
}

#[test]
fn every_kind_of_event_fits_the_schema_and_an_unknown_member_does_not() {
    let schema = serde_json::to_value(schemars::schema_for!(AuditRecord)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let id = "5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e";
    let digest = "ab".repeat(32);
    let object = json!({"kind": "Workload", "name": "web", "version": null});
    let events = [
        json!({"kind": "decision", "id": id, "outcome": "released", "workload": {"uuid": id, "name": "web"},
            "released": [{"name": "db/password", "version": 3}], "document": digest}),
        json!({"kind": "object-created", "object": object}),
        json!({"kind": "object-updated", "object": object}),
        json!({"kind": "object-deleted", "object": object}),
        json!({"kind": "bundle-activated", "revision": digest, "replaced": null}),
        json!({"kind": "token-created", "id": id, "name": "ci", "role": "auditor", "expires": "2026-09-21T14:13:20.000Z"}),
        json!({"kind": "token-revoked", "id": id, "name": "ci"}),
        json!({"kind": "hold-confirmed", "hold": id, "additional": 2, "guest": null, "missing": 1,
            "reason": "new hardware"}),
        json!({"kind": "hold-rejected", "hold": id, "reason": "unknown host"}),
        json!({"kind": "hold-closed", "hold": id}),
        json!({"kind": "registration-agreed", "digest": digest, "words": [{"token": id, "name": "ann"}],
            "reason": "Workload web"}),
        json!({"kind": "cek-imported", "fingerprint": digest, "chip": null}),
        json!({"kind": "log-begun", "key": "log+00+key"}),
        json!({"kind": "hold-withdrawn", "hold": id, "reason": "not needed"}),
        json!({"kind": "limit-reset", "binding": {"kind": "workload", "name": id}, "secret": "db/password", "from": 9,
            "to": 0, "missing": 0, "reason": "moved"}),
        json!({"kind": "approvals-required", "people": 2, "policies": true, "missing": 0,
            "reason": "a rule"}),
        json!({"kind": "registration-proposed", "digest": digest, "reason": "registers"}),
        json!({"kind": "frozen", "target": {"type": "platform", "fingerprint": digest}, "reason": "stolen"}),
        json!({"kind": "frozen", "target": {"type": "object", "object": object}, "reason": "stolen"}),
        json!({"kind": "unfrozen", "target": {"type": "server"}, "missing": 1, "reason": "found"}),
        json!({"kind": "platform-enrolled", "fingerprint": digest, "reason": "rack 7"}),
        json!({"kind": "platform-refused", "fingerprint": digest, "reason": "sold"}),
        json!({"kind": "platform-enrolled", "fingerprint": digest, "missing": 1, "reason": "rack 7"}),
        json!({"kind": "platform-withdrawn", "fingerprint": digest, "reason": "no longer listed"}),
        json!({"kind": "platforms-accepted", "accepted": "enrolled", "reason": "a rule"}),
        json!({"kind": "platforms-accepted", "accepted": "any", "missing": 1, "reason": "a rule"}),
        json!({"kind": "frozen", "target": {"type": "product", "name": "naples"}, "reason": "stolen"}),
        json!({"kind": "key-rotated", "purpose": "key-encryption", "from": "01", "to": "02"}),
        json!({"kind": "key-retired", "purpose": "key-encryption", "id": "01"}),
        json!({"kind": "secret-purged", "secret": "db/password", "version": 3}),
        json!({"kind": "records-dropped", "first": 0, "last": 9}),
        json!({"kind": "rollback-accepted", "seen": 9, "accepted": 4}),
        json!({"kind": "server-started", "release": "0.1.0", "dangers": ["danger_plaintext_http"]}),
        json!({"kind": "server-stopped"}),
    ];
    let actors = [
        json!({"type": "certificate", "name": "certificate/ops", "fingerprint": digest, "subject": "CN=ops", "role": "admin"}),
        json!({"type": "identity", "name": "corp/ann", "issuer": "https://id.example.com", "subject": "ann", "role": "owner"}),
        json!({"type": "host", "address": "192.0.2.7"}),
        json!({"type": "host", "address": "192.0.2.7", "identity": "token/node-7"}),
        json!({"type": "server"}),
        json!({"type": "data-folder"}),
    ];
    let read = |value: &Value| serde_json::from_value::<AuditRecord>(value.clone());
    for (at, event) in events.iter().enumerate() {
        let whole = json!({"version": 1, "id": id, "time": "2026-09-21T14:13:20.000Z", "owner": null,
            "actor": actors[at % actors.len()], "event": event});
        assert!(validator.is_valid(&whole), "{whole}");
        let written = serde_json::to_value(read(&whole).unwrap()).unwrap();
        assert_eq!(written, whole);
        for place in ["/event", "/actor", ""] {
            let mut wrong = whole.clone();
            wrong.pointer_mut(place).unwrap()["value"] = json!("hunter2");
            let nothing_to_refuse_it = event["kind"] == "server-stopped" && place == "/event"
                || ["server", "data-folder"]
                    .map(Value::from)
                    .contains(&whole["actor"]["type"])
                    && place == "/actor";
            assert!(nothing_to_refuse_it || read(&wrong).is_err(), "{wrong}");
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_before_it_is_written() {
    let frozen = |length: usize| {
        record(
            1,
            Event::Frozen {
                target: Target::Server,
                reason: "x".repeat(length),
            },
        )
    };
    let room = MAX_RECORD - frozen(0).to_leaf().unwrap().as_str().len();
    let longest = frozen(room).to_leaf().unwrap();
    assert_eq!(longest.as_str().len(), MAX_RECORD);
    AuditRecord::from_leaf(longest.as_str()).unwrap();
    let error = frozen(room + 1).to_leaf().unwrap_err();
    assert!(matches!(error, RecordError::Long(65_537)), "{error}");
}

#[test]
fn a_record_of_a_later_version_is_no_record_here() {
    for leaf in ["", "{}", "{\"version\":1}", "[]"] {
        assert!(AuditRecord::from_leaf(leaf).is_err(), "{leaf}");
    }
}
