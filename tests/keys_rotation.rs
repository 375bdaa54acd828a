//! Keys are rotated while the server serves, and whatever is killed meanwhile: no secret is lost, and the old key ends.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keyward::domain::sealed::{KeyState, SealedAt};
use keyward::sealing::{Place, SealError, Sealer, key_file};
use keyward::sev::{Random as _, SystemRandom};
use keyward::store::SqlStore;
use keyward::store::keys::Keys as _;
use serde_json::Value;

use crate::crash::Waiting;
use crate::support::cli::{KEYWARD, Ran};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest};
use crate::support::server::{Host, Server};
use crate::support::{Shell, ca, platform};

/// Secrets that nobody asks for, beside the one that guests are given.
pub(crate) const SECRETS: usize = 300;

/// So many of them have two versions.
const OLDER: usize = 9;

fn value(number: usize) -> String {
    format!("the value of secret number {number}")
}

/// A data folder with many secrets, and a workload that is given one of them.
pub(crate) fn prepared() -> Shell {
    let shell = Shell::initialised();
    shell.write("data/test.ark", ca().ark().as_bytes());
    shell.write(
        "data/keyward.yaml",
        "log: warn\nlisten: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: test.ark}]\n",
    );
    shell.write("policy/release/any.rego", ALLOW);
    let mut manifest = format!(
        "kind: PolicyBundle\npath: policy\n---\n\
         kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
         kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\n\
         launch_digests: [{}]\nsecrets: [disk]\n",
        digest(IMAGE)
    );
    for number in 0..SECRETS {
        shell.write(&format!("values/{number}"), value(number));
        manifest.push_str(&format!(
            "---\nkind: Secret\nname: s{number}\ntype: luks-passphrase\nvalue: {{file: values/{number}}}\n\
             policies: [release.any]\n"
        ));
    }
    shell.write("m.yaml", manifest);
    let server = Server::start(&shell.path("data"));
    let apply = |file| {
        let arguments = [
            "apply",
            "-f",
            file,
            "--token-file",
            "token",
            "--server",
            &server.base,
        ];
        shell.run(&arguments).done()
    };
    apply("m.yaml");
    // A few have an earlier version.
    let manifest: Vec<_> = (0..OLDER)
        .map(|number| {
            shell.write(&format!("values/{number}"), value(SECRETS + number));
            format!(
                "kind: Secret\nname: s{number}\ntype: luks-passphrase\nvalue: {{file: values/{number}}}\n\
                 policies: [release.any]\n"
            )
        })
        .collect();
    shell.write("newer.yaml", manifest.join("---\n"));
    apply("newer.yaml");
    drop(server);
    shell
}

fn rotate(shell: &Shell, more: &[&str]) -> Ran {
    let all = [&["keys", "rotate", "--data-dir", "data", "-o", "json"], more].concat();
    shell.run(&all)
}

fn check(shell: &Shell) -> Value {
    shell
        .run(&["keys", "check", "--data-dir", "data", "-o", "json"])
        .json()
}

pub(crate) fn store(shell: &Shell) -> SqlStore {
    SqlStore::open(&shell.path("data"), false).unwrap()
}

/// The keys of a key file, each by itself.
fn sealers(shell: &Shell, file: &str) -> Vec<Sealer> {
    let keys = key_file::read(&shell.path(file)).unwrap().into_iter();
    keys.map(Sealer::new).collect()
}

