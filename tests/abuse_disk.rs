//! A disk that is full: nothing is half written or answered, it is told, and with room again all goes on.
//!
//! The limit is the process's own on the size of files (`RLIMIT_FSIZE`), set and lifted while it serves.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::cli::{Server, ran};
use crate::support::host::{IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Shell, Vm, platform};

/// From now on the server's files end here; more than that is refused as by a full disk.
fn limit(server: &Server, bytes: &str) {
    let mut prlimit = Command::new("prlimit");
    let set = ran(prlimit
        .args([
            &format!("--pid={}", server.id()),
            &format!("--fsize={bytes}:unlimited"),
        ])
        .stdin(Stdio::null()));
    assert_eq!(set.code, 0, "{}", set.err);
}

fn reply((status, text): (u16, String)) -> crate::support::Reply {
    crate::support::Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

#[test]
fn a_full_disk_refuses_every_write_cleanly_and_is_over_when_there_is_room() {
    let platform = platform();
    let mut shell = Shell::initialised();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n",
    );
    let server = shell.served_ignoring_file_sizes();
    shell.write(
        "policy/release/any.rego",
        "package release.any\n\nallow := true\n",
    );
    let manifest = |extra: &str| {
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             {extra}kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [disk]\n",
            digest(IMAGE)
        )
    };
    shell.write("m.yaml", manifest(""));
    shell.run(&["apply", "-f", "m.yaml"]).done();
    let post = |path: &str, body: &Value, key: &str| {
        reply(server.send(
            "POST",
            path,
            &[("idempotency-key", key)],
            body.to_string().as_bytes(),
        ))
    };
    let launch = format!("/vm/{WORKLOAD}/launch");
    let asked = launch_request(&platform);
    let mut vm = Vm::start(&platform, &post(&launch, &asked, "a").ok());
    let request = vm.measure(IMAGE);
    // Not asked before: that it could write holds for a second.
    let ready = || reply(server.send("GET", "/readyz", &[], b""));

    limit(&server, "0");
    ready().expect(503, "unavailable");
    post(&launch, &asked, "b").expect(503, "unavailable");
    for _ in 0..3 {
        let refused = post(&vm.path(), &request, "once").expect(503, "unavailable");
        for member in ["secret-header", "secret-payload", "decision"] {
            assert_eq!(refused.body.get(member), None, "{}", refused.body);
        }
    }
    let more = "kind: Secret\nname: other\ntype: opaque\nguid: 0a000000-0000-4000-8000-000000000001\n\
                value: {base64: AAAA}\npolicies: [release.any]\n---\n";
    shell.write("more.yaml", manifest(more));
    let failed = shell.run(&["apply", "-f", "more.yaml"]);
    assert_eq!(failed.code, 1, "{}", failed.out);
    // What only reads is served.
    let secrets = || shell.run(&["get", "Secret", "-o", "json"]).done();
    let before = secrets();
    assert!(
        before.contains("\"disk\"") && !before.contains("\"other\""),
        "{before}"
    );

    limit(&server, "unlimited");
    ready().ok();
    let answer = post(&vm.path(), &request, "once").ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
    post(&vm.path(), &request, "another").expect(409, "launch-used");
    shell.run(&["apply", "-f", "more.yaml"]).done();
    assert!(secrets().contains("\"other\""));
    let decisions = shell.run(&["decision", "list", "-o", "json"]).json();
    let outcomes: Vec<_> = decisions
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["outcome"].clone())
        .collect();
    assert_eq!(outcomes, [json!("released")]);
    // Its last checkpoint is signed, and the log proves itself.
    let (code, log) = server.stop();
    assert_eq!(code, 0, "{log}");
    shell
        .run(&["audit", "export", "--data-dir", "data", "-o", "log.jsonl"])
        .done();
    shell.write(
        "log.pub",
        shell.run(&["audit", "key", "--data-dir", "data"]).done(),
    );
    shell
        .run(&["audit", "verify", "log.jsonl", "--key", "log.pub"])
        .done();
}
