//! `token`: made, listed and revoked, and likely mistakes.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::Shell;
use crate::support::cli::{masked, transcript};

/// What a command printed, as in a terminal, with tokens and the server's port replaced.
fn told(shell: &Shell, server: &str, arguments: &[&str], code: i32) -> String {
    let ran = shell.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
    let mut text = format!("{}{}", ran.out, ran.err).replace(server, "<server>");
    while let Some(at) = text.find("kw_") {
        text.replace_range(at..at + 46, "<token>");
    }
    let line = arguments.iter().map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    });
    let line = masked(&line.collect::<Vec<_>>().join(" "));
    let exit = if code == 0 {
        String::new()
    } else {
        format!("(exit code {code})\n")
    };
    format!("$ keyward {line}\n{}{exit}\n", masked(&text))
}

#[test]
fn a_token_s_life_at_the_terminal() {
    let mut shell = Shell::initialised();
    let server = shell.served();
    let url = server.url.clone();
    let mut all = String::new();
    let mut run = |shell: &Shell, arguments: &[&str], code: i32| {
        all.push_str(&told(shell, &url, arguments, code));
    };
    run(
        &shell,
        &[
            "token",
            "create",
            "--name",
            "ci",
            "--role",
            "secret-writer",
            "--expires",
            "90d",
        ],
        0,
    );
    run(
        &shell,
        &[
            "token",
            "create",
            "--name",
            "reviewer",
            "--role",
            "auditor",
            "--token-out",
            "auditor",
        ],
        0,
    );
    let mode = std::fs::metadata(shell.path("auditor"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = shell.read("auditor");
    assert!(text.starts_with("kw_") && text.len() == 47, "{text}");
    let as_auditor = ["--token-file", "auditor"];
    run(&shell, &[&["decision", "list"][..], &as_auditor].concat(), 0);
    run(
        &shell,
        &[
            &["token", "create", "--name", "x", "--role", "owner"][..],
            &as_auditor,
        ]
        .concat(),
        1,
    );
    shell.write("m.yaml", "kind: KeySet\nname: all\nsecrets: []\npolicies: []\n");
    run(&shell, &[&["apply", "-f", "m.yaml"][..], &as_auditor].concat(), 1);

    // Not in the transcript: when the last use is written is the server's to choose.
    let listed = shell.run(&["token", "list"]).done();
    let lines: Vec<Vec<_>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "ROLE", "OWNER", "STATE", "EXPIRES", "LAST", "USED", "ID"]
    );
    assert_eq!(lines[1][..5], ["init", "owner", "acme", "valid", "never"]);
    assert_eq!(lines[2][..4], ["ci", "secret-writer", "acme", "valid"]);
    assert_eq!(lines[3][..5], ["reviewer", "auditor", "acme", "valid", "never"]);
    assert_eq!(lines.len(), 4);

    let tokens = shell.run(&["token", "list", "-o", "json"]).json();
    let id = |name: &str| {
        let found = tokens
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    run(&shell, &["token", "revoke", &id("reviewer")], 0);
    run(&shell, &[&["decision", "list"][..], &as_auditor].concat(), 1);
    run(&shell, &["token", "revoke", &id("init")], 1);
    run(
        &shell,
        &["token", "revoke", "11111111-2222-4333-8444-555555555555"],
        1,
    );
    run(&shell, &["token", "create", "--name", "x", "--role", "admin"], 1);
    run(
        &shell,
        &[
            "token", "create", "--name", "x", "--role", "auditor", "--owner", "umbra",
        ],
        1,
    );
    run(
        &shell,
        &[
            "token",
            "create",
            "--name",
            "x",
            "--role",
            "auditor",
            "--expires",
            "2020-01-01T00:00:00Z",
        ],
        1,
    );
    run(
        &shell,
        &[
            "token",
            "create",
            "--name",
            "x",
            "--role",
            "auditor",
            "--token-out",
            "auditor",
        ],
        1,
    );
    for wrong in [
        &["token", "create", "--name", "x", "--role", "root"][..],
        &["token", "create", "--name", "a b", "--role", "auditor"],
        &[
            "token",
            "create",
            "--name",
            "x",
            "--role",
            "auditor",
            "--expires",
            "soon",
        ],
        &[
            "token",
            "create",
            "--name",
            "x",
            "--role",
            "auditor",
            "--data-dir",
            "data",
            "--server",
            "http://127.0.0.1:1",
        ],
        &["token", "revoke", "ci"],
    ] {
        run(&shell, wrong, 64);
    }
    // The clock's text in a refusal is a time like any other.
    transcript("tokens.txt", &all);
    assert_eq!(
        shell.list(""),
        ["auditor", "data", "m.yaml", "serve.log", "token"]
    );
}

#[test]
fn an_administrator_s_token_is_made_in_the_data_folder_and_works_over_the_network() {
    let mut shell = Shell::new();
    let init = [
        "init",
        "--data-dir",
        "data",
        "--owner",
        "acme",
        "--token-file",
        "token",
    ];
    shell
        .run(&[&init[..], &["--admin-token-file", "admin"]].concat())
        .done();
    let mode = std::fs::metadata(shell.path("admin"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    shell.write("data/keyward.yaml", "listen: 127.0.0.1:0\nkds: {url: ''}\n");
    let server = shell.served();
    let create = [
        "token", "create", "--name", "ops", "--role", "admin", "-o", "json",
    ];
    let here = ["--data-dir", "data", "--token-out", "ops"];
    let made = shell.run(&[&create[..], &here].concat()).json();
    let members: Vec<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "created",
            "expires",
            "id",
            "last_used",
            "made_by",
            "name",
            "owner",
            "revoked",
            "role",
            "token_file"
        ]
    );
    for file in ["admin", "ops"] {
        let args = [
            "token", "create", "--name", file, "--role", "owner", "--owner", "acme", "-o", "json",
        ];
        let made = shell.run(&[&args[..], &["--token-file", file]].concat()).json();
        assert_eq!((&made["owner"], &made["role"]), (&"acme".into(), &"owner".into()));
        assert!(made["token"].as_str().unwrap().starts_with("kw_"));
    }
    let args = [
        "token",
        "create",
        "--name",
        "x",
        "--role",
        "owner",
        "--data-dir",
        "data",
    ];
    let said = shell.run(&args).failed();
    assert_eq!(
        said,
        "error: `owner`: whose token is it? Expected the name of an owner\n"
    );
    let said = shell
        .run(&[&args[..], &["--owner", "umbra", "--token-out", "x"]].concat())
        .failed();
    assert_eq!(
        said,
        "error: there is no such owner: `keyward owner list` shows them\n"
    );
    let mine = ["token", "list", "-o", "json", "--token-file", "admin"];
    let all = shell.run(&mine).json();
    let of_acme = shell.run(&[&mine[..], &["--owner", "acme"]].concat()).json();
    assert_eq!(
        (all.as_array().unwrap().len(), of_acme.as_array().unwrap().len()),
        (5, 3)
    );
    let listed = shell.run(&["token", "list", "-o", "yaml"]).done();
    assert_eq!(listed.matches("role: owner").count(), 3, "{listed}");
    assert_eq!(shell.list(""), ["admin", "data", "ops", "serve.log", "token"]);
    drop(server);
}
