//! `diff`, `get`, `delete` and `apply --prune`: manifests are what is registered, and what differs is seen.

use serde_json::Value;

use crate::support::Shell;
use crate::support::cli::{Ran, Server, masked, transcript};

pub(crate) const POLICY: &str =
    "package release.disk\n\ndefault allow := false\n\nallow if is_string(input.attested.launch_digest)\n";

pub(crate) const GOOD: &str = "kind: PolicyBundle
path: policy
---
kind: Secret
name: disk
type: luks-passphrase
value: {env: PASSPHRASE}
policies: [release.disk]
labels: {app: web, tier: data}
---
kind: Secret
name: api
type: opaque
guid: 5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e
value: {generate: 32}
policies: [release.disk]
labels: {app: web}
---
kind: KeySet
name: all
secrets: [disk, api]
policies: [release.disk]
labels: {app: web}
---
kind: Firmware
name: ovmf
file: firmware.fd
labels: {app: web}
---
kind: Workload
name: web
scheme: amd-sev-es
policy: 7
vcpus: 2
uuid: 11111111-2222-4333-8444-555555555555
images:
- name: one
  firmware: ovmf
  vcpu_type: EPYC-Milan
  vcpus: [1, 2]
- name: two
  firmware: ovmf
  kernel: kernel
  initrd: initrd
  cmdline: console=ttyS0
  vcpu_type: EPYC-Milan
secrets: [disk, api]
labels: {app: web}
";

/// A folder with a good manifest, and a server that has nothing of it yet.
pub(crate) fn served() -> (Shell, Server) {
    let mut shell = Shell::initialised();
    shell.set("PASSPHRASE", "correct horse battery staple");
    shell.write("policy/release/disk.rego", POLICY);
    shell.write("kernel", "a kernel");
    shell.write("initrd", "an initial RAM disk");
    let firmware = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    shell.write("firmware.fd", std::fs::read(firmware).unwrap());
    shell.write("m.yaml", GOOD);
    let server = shell.served();
    (shell, server)
}

