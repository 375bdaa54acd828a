//! `owner create` and `owner list`, on a data folder that a server may be running on.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Shell, ca};

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["owner", "create", name, "--data-dir", "data"];
    arguments.extend(more);
    arguments
}

#[test]
fn an_owner_comes_while_the_server_runs_and_has_nothing_yet() {
    let mut shell = Shell::initialised();
    let server = shell.served();
    let made = shell
        .run(&create("umbra", &["--token-file", "token2", "-o", "json"]))
        .json();
    let members: Vec<_> = made.as_object().unwrap().keys().collect();
    assert_eq!(members, ["owner", "token"]);
    assert_eq!(made["owner"], "umbra");
    assert_eq!(
        shell.read("token2"),
        format!("{}\n", made["token"].as_str().unwrap())
    );
    let mode = std::fs::metadata(shell.path("token2"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    shell.set("KEYWARD_TOKEN_FILE", "token2");
    let decisions = shell.run(&["decision", "list", "-o", "json"]).json();
    assert_eq!(decisions, serde_json::json!([]));
    drop(server);
}

#[test]
fn people_are_told_the_token_once_and_who_the_owners_are() {
    let shell = Shell::initialised();
    let told = shell.run(&create("umbra", &[])).done();
    assert!(told.starts_with("Owner  umbra\nToken  kw_"), "{told}");
    assert!(told.ends_with("The token is shown once.\n"), "{told}");
    let list = ["owner", "list", "--data-dir", "data"];
    let listed = shell.run(&list).done();
    let lines: Vec<_> = listed.lines().map(str::trim).collect();
    assert_eq!(lines, ["OWNER", "acme", "umbra"]);
    let listed = shell.run(&[&list[..], &["-o", "json"]].concat()).json();
    assert_eq!(listed, serde_json::json!([{"owner": "acme"}, {"owner": "umbra"}]));
}

#[test]
fn what_can_t_be_made_leaves_no_owner_and_no_token_file() {
    let shell = Shell::initialised();
    shell.write("taken", "mine");
    for (arguments, expected) in [
        (
            create("acme", &["--token-file", "t"]),
            "error: there is an owner acme already; nothing was changed\n",
        ),
        (
            create("a b", &["--token-file", "t"]),
            "error: owner \"a b\": a name has 1 to 128 characters",
        ),
        (
            create("umbra", &["--token-file", "taken"]),
            "error: token file taken: File exists",
        ),
        (
            vec!["owner", "create", "umbra", "--data-dir", "none"],
            "error: there is no database in none: run `keyward init",
        ),
        (
            vec!["owner", "list", "--data-dir", "none"],
            "error: there is no database in none: run `keyward init",
        ),
    ] {
        let said = shell.run(&arguments).failed();
        assert!(said.starts_with(expected), "{arguments:?}: {said}");
    }
    assert_eq!(shell.list(""), ["data", "taken", "token"]);
    assert_eq!(shell.read("taken"), "mine");
    let list = ["owner", "list", "--data-dir", "data", "-o", "json"];
    assert_eq!(shell.run(&list).json(), serde_json::json!([{"owner": "acme"}]));
}

#[test]
fn a_server_does_not_start_with_a_root_of_which_nobody_said_for_whom_it_counts() {
    let shell = Shell::initialised();
    shell.write("data/lab.cert", ca().ark().as_bytes());
    let configure = |owners: &str| {
        let root = format!("{{name: lab, file: lab.cert{owners}}}");
        let text =
            format!("listen: 127.0.0.1:0\nlog: error\nkds: {{url: ''}}\ndanger_extra_roots: [{root}]\n");
        shell.write("data/keyward.yaml", text);
    };
    configure("");
    drop(shell.serve(&[]));
    shell.run(&create("umbra", &[])).done();
    assert_eq!(
        shell.run(&["serve", "--data-dir", "data"]).failed(),
        "error: the extra root lab names no owners, and the data folder has several: say for whom it counts with \
         `owners: [NAME, …]` in danger_extra_roots\n"
    );
    configure(", owners: [acme]");
    drop(shell.serve(&[]));
}
