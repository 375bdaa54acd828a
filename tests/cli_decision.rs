//! `decision`: what was decided and why, for people and for programs.

use serde_json::Value;

use crate::support::cli::{Server, masked, transcript};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Reply, Shell, Vm, platform};

/// A server with the usual workload, a platform that it trusts, and three requests decided: one released,
/// one that matched nothing, one denied.
fn decided() -> (Shell, Server) {
    let mut shell = Shell::initialised();
    let platform = platform();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n",
    );
    let server = shell.served();
    shell.write("policy/release/any.rego", ALLOW);
    let reviewed = digest(IMAGE);
    shell.write(
        "m.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{reviewed}]\nsecrets: [disk]\n"
        ),
    );
    shell.run(&["apply", "-f", "m.yaml"]).done();
    let post = |path: &str, body: &Value| {
        let (status, text) = server.post(path, body.to_string().as_bytes());
        Reply {
            status,
            headers: Default::default(),
            body: serde_json::from_str(&text).unwrap(),
        }
    };
    let start = || {
        Vm::start(
            &platform,
            &post(&format!("/vm/{WORKLOAD}/launch"), &launch_request(&platform)).ok(),
        )
    };
    let mut vm = start();
    post(&vm.path(), &vm.measure(IMAGE)).ok();
    let (mut vm, other) = (start(), b"an image that nobody has reviewed, of 48 bytes..");
    let mut request = vm.measure(other);
    post(&vm.path(), &request).expect(422, "measurement-mismatch");
    request["launch-digest"] = digest(other).into();
    let said = "a host's own words, ESC \u{1b}[2J and \u{202e}reordered; ".repeat(3);
    request["description"] = said.into();
    request["cpu-count"] = 2.into();
    request["kernel-hash"] = digest(b"kernel").into();
    post(&vm.path(), &request).expect(403, "denied");
    (shell, server)
}

/// With the fingerprints of CEK and OCA replaced.
fn keys_masked(text: &str) -> String {
    let line = |line: &str| match line
        .strip_prefix("keys       CEK ")
        .map(|rest| rest.split(", OCA "))
    {
        Some(prints) => {
            assert!(
                prints
                    .clone()
                    .all(|print| print.len() == 12 && hex::decode(print).is_ok())
            );
            assert_eq!(prints.count(), 2);
            "keys       CEK <short>, OCA <short>\n".to_owned()
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn they_are_listed_and_shown_with_their_reasons() {
    let (shell, _server) = decided();
    let all = shell.run(&["decision", "list", "-o", "json"]).json();
    let all = all.as_array().unwrap();
    let outcomes: Vec<_> = all.iter().map(|d| d["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["denied", "refused", "released"], "newest first");

    let mut text = String::new();
    let mut show = |arguments: &[&str], shown: &str| {
        let out = shell.run(&[&["decision"], arguments].concat()).done();
        // Trailing blanks are a table's own.
        let out: Vec<_> = out.lines().map(str::trim_end).collect();
        text.push_str(&format!(
            "$ keyward decision {shown}\n{}\n\n",
            masked(&out.join("\n"))
        ));
    };
    show(&["list"], "list");
    show(&["list", "--outcome", "released"], "list --outcome released");
    show(&["list", "--outcome", "held"], "list --outcome held");
    for decision in all.iter().rev() {
        show(&["show", decision["id"].as_str().unwrap()], "show <uuid>");
    }
    // Keys are made anew for each run.
    let text = keys_masked(&text);
    transcript("decisions.txt", &text);
}

#[test]
fn programs_get_the_same_document_as_json_and_as_yaml() {
    let (shell, _server) = decided();
    let list = shell
        .run(&["decision", "list", "-o", "json", "--limit", "1"])
        .json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let id = list[0]["id"].as_str().unwrap();
    let mut json = shell.run(&["decision", "show", id, "-o", "json"]).json();
    let yaml: Value =
        serde_yaml::from_str(&shell.run(&["decision", "show", id, "-o", "yaml"]).done()).unwrap();
    assert_eq!(yaml, json);
    // What is shown is what is listed, with its explanation.
    let explanation = json.as_object_mut().unwrap().remove("explanation").unwrap();
    assert_eq!(explanation["decision"], json["id"]);
    assert_eq!(
        explanation["policies"].as_array().unwrap().len(),
        json["policies"].as_array().unwrap().len()
    );
    assert_eq!(json, list[0]);
    for (workload, expected) in [(WORKLOAD, 3), ("00000000-0000-4000-8000-000000000000", 0)] {
        let found = shell
            .run(&["decision", "list", "-o", "json", "--workload", workload])
            .json();
        assert_eq!(found.as_array().unwrap().len(), expected);
    }
}

#[test]
fn one_that_is_not_there_is_named() {
    let mut shell = Shell::initialised();
    let _server = shell.served();
    let id = "00000000-0000-4000-8000-000000000000";
    assert_eq!(
        shell.run(&["decision", "show", id]).failed(),
        format!("error: decision {id}: there is no such object\n")
    );
}
