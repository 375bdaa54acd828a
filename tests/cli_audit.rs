//! `audit …`: a log of a real server, exported, verified elsewhere, and every way in which it may be wrong.

use serde_json::{Value, json};

use crate::support::Shell;
use crate::support::cli::{Server, masked, transcript};
use crate::support::host::ALLOW;

const MANIFEST: &str = "kind: PolicyBundle\npath: policy\n---\nkind: Secret\nname: disk\ntype: luks-passphrase\n\
                        value: {base64: aHVudGVyMg==}\npolicies: [release.any]\n";

/// A server that was applied something to.
fn served() -> (Shell, Server) {
    let mut shell = Shell::initialised();
    shell.write("policy/release/any.rego", ALLOW);
    shell.write("manifest.yaml", MANIFEST);
    let server = shell.served();
    shell.run(&["apply", "-f", "manifest.yaml"]).done();
    (shell, server)
}

/// Ends the server, so that all it did is signed, and exports the whole log: its lines.
fn exported(shell: &Shell, server: Server) -> Vec<String> {
    assert_eq!(server.stop().0, 0);
    let key = shell.run(&["audit", "key", "--data-dir", "data"]).done();
    shell.write("log.pub", key);
    shell
        .run(&["audit", "export", "--data-dir", "data", "-o", "log.jsonl"])
        .done();
    shell.read("log.jsonl").lines().map(str::to_owned).collect()
}

fn written(shell: &Shell, lines: &[String]) {
    shell.write("log.jsonl", lines.join("\n") + "\n");
}

/// Exit code and answer of `audit verify`.
fn verify(shell: &Shell, more: &[&str]) -> (i32, Value) {
    let mut arguments = vec!["audit", "verify", "log.jsonl", "--key", "log.pub", "-o", "json"];
    arguments.extend(more);
    let ran = shell.run(&arguments);
    assert_eq!(ran.err, "");
    (ran.code, serde_json::from_str(&ran.out).unwrap())
}

#[test]
fn an_export_of_all_that_a_server_did_verifies_without_it() {
    let (shell, server) = served();
    shell.write("policy/release/any.rego", format!("{ALLOW}\n# Reviewed.\n"));
    shell.run(&["policy", "push", "policy"]).done();
    let lines = exported(&shell, server);
    let kinds: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["record"]["event"]["kind"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "object-created",
            "token-created",
            "server-started",
            "bundle-activated",
            "object-created",
            "bundle-activated",
            "server-stopped",
        ]
    );
    // On another machine: nothing but the export and the key.
    std::fs::remove_dir_all(shell.path("data")).unwrap();
    let (code, answer) = verify(&shell, &[]);
    assert_eq!(
        (code, &answer["verifies"], &answer["records"]),
        (0, &json!(true), &json!(7))
    );
    assert_eq!(answer["bare"], 0);
    assert!(answer["checkpoints"].as_u64().unwrap() >= 2, "{answer}");
}

#[test]
fn an_owner_exports_the_hashes_of_what_is_not_the_owners_and_they_verify_too() {
    let (shell, server) = served();
    shell.run(&["audit", "key"]).done();
    // At the end of one server and the start of the next all of it is signed.
    assert_eq!(server.stop().0, 0);
    let mut shell = shell;
    let server = shell.served();
    let key = shell.run(&["audit", "key"]).done();
    shell.write("log.pub", &key);
    let said = shell.run(&["audit", "export", "-o", "log.jsonl"]).done();
    assert!(
        said.starts_with("log.jsonl: 7 records (3 as their hashes only)"),
        "{said}"
    );
    let (code, answer) = verify(&shell, &[]);
    assert_eq!((code, &answer["bare"]), (0, &json!(3)), "{answer}");
    let (code, answer) = verify(&shell, &["--contents-from", "3"]);
    assert_eq!((code, &answer["first"]), (2, &json!(5)), "{answer}");
    let streamed = shell.run(&["audit", "export"]).done();
    assert_eq!(streamed, shell.read("log.jsonl"));
    assert_eq!(shell.run(&["audit", "key", "--data-dir", "data"]).done(), key);
    drop(server);
}

