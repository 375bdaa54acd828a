//! TLS: files that are wrong are named, files that are right serve.

use crate::support::Shell;
use crate::support::cli::ran;

/// A folder with two pairs, and a configuration that names the first.
fn shell() -> Shell {
    let shell = Shell::initialised();
    for name in ["one", "two"] {
        let made = ran(shell.command("openssl").args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=keyward test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &format!("data/{name}.key"),
            "-out",
            &format!("data/{name}.pem"),
        ]));
        assert_eq!(made.code, 0, "{}", made.err);
    }
    configure(&shell, "one.pem", "one.key");
    shell
}

fn configure(shell: &Shell, certificate: &str, key: &str) {
    let text =
        format!("listen: 127.0.0.1:0\nkds: {{url: ''}}\ntls: {{certificate: {certificate}, key: {key}}}\n");
    shell.write("data/keyward.yaml", text);
}

#[test]
fn files_that_are_missing_or_no_pair_are_named() {
    let shell = shell();
    shell.write("data/junk", "hunter2");
    for (certificate, key, expected) in [
        (
            "no.pem",
            "one.key",
            "TLS certificate data/no.pem: No such file or directory (os error 2)",
        ),
        (
            "one.pem",
            "no.key",
            "TLS key data/no.key: No such file or directory (os error 2)",
        ),
        (
            "junk",
            "one.key",
            "TLS certificate data/junk: holds no certificate in PEM form",
        ),
        ("one.pem", "junk", "TLS key data/junk: holds no key in PEM form"),
        (
            "one.key",
            "one.pem",
            "TLS certificate data/one.key: holds no certificate in PEM form",
        ),
        (
            "one.pem",
            "two.key",
            "TLS certificate data/one.pem and key data/two.key do not belong together: name the key that the certificate was made for",
        ),
    ] {
        configure(&shell, certificate, key);
        let said = shell.run(&["serve", "--data-dir", "data"]).failed();
        assert_eq!(said, format!("error: {expected}\n"));
    }
}

#[test]
fn a_client_that_trusts_the_certificate_talks_to_the_server_and_no_other_does() {
    let mut shell = shell();
    let server = shell.served();
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let listed = shell.run(&["decision", "list", "-o", "json", "--ca-file", "data/one.pem"]);
    assert_eq!(listed.json(), serde_json::json!([]));

    for arguments in [&[][..], &["--ca-file", "data/two.pem"]] {
        let mut all = vec!["decision", "list"];
        all.extend(arguments);
        let said = shell.run(&all).failed();
        assert!(said.contains("certificate verify failed"), "{said}");
    }
    let said = shell
        .run(&["decision", "list", "--ca-file", "data/one.key"])
        .failed();
    assert_eq!(said, "error: CA file data/one.key holds no certificate\n");
}

#[test]
fn a_server_that_is_told_to_stop_ends_well() {
    let shell = shell();
    let (code, text) = shell.serve(&[]).stop();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.ends_with(" stopping\n") && text.lines().count() == 1,
        "{text}"
    );
}
