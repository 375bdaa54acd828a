//! `keyward doctor`: what is well is said to be, and each thing that is wrong is found, with what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::Shell;

/// What was found.
pub(crate) struct Found {
    pub(crate) code: i32,
    checks: Vec<Value>,
}

impl Found {
    /// Outcome and text of a check.
    #[track_caller]
    pub(crate) fn of(&self, check: &str) -> (&str, String) {
        let found: Vec<_> = self
            .checks
            .iter()
            .filter(|found| found["check"] == check)
            .collect();
        assert_eq!(found.len(), 1, "{check}: {:#?}", self.checks);
        let text = |name: &str| found[0][name].as_str().unwrap_or_default();
        (
            text("outcome"),
            format!("{} | {}", text("detail"), text("advice")),
        )
    }

    #[track_caller]
    pub(crate) fn expect(&self, check: &str, outcome: &str, parts: &[&str]) {
        let (came, text) = self.of(check);
        assert_eq!(came, outcome, "{check}: {text}");
        for part in parts {
            assert!(text.contains(part), "{check}: {text}");
        }
    }

    fn with(&self, outcome: &str) -> Vec<&str> {
        let found = self.checks.iter().filter(|found| found["outcome"] == outcome);
        found.map(|found| found["check"].as_str().unwrap()).collect()
    }
}

#[track_caller]
pub(crate) fn doctor(shell: &Shell, arguments: &[&str]) -> Found {
    let mut all = vec!["doctor", "--data-dir", "data", "-o", "json"];
    all.extend(arguments);
    let ran = shell.run(&all);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    let found = Found {
        code: ran.code,
        checks: report["checks"].as_array().unwrap().clone(),
    };
    assert_eq!(
        found.code,
        i32::from(!found.with("failed").is_empty()),
        "{report:#}"
    );
    found
}

fn sql(shell: &Shell, text: &str) {
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    database.execute_batch(text).unwrap();
}

fn chmod(shell: &Shell, name: &str, mode: u32) {
    std::fs::set_permissions(shell.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn contents(shell: &Shell) -> Vec<(String, Vec<u8>)> {
    let names = shell.list("data").into_iter();
    let read = |name: String| {
        let bytes = std::fs::read(shell.path("data").join(&name)).unwrap();
        (name, bytes)
    };
    names.map(read).collect()
}

/// The checks that a folder without TLS has.
const ALL: [&str; 19] = [
    "configuration",
    "environment",
    "plaintext",
    "trust roots",
    "data folder",
    "disk",
    "owner",
    "schema",
    "database",
    "keys",
    "sealed values",
    "audit log",
    "clock",
    "start",
    "checkpoints outside",
    "port",
    "network",
    "policy workers",
    "randomness",
];

#[test]
fn a_new_folder_is_well_and_stays_as_it_is() {
    let shell = Shell::initialised();
    let before = contents(&shell);
    let found = doctor(&shell, &[]);
    assert_eq!((found.code, found.with("failed")), (0, vec![]));
    for check in ALL {
        found.of(check);
    }
    found.expect("sealed values", "ok", &["all 1 open"]);
    found.expect(
        "audit log",
        "ok",
        &["records, which continue each of 0 signed checkpoints"],
    );
    found.expect(
        "checkpoints outside",
        "warning",
        &["audit.checkpoint_file is not set"],
    );
    assert!(contents(&shell) == before, "something was changed");

    let table = shell.run(&["doctor", "--data-dir", "data"]);
    assert_eq!(table.code, 0, "{}", table.err);
    let lines: Vec<_> = table.out.lines().collect();
    assert!(
        lines[0].starts_with("ok       configuration        data/keyward.yaml"),
        "{}",
        table.out
    );
    let last = lines.last().unwrap();
    assert!(last.contains(" checks: no failures, "), "{last}");
    assert_eq!(table.out.matches('\u{1b}').count(), 0, "no colours in a pipe");
}

#[test]
fn it_works_while_a_server_runs_and_says_whether_that_is_ready() {
    let shell = Shell::initialised();
    let server = shell.serve(&[]);
    let found = doctor(&shell, &["--server", &server.url]);
    found.expect("server", "ok", &["/readyz: ready"]);
    assert_eq!(found.with("failed"), [""; 0]);
    assert_eq!(server.send("GET", "/readyz", &[], b"").0, 200);

    // By the configured port, too, over whatever it speaks.
    let config = |listen: &str| {
        shell.write(
            "data/keyward.yaml",
            format!("listen: {listen}\nkds: {{url: ''}}\n"),
        )
    };
    config(server.address());
    doctor(&shell, &[]).expect("port", "ok", &["/readyz: ready"]);
    let address = server.address().to_owned();
    assert_eq!(server.stop().0, 0);
    doctor(&shell, &[]).expect("port", "ok", &[&address, "is free"]);
    let found = doctor(&shell, &["--server", &format!("http://{address}")]);
    assert_eq!(found.code, 1);
    found.expect("server", "failed", &["/readyz: "]);

    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    config(&other.local_addr().unwrap().to_string());
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        // Once it is only looked whether somebody listens.
        for _ in 0..2 {
            let (mut stream, _) = other.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        }
    });
    let found = doctor(&shell, &[]);
    found.expect(
        "port",
        "failed",
        &["status 200, which is no answer of Keyward", "choose another port"],
    );
    answering.join().unwrap();
    config("192.0.2.1:8443");
    doctor(&shell, &[]).expect("port", "failed", &["192.0.2.1 is no address of this machine"]);
}