pub(crate) fn run(shell: &Shell, line: &str) -> Ran {
    shell.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// What `-o json` says became of each object.
fn actions(ran: Ran) -> Vec<(String, String, String)> {
    let changes = ran.json()["changes"].take();
    let word = |change: &Value, member: &str| change[member].as_str().unwrap().to_owned();
    let changes = changes.as_array().unwrap().iter();
    changes
        .map(|change| (word(change, "kind"), word(change, "name"), word(change, "action")))
        .collect()
}

#[track_caller]
fn assert_actions(ran: Ran, expected: &[(&str, &str, &str)]) {
    let found = actions(ran);
    let found: Vec<_> = found
        .iter()
        .map(|(kind, name, action)| (kind.as_str(), name.as_str(), action.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn diff_shows_what_would_change_and_never_a_value() {
    let (shell, _server) = served();
    let mut all = String::new();
    let mut show = |line: &str, code: i32| {
        let ran = run(&shell, line);
        assert_eq!(ran.code, code, "{line}: {}{}", ran.out, ran.err);
        let shown = format!("{}{}", ran.out, ran.err);
        assert!(
            !shown.contains("correct horse") && !shown.contains('\u{1b}'),
            "{shown}"
        );
        all.push_str(&format!("$ keyward {line}\n{shown}\n"));
    };
    show("diff -f m.yaml", 2);
    run(&shell, "apply -f m.yaml").done();
    show("diff -f m.yaml", 0);
    shell.write(
        "policy/release/disk.rego",
        POLICY.replace(
            "is_string(input.attested.launch_digest)",
            "{\n\tis_string(input.attested.launch_digest)\n\tinput.attested.build_id > 8\n}",
        ),
    );
    shell.write("staple", "another passphrase");
    let text = GOOD
        .replace("{env: PASSPHRASE}", "{file: staple}")
        .replace("{generate: 32}", "{generate: 64}")
        .replace("console=ttyS0", "console=ttyS1")
        .replace("vcpus: [1, 2]", "vcpus: [1, 4]")
        .replace("tier: data", "tier: store")
        .replace("kind: KeySet\nname: all", "kind: KeySet\nname: both");
    shell.write("n.yaml", text);
    show("diff -f n.yaml --prune -l app=web", 2);
    show("apply -f n.yaml --dry-run", 0);
    show("diff -f n.yaml -o json", 2);
    show("diff -f m.yaml --server http://127.0.0.1:1", 1);
    // The policy's own file is back, and nothing that was only asked about was done.
    shell.write("policy/release/disk.rego", POLICY);
    show("diff -f m.yaml -o yaml", 0);
    transcript("declare-diff.txt", &masked(&all));
}

#[test]
fn what_get_prints_is_applied_back_and_changes_nothing() {
    let (shell, _server) = served();
    run(&shell, "apply -f m.yaml").done();
    let before = run(&shell, "get all -o json").json();
    let manifests = run(&shell, "get all -o yaml").done();
    assert!(!manifests.contains("correct horse"), "{manifests}");
    shell.write("back/all.yaml", &manifests);
    let diff = run(&shell, "diff -f back");
    assert_eq!(diff.code, 0, "{}{}", diff.out, diff.err);
    for (_, _, action) in actions(run(&shell, "apply -f back --prune -l app=web -o json")) {
        assert_eq!(action, "unchanged");
    }
    assert_eq!(run(&shell, "get all -o json").json(), before);
    let mut all = String::new();
    for line in [
        "get all",
        "get all -o yaml",
        "get secrets -l tier=data",
        "get workload 11111111-2222-4333-8444-555555555555",
        "get firmware ovmf -o json",
        "get owner -o yaml",
        "get tokens",
    ] {
        let out = run(&shell, line).done();
        all.push_str(&format!("$ keyward {line}\n{out}\n"));
    }
    for line in ["get secret nobody", "get secrets -l tier", "get secretz"] {
        let ran = run(&shell, line);
        assert_ne!(ran.code, 0, "{line}: {}", ran.out);
        all.push_str(&format!("$ keyward {line}\n{}\n", ran.err));
    }
    transcript("declare-get.txt", &masked(&all));
}

#[test]
fn what_a_manifest_leaves_out_stays_and_can_t_be_left_out_of_what_is_new() {
    let (shell, _server) = served();
    let secret = "kind: Secret\nname: disk\ntype: luks-passphrase\npolicies: []\n";
    shell.write("s.yaml", secret);
    let said = run(&shell, "apply -f s.yaml").failed();
    assert!(
        said.contains("Secret disk: is not registered, so that it needs a `value`")
            && said.contains("s.yaml:1:1"),
        "{said}"
    );
    let digest = "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c";
    for (text, expected) in [
        (
            format!("kind: Firmware\nname: ovmf\nsha256: {digest}\n"),
            "Firmware ovmf: is not registered, so that its bytes are needed",
        ),
        (
            format!("kind: PolicyBundle\ndigest: {digest}\n"),
            "PolicyBundle: no bundle is active; it needs files",
        ),
    ] {
        shell.write("s.yaml", text);
        let said = run(&shell, "apply -f s.yaml").failed();
        assert!(said.contains(expected), "{said}");
    }
    run(&shell, "apply -f m.yaml").done();
    shell.write("s.yaml", secret);
    assert_actions(
        run(&shell, "apply -f s.yaml -o json"),
        &[("Secret", "disk", "updated")],
    );
    let secret = run(&shell, "get secret disk -o json").json();
    assert_eq!(secret[0]["status"]["version"], 1, "{secret}");
    assert_eq!(secret[0].get("labels"), None, "{secret}");
    for (text, expected) in [
        (
            format!("kind: Firmware\nname: ovmf\nsha256: {digest}\n"),
            "`sha256` says 8f765dfabc127fc0",
        ),
        (
            format!("kind: PolicyBundle\ndigest: {digest}\n"),
            "the active bundle is ",
        ),
        (
            "kind: Secret\nname: disk\ntype: opaque\nguid: 5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e\n".to_owned(),
            "is of type luks-passphrase with its present value; another type needs a `value`",
        ),
    ] {
        shell.write("s.yaml", text);
        let said = run(&shell, "apply -f s.yaml").failed();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn prune_removes_what_has_the_label_and_no_manifest_says_in_the_same_transaction() {
    let (shell, _server) = served();
    run(&shell, "apply -f m.yaml").done();
    let documents: Vec<_> = GOOD.split("---\n").collect();
    // The workload and all that it needs are gone from the manifests; a new secret is in them.
    let new = "kind: Secret\nname: next\ntype: luks-passphrase\nvalue: {generate: 12}\nlabels: {app: web}\n";
    shell.write(
        "m.yaml",
        format!("{}---\n{}---\n{new}", documents[0], documents[1]),
    );
    assert_actions(
        run(&shell, "apply -f m.yaml --prune -l app=other -o json"),
        &[
            ("PolicyBundle", &bundle(&shell), "unchanged"),
            ("Secret", "disk", "unchanged"),
            ("Secret", "next", "created"),
        ],
    );
    shell.write("m.yaml", format!("{}---\n{}", documents[0], documents[1]));
    assert_actions(
        run(&shell, "apply -f m.yaml --prune -l app=web -o json"),
        &[
            ("PolicyBundle", &bundle(&shell), "unchanged"),
            ("Secret", "disk", "unchanged"),
            ("Workload", "web", "removed"),
            ("Firmware", "ovmf", "removed"),
            ("KeySet", "all", "removed"),
            ("Secret", "api", "removed"),
            ("Secret", "next", "removed"),
        ],
    );
    let left = run(&shell, "get all -o json").json();
    let left: Vec<_> = left.as_array().unwrap().iter().map(|o| &o["kind"]).collect();
    assert_eq!(left, ["PolicyBundle", "Secret"]);
    // Made again, a secret goes on with its versions and a workload with its UUID, so with its counts.
    let without = GOOD.replace("uuid: 11111111-2222-4333-8444-555555555555\n", "");
    shell.write("m.yaml", without);
    run(&shell, "apply -f m.yaml").done();
    let back = run(&shell, "get all -o json").json();
    let of = |name: &str| {
        back.as_array()
            .unwrap()
            .iter()
            .find(|o| o["name"] == name)
            .unwrap()
    };
    assert_eq!(of("api")["status"]["version"], 2);
    assert_eq!(
        of("web")["manifest"]["uuid"],
        "11111111-2222-4333-8444-555555555555"
    );
}

fn bundle(shell: &Shell) -> String {
    let all = run(shell, "get policybundle -o json").json();
    all[0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn delete_removes_all_or_nothing_and_says_what() {
    let (shell, _server) = served();
    run(&shell, "apply -f m.yaml").done();
    let mut all = String::new();
    let mut show = |line: &str, code: i32| {
        let ran = run(&shell, line);
        assert_eq!(ran.code, code, "{line}: {}{}", ran.out, ran.err);
        all.push_str(&format!("$ keyward {line}\n{}{}\n", ran.out, ran.err));
    };
    show("delete secret disk", 1);
    show("delete firmware ovmf", 1);
    show("delete keysets all nobody", 1);
    show("delete keysets all nobody --ignore-not-found --dry-run", 0);
    show("delete keysets all nobody --ignore-not-found", 0);
    show("delete owner acme", 64);
    show("delete secret", 64);
    show("delete", 64);
    show("delete token nobody", 1);
    show("delete -f m.yaml", 1);
    show("delete -f m.yaml --ignore-not-found", 0);
    show("get all", 0);
    transcript("declare-delete.txt", &masked(&all));
}

#[test]
fn labels_are_bounded_and_a_selector_is_needed_to_prune() {
    let (shell, _server) = served();
    let many: String = (0..33).map(|n| format!("l{n}: x, ")).collect();
    for (labels, expected) in [
        ("{a b: c}", "the label's key \"a b\" is not 1 to 63 characters"),
        (
            "{a: 'b c'}",
            "the value of the label a is neither empty nor 1 to 63",
        ),
        (&format!("{{{many}}}"), "33 labels are more than 32"),
        (&format!("{{{}: x}}", "k".repeat(64)), "is not 1 to 63 characters"),
    ] {
        shell.write(
            "l.yaml",
            format!("kind: KeySet\nname: all\nsecrets: []\nlabels: {labels}\n"),
        );
        let said = run(&shell, "apply -f l.yaml").failed();
        assert!(
            said.contains(expected) && said.contains("l.yaml:4:"),
            "{labels}: {said}"
        );
    }
    assert_eq!(run(&shell, "apply -f m.yaml --prune").code, 64);
    assert_eq!(run(&shell, "apply -f m.yaml -l app=web").code, 64);
    assert_eq!(run(&shell, "apply -f m.yaml --prune -l app").code, 64);
}