/// Every secret has its value, by the one key that is in the file.
fn every_secret_opens(shell: &Shell) {
    let sealer = sealers(shell, "data/keyward.key").pop().unwrap();
    let (mut after, mut seen) = ((0, 0), 0);
    let store = store(shell);
    loop {
        let values = store.sealed_values(after, None, 100).unwrap();
        let Some(last) = values.last() else { break };
        after = last.cursor;
        for found in values {
            let opened = sealer.open(Place::from(&found.at), &found.sealed).unwrap();
            let SealedAt::Secret { name, version, .. } = found.at else {
                continue;
            };
            let expected = match name.as_str().strip_prefix('s') {
                Some(number) => {
                    let newer = if version == 2 { SECRETS } else { 0 };
                    value(newer + number.parse::<usize>().unwrap())
                }
                None => "hunter2".to_owned(),
            };
            assert_eq!(opened.as_slice(), expected.as_bytes(), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, SECRETS + OLDER + 1);
}

#[test]
fn a_rotation_under_a_running_server_leaves_nothing_under_the_old_key_and_refuses_it() {
    let shell = prepared();
    let host = Host::new(shell.read("token").trim());
    let server = Server::start(&shell.path("data"));
    let waiting = Waiting::start(&host, &server.base, &platform()).unwrap();
    let answered = Waiting::start(&host, &server.base, &platform()).unwrap();
    let answer = answered.validate(&host, &server.base).unwrap().ok().body;
    let before = check(&shell);
    assert_eq!(before["keys"].as_array().unwrap().len(), 1);
    let old_blob: Vec<u8> = store(&shell)
        .sealed_values((0, 0), None, 1)
        .unwrap()
        .remove(0)
        .sealed;

    let rotated = rotate(&shell, &["--old-key-out", "old.key"]).json();
    assert_eq!(rotated["retired"], serde_json::json!([before["keys"][0]["id"]]));
    assert_eq!(
        rotated["rewrapped"],
        SECRETS + OLDER + 4,
        "secrets, keys of a launch, an answer, the audit log's key"
    );
    let after = check(&shell);
    let kinds = ["secrets", "launch_keys", "answers", "audit_log_keys"];
    let count = |key: &Value| kinds.map(|kind| key[kind].as_u64().unwrap());
    let keys = after["keys"].as_array().unwrap();
    assert_eq!(
        (keys[0]["state"].as_str(), count(&keys[0])),
        (Some("retired"), [0, 0, 0, 0])
    );
    assert_eq!(keys[1]["state"].as_str(), Some("active"));
    assert_eq!(count(&keys[1]), [(SECRETS + OLDER) as u64 + 1, 1, 1, 1]);
    assert_eq!(after["damaged"], serde_json::json!([]));

    // The server that ran all the time: what waited, what was answered, and what is new.
    let given = waiting.validate(&host, &server.base).unwrap().ok();
    assert_eq!(waiting.vm.unwrap(&given)[0].1, b"hunter2");
    assert_eq!(answered.validate(&host, &server.base).unwrap().ok().body, answer);
    let new = Waiting::start(&host, &server.base, &platform()).unwrap();
    assert_eq!(
        new.vm.unwrap(&new.validate(&host, &server.base).unwrap().ok())[0].1,
        b"hunter2"
    );
    every_secret_opens(&shell);

    // The old key opens nothing, and what it sealed neither comes in again nor is opened.
    let [old] = &sealers(&shell, "old.key")[..] else {
        panic!("not one key")
    };
    let active = store(&shell).sealed_values((0, 0), None, 1).unwrap().remove(0);
    let refused = old.open(Place::from(&active.at), &active.sealed).unwrap_err();
    assert!(matches!(refused, SealError::OtherKey { .. }), "{refused}");
    assert_eq!(
        old.open(Place::from(&active.at), &old_blob).unwrap().as_slice(),
        b"hunter2"
    );
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    let put_back = || database.execute("UPDATE secrets SET sealed = ?1 WHERE name = 'disk'", [&old_blob]);
    let refused = put_back().unwrap_err().to_string();
    assert_eq!(refused, "sealed under a retired key");
    database
        .execute_batch("DROP TRIGGER secrets_updated_under_a_key")
        .unwrap();
    put_back().unwrap();
    let checked = shell.run(&["keys", "check", "--data-dir", "data"]);
    assert_eq!(checked.code, 1);
    let told = format!(
        "Damaged: secret disk version 1 of acme: sealed under the key {}, which was retired",
        before["keys"][0]["id"].as_str().unwrap()
    );
    assert!(checked.out.contains(&told), "{}", checked.out);
    let late = Waiting::start(&host, &server.base, &platform()).unwrap();
    late.validate(&host, &server.base)
        .unwrap()
        .expect(503, "unavailable");
}

/// A rotation that is killed when at most so many values are left under the key that was active.
pub(crate) fn killed_rotation(shell: &Shell, left: usize, more: &[&str]) {
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let id = store(shell)
        .sealing_keys()
        .unwrap()
        .into_iter()
        .find(|key| key.state == KeyState::Active);
    let id = id.unwrap().id.0;
    let mut command = shell.command(KEYWARD);
    command
        .args(["keys", "rotate", "--data-dir", "data"])
        .args(more)
        .stdout(Stdio::null());
    let mut child: Child = command.spawn().unwrap();
    let count = || {
        let sql = "SELECT count(*) FROM secrets WHERE substr(sealed, 2, 8) = ?1";
        database.query_row(sql, [id], |row| row.get::<_, u32>(0)).unwrap()
    };
    while count() as usize > left && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn whatever_is_killed_during_rotations_under_load_every_secret_opens_and_the_old_keys_end() {
    let shell = prepared();
    let host = Host::new(shell.read("token").trim());
    let first = store(&shell).sealing_keys().unwrap().remove(0).id;
    let platforms: Vec<_> = (0..2).map(|_| platform()).collect();
    let given = AtomicUsize::new(0);
    for round in 0..8 {
        let mut random = [0; 2];
        SystemRandom.fill(&mut random).unwrap();
        // From «before anything happens» to «when all is done».
        let left = usize::from(u16::from_le_bytes(random)) % (SECRETS + 30);
        let kill_server = round % 2 == 1;
        println!("round {round}: killed at {left} left, the server too: {kill_server}");
        let mut server = Server::start(&shell.path("data"));
        let (base, over) = (server.base.clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (base, over, given, host) = (&base, &over, &given, &host);
                let platform = &platforms[number % 2];
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        let waiting = Waiting::start(host, base, platform);
                        let reply = waiting.as_ref().and_then(|waiting| waiting.validate(host, base));
                        match (&waiting, reply) {
                            (Some(waiting), Some(reply)) => {
                                assert_eq!(waiting.vm.unwrap(&reply.ok())[0].1, b"hunter2");
                                given.fetch_add(1, Ordering::SeqCst);
                            }
                            _ => assert!(kill_server, "a server that was not killed did not answer"),
                        }
                    }
                });
            }
            let killed = std::panic::catch_unwind(|| killed_rotation(&shell, left, &[]));
            if kill_server {
                server.kill();
            }
            over.store(true, Ordering::SeqCst);
            killed.unwrap();
        });
        assert_eq!(check(&shell)["damaged"], serde_json::json!([]), "round {round}");
    }
    assert!(given.load(Ordering::SeqCst) > 0, "no guest was given anything");
    // What was killed is finished, and once more from the start.
    rotate(&shell, &[]).done();
    rotate(&shell, &[]).done();
    let keys = store(&shell).sealing_keys().unwrap();
    let active: Vec<_> = keys.iter().filter(|key| key.state == KeyState::Active).collect();
    assert_eq!(active.len(), 1);
    assert!(
        keys.iter()
            .all(|key| key.id == active[0].id || key.state == KeyState::Retired)
    );
    assert!(
        keys.iter()
            .any(|key| key.id == first && key.state == KeyState::Retired)
    );
    assert_eq!(
        sealers(&shell, "data/keyward.key").len(),
        1,
        "retired keys are let go"
    );
    every_secret_opens(&shell);
}