#[test]
fn a_folder_or_a_key_that_is_open_to_others_is_found() {
    let shell = Shell::initialised();
    chmod(&shell, "data", 0o750);
    let found = doctor(&shell, &[]);
    assert_eq!(found.code, 0, "a warning is no failure");
    found.expect("data folder", "warning", &["mode 0750", "chmod 700 data"]);
    chmod(&shell, "data", 0o777);
    doctor(&shell, &[]).expect(
        "data folder",
        "failed",
        &["writable by others (mode 0777)", "chmod 700 data"],
    );
    chmod(&shell, "data", 0o700);

    chmod(&shell, "data/keyward.key", 0o640);
    let found = doctor(&shell, &[]);
    found.expect(
        "keys",
        "failed",
        &["open to others (mode 0640)", "chmod 600 data/keyward.key"],
    );
    found.expect("sealed values", "skipped", &[]);
    chmod(&shell, "data/keyward.key", 0o600);
    std::fs::rename(shell.path("data/keyward.key"), shell.path("away")).unwrap();
    doctor(&shell, &[]).expect("keys", "failed", &["is missing", "keyward keys recover"]);
    doctor(&shell, &["--key-file", "away"]).expect("keys", "ok", &["away"]);
    shell.run(&["init", "--data-dir", "other", "--owner", "b"]).done();
    let found = doctor(&shell, &["--key-file", "other/keyward.key"]);
    found.expect(
        "keys",
        "failed",
        &["is not the key that this data folder was made with"],
    );
}

#[test]
fn a_key_that_was_moved_is_found_and_the_configuration_is_to_say_so() {
    let shell = Shell::initialised();
    let config = "listen: 127.0.0.1:0\nkds: {url: ''}\nkey_file: keyward.key\n";
    shell.write("data/keyward.yaml", config);
    let to = "{file: moved.key}";
    shell
        .run(&["keys", "rotate", "--data-dir", "data", "--to", to])
        .done();
    let found = doctor(&shell, &[]);
    assert_eq!(found.code, 0, "a server starts on it");
    found.expect(
        "keys",
        "warning",
        &[
            "moved.key, and the configuration names data/keyward.key",
            "say so",
        ],
    );
    found.expect("sealed values", "ok", &["all 1 open"]);
    found.expect("start", "ok", &[]);
}

