//! `init`: all of a data folder, or nothing; and never over what is there.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::Shell;

fn mode(shell: &Shell, name: &str) -> u32 {
    std::fs::metadata(shell.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_prints_where_everything_is_and_the_token_once() {
    let shell = Shell::new();
    let made = shell
        .run(&["init", "--data-dir", "data", "--owner", "acme", "-o", "json"])
        .json();
    let members: Vec<_> = made.as_object().unwrap().keys().collect();
    assert_eq!(members, ["data_dir", "key_file", "log_key", "owner", "token"]);
    assert_eq!(made["owner"], "acme");
    assert_eq!(made["data_dir"], "data");
    let key = shell.path("data/keyward.key").canonicalize().unwrap();
    assert_eq!(made["key_file"], key.to_str().unwrap());
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("kw_") && token.len() == 46, "{token}");
    assert_eq!(shell.list("data"), ["keyward.db", "keyward.key"]);
    for (name, expected) in [
        ("data", 0o700),
        ("data/keyward.db", 0o600),
        ("data/keyward.key", 0o600),
    ] {
        assert_eq!(mode(&shell, name), expected, "{name}");
    }
    let database = std::fs::read(shell.path("data/keyward.db")).unwrap();
    let found = database
        .windows(token.len())
        .any(|bytes| bytes == token.as_bytes());
    assert!(!found, "the database holds the token itself");
}

#[test]
fn people_are_told_what_to_do_next() {
    let shell = Shell::new();
    let told = shell
        .run(&["init", "--data-dir", "data", "--owner", "acme"])
        .done();
    assert!(told.contains("Keep a copy of the key file elsewhere"), "{told}");
    assert!(told.ends_with("Next: keyward serve --data-dir data\n"), "{told}");
}

#[test]
fn a_second_time_is_refused_and_changes_nothing() {
    let shell = Shell::initialised();
    let (key, token) = (shell.read("data/keyward.key"), shell.read("token"));
    let again = [
        "init",
        "--data-dir",
        "data",
        "--owner",
        "b",
        "--token-file",
        "token2",
    ];
    assert_eq!(
        shell.run(&again).failed(),
        "error: data is initialised already; nothing was changed\n"
    );
    assert_eq!(
        (shell.read("data/keyward.key"), shell.read("token")),
        (key, token)
    );
    assert_eq!(shell.list(""), ["data", "token"]);
}

#[test]
fn the_key_can_lie_elsewhere_and_serve_finds_it_there() {
    let mut shell = Shell::new();
    std::fs::create_dir(shell.path("safe")).unwrap();
    shell
        .run(&[
            "init",
            "--data-dir",
            "deep/down/data",
            "--owner",
            "acme",
            "--key-file",
            "safe/kek",
            "--token-file",
            "token",
        ])
        .done();
    assert_eq!(shell.list("deep/down/data"), ["keyward.db"]);
    assert_eq!((mode(&shell, "safe/kek"), mode(&shell, "token")), (0o600, 0o600));
    std::os::unix::fs::symlink("deep/down/data", shell.path("data")).unwrap();
    shell.set("KEYWARD_LISTEN", "127.0.0.1:0");
    let server = shell.served();
    assert_eq!(
        shell.run(&["decision", "list", "-o", "json"]).json(),
        serde_json::json!([])
    );
    drop(server);
}

#[test]
fn what_fails_half_way_leaves_nothing_behind() {
    for (arguments, expected) in [
        (
            &["--owner", "a b"][..],
            "error: --owner \"a b\": a name has 1 to 128 characters",
        ),
        (&["--owner", ""], "error: --owner \"\": a name has"),
        (&["--owner", "acme", "--key-file", "taken"], "error: key file "),
        (
            &["--owner", "acme", "--key-file", "nowhere/key"],
            "error: key file ",
        ),
        (
            &["--owner", "acme", "--token-file", "taken"],
            "error: token file taken: File exists",
        ),
        (
            &[
                "--owner",
                "acme",
                "--token-file",
                "t",
                "--admin-token-file",
                "taken",
            ],
            "error: administrator's token file taken: File exists",
        ),
        (
            &["--owner", "acme", "--token-file", "t", "--key-file", "taken"],
            "error: key file ",
        ),
        // The database comes last: its place is a folder that can't be one.
        (
            &[
                "--owner",
                "acme",
                "--token-file",
                "t",
                "--key-file",
                "new/keyward.db",
            ],
            "error: new/keyward.db: File exists",
        ),
    ] {
        let shell = Shell::new();
        shell.write("taken", "mine");
        let mut all = vec!["init", "--data-dir", "new"];
        all.extend(arguments);
        let said = shell.run(&all).failed();
        assert!(said.starts_with(expected), "{arguments:?}: {said}");
        assert_eq!(shell.list(""), ["taken"], "{arguments:?}");
        assert_eq!(shell.read("taken"), "mine");
        shell
            .run(&["init", "--data-dir", "new", "--owner", "acme"])
            .done();
    }
}

#[test]
fn a_folder_that_was_there_stays_with_what_is_in_it() {
    let shell = Shell::new();
    shell.write("data/keyward.yaml", "log: off\n");
    shell
        .run(&[
            "init",
            "--data-dir",
            "data",
            "--owner",
            "acme",
            "--key-file",
            "data/no/key",
        ])
        .failed();
    assert_eq!(shell.list("data"), ["keyward.yaml"]);
    shell
        .run(&["init", "--data-dir", "data", "--owner", "acme"])
        .done();
    assert_eq!(shell.list("data"), ["keyward.db", "keyward.key", "keyward.yaml"]);
}
