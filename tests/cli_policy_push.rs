//! `policy bundle|push|log|rollback|fetch|key` against a server, and their likely mistakes.

use openssl::nid::Nid;

use crate::policy_signing::{ec, public_pem};
use crate::support::Shell;
use crate::support::cli::{masked, transcript};

#[test]
fn policies_are_signed_pushed_listed_fetched_and_rolled_back() {
    let mut shell = Shell::initialised();
    let server = shell.served();
    shell.write("policy/any.rego", "package release.any\n\nallow := true\n");
    shell.write("policy/.manifest", r#"{"metadata": {"vcs_revision": "c0ffee"}}"#);
    let key = ec(Nid::X9_62_PRIME256V1);
    shell.write("key.pem", key.private_key_to_pem_pkcs8().unwrap());
    shell.write("key.pub", public_pem(&key));
    let mut all = String::new();
    let mut run = |shell: &Shell, arguments: &[&str], code: i32| {
        let ran = shell.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
        let said = masked(&format!("{}{}", ran.out, ran.err)).replace(&server.url, "<server>");
        let digests = regex::Regex::new(r"\b[0-9a-f]{12} ").unwrap();
        let quoted: Vec<_> = arguments
            .iter()
            .map(|a| {
                if a.contains(' ') {
                    format!("'{a}'")
                } else {
                    (*a).to_owned()
                }
            })
            .collect();
        let said = digests.replace_all(&said, "<digest12> ");
        all.push_str(&format!(
            "$ keyward {}\n{said}\n",
            quoted.join(" ").replace('\n', "\\n").replace('\u{1b}', "\\e")
        ));
    };
    run(&shell, &["policy", "log"], 0);
    run(&shell, &["policy", "rollback"], 1);
    run(&shell, &["policy", "push", "nowhere", "-m", "x"], 1);
    run(
        &shell,
        &["policy", "push", "policy", "-m", "the first", "--dry-run"],
        0,
    );
    run(
        &shell,
        &["policy", "push", "policy", "-m", "the first\n\nand\u{1b}[2J more"],
        0,
    );
    run(&shell, &["policy", "push", "policy", "-m", "again"], 0);
    run(&shell, &["policy", "key", "list"], 0);
    run(
        &shell,
        &["policy", "key", "add", "release", "--public-key", "key.pem"],
        1,
    );
    run(
        &shell,
        &["policy", "key", "add", "release", "--public-key", "key.pub"],
        0,
    );
    run(&shell, &["policy", "key", "list"], 0);
    shell.write(
        "policy/any.rego",
        "package release.any\n\nallow if input.attested.build_id == 9\n",
    );
    run(&shell, &["policy", "push", "policy", "-m", "unsigned"], 1);
    let sign = [
        "policy",
        "bundle",
        "policy",
        "-o",
        "b.tar.gz",
        "--signing-key",
        "key.pem",
        "--key-id",
        "release",
    ];
    run(&shell, &[&sign[..], &["--signing-alg", "RS256"]].concat(), 1);
    run(&shell, &[&sign[..], &["--revision", "v2"]].concat(), 0);
    run(&shell, &["policy", "check", "b.tar.gz"], 0);
    run(
        &shell,
        &[
            "policy",
            "push",
            "b.tar.gz",
            "-m",
            "the \u{1b}[31msecond",
            "--source",
            "deadbeef",
        ],
        0,
    );
    run(&shell, &["policy", "log"], 0);
    run(&shell, &["policy", "rollback", "-m", "no"], 1);
    run(&shell, &["policy", "key", "remove", "release"], 1);
    run(
        &shell,
        &["policy", "key", "remove", "release", "--allow-unsigned"],
        0,
    );
    run(&shell, &["policy", "key", "remove", "release"], 1);
    run(&shell, &["policy", "rollback", "-m", "as it was"], 0);
    run(
        &shell,
        &["policy", "push", "--revision", "2", "-m", "and back"],
        0,
    );
    run(&shell, &["policy", "push", "--revision", "9"], 1);
    run(&shell, &["policy", "log", "--limit", "2"], 0);
    run(&shell, &["policy", "fetch", "2", "old.tar.gz"], 0);
    run(&shell, &["policy", "fetch", "2", "old.tar.gz"], 1);
    run(&shell, &["policy", "fetch", "2", "old"], 0);
    shell.write("policy/any.rego", "package release.any\n\nallow if {\n");
    run(&shell, &["policy", "push", "policy", "-m", "broken"], 1);
    run(&shell, &["policy", "bundle", "nowhere"], 1);
    run(
        &shell,
        &["policy", "bundle", "policy", "-o", "policy/any.rego"],
        64,
    );
    shell.write("odd.tar.gz", "no archive");
    run(&shell, &["policy", "check", "odd.tar.gz"], 1);
    transcript("policy-push.txt", &all);
    assert_eq!(shell.list("old"), [".manifest", ".signatures.json", "any.rego"]);
    let entries = shell.run(&["policy", "check", "old"]).done();
    assert!(
        entries.ends_with("Fine, with 2 warnings: release.any\n"),
        "{entries}"
    );
}

#[test]
fn another_owner_sees_none_of_it() {
    let mut shell = Shell::initialised();
    shell
        .run(&[
            "owner",
            "create",
            "bolt",
            "--data-dir",
            "data",
            "--token-file",
            "other",
        ])
        .done();
    let _server = shell.served();
    shell.write("policy/any.rego", "package release.any\n\nallow := true\n");
    let pushed = shell
        .run(&["policy", "push", "policy", "-m", "m", "-o", "json"])
        .json();
    let digest = pushed["digest"].as_str().unwrap().to_owned();
    shell.set("KEYWARD_TOKEN_FILE", "other");
    assert_eq!(
        shell.run(&["policy", "log"]).done(),
        "No bundle was ever active\n"
    );
    for which in ["1", &digest] {
        assert_eq!(
            shell.run(&["policy", "fetch", which, "x"]).failed(),
            "error: there is no such revision\n"
        );
        assert_eq!(
            shell.run(&["policy", "rollback", "--to", which]).failed(),
            "error: there is no such revision\n"
        );
    }
}
