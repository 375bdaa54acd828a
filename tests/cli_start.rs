//! `serve` started wrong: one sentence that says what is wrong and what to do, exit 1, nothing served.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Shell;

/// What `serve` says, given that it ends at once with one sentence.
#[track_caller]
fn refused(shell: &Shell, arguments: &[&str]) -> String {
    let mut all = vec!["serve", "--data-dir", "data"];
    all.extend(arguments);
    let error = shell.run(&all).failed();
    assert_eq!(error.lines().count(), 1, "{error}");
    let folder = shell.path("").display().to_string();
    error.trim_end().replace(&folder, "")
}

fn chmod(shell: &Shell, name: &str, mode: u32) {
    std::fs::set_permissions(shell.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_taken_port_is_named_with_the_option_that_chooses_another() {
    let shell = Shell::initialised();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_eq!(
        refused(&shell, &["--listen", &address]),
        format!(
            "error: {address} is taken: stop the server that runs there, or choose another with --listen HOST:PORT"
        )
    );
}

#[test]
fn a_missing_or_empty_data_folder_leads_to_init() {
    let shell = Shell::new();
    assert_eq!(
        refused(&shell, &[]),
        "error: there is no data folder data: run `keyward init --data-dir data --owner NAME` first"
    );
    std::fs::create_dir(shell.path("data")).unwrap();
    assert_eq!(
        refused(&shell, &[]),
        "error: there is no database in data: run `keyward init --data-dir data --owner NAME` first"
    );
    assert_eq!(
        shell.list("data"),
        [""; 0],
        "serve makes nothing that it was not told to"
    );
}

#[test]
fn a_database_of_another_schema_or_program_is_refused_and_left_as_it_was() {
    let shell = Shell::initialised();
    let database = shell.path("data/keyward.db");
    let make = |sql: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        std::fs::read(&database).unwrap()
    };
    let before = make("PRAGMA journal_mode = DELETE; PRAGMA user_version = 99");
    assert_eq!(
        refused(&shell, &[]),
        "error: data/keyward.db: the database has schema 99, this keyward knows up to 13: use the newer keyward that wrote it"
    );
    assert_eq!(std::fs::read(&database).unwrap(), before);

    std::fs::remove_file(&database).unwrap();
    let before = make("CREATE TABLE songs (title TEXT)");
    let foreign = "error: data/keyward.db: the database is not Keyward's: give another --data-dir";
    assert_eq!(refused(&shell, &[]), foreign);
    assert_eq!(std::fs::read(&database).unwrap(), before);

    shell.write("data/keyward.db", "no database at all");
    assert_eq!(refused(&shell, &[]), foreign);
}

#[test]
fn a_key_file_that_can_t_be_trusted_or_used_says_what_to_do() {
    let shell = Shell::initialised();
    let key = shell.read("data/keyward.key");

    chmod(&shell, "data/keyward.key", 0o640);
    assert_eq!(
        refused(&shell, &[]),
        "error: key file data/keyward.key is open to others (mode 0640): run `chmod 600 data/keyward.key`"
    );

    std::fs::rename(shell.path("data/keyward.key"), shell.path("away")).unwrap();
    assert_eq!(
        refused(&shell, &[]),
        "error: key file data/keyward.key is missing: put it back from your escrow (`keyward keys recover`), or name it \
         with --key-file; without it no sealed secret can be opened"
    );

    for malformed in ["", "hunter2", "keyward-key-v1 c2hvcnQ=\n", &format!("{key}{key}")] {
        shell.write("data/keyward.key", malformed);
        chmod(&shell, "data/keyward.key", 0o600);
        assert_eq!(
            refused(&shell, &[]),
            "error: data/keyward.key is not a Keyward key file (a line for each key: `keyward-key-v1` and the key in base64)"
        );
    }

    shell.run(&["init", "--data-dir", "other", "--owner", "b"]).done();
    assert_eq!(
        refused(&shell, &["--key-file", "other/keyward.key"]),
        "error: other/keyward.key is not the key that this data folder was made with; name the right one with --key-file"
    );
    chmod(&shell, "away", 0o600);
    drop(shell.serve(&["--key-file", "away"]));
}

#[test]
fn a_configuration_that_is_not_understood_wholly_is_refused_with_its_place() {
    let shell = Shell::initialised();
    for (text, expected) in [
        (
            "listen: 127.0.0.1:0\nlogg: info\n",
            "2:1: unknown key `logg`, expected one of `listen`, `hosts`",
        ),
        (
            "launch:\n  lifetime: 9\n",
            "2:3: launch: unknown key `lifetime`, expected one of `lifetime_seconds`",
        ),
        ("kds:\n  url: [\n", "3:1: "),
        (
            "kds: {url: [1]}\n",
            "1:12: kds.url: invalid type: sequence, expected a string",
        ),
        ("kds: {url: \n", "2:1: "),
        ("launch: {max_tries: -1}\n", "1:21: launch.max_tries: invalid"),
        (
            "listen: here\n",
            "1:9: listen: expected an IP address and a port, such as 127.0.0.1:8443",
        ),
        (
            "- listen\n",
            "1:1: invalid type: sequence, expected keys, such as `listen: 127.0.0.1:8443`",
        ),
        ("tls: {certificate: a.pem}\n", "1:6: tls: missing key `key`"),
    ] {
        shell.write("data/keyward.yaml", text);
        let said = refused(&shell, &[]);
        let expected = format!("error: configuration data/keyward.yaml:{expected}");
        assert!(said.starts_with(&expected), "{text}: {said}");
    }
    for (text, expected) in [
        ("launch: {max_tries: 0}", "`launch.max_tries`: must be at least 1"),
        (
            "policy: {time_limit_ms: 60000}",
            "`policy.time_limit_ms`: must be 1 to 10000",
        ),
        (
            "kds: {url: 'http://kds.example'}",
            "`kds.url`: must be https://…; http:// is for a loopback address only",
        ),
        ("kds: {queue: 0}", "`kds.queue`: must be 1 to 4096"),
        (
            "log: infoo",
            "`log`: \"infoo\" is no level: expected off, error, warn, info, debug or trace",
        ),
        (
            "log: keyward=loud",
            "`log`: \"loud\" is no level: expected off, error, warn, info, debug or trace",
        ),
    ] {
        shell.write("data/keyward.yaml", text);
        assert_eq!(
            refused(&shell, &[]),
            format!("error: configuration key {expected}")
        );
    }
    assert_eq!(
        refused(&shell, &["--config", "nowhere.yaml"]),
        "error: configuration nowhere.yaml: No such file or directory (os error 2); name another with --config"
    );
}

#[test]
fn a_variable_that_names_no_key_or_has_no_fitting_value_is_refused_by_its_name() {
    for (name, value, expected) in [
        (
            "KEYWARD_LISTENER",
            "127.0.0.1:0",
            "unknown key `listener`, expected one of `listen`",
        ),
        (
            "KEYWARD_LAUNCH__TRIES",
            "3",
            "unknown key `tries`, expected one of `lifetime_seconds`",
        ),
        (
            "KEYWARD_LAUNCH__MAX_TRIES",
            "many",
            "invalid type: string \"many\", expected a whole number",
        ),
        (
            "KEYWARD_LISTEN",
            "here",
            "expected an IP address and a port, such as 127.0.0.1:8443",
        ),
        (
            "KEYWARD_LISTEN__PORT",
            "1",
            "`port` is not below a key that has keys",
        ),
        ("KEYWARD_TLS", "{", ""),
    ] {
        let mut shell = Shell::initialised();
        shell.set(name, value);
        let said = refused(&shell, &[]);
        assert!(
            said.starts_with(&format!("error: environment variable {name}: {expected}")),
            "{said}"
        );
    }
}

#[test]
fn the_flag_goes_before_the_variable_and_the_variable_before_the_file() {
    let mut shell = Shell::initialised();
    shell.write("data/keyward.yaml", "listen: 192.0.2.1:1\nkds: {url: ''}\n");
    assert!(refused(&shell, &[]).contains("192.0.2.1:1 is not a loopback address"));
    shell.set("KEYWARD_LISTEN", "192.0.2.2:1");
    assert!(refused(&shell, &[]).contains("192.0.2.2:1 is not a loopback address"));
    drop(shell.serve(&["--listen", "127.0.0.1:0"]));
}

#[test]
fn plain_http_is_for_loopback_unless_danger_is_named() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LISTEN", "0.0.0.0:0");
    assert_eq!(
        refused(&shell, &[]),
        "error: 0.0.0.0:0 is not a loopback address and there is no TLS: configure `tls`, or say \
         `danger_plaintext_http: true` if a proxy in front provides it"
    );
    shell.set("KEYWARD_DANGER_PLAINTEXT_HTTP", "true");
    drop(shell.serve(&[]));
}

