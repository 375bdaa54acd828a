//! `backup` and `restore`: a copy of one moment, whole or refused, and what a database that went back may do.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use keyward::psp::Platform;
use serde_json::{Value, json};

use crate::crash::{Waiting, prepare};
use crate::support::cli::{KEYWARD, Ran, Server, ran};
use crate::support::command::keyward;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::kbs::{Kbs, asked, denied, guid, refused as kbs_refused};
use crate::support::server::Host;
use crate::support::{Reply, Shell, Vm, ca, platform};

const CONFIG: &str =
    "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ../test.ark}]\n";
const OUTSIDE: &str = "audit: {checkpoint_file: ../outside.txt}\n";

/// A server with a secret behind a limit, and checkpoints outside.
fn served(limit: u64) -> (Shell, Server) {
    let mut shell = Shell::initialised();
    shell.write("test.ark", ca().ark().as_bytes());
    shell.write("data/keyward.yaml", format!("{CONFIG}{OUTSIDE}"));
    shell.write(
        "policy/release/any.rego",
        format!("{ALLOW}\nrelease_limit := {limit}\n"),
    );
    shell.write(
        "manifest.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\n\
             launch_digests: [{}]\nsecrets: [disk]\n",
            digest(IMAGE)
        ),
    );
    let server = shell.served();
    shell.run(&["apply", "-f", "manifest.yaml"]).done();
    (shell, server)
}