#[test]
fn whatever_is_done_to_an_export_is_told_and_named() {
    let (shell, server) = served();
    let good = exported(&shell, server);
    assert_eq!(verify(&shell, &[]).0, 0);
    // Line 0 is the header; a checkpoint stands behind record 2, where the server started.
    let at = |index: u64| {
        let head = format!("{{\"index\":{index},");
        good.iter().position(|line| line.starts_with(&head)).unwrap()
    };
    type Tamper<'a> = Box<dyn Fn(&mut Vec<String>) + 'a>;
    let table: Vec<(&str, Tamper<'_>, u64)> = vec![
        (
            "changed",
            Box::new(|l| l[at(4)] = l[at(4)].replace("\"disk\"", "\"disc\"")),
            4,
        ),
        ("dropped", Box::new(|l| drop(l.remove(at(3)))), 3),
        ("swapped", Box::new(|l| l.swap(at(3), at(4))), 3),
        (
            "inserted twice",
            Box::new(|l| l.insert(at(4), good[at(1)].clone())),
            1,
        ),
        ("cut", Box::new(|l| l.truncate(at(5))), 3),
        (
            "an owner changed, hash and all",
            Box::new(|l| {
                let record = l[at(0)]
                    .split_once("\"record\":")
                    .unwrap()
                    .1
                    .replace("acme", "umbr");
                let record = record.strip_suffix('}').unwrap();
                let hash = keyward::audit::tree::leaf_hash(record.as_bytes());
                l[at(0)] = keyward::audit::export::stored_record(0, &hash, record);
            }),
            0,
        ),
    ];
    for (name, tamper, first) in table {
        let mut lines = good.clone();
        tamper(&mut lines);
        written(&shell, &lines);
        let (code, answer) = verify(&shell, &[]);
        assert_eq!(
            (code, &answer["verifies"]),
            (2, &json!(false)),
            "{name}: {answer}"
        );
        assert_eq!(answer["first"], first, "{name}: {answer}");
        assert_eq!(answer["fault"], "export", "{name}: {answer}");
    }
}

#[test]
fn a_database_changed_behind_the_servers_back_exports_what_does_not_verify() {
    let (shell, server) = served();
    assert_eq!(server.stop().0, 0);
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    database
        .execute_batch(
            "DROP TRIGGER audit_leaves_are_never_changed;
             UPDATE audit_leaves SET record = replace(record, 'disk', 'disc') WHERE idx = 4",
        )
        .unwrap();
    drop(database);
    let server = shell.serve(&[]);
    exported(&shell, server);
    let (code, answer) = verify(&shell, &[]);
    assert_eq!((code, &answer["first"]), (2, &json!(4)), "{answer}");
}

#[test]
fn a_database_rolled_back_to_yesterdays_copy_is_told_by_what_was_seen_and_not_served() {
    let (shell, server) = served();
    assert_eq!(server.stop().0, 0);
    std::fs::copy(shell.path("data/keyward.db"), shell.path("yesterday.db")).unwrap();
    let yesterday = shell.run(&["audit", "checkpoint", "--data-dir", "data"]).done();
    shell.write("seen.txt", yesterday);
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\naudit: {checkpoint_file: ../seen.txt}\n",
    );
    let server = shell.serve(&[]);
    assert_eq!(server.stop().0, 0);
    let seen = shell.read("seen.txt");
    assert!(seen.matches("\n\n— ").count() >= 3, "{seen}");

    std::fs::copy(shell.path("yesterday.db"), shell.path("data/keyward.db")).unwrap();
    for name in ["data/keyward.db-wal", "data/keyward.db-shm"] {
        let _ = std::fs::remove_file(shell.path(name));
    }
    let refused = shell.run(&["serve", "--data-dir", "data"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("was rolled back"), "{}", refused.err);
    assert!(refused.err.contains("never shrinks"), "{}", refused.err);

    // Served without the file, it verifies alone, and does not against what was seen.
    shell.write("data/keyward.yaml", "listen: 127.0.0.1:0\nkds: {url: ''}\n");
    exported(&shell, shell.serve(&[]));
    assert_eq!(verify(&shell, &[]).0, 0);
    let (code, answer) = verify(&shell, &["--seen", "seen.txt"]);
    assert_eq!(
        (code, &answer["fault"], &answer["first"]),
        (2, &json!("log"), &json!(6)),
        "{answer}"
    );
}

#[test]
fn a_checkpoint_file_that_was_cut_off_is_mended_and_one_that_is_missing_is_asked_for() {
    let (shell, server) = served();
    assert_eq!(server.stop().0, 0);
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\naudit: {checkpoint_file: ../seen.txt}\n",
    );
    // It never was there, or its volume is not: a rolled-back copy would not be told.
    let refused = shell.run(&["serve", "--data-dir", "data"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("seen.txt is missing or empty"),
        "{}",
        refused.err
    );
    shell.write(
        "seen.txt",
        shell.run(&["audit", "checkpoint", "--data-dir", "data"]).done(),
    );
    assert_eq!(shell.serve(&[]).stop().0, 0);

    let whole = shell.read("seen.txt");
    let notes = whole.matches("\n\n— ").count();
    assert!(notes >= 3, "{whole}");
    let last = whole.trim_end().rfind("\n\n— ").unwrap();
    for cut in [last - 5, last + 1, last + 2, last + 20, whole.len() - 1] {
        let mut bytes = whole.clone().into_bytes();
        bytes.truncate(cut);
        // Where a character was cut, what is left of it goes too.
        shell.write(
            "seen.txt",
            String::from_utf8_lossy(&bytes).trim_end_matches('\u{fffd}'),
        );
        let (code, said) = shell.serve(&[]).stop();
        assert_eq!(code, 0, "{cut}: {said}");
        assert!(said.contains("was cut off while it was written"), "{cut}: {said}");
        let mended = shell.read("seen.txt");
        assert!(
            mended.ends_with("\n\n") && mended.matches("\n\n— ").count() > notes,
            "{mended}"
        );
        assert!(
            mended.starts_with(whole.split("\n\n— ").next().unwrap()),
            "{mended}"
        );
    }
}

