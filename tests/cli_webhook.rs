//! Webhooks of a real server, and what is wrong in their configuration.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::Shell;
use crate::support::cli::ran;
use crate::support::receiver::{Receiver, status};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn write_secret(shell: &Shell, text: &str, mode: u32) {
    shell.write("data/pager.secret", text);
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(shell.path("data/pager.secret"), mode).unwrap();
}

fn configured(url: &str, more: &str) -> Shell {
    let shell = Shell::initialised();
    write_secret(&shell, &format!("{SECRET}\n"), 0o600);
    configure(&shell, url, more);
    shell
}

fn configure(shell: &Shell, url: &str, more: &str) {
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\nwebhooks:\n\
             - {{name: pager, url: '{url}', events: [checkpoint], secret_file: pager.secret{more}}}\n"
        ),
    );
}

#[test]
fn a_server_tells_of_its_checkpoints_and_ends_in_order() {
    let receiver = Receiver::start(|_| status(200, ""));
    let shell = configured(&receiver.url, "");
    let server = shell.serve(&[]);
    let call = receiver.call();
    assert!(call.is_signed_with(SECRET));
    let body = call.json();
    assert_eq!(body["type"], "checkpoint.signed");
    assert_eq!(body["data"]["size"], 3);
    let (code, log) = server.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("secret-path") && !log.contains(SECRET), "{log}");
    // What it signed at its end is told by the next one at the latest.
    let server = shell.serve(&[]);
    assert!(receiver.call().json()["data"]["size"].as_u64() > Some(3));
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_test_call_says_whether_it_was_taken() {
    let receiver = Receiver::start(|number| status(if number == 0 { 200 } else { 404 }, ""));
    let shell = configured(&receiver.url, "");
    let call = ["webhook", "test", "pager", "--data-dir", "data"];
    assert_eq!(shell.run(&call).done(), "The webhook pager took the call.\n");
    let body = receiver.call().json();
    assert_eq!(
        (&body["type"], &body["data"]),
        (&json!("webhook.test"), &json!({"webhook": "pager"}))
    );
    let told = shell.run(&call).failed();
    assert_eq!(
        told,
        "error: the webhook pager did not take the call: it answered with status 404\n"
    );
    let told = shell
        .run(&["webhook", "test", "nobody", "--data-dir", "data"])
        .failed();
    assert!(told.contains("has no webhook \"nobody\""), "{told}");
}

#[test]
fn over_https_the_receiver_must_be_one_that_its_authorities_vouch_for() {
    let shell = configured("https://127.0.0.1/", "");
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
            "2",
            "-subj",
            "/CN=receiver",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &format!("data/{name}.key"),
            "-out",
            &format!("data/{name}.pem"),
        ]));
        assert_eq!(made.code, 0, "{}", made.err);
    }
    let (certificate, key) = (shell.path("data/one.pem"), shell.path("data/one.key"));
    let receiver = Receiver::start_tls(&certificate, &key, |_| status(200, ""));
    let call = ["webhook", "test", "pager", "--data-dir", "data"];
    for more in ["", ", ca_file: two.pem"] {
        configure(&shell, &receiver.url, more);
        let told = shell.run(&call).failed();
        assert!(told.contains("certificate"), "{told}");
        assert!(!told.contains("secret-path"), "{told}");
    }
    configure(&shell, &receiver.url, ", ca_file: one.pem");
    shell.run(&call).done();
    assert!(receiver.call().is_signed_with(SECRET));
    assert_eq!(receiver.rest(), []);
}

#[test]
fn mistakes_in_the_configuration_are_told_before_it_serves() {
    let shell = configured("https://hooks.example.com/secret-path", "");
    let refused = |expected: &str| {
        let told = shell.run(&["serve", "--data-dir", "data"]).failed();
        assert!(told.contains(expected), "{told}");
        assert!(
            !told.contains("secret-path") && !told.contains("MfKQ9r8"),
            "{told}"
        );
    };
    write_secret(&shell, SECRET, 0o640);
    refused(
        "secret of the webhook pager: data/pager.secret: it is open to others (mode 0640): run `chmod 600",
    );
    write_secret(&shell, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o600);
    refused("expected `whsec_` and the base64 of 24 to 64 bytes");
    write_secret(&shell, "\n", 0o600);
    refused("it is empty: expected `whsec_`");
    std::fs::remove_file(shell.path("data/pager.secret")).unwrap();
    refused("data/pager.secret: No such file");
    write_secret(&shell, SECRET, 0o600);
    configure(&shell, "https://hooks.example.com/", ", ca_file: keyward.yaml");
    refused("authorities of the webhook pager: data/keyward.yaml: it holds no certificate in PEM form");
    for (url, more, expected) in [
        (
            "http://hooks.example.com/secret-path",
            "",
            "http:// is for a loopback address only",
        ),
        (
            "https://a:b@hooks.example.com/secret-path",
            "",
            "without a user and a query",
        ),
        (
            "https://hooks.example.com/secret-path?a=b",
            "",
            "without a user and a query",
        ),
        (
            "https://a/",
            ", timeout_seconds: 0",
            "timeout_seconds must be 1 to 60",
        ),
        ("https://a/", ", max_tries: 0", "max_tries 1 to 1000"),
        (
            "https://a/",
            ", owners: ['a b']",
            "owners of the webhook pager: \"a b\"",
        ),
        ("https://a/", ", owner: acme", "unknown key `owner`"),
        (
            "https://a/",
            "}\n- {name: pager, url: 'https://b/', events: [hold], secret_file: pager.secret",
            "two have the name pager",
        ),
        (
            "https://a/",
            "}\n- {name: 'a b', url: 'https://b/', events: [hold], secret_file: pager.secret",
            "the name \"a b\" has other characters",
        ),
        (
            "https://a/",
            "}\n- {name: b, url: 'https://b/', events: [], secret_file: pager.secret",
            "b is told of no events",
        ),
    ] {
        configure(&shell, url, more);
        refused(expected);
    }
}
