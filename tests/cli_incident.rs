//! `freeze`, `unfreeze`, `impact` and `platform`: what one types when something has gone wrong.

use serde_json::{Value, json};

use crate::support::cli::{Ran, Server, masked, transcript};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Reply, Shell, Vm, platform};

/// A server with the usual workload, and a platform that it trusts.
fn served() -> (Shell, Server, keyward::psp::Platform) {
    let mut shell = Shell::initialised();
    let platform = platform();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n",
    );
    let server = shell.served();
    shell.write("policy/release/any.rego", ALLOW);
    secret(&shell, "aHVudGVyMg==");
    let reviewed = digest(IMAGE);
    shell.write(
        "m.yaml",
        format!(
            "kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{reviewed}]\nsecrets: [disk]\n"
        ),
    );
    shell.run(&["apply", "-f", "s.yaml", "-f", "m.yaml"]).done();
    (shell, server, platform)
}

fn secret(shell: &Shell, value: &str) {
    shell.write(
        "s.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\nkind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: {value}}}\npolicies: [release.any]\n"
        ),
    );
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    let (status, text) = server.post(path, body.to_string().as_bytes());
    Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

/// A whole launch.
fn run(server: &Server, platform: &keyward::psp::Platform) -> Reply {
    let path = format!("/vm/{WORKLOAD}/launch");
    let reply = post(server, &path, &launch_request(platform)).ok();
    let mut vm = Vm::start(platform, &reply);
    let request = vm.measure(IMAGE);
    post(server, &vm.path(), &request)
}