#[test]
fn checkpoints_kept_elsewhere_fit_the_log_that_goes_on() {
    let (mut shell, server) = served();
    let first = shell.run(&["audit", "checkpoint"]).done();
    assert_eq!(server.stop().0, 0);
    let server = shell.served();
    let second = shell.run(&["audit", "checkpoint"]).done();
    shell.write("seen.txt", format!("{first}{second}"));
    exported(&shell, server);
    let (code, answer) = verify(&shell, &["--seen", "seen.txt"]);
    assert_eq!((code, &answer["seen"]), (0, &json!(2)), "{answer}");
}

#[test]
fn a_record_is_proved_and_another_key_does_not_prove_it() {
    let (shell, server) = served();
    let lines = exported(&shell, server);
    let record: Value = serde_json::from_str(&lines[1]).unwrap();
    let id = record["record"]["id"].as_str().unwrap();
    let prove = ["audit", "proof", id, "--data-dir", "data"];
    let proved = shell.run(&prove).done();
    assert!(proved.contains("The proof leads to the checkpoint"), "{proved}");
    assert!(
        lines[1].contains(proved.lines().find(|line| line.starts_with('{')).unwrap()),
        "{proved}"
    );

    shell
        .run(&[
            "init",
            "--data-dir",
            "other",
            "--owner",
            "acme",
            "--log-name",
            "example.com/other",
        ])
        .done();
    let other = shell.run(&["audit", "key", "--data-dir", "other"]).done();
    assert!(other.starts_with("example.com/other+"), "{other}");
    shell.write("other.pub", other);
    let ran = shell.run(&[&prove[..], &["--key", "other.pub"]].concat());
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    let ran = shell.run(&["audit", "verify", "log.jsonl", "--key", "other.pub"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("the key is of `example.com/other`"),
        "{}",
        ran.out
    );
}

#[test]
fn a_data_folder_older_than_the_log_is_served_once_it_was_given_a_key() {
    let shell = Shell::initialised();
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    for sql in [
        "DELETE FROM meta WHERE key = 'audit_log_public_key'",
        "DELETE FROM audit_log_key",
    ] {
        assert_eq!(database.execute(sql, []).unwrap(), 1);
    }
    drop(database);
    let refused = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert!(
        refused.contains("keyward audit init --data-dir data"),
        "{refused}"
    );
    let made = shell.run(&["audit", "init", "--data-dir", "data"]).done();
    let key = shell.run(&["audit", "key", "--data-dir", "data"]).done();
    assert!(made.contains(key.trim()), "{made}");
    shell.run(&["audit", "init", "--data-dir", "data"]).failed();
    assert_eq!(shell.serve(&[]).stop().0, 0);
}

#[test]
fn the_private_key_is_nowhere_in_the_data_folder_in_the_open() {
    let shell = Shell::initialised();
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    let sql = "SELECT length(sealed) FROM audit_log_key";
    let length: u32 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(length > 32, "it is there, sealed");
    drop(database);
    let bytes = std::fs::read(shell.path("data/keyward.db")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("PRIVATE+KEY"), "{}", text.len());
}

#[test]
fn likely_mistakes_are_told_what_to_do() {
    let (shell, server) = served();
    let lines = exported(&shell, server);
    shell.write("empty.jsonl", "");
    shell.write("half.jsonl", lines[..3].join("\n"));
    shell.write("notes.jsonl", "hello\n");
    shell.write("torn.txt", "example.com/keyward\n1\nabc\n");
    let mut all = String::new();
    for arguments in [
        "audit verify nowhere.jsonl --key log.pub",
        "audit verify empty.jsonl --key log.pub",
        "audit verify half.jsonl --key log.pub",
        "audit verify notes.jsonl --key log.pub",
        "audit verify log.jsonl --key log.jsonl",
        "audit verify log.jsonl --key nowhere.pub",
        "audit verify log.jsonl --key log.pub --seen torn.txt",
        "audit proof 00000000-0000-4000-8000-000000000000 --data-dir data",
        "audit export --data-dir nowhere",
        "audit export --data-dir data --mask /input",
    ] {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let ran = shell.run(&arguments);
        all.push_str(&format!(
            "$ keyward {}\n{}{}[{}]\n\n",
            arguments.join(" "),
            ran.out,
            ran.err,
            ran.code
        ));
    }
    transcript("audit-mistakes.txt", &masked(&all));
}