#[test]
fn what_is_missing_leads_to_init() {
    let shell = Shell::new();
    doctor(&shell, &[]).expect("data folder", "failed", &["data: No such file", "keyward init"]);
    std::fs::create_dir(shell.path("data")).unwrap();
    let found = doctor(&shell, &[]);
    found.expect(
        "database",
        "failed",
        &["keyward.db: No such file", "keyward init --data-dir data"],
    );
    // What does not need it is looked at all the same.
    found.expect("policy workers", "ok", &[]);
}

#[test]
fn a_configuration_that_is_not_understood_is_told_and_the_rest_is_looked_at() {
    let shell = Shell::initialised();
    shell.write("data/keyward.yaml", "listen: 127.0.0.1:0\nlogg: info\n");
    let found = doctor(&shell, &[]);
    found.expect(
        "configuration",
        "failed",
        &["data/keyward.yaml:2:1: unknown key `logg`", "config.schema.json"],
    );
    found.expect("sealed values", "ok", &["all 1 open"]);
    found.expect("policy workers", "ok", &[]);
}

#[test]
fn every_variable_that_is_no_key_is_named() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LISTENER", "127.0.0.1:0");
    shell.set("KEYWARD_LAUNCH__TRIES", "3");
    shell.set("KEYWARD_LOG", "info");
    let found = doctor(&shell, &[]);
    let parts = [
        "KEYWARD_LISTENER: unknown key",
        "KEYWARD_LAUNCH__TRIES: unknown key",
        "unset it",
    ];
    found.expect("environment", "failed", &parts);
    assert!(!found.of("environment").1.contains("KEYWARD_LOG:"));
}

#[test]
fn dangers_are_listed() {
    let shell = Shell::initialised();
    let platform = crate::support::platform();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 0.0.0.0:0\ndanger_plaintext_http: true\nkds: {url: ''}\ndanger_extra_roots: [{name: lab, file: ark.cert}]\n",
    );
    let found = doctor(&shell, &[]);
    assert_eq!(found.code, 0);
    found.expect("plaintext", "warning", &["listen 0.0.0.0:0", "reads tokens"]);
    found.expect(
        "trust roots",
        "warning",
        &["lab (data/ark.cert) for the only owner", "danger_extra_roots"],
    );
    shell.write("data/keyward.yaml", "listen: 0.0.0.0:0\nkds: {url: ''}\n");
    doctor(&shell, &[]).expect(
        "plaintext",
        "failed",
        &["no TLS: listen 0.0.0.0:0", "configure `tls`"],
    );
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: lab, file: nowhere}]\n",
    );
    doctor(&shell, &[]).expect("start", "failed", &["danger_extra_roots: lab (data/nowhere)"]);
}

#[test]
fn a_database_that_is_damaged_or_of_another_schema_is_found() {
    let shell = Shell::initialised();
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    let get = "SELECT sealed FROM audit_log_key";
    let mut sealed: Vec<u8> = database.query_row(get, [], |row| row.get(0)).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    database
        .execute("UPDATE audit_log_key SET sealed = ?1", [sealed])
        .unwrap();
    drop(database);
    let found = doctor(&shell, &[]);
    found.expect(
        "sealed values",
        "failed",
        &["1 of 1 do not open", "keyward keys check"],
    );

    let shell = Shell::initialised();
    sql(&shell, "PRAGMA user_version = 99");
    let found = doctor(&shell, &[]);
    found.expect("database", "failed", &["schema 99", "use the newer keyward"]);

    let shell = Shell::initialised();
    sql(
        &shell,
        "PRAGMA foreign_keys = OFF; INSERT INTO secrets (owner, name, version, document, sealed) VALUES ('nobody', 'x', 1, '{}', x'00')",
    );
    let found = doctor(&shell, &[]);
    found.expect(
        "database",
        "failed",
        &[
            "damaged: a row of secrets names a row of owners",
            "keyward restore --verify",
        ],
    );
}

