//! A data folder from before keys could be rotated: its one key is known to the database, the log's key is found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::audit::key::SignerKey;
use keyward::domain::sealed::{KeyLocation, KeyState};
use keyward::sealing::{Place, Sealer, key_file, new_key};
use keyward::sev::SystemRandom;
use keyward::store::SqlStore;
use keyward::store::keys::Keys as _;
use serde_json::json;

use crate::support::Shell;

const BEFORE: [&str; 8] = [
    include_str!("../src/store/sqlite/schema.sql"),
    include_str!("../src/store/sqlite/schema_2.sql"),
    include_str!("../src/store/sqlite/schema_3_tokens.sql"),
    include_str!("../src/store/sqlite/schema_4_audit.sql"),
    include_str!("../src/store/sqlite/schema_5_holds.sql"),
    include_str!("../src/store/sqlite/schema_6_host_tokens.sql"),
    include_str!("../src/store/sqlite/schema_7_recovery.sql"),
    include_str!("../src/store/sqlite/schema_8_incidents.sql"),
];

/// A database of schema 8 with these facts.
fn older(folder: &std::path::Path, facts: &[(&str, &str)]) {
    let database = rusqlite::Connection::open(folder.join("keyward.db")).unwrap();
    for text in BEFORE {
        database.execute_batch(text).unwrap();
    }
    database
        .execute_batch("PRAGMA user_version = 8; PRAGMA application_id = 0x4b575244;")
        .unwrap();
    for fact in facts {
        database
            .execute("INSERT INTO meta VALUES (?1, ?2)", *fact)
            .unwrap();
    }
}

#[test]
fn a_folder_from_before_keeps_its_key_and_the_log_s_key_and_rotates_both() {
    let shell = Shell::new();
    let folder = shell.path("data");
    std::fs::create_dir(&folder).unwrap();
    let key = new_key(&SystemRandom).unwrap();
    key_file::create(&folder.join("my.key"), &key).unwrap();
    let sealer = Sealer::new(key);
    let id = sealer.key_id().unwrap();
    let log = SignerKey::from_seed("log.example".parse().unwrap(), new_key(&SystemRandom).unwrap()).unwrap();
    let sealed = sealer
        .seal(Place::AuditLogKey, log.to_text().as_bytes(), &SystemRandom)
        .unwrap();
    older(
        &folder,
        &[
            ("key_id", &id.to_string()),
            ("key_file", "my.key"),
            ("audit_log_public_key", &log.verifier().to_string()),
            ("audit_log_key", &STANDARD.encode(&sealed)),
        ],
    );

    let store = SqlStore::open(&folder, false).unwrap();
    assert_eq!(store.audit_log_key().unwrap(), Some(sealed));
    assert_eq!(store.meta("audit_log_key").unwrap(), None);
    let keys = store.sealing_keys().unwrap();
    assert_eq!(
        (keys.len(), keys[0].id, keys[0].state, &keys[0].location),
        (1, id, KeyState::Active, &KeyLocation::File("my.key".into()))
    );
    drop(store);

    let rotated = shell
        .run(&["keys", "rotate", "--data-dir", "data", "-o", "json"])
        .json();
    assert_eq!(rotated["retired"], json!([id.to_string()]));
    assert_eq!(rotated["rewrapped"], 1);
    let checked = shell
        .run(&["keys", "check", "--data-dir", "data", "-o", "json"])
        .json();
    let counts: Vec<_> = checked["keys"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&counts[0]["audit_log_keys"], &counts[1]["audit_log_keys"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(checked["damaged"], json!([]));
}

#[test]
fn base64_of_every_length_is_read_as_it_was_written() {
    for length in 60..=68 {
        let folder = tempfile::tempdir().unwrap();
        let sealed: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(89) ^ 0xfb).collect();
        older(folder.path(), &[("audit_log_key", &STANDARD.encode(&sealed))]);
        let store = SqlStore::open(folder.path(), false).unwrap();
        assert_eq!(store.audit_log_key().unwrap(), Some(sealed), "{length}");
    }
    let folder = tempfile::tempdir().unwrap();
    older(folder.path(), &[]);
    let store = SqlStore::open(folder.path(), false).unwrap();
    assert_eq!(store.audit_log_key().unwrap(), None);
}

#[test]
fn a_rotation_is_recorded_and_the_log_is_signed_by_the_same_key_afterwards() {
    let shell = Shell::initialised();
    let key = shell.run(&["audit", "key", "--data-dir", "data"]).done();
    let rotated = shell
        .run(&["keys", "rotate", "--data-dir", "data", "-o", "json"])
        .json();
    assert_eq!(shell.serve(&[]).stop().0, 0);
    shell.write("log.pub", key);
    let export = ["audit", "export", "--data-dir", "data", "-o", "log.jsonl"];
    shell.run(&export).done();
    shell
        .run(&["audit", "verify", "log.jsonl", "--key", "log.pub"])
        .done();
    let log = shell.read("log.jsonl");
    let (old, new) = (&rotated["retired"][0], &rotated["active"]);
    for event in [
        format!(r#"{{"kind":"key-rotated","purpose":"key-encryption","from":{old},"to":{new}}}"#),
        format!(r#"{{"kind":"key-retired","purpose":"key-encryption","id":{old}}}"#),
    ] {
        let escaped = event.replace('"', "\\\"");
        let told = log.matches(&event).count() + log.matches(&escaped).count();
        assert_eq!(told, 1, "{event} in {log}");
    }
}

#[test]
fn a_key_that_was_moved_is_found_though_the_configuration_names_the_file_that_is_gone() {
    let shell = Shell::initialised();
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\nkey_file: keyward.key\n",
    );
    shell
        .run(&[
            "keys",
            "rotate",
            "--data-dir",
            "data",
            "--to",
            "{file: moved.key}",
        ])
        .done();
    assert!(!shell.path("data/keyward.key").exists());
    let (code, said) = shell.serve(&[]).stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("say so in the configuration"), "{said}");
    let checked = shell.run(&["keys", "check", "--data-dir", "data"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(
        checked.err.contains("say so in the configuration"),
        "{}",
        checked.err
    );
    // A file that is missing and was never the key's is a mistake, as before.
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\nkey_file: nowhere.key\n",
    );
    let refused = shell.run(&["serve", "--data-dir", "data"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("nowhere.key is missing"), "{}", refused.err);
}
