//! `psp`: the software PSP in files. The whole walk is the example's; here is what it refuses.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Shell, platform};

#[test]
fn its_files_hold_keys_are_private_and_are_never_overwritten() {
    let shell = Shell::new();
    shell.run(&["psp", "new", "one", "--bits", "2048"]).done();
    let before = shell.read("one");
    for name in ["one", "one.ca"] {
        let mode = std::fs::metadata(shell.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let said = shell.run(&["psp", "new", "one", "--bits", "2048"]).failed();
    assert_eq!(said, "error: one exists already; name another or remove it\n");
    assert_eq!(shell.read("one"), before);

    shell
        .run(&[
            "psp",
            "new",
            "two",
            "--ca-of",
            "one",
            "--api",
            "1.16",
            "--build-id",
            "3",
        ])
        .done();
    for name in ["one", "two"] {
        shell
            .run(&["psp", "chain", name, "--out", &format!("{name}.d")])
            .done();
    }
    assert_eq!(
        shell.list("one.d"),
        [
            "ark.cert",
            "ask-ark.cert",
            "cek.cert",
            "chain.cert",
            "cpu-id.txt",
            "pdh.cert"
        ]
    );
    let read = |name: &str| std::fs::read(shell.path(name)).unwrap();
    assert_eq!(
        read("one.d/ark.cert"),
        read("two.d/ark.cert"),
        "one authority for both"
    );
    assert_ne!(read("one.d/cek.cert"), read("two.d/cek.cert"));
    let text = shell
        .run(&[
            "sev",
            "chain",
            "two.d/chain.cert",
            "--danger-extra-root",
            "one.d/ark.cert",
        ])
        .done();
    assert!(text.contains("API        1.16 "), "{text}");
}

#[test]
fn each_form_of_a_chain_is_as_long_as_it_should_be() {
    let shell = Shell::new();
    shell.write("p", &*platform().to_bytes().unwrap());
    for (form, bytes) in [
        ("unsigned", 3 * 2084),
        ("signed", 3 * 2084),
        ("full", 4 * 2084 + 2 * 832),
    ] {
        let request = shell.run(&["psp", "chain", "p", "--form", form]).json();
        let members: Vec<_> = request.as_object().unwrap().keys().collect();
        assert_eq!(members, ["cert-chain", "cpu-id", "pdh"]);
        let text = request["cert-chain"].as_str().unwrap();
        assert_eq!(text.trim_end_matches('=').len() * 3 / 4, bytes, "{form}");
    }
}

#[test]
fn a_refusal_in_place_of_an_answer_is_told_as_what_it_is() {
    let shell = Shell::new();
    shell.write("p", &*platform().to_bytes().unwrap());
    shell.write(
        "problem.json",
        r#"{"type":"/problems/denied","title":"The request was denied","status":403,"detail":"a policy forbids it"}"#,
    );
    shell.write("empty.json", "");
    shell.write("other.json", "{}");
    for (reply, expected) in [
        (
            "problem.json",
            "problem.json: the server refused: The request was denied: a policy forbids it\n",
        ),
        (
            "empty.json",
            "empty.json: not the server's answer: EOF while parsing",
        ),
        (
            "other.json",
            "other.json: not the server's answer: missing field `id`",
        ),
        ("nowhere", "nowhere: No such file or directory (os error 2)\n"),
    ] {
        let said = shell
            .run(&["psp", "launch-start", "p", "guest", "--reply", reply])
            .failed();
        assert!(said.starts_with(&format!("error: {expected}")), "{said}");
    }
    assert!(!shell.path("guest").exists());
    let said = shell
        .run(&["psp", "secret", "p", "--reply", "problem.json"])
        .failed();
    assert!(said.starts_with("error: p: "), "a platform is no guest: {said}");
}