#[test]
fn an_audit_log_that_was_changed_or_comes_from_the_future_is_found() {
    let shell = Shell::initialised();
    drop(shell.serve(&[]));
    sql(
        &shell,
        "DROP TRIGGER audit_leaves_are_never_changed; UPDATE audit_leaves SET record = replace(record, '\"time\":\"20', '\"time\":\"30')",
    );
    let found = doctor(&shell, &[]);
    found.expect(
        "audit log",
        "failed",
        &["of the audit log was changed", "by whom"],
    );
    found.expect(
        "clock",
        "failed",
        &["the newest record is of 30", "set the clock"],
    );
}

#[test]
fn checkpoints_outside_tell_of_a_rollback() {
    let shell = Shell::initialised();
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\naudit: {checkpoint_file: ../seen}\n",
    );
    assert_eq!(shell.serve(&[]).stop().0, 0);
    doctor(&shell, &[]).expect("checkpoints outside", "ok", &["continues the last of"]);
    std::fs::copy(shell.path("data/keyward.db"), shell.path("older")).unwrap();
    assert_eq!(shell.serve(&[]).stop().0, 0);
    std::fs::copy(shell.path("older"), shell.path("data/keyward.db")).unwrap();
    let found = doctor(&shell, &[]);
    found.expect(
        "checkpoints outside",
        "failed",
        &["rolled back", "--accept-rollback"],
    );
    std::fs::remove_file(shell.path("seen")).unwrap();
    doctor(&shell, &[]).expect("checkpoints outside", "failed", &["seen: No such file"]);
}

#[test]
fn what_the_server_asks_is_asked_only_if_that_is_wanted() {
    let shell = Shell::initialised();
    let server = shell.serve(&[]);
    let config = |url: &str| {
        let text = format!("listen: 127.0.0.1:0\nkds: {{url: '{url}'}}\n");
        shell.write("data/keyward.yaml", text);
    };
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    config(&format!("http://{gone}"));
    let found = doctor(&shell, &[]);
    assert_eq!(found.code, 0);
    found.expect("network", "skipped", &["--network"]);
    doctor(&shell, &["--network"]).expect("kds", "failed", &[&gone.to_string(), "open the way out"]);
    config(&server.url);
    doctor(&shell, &["--network"]).expect("kds", "ok", &["answers"]);
}

#[test]
fn a_unit_is_held_against_what_the_server_does() {
    let shell = Shell::initialised();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/keyward.service");
    doctor(&shell, &["--unit", shipped]).expect("unit", "ok", &["fits"]);
    shell.write("own.service", "[Service]\nType=exec\nTimeoutStopSec=5\n");
    let found = doctor(&shell, &["--unit", "own.service"]);
    let hints = ["Type=notify", "WatchdogSec=", "ExecReload=", "TimeoutStopSec=20"];
    found.expect("unit", "warning", &hints);
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\nshutdown_seconds: 120\n",
    );
    doctor(&shell, &["--unit", shipped]).expect("unit", "warning", &["TimeoutStopSec=130"]);
}

#[test]
fn what_a_policy_worker_needs_is_tried() {
    let shell = Shell::initialised();
    doctor(&shell, &[]).expect("policy workers", "ok", &["512 MiB"]);
    // A shell that lets no process have as much memory as a worker needs at its start.
    let script = format!(
        "ulimit -v 120000; exec {} doctor --data-dir data -o json",
        crate::support::cli::KEYWARD
    );
    let ran = crate::support::cli::ran(shell.command("sh").args(["-c", &script]));
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    let workers = report["checks"].as_array().unwrap().iter();
    let workers = workers
        .clone()
        .find(|check| check["check"] == "policy workers")
        .unwrap();
    assert_eq!(
        (ran.code, &workers["outcome"]),
        (1, &Value::from("failed")),
        "{report:#}"
    );
}