fn id(shell: &Shell, list: &[&str]) -> String {
    let listed = shell.run(list).json();
    listed[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_incident_from_the_first_look_to_the_last() {
    let (shell, server, platform) = served();
    let mut text = String::new();
    let mut type_in = |arguments: &[&str]| {
        let Ran { code, out, err } = shell.run(arguments);
        let shown: Vec<_> = arguments
            .iter()
            .map(|word| {
                if word.contains(' ') {
                    format!("'{word}'")
                } else {
                    (*word).to_owned()
                }
            })
            .collect();
        let out: Vec<_> = out.lines().map(str::trim_end).collect();
        let said = masked(&format!(
            "$ keyward {}\n{}\n{err}",
            shown.join(" "),
            out.join("\n")
        ));
        text.push_str(&format!("{}\n[{code}]\n\n", said.trim_end()));
    };
    type_in(&["impact", "--secret", "disk"]);
    type_in(&["platform", "list"]);
    type_in(&["freeze", "list"]);
    let released = run(&server, &platform).ok();
    type_in(&[
        "freeze",
        "workload",
        "web",
        "--reason",
        "a disk image was on sale",
    ]);
    run_denied(&server, &platform);
    type_in(&["freeze", "workload", "web", "--reason", "once more"]);
    type_in(&["freeze", "secret", "other", "--reason", "x"]);
    type_in(&["freeze", "server", "--reason", "x"]);
    type_in(&["freeze", "list"]);
    let decision = released.body["decision"].as_str().unwrap();
    let recorded = shell.run(&["decision", "show", decision, "-o", "json"]).json();
    let recorded = recorded.get("decision").cloned().unwrap_or(recorded);
    let cek = recorded["input"]["platform"]["fingerprints"]["cek"]
        .as_str()
        .unwrap()
        .to_owned();

    secret(&shell, "Z2VoZWlt");
    shell.run(&["apply", "-f", "s.yaml"]).done();
    let freeze = id(&shell, &["freeze", "list", "-o", "json"]);
    type_in(&["unfreeze", &freeze, "--reason", "replaced and re-keyed"]);
    type_in(&["unfreeze", &freeze, "--reason", "replaced and re-keyed"]);
    type_in(&["freeze", "list"]);
    type_in(&[
        "platform",
        "accept",
        "enrolled",
        "--reason",
        "we know our machines",
    ]);
    run(&server, &platform).expect(403, "denied");
    type_in(&["platform", "enrol", &cek, "--reason", "rack 7"]);
    run(&server, &platform).ok();
    type_in(&["platform", "refuse", &"00".repeat(32), "--reason", "sold"]);
    type_in(&["platform", "show", &"11".repeat(32)]);
    type_in(&["impact", "--secret", "disk@"]);
    type_in(&["impact", "--policy", "7"]);
    type_in(&["impact", "--digest", &"00".repeat(32)]);
    transcript("incident.txt", &text);
}

fn run_denied(server: &Server, platform: &keyward::psp::Platform) {
    let path = format!("/vm/{WORKLOAD}/launch");
    post(server, &path, &launch_request(platform)).expect(403, "denied");
}

#[test]
fn impact_says_who_received_it_and_what_to_do_until_it_is_done() {
    let (shell, server, platform) = served();
    run(&server, &platform).ok();
    run(&server, &platform).ok();
    let said = shell.run(&["impact", "--secret", "disk"]).done();
    for expected in [
        "2 launches, 2 decisions, 2 of them with secrets.",
        "1 of 1 secret must be replaced.",
        "keyward freeze secret disk --reason TEXT",
        "  keyward apply -f MANIFEST     # with a new value of the Secret disk",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let row = said.lines().nth(1).unwrap();
    for expected in ["released", "web", "disk@1", "127.0.0.1", &digest(IMAGE)[..12]] {
        assert!(row.contains(expected), "{row}");
    }
    secret(&shell, "Z2VoZWlt");
    shell.run(&["apply", "-f", "s.yaml"]).done();
    let said = shell.run(&["impact", "--secret", "disk"]).done();
    assert!(said.contains("0 of 1 secret must be replaced."), "{said}");
    assert!(!said.contains("keyward freeze"), "{said}");

    let json = shell.run(&["impact", "--workload", "web", "-o", "json"]).json();
    assert_eq!(json["launches"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["rotation"],
        json!([{"secret": "disk", "released": [1], "current": 2, "state": "replaced"}])
    );
    let yaml = shell.run(&["impact", "--workload", "web", "-o", "yaml"]).done();
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), json);
}

#[test]
fn programs_get_freezes_and_platforms_as_json_and_as_yaml() {
    let (shell, server, platform) = served();
    run(&server, &platform).ok();
    let platforms = shell.run(&["platform", "list", "-o", "json"]).json();
    let yaml = shell.run(&["platform", "list", "-o", "yaml"]).done();
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), platforms);
    let cek = platforms["items"][0]["cek"].as_str().unwrap();
    let shown = shell.run(&["platform", "show", cek, "-o", "json"]).json();
    assert_eq!(shown, platforms["items"][0]);
    let table = shell.run(&["platform", "list"]).done();
    assert!(
        table.contains("API 1.55 build 8") && table.contains(cek),
        "{table}"
    );
    let text = shell.run(&["platform", "show", cek]).done();
    assert!(
        text.starts_with(&format!("SEEN  {cek}\n\nproduct    not known under root test\n")),
        "{text}"
    );

    let said = ["freeze", "platform", cek, "--reason", "r", "-o", "json"];
    let frozen = shell.run(&said).json();
    assert_eq!(frozen["already"], false);
    let id = frozen["id"].as_str().unwrap();
    let shown = shell.run(&["freeze", "show", id, "-o", "json"]).json();
    assert_eq!(
        shell.run(&["freeze", "list", "-o", "json"]).json(),
        json!([shown])
    );
    let lifted = shell.run(&["unfreeze", id, "--reason", "r", "-o", "json"]).json();
    assert_eq!(lifted["lifted"][0]["reason"], "r");
    assert_eq!(shell.run(&["freeze", "list", "-o", "json"]).json(), json!([]));
    assert_eq!(
        shell
            .run(&["freeze", "list", "--all", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