#[test]
fn a_key_moves_to_another_file_and_back_and_the_server_follows() {
    let shell = prepared();
    let host = Host::new(shell.read("token").trim());
    let server = Server::start(&shell.path("data"));
    let moved = rotate(&shell, &["--to", "{file: safe.key}"]).json();
    assert_eq!(
        moved["location"],
        shell.path("safe.key").canonicalize().unwrap().to_str().unwrap()
    );
    assert!(
        !shell.path("data/keyward.key").exists(),
        "its only key was retired"
    );
    let waiting = Waiting::start(&host, &server.base, &platform()).unwrap();
    waiting.validate(&host, &server.base).unwrap().ok();
    drop(server);

    let server = Server::start(&shell.path("data"));
    rotate(&shell, &["--to", "{file: data/keyward.key}"]).done();
    let waiting = Waiting::start(&host, &server.base, &platform()).unwrap();
    waiting.validate(&host, &server.base).unwrap().ok();
    assert!(!shell.path("safe.key").exists());
    every_secret_opens(&shell);
}

#[test]
fn a_value_that_does_not_open_keeps_the_old_key_and_is_named() {
    let shell = prepared();
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    // In the wrapped data key, and in the value itself.
    let damage = "UPDATE secrets SET sealed =
                  CAST(substr(sealed, 1, ?2 - 1) || x'00000000' || substr(sealed, ?2 + 4) AS BLOB) WHERE name = ?1";
    for (name, at) in [("s17", 30), ("s18", 90)] {
        assert_eq!(database.execute(damage, (name, at)).unwrap(), 1);
    }
    let checked = shell.run(&["keys", "check", "--data-dir", "data", "-o", "json"]);
    assert_eq!(checked.code, 1);
    let told: Value = serde_json::from_str(&checked.out).unwrap();
    let named: Vec<_> = told["damaged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["value"].as_str())
        .collect();
    assert_eq!(
        named,
        [
            Some("secret s17 version 1 of acme"),
            Some("secret s18 version 1 of acme")
        ]
    );

    let rotated = rotate(&shell, &[]);
    assert_eq!(rotated.code, 1, "{}", rotated.err);
    let told: Value = serde_json::from_str(&rotated.out).unwrap();
    assert_eq!(
        (&told["retired"], told["damaged"].as_array().unwrap().len()),
        (&serde_json::json!([]), 1)
    );
    assert_eq!(sealers(&shell, "data/keyward.key").len(), 2, "the old key stays");
    database
        .execute("DELETE FROM secrets WHERE name = 's17'", [])
        .unwrap();
    let rotated = rotate(&shell, &[]).json();
    assert_eq!(rotated["resumed"], true);
    assert_eq!(rotated["retired"].as_array().unwrap().len(), 1);
}