fn reply((status, text): (u16, String)) -> Reply {
    Reply {
        status,
        headers: BTreeMap::new(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

fn begin(server: &Server, platform: &Platform) -> (Vm, Value) {
    let path = format!("/vm/{WORKLOAD}/launch");
    let begun = reply(server.post(&path, launch_request(platform).to_string().as_bytes())).ok();
    let mut vm = Vm::start(platform, &begun);
    let request = vm.measure(IMAGE);
    (vm, request)
}

fn ask(server: &Server, (vm, request): &(Vm, Value)) -> Reply {
    reply(server.post(&vm.path(), request.to_string().as_bytes()))
}

/// One whole launch.
fn release(server: &Server, platform: &Platform) -> Reply {
    ask(server, &begin(server, platform))
}

fn backup(shell: &Shell, file: &str) -> Value {
    let made = ["backup", "--data-dir", "data", "--out", file, "-o", "json"];
    shell.run(&made).json()
}

fn verify(shell: &Shell, file: &str) -> Ran {
    let arguments = [
        "restore",
        "--verify",
        "--from",
        file,
        "--key-file",
        "key",
        "-o",
        "json",
    ];
    shell.run(&arguments)
}

/// The data folder is lost, but for its key file and configuration, and made again from a backup.
fn restored(shell: &Shell, file: &str) {
    std::fs::rename(shell.path("data"), shell.path("lost")).unwrap();
    shell
        .run(&[
            "restore",
            "--from",
            file,
            "--data-dir",
            "data",
            "--key-file",
            "lost/keyward.key",
        ])
        .done();
    for name in ["keyward.key", "keyward.yaml"] {
        std::fs::rename(shell.path("lost").join(name), shell.path("data").join(name)).unwrap();
    }
    std::fs::remove_dir_all(shell.path("lost")).unwrap();
}

fn refused(shell: &Shell, arguments: &[&str]) -> String {
    shell
        .run(&[&["serve", "--data-dir", "data"], arguments].concat())
        .failed()
}

#[test]
fn a_backup_under_load_is_of_one_moment_and_what_is_restored_counts_on_exactly() {
    const LIMIT: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let token = prepare(folder.path(), LIMIT);
    let host = Host::new(&token);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = crate::support::server::Server::start(&folder.path().join("data"));
    let platform = platform();
    let guests: Vec<Waiting> = (0..30)
        .map(|_| Waiting::start(&host, &server.base, &platform).unwrap())
        .collect();
    // Six hosts release while backups are taken one after the other.
    let left = std::sync::Mutex::new(guests);
    let mut files = Vec::new();
    std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(guest) = { left.lock().unwrap().pop() } {
                        guest.validate(&host, &server.base).unwrap().ok();
                    }
                })
            })
            .collect();
        while files.is_empty() || !hosts.iter().all(|host| host.is_finished()) {
            let file = path(&format!("{}.backup", files.len()));
            keyward(["backup", "--data-dir", &path("data"), "--out", &file]).ok();
            files.push(file);
        }
    });
    drop(server);

    let mut counted = 0;
    for (number, file) in files.iter().enumerate() {
        let data = path(&format!("data{number}"));
        let key = path("data/keyward.key");
        keyward(["restore", "--from", file, "--data-dir", &data, "--key-file", &key]).ok();
        let database = rusqlite::Connection::open(Path::new(&data).join("keyward.db")).unwrap();
        let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        let released = number("SELECT released FROM counts WHERE kind = 'secret' UNION ALL SELECT 0");
        for same in [
            "SELECT count(*) FROM decisions WHERE outcome = 'released'",
            "SELECT count(*) FROM launches WHERE state = 'used'",
            "SELECT count(*) FROM audit_leaves WHERE record LIKE '%\"outcome\":\"released\"%'",
        ] {
            assert_eq!(number(same), released, "{same}");
        }
        assert_eq!(number("SELECT count(*) FROM launches WHERE state = 'pending'"), 0);
        assert_eq!(number("SELECT count(*) FROM launches WHERE length(keys) > 0"), 0);
        assert!(released >= counted, "{released} after {counted}");
        counted = released;
    }
    // The last one serves, and goes on where it was.
    let data = folder.path().join(format!("data{}", files.len() - 1));
    for name in ["keyward.key", "keyward.yaml"] {
        std::fs::copy(folder.path().join("data").join(name), data.join(name)).unwrap();
    }
    let server = crate::support::server::Server::start(&data);
    let mut outcomes = (0, 0);
    for _ in counted..LIMIT + 2 {
        let guest = Waiting::start(&host, &server.base, &platform).unwrap();
        match guest.validate(&host, &server.base).unwrap().problem() {
            "ok" => outcomes.0 += 1,
            "confirmation-required" => outcomes.1 += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(outcomes, (LIMIT - counted, 2));
}

#[test]
fn a_backup_is_readable_by_its_owner_only_and_never_replaces_a_file() {
    let (shell, _server) = served(1);
    let made = backup(&shell, "one.backup");
    let path = shell.path("one.backup");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(made["sha256"], hex::encode(openssl::sha::sha256(&bytes)));
    assert_eq!(made["bytes"], bytes.len());
    let key = std::fs::read_to_string(shell.path("data/keyward.key")).unwrap();
    let key = key.split(' ').next_back().unwrap().trim();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(key), "the key file is in it");
    assert!(
        !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
        "a secret is in it"
    );
    let before: Vec<_> = shell.list(".");
    let again = shell
        .run(&["backup", "--data-dir", "data", "--out", "one.backup"])
        .failed();
    assert!(again.contains("one.backup is there already"), "{again}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let nowhere = shell
        .run(&["backup", "--data-dir", "nowhere", "--out", "two.backup"])
        .failed();
    assert!(nowhere.contains("there is no database in nowhere"), "{nowhere}");
    assert_eq!(shell.list("."), before, "something was left behind");
}

#[test]
fn a_backup_that_is_not_whole_is_told_and_nothing_is_made_of_it() {
    let (shell, server) = served(5);
    release(&server, &platform()).ok();
    backup(&shell, "good.backup");
    std::fs::copy(shell.path("data/keyward.key"), shell.path("key")).unwrap();
    let good = verify(&shell, "good.backup").json();
    assert_eq!((&good["bare"], &good["data_dir"]), (&json!(0), &Value::Null));
    // The secret, the release's answer has no key, and the log's key.
    assert_eq!(good["opened"], 2);

    let bytes = std::fs::read(shell.path("good.backup")).unwrap();
    let mut flipped = bytes.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    let manifest = String::from_utf8_lossy(&bytes[512..1500]).into_owned();
    let size = manifest
        .split("\"size\": ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    let lied = String::from_utf8_lossy(&bytes[..]).find("\"size\": ").unwrap();
    assert!(size.len() == 1, "{size}");
    let mut lies = bytes.clone();
    lies[lied + 8] ^= 1;
    for (name, bytes, expected) in [
        ("cut", &bytes[..bytes.len() / 2], "it was cut"),
        ("flipped", &flipped, "keyward.db was changed"),
        ("empty", &bytes[..0], "it is no backup of Keyward's"),
        ("text", b"hello".as_slice(), "it is no backup of Keyward's"),
        ("lies", &lies, "not the one that its manifest tells of"),
    ] {
        let file = format!("{name}.backup");
        shell.write(&file, bytes);
        let told = verify(&shell, &file).failed();
        assert!(told.contains(expected), "{name}: {told}");
        shell
            .run(&["restore", "--from", &file, "--data-dir", "new"])
            .failed();
        assert!(!shell.path("new").exists(), "{name}");
    }
    let other = Shell::initialised();
    std::fs::copy(other.path("data/keyward.key"), shell.path("other.key")).unwrap();
    let wrong = [
        "restore",
        "--verify",
        "--from",
        "good.backup",
        "--key-file",
        "other.key",
    ];
    let told = shell.run(&wrong).failed();
    assert!(told.contains("the backup is sealed under the key"), "{told}");
    let over = shell
        .run(&["restore", "--from", "good.backup", "--data-dir", "data"])
        .failed();
    assert!(over.contains("is not overwritten"), "{over}");
}

/// Makes a backup of a database that somebody has written into.
fn tampered(shell: &Shell, sql: &str, file: &str) -> String {
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute_batch(sql).unwrap();
    drop(database);
    backup(shell, file);
    verify(shell, file).failed()
}

#[test]
fn what_was_changed_in_the_database_before_the_backup_is_named() {
    let (shell, server) = served(5);
    release(&server, &platform()).ok();
    assert_eq!(server.stop().0, 0);
    std::fs::copy(shell.path("data/keyward.key"), shell.path("key")).unwrap();
    std::fs::copy(shell.path("data/keyward.db"), shell.path("good.db")).unwrap();
    let unguarded =
        "DROP TRIGGER audit_leaves_are_never_changed; DROP TRIGGER audit_leaves_are_never_deleted;";
    for (name, sql, expected) in [
        (
            "record",
            "UPDATE audit_leaves SET record = replace(record, 'disk', 'disc') WHERE idx = 4",
            "record 4 of the audit log was changed",
        ),
        (
            "leaf",
            "UPDATE audit_leaves SET record = NULL, hash = zeroblob(32) WHERE idx = 4",
            "records of the audit log are not those that were signed",
        ),
        (
            "gone",
            "DELETE FROM audit_leaves WHERE idx = 4",
            "record 4 of the audit log is missing",
        ),
        (
            "secret",
            "UPDATE secrets SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB)",
            "secret disk version 1 of acme does not open",
        ),
        (
            "moved",
            "UPDATE secrets SET version = 2",
            "secret disk version 2 of acme does not open",
        ),
    ] {
        std::fs::copy(shell.path("good.db"), shell.path("data/keyward.db")).unwrap();
        let told = tampered(&shell, &format!("{unguarded}{sql}"), &format!("{name}.backup"));
        assert!(told.contains(expected), "{name}: {told}");
    }
}

/// The commands of the page's drill, block by block.
fn drill() -> Vec<String> {
    let page = std::fs::read_to_string(format!("{}/docs/backup.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let section = page
        .split("## A drill\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match line.strip_prefix("    ") {
            Some(command) => blocks.last_mut().unwrap().push_str(&format!("{command}\n")),
            None if blocks.last().unwrap().is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn the_drill_works_as_it_is_written() {
    let (mut shell, server) = served(3);
    let folder = Path::new(KEYWARD).parent().unwrap().display();
    shell.set("PATH", &format!("{folder}:{}", std::env::var("PATH").unwrap()));
    let run = |shell: &Shell, script: &str| {
        let script = format!("set -eu\nexec 2>&1\n{script}");
        let ran = ran(shell.command("bash").args(["-c", &script]));
        assert_eq!(ran.code, 0, "{script}\n{}", ran.out);
        ran.out
    };
    let platform = platform();
    let drill = drill();
    let [take, put_back, accept, limits] = drill.as_slice() else {
        panic!("{drill:#?}")
    };
    release(&server, &platform).ok();
    let waiting = begin(&server, &platform);
    let told = run(&shell, take);
    assert!(told.contains("The backup is whole."), "{told}");
    assert!(
        told.contains("all 3 open"),
        "a secret, a launch and the log's key: {told}"
    );
    release(&server, &platform).ok();
    assert_eq!(server.stop().0, 0);

    run(&shell, put_back);
    let told = refused(&shell, &[]);
    assert!(told.contains("the database was rolled back"), "{told}");
    assert!(told.contains("--accept-rollback"), "{told}");
    assert_eq!(accept, "keyward serve --data-dir data --accept-rollback\n");
    let server = shell.serve(&["--accept-rollback"]);
    shell.set("KEYWARD_SERVER", &server.url);
    assert_eq!(ask(&server, &waiting).status, 410, "what waited is ended");
    release(&server, &platform).expect(403, "confirmation-required");
    let told = run(&shell, limits);
    assert!(told.contains("1 or more"), "{told}");
    release(&server, &platform).ok();
    release(&server, &platform).expect(403, "confirmation-required");
    assert_eq!(server.stop().0, 0);

    // It is on the record, and the log goes on outside from what was accepted.
    let log = shell.run(&["audit", "export", "--data-dir", "data"]).done();
    assert!(log.contains("\"kind\":\"rollback-accepted\""), "{log}");
    let told = refused(&shell, &["--accept-rollback"]);
    assert!(told.contains("there is no rollback to accept"), "{told}");
    let server = shell.serve(&[]);
    shell.set("KEYWARD_SERVER", &server.url);
    release(&server, &platform).expect(403, "confirmation-required");
    let limits = shell.run(&["limits", "list", "-o", "json"]).json();
    let own = limits["items"].as_array().unwrap().iter();
    let own = own.filter(|item| item["binding"]["kind"] == "secret");
    let own: Vec<_> = own.map(|item| (&item["released"], &item["unknown"])).collect();
    assert_eq!(own, [(&json!(3), &Value::Null)]);
}

#[test]
fn a_database_that_contradicts_a_checkpoint_outside_is_never_served() {
    let (shell, server) = served(9);
    let platform = platform();
    backup(&shell, "old.backup");
    release(&server, &platform).ok();
    assert_eq!(server.stop().0, 0);
    let outside = shell.read("outside.txt");

    // Another history of the same log, longer than what was seen, and one that is shorter.
    restored(&shell, "old.backup");
    shell.write("data/keyward.yaml", CONFIG);
    let server = shell.serve(&[]);
    for _ in 0..4 {
        release(&server, &platform).ok();
    }
    assert_eq!(server.stop().0, 0);
    shell.write("data/keyward.yaml", format!("{CONFIG}{OUTSIDE}"));
    backup(&shell, "fork.backup");
    for arguments in [&[][..], &["--accept-rollback"]] {
        let told = refused(&shell, arguments);
        assert!(told.contains("its log was rewritten"), "{told}");
        assert!(told.contains("no option lets it be served"), "{told}");
    }
    assert_eq!(shell.read("outside.txt"), outside, "nothing was signed for it");

    // The true history went further than the fork: its notes that are not beyond the fork tell.
    restored(&shell, "old.backup");
    shell.write(
        "outside.txt",
        shell.run(&["audit", "checkpoint", "--data-dir", "data"]).done(),
    );
    let server = shell.serve(&[]);
    for _ in 0..3 {
        release(&server, &platform).ok();
    }
    assert_eq!(server.stop().0, 0);
    for _ in 0..4 {
        assert_eq!(shell.serve(&[]).stop().0, 0);
    }
    restored(&shell, "fork.backup");
    for arguments in [&[][..], &["--accept-rollback"]] {
        let told = refused(&shell, arguments);
        assert!(told.contains("no option lets it be served"), "{told}");
    }

    // Another server's log.
    let other = Shell::initialised();
    other.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\naudit: {checkpoint_file: ../outside.txt}\n",
    );
    assert_eq!(other.serve(&[]).stop().0, 0);
    std::fs::copy(other.path("outside.txt"), shell.path("outside.txt")).unwrap();
    let told = refused(&shell, &["--accept-rollback"]);
    assert!(told.contains("no option lets it be served"), "{told}");
}

#[test]
fn a_second_rollback_is_told_from_the_history_that_was_given_up() {
    let (shell, server) = served(9);
    let platform = platform();
    backup(&shell, "old.backup");
    for _ in 0..3 {
        release(&server, &platform).ok();
    }
    assert_eq!(server.stop().0, 0);
    restored(&shell, "old.backup");
    let server = shell.serve(&["--accept-rollback"]);
    backup(&shell, "later.backup");
    release(&server, &platform).expect(403, "confirmation-required");
    assert_eq!(server.stop().0, 0);
    restored(&shell, "later.backup");
    let told = refused(&shell, &[]);
    assert!(told.contains("the database was rolled back"), "{told}");
    assert_eq!(shell.serve(&["--accept-rollback"]).stop().0, 0);
    assert_eq!(shell.serve(&[]).stop().0, 0);
    // The first copy again, from before anything was accepted.
    restored(&shell, "old.backup");
    let told = refused(&shell, &[]);
    assert!(told.contains("the database was rolled back"), "{told}");
    assert_eq!(shell.serve(&["--accept-rollback"]).stop().0, 0);
}

#[test]
fn without_checkpoints_outside_a_restored_folder_says_what_is_not_known() {
    let (shell, server) = served(2);
    let platform = platform();
    shell.write("data/keyward.yaml", CONFIG);
    backup(&shell, "old.backup");
    assert_eq!(server.stop().0, 0);
    restored(&shell, "old.backup");
    let server = shell.serve(&[]);
    release(&server, &platform).ok();
    let (code, log) = server.stop();
    assert_eq!(code, 0);
    assert!(
        log.contains("this data folder was restored from a backup of"),
        "{log}"
    );
    let server = shell.serve(&["--accept-rollback"]);
    release(&server, &platform).expect(403, "confirmation-required");
    let (_, log) = server.stop();
    assert!(
        log.contains("an older copy of the database was accepted"),
        "{log}"
    );
    let (_, log) = shell.serve(&[]).stop();
    assert!(!log.contains("was restored from a backup"), "{log}");
}

#[test]
fn a_restored_copy_that_does_not_look_old_is_accepted_as_one_where_a_person_says_so() {
    let (shell, server) = served(9);
    let platform = platform();
    release(&server, &platform).ok();
    assert_eq!(server.stop().0, 0);
    backup(&shell, "new.backup");
    restored(&shell, "new.backup");
    shell.write("data/keyward.yaml", format!("{CONFIG}{OUTSIDE}"));
    let server = shell.serve(&["--accept-rollback"]);
    let held = release(&server, &platform).expect(403, "confirmation-required");
    assert!(held.body["hold"].is_string(), "{}", held.body);
    assert_eq!(server.stop().0, 0);
    // Once is enough, and again there is nothing to accept.
    let told = refused(&shell, &["--accept-rollback"]);
    assert!(told.contains("there is no rollback to accept"), "{told}");
    assert_eq!(shell.serve(&[]).stop().0, 0);
}

#[test]
fn a_connection_of_a_guest_does_not_outlive_a_restore() {
    let (shell, server) = served(9);
    assert_eq!(server.stop().0, 0);
    let listener = "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web]}\n";
    shell.write("data/keyward.yaml", format!("{CONFIG}{listener}"));
    let client_of = |server: &Server| {
        let told = server.before.trim_end();
        Kbs::at(
            told.strip_prefix("simple-kbs clients of acme are served on http://")
                .unwrap(),
        )
    };
    let wanted = [asked(&guid(1), "binary", "key", "disk")];
    let server = shell.serve(&[]);
    let kbs = client_of(&server);
    let client = kbs.connected(&platform());
    kbs.online(&client, &wanted).unwrap();
    backup(&shell, "open.backup");
    kbs.online(&client, &wanted).unwrap();
    assert_eq!(server.stop().0, 0);
    restored(&shell, "open.backup");
    let server = shell.serve(&[]);
    let kbs = client_of(&server);
    assert_eq!(kbs_refused(kbs.online_raw(&client.id, &wanted)), denied());
    kbs.connected(&platform());
    assert_eq!(server.stop().0, 0);
}