#[test]
fn an_extra_root_that_is_no_ark_is_refused_by_its_name_and_file() {
    let shell = Shell::initialised();
    let platform = crate::support::platform();
    shell.write("data/cek.cert", platform.signed_cek());
    shell.write("data/ask.cert", platform.ask());
    shell.write("data/ark.cert", platform.ark());
    let with = |root: &str| {
        let text = format!("listen: 127.0.0.1:0\nkds: {{url: ''}}\ndanger_extra_roots:\n{root}");
        shell.write("data/keyward.yaml", text);
    };
    for (file, expected) in [
        ("nowhere", "No such file or directory (os error 2)"),
        (
            "cek.cert",
            "a CA certificate has 832 or 1600 bytes (an unsigned Naples ARK 576), not 2084",
        ),
        ("ask.cert", ""),
    ] {
        with(&format!("- {{name: lab, file: {file}}}\n"));
        let said = refused(&shell, &[]);
        let place = format!("error: danger_extra_roots: lab (data/{file}): {expected}");
        assert!(said.starts_with(&place), "{said}");
        println!("{said}");
    }
    // Relative to the configuration, not to where the server was started; and said at every start.
    with("- {name: lab, file: ark.cert}\n");
    let (code, text) = shell.serve(&[]).stop();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("trusting the extra root lab"), "{text}");
}

#[test]
fn a_data_folder_may_move() {
    let shell = Shell::initialised();
    std::fs::rename(shell.path("data"), shell.path("moved")).unwrap();
    std::os::unix::fs::symlink("moved", shell.path("data")).unwrap();
    drop(shell.serve(&[]));
}
