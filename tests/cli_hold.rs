//! `hold`, `limits` and `owner set`: what waits for a person, for people and for programs.

use serde_json::{Value, json};

use crate::support::cli::{Ran, Server, masked, transcript};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Reply, Shell, Vm, platform};

/// A server whose limit is used up, and a guest that is held.
fn held() -> (Shell, Server, Vm, Value) {
    let mut shell = Shell::initialised();
    let platform = platform();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n",
    );
    let server = shell.served();
    shell.write(
        "policy/release/any.rego",
        format!("{ALLOW}\nrelease_limit := 0\n"),
    );
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
    let launched = post(
        &server,
        &format!("/vm/{WORKLOAD}/launch"),
        &launch_request(&platform),
    );
    let mut vm = Vm::start(&platform, &launched.ok());
    let request = vm.measure(IMAGE);
    (shell, server, vm, request)
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    let (status, text) = server.post(path, body.to_string().as_bytes());
    Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

#[test]
fn a_hold_is_listed_shown_confirmed_and_used_up() {
    let (shell, server, vm, request) = held();
    let mut text = String::new();
    let mut run = |arguments: &[&str]| {
        let Ran { code, out, err } = shell.run(arguments);
        let shown = arguments.join(" ");
        let out: Vec<_> = out.lines().map(str::trim_end).collect();
        // The chip's key is made anew for each run.
        let said = masked(&format!("$ keyward {shown}\n{}\n{err}", out.join("\n")));
        text.push_str(&format!("{}\n[{code}]\n\n", said.trim_end()));
    };
    run(&["hold", "list"]);
    run(&["limits", "list"]);
    let reply = post(&server, &vm.path(), &request).expect(403, "confirmation-required");
    let hold = reply.body["hold"].as_str().unwrap();
    run(&["hold", "list"]);
    run(&["hold", "show", hold]);
    run(&["hold", "confirm", hold, "--additional", "0", "--reason", "x"]);
    run(&["hold", "confirm", hold, "--additional", "2", "--reason", " "]);
    run(&["hold", "confirm", hold, "--additional", "2"]);
    run(&[
        "hold",
        "confirm",
        hold,
        "--additional",
        "2",
        "--reason",
        "ticket 4711",
    ]);
    post(&server, &vm.path(), &request).ok();
    run(&[
        "hold",
        "confirm",
        hold,
        "--additional",
        "2",
        "--reason",
        "ticket 4711",
    ]);
    run(&["hold", "reject", hold, "--reason", "no"]);
    run(&["hold", "withdraw", hold, "--reason", "one was enough"]);
    run(&["hold", "list", "--state", "open"]);
    run(&["hold", "list", "--state", "shut"]);
    run(&["hold", "show", "00000000-0000-4000-8000-000000000000"]);
    run(&["limits", "list"]);
    run(&[
        "limits",
        "reset",
        "--binding",
        "disk",
        "--secret",
        "disk",
        "--reason",
        "x",
    ]);
    run(&[
        "limits",
        "reset",
        "--binding",
        "secret:disk",
        "--secret",
        "disk",
        "--to",
        "1",
        "--reason",
        "x",
    ]);
    run(&[
        "limits",
        "reset",
        "--binding",
        "secret:disk",
        "--secret",
        "disk",
        "--reason",
        "moved",
    ]);
    run(&["limits", "list"]);
    run(&["owner", "set", "--approvals-required", "2", "--reason", "a rule"]);
    run(&["owner", "set", "--approvals-required", "3", "--reason", "a rule"]);
    run(&["owner", "set", "--approvals-required", "1", "--reason", "a rule"]);
    transcript("holds.txt", &text);
}

#[test]
fn programs_get_a_hold_as_json_and_as_yaml() {
    let (shell, server, vm, request) = held();
    let reply = post(&server, &vm.path(), &request).expect(403, "confirmation-required");
    let hold = reply.body["hold"].as_str().unwrap();
    let json = shell.run(&["hold", "show", hold, "-o", "json"]).json();
    let yaml: Value = serde_yaml::from_str(&shell.run(&["hold", "show", hold, "-o", "yaml"]).done()).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(shell.run(&["hold", "list", "-o", "json"]).json(), json!([json]));
    let limits = shell.run(&["limits", "list", "-o", "json"]).json();
    assert_eq!(limits["items"][0]["limit"], 0);
    let said = ["hold", "reject", hold, "--reason", "no", "-o", "json"];
    assert_eq!(shell.run(&said).json()["rejected"]["reason"], "no");
    post(&server, &vm.path(), &request).expect(403, "denied");
}
