//! `apply`: what manifests say is registered whole, or refused with the place of what is wrong.

use crate::support::Shell;
use crate::support::cli::transcript;

/// Manifests that are wrong before a server hears of them.
const MISTAKES: [&str; 31] = [
    "kind: Firmware\nname: ovmf\nfiel: guest.fd\n",
    "kind: Firmware\nname: ovmf\n",
    "kind: Firmware\nname: ovmf\nfile: nowhere.fd\n",
    "kind: Firmware\nname: ovmf build 4\nfile: nowhere.fd\n",
    "# A comment.\n---\nkind: KeySet\nname: all\nsecrets: []\n---\n\n# Another.\nname: lost\nfile: x\n",
    "kind: Firmwear\nname: ovmf\n",
    "kind: KeySet\nname: all\nsecrets: disk\n",
    "kind: KeySet\nname: all\nsecrets: [disk, 'a b']\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: hunter2\n",
    "kind: Secret\nname: disk\ntype: opaque\npassphrase: hunter2\nvalue: {generate: 3}\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {base64: hunter2!}\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {base64: hunter2}\n  oops: hunter2\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {file: a, generate: 3}\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {}\n",
    "kind: Secret\nname: disk\ntype: opake\nvalue: {generate: 3}\n",
    "kind: Secret\nname: disk\ntype: opaque\nguid: 123\nvalue: {generate: 3}\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {file: nowhere}\n",
    "kind: Secret\nname: disk\ntype: opaque\nvalue: {env: NOT_SET}\n",
    "kind: PolicyBundle\npath: nowhere\n",
    "kind: PolicyBundle\npath: empty\n",
    "kind: Workload\nname: web\nscheme: amd-sev-snp\nsecrets: [disk]\n",
    "kind: Workload\nname: web\n  scheme: amd-sev\n",
    "kind: Workload\nname: web\nscheme: amd-sev\nsecrets: [disk]\nvcpus: -1\n",
    "kind: Workload\nname: web\nname: web\nscheme: amd-sev\nsecrets: [disk]\n",
    "kind: Workload\nname: web\nscheme: amd-sev\nsecrets: [disk]\nimages:\n- {name: one, firmware: ovmf, kernel: nowhere}\n",
    "- kind: Workload\n",
    "--- {kind: Secret, name: disk, type: opaque, value: {base64: aHVudGVyMg==, text: hunter2}}\n",
    "\"kind\": \"Secret\"\n\"name\": \"disk\"\n\"type\": \"opaque\"\n\"passphrase\": \"hunter2\"\n",
    "? kind\n: !!str \"S\\x65cret\"\n? name\n: disk\n? word\n: hunter2\n",
    "{kind: secret, name: disk, word: hunter2}\n",
    "{kind: Firmwear, name: ovmf, word: hunter2}\n",
];

#[test]
fn a_mistake_in_a_manifest_is_shown_where_it_is_and_shows_no_secret() {
    let mut shell = Shell::new();
    shell.write("token", "kw_DhgUaxSUDD2GEzf5DO6oeVHBJBVh9p0vVU9Jw-DI6Wg\n");
    shell.write("empty/readme", "");
    shell.set("KEYWARD_TOKEN_FILE", "token");
    let mut all = String::new();
    for text in MISTAKES {
        shell.write("m.yaml", text);
        let error = shell.run(&["apply", "-f", "m.yaml"]).failed();
        assert!(error.contains("--> m.yaml:"), "{text}\n{error}");
        assert!(!error.contains("hunter2"), "{text}\n{error}");
        all.push_str(&format!("{text}\n{error}\n{}\n", "-".repeat(72)));
    }
    transcript("manifest-mistakes.txt", &all);
}

#[test]
fn manifests_that_are_missing_or_empty_are_named() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_TOKEN_FILE", "token");
    shell.write("folder/readme.txt", "");
    shell.write("empty.yaml", "# nothing yet\n");
    for (file, expected) in [
        (
            "nowhere",
            "error: nowhere: No such file or directory (os error 2)\n",
        ),
        (
            "folder",
            "error: folder holds no file that ends in .yaml or .yml\n",
        ),
        (
            "empty.yaml",
            "error: there is nothing to register in what -f names\n",
        ),
    ] {
        assert_eq!(shell.run(&["apply", "-f", file]).failed(), expected);
    }
}

const POLICY: &str =
    "package release.disk\n\ndefault allow := false\n\nallow if is_string(input.attested.launch_digest)\n";

const GOOD: &str = "kind: PolicyBundle
path: policy
---
kind: Secret
name: disk
type: luks-passphrase
value: {env: PASSPHRASE}
policies: [release.disk]
---
kind: Workload
name: web
scheme: amd-sev
policy: 3
launch_digests: ['8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c']
secrets: [disk]
";

/// A folder with a good manifest, and a server.
fn served() -> (Shell, crate::support::cli::Server) {
    let mut shell = Shell::initialised();
    shell.set("PASSPHRASE", "correct horse");
    shell.write("policy/release/disk.rego", POLICY);
    shell.write("m.yaml", GOOD);
    let server = shell.served();
    (shell, server)
}

fn actions(shell: &Shell, arguments: &[&str]) -> Vec<String> {
    let applied = shell.run(&[&["apply", "-o", "json"], arguments].concat()).json();
    let changes = applied["changes"].as_array().unwrap().iter();
    changes
        .map(|change| change["action"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn it_says_what_changes_and_a_second_time_changes_nothing() {
    let (shell, _server) = served();
    assert_eq!(actions(&shell, &["-f", "m.yaml", "--dry-run"]), ["created"; 3]);
    assert_eq!(actions(&shell, &["-f", "m.yaml"]), ["created"; 3]);
    assert_eq!(actions(&shell, &["-f", "m.yaml"]), ["unchanged"; 3]);
    shell.write("m.yaml", GOOD.replace("policy: 3", "policy: 35"));
    assert_eq!(
        actions(&shell, &["-f", "m.yaml"]),
        ["unchanged", "unchanged", "updated"]
    );
}

#[test]
fn a_folder_is_applied_in_the_order_of_its_files_names() {
    let (shell, _server) = served();
    let documents: Vec<_> = GOOD.split("---\n").collect();
    for (name, text) in ["c.yml", "b.yaml", "a.yaml"].iter().zip(documents) {
        shell.write(
            &format!("all/{name}"),
            text.replace("path: policy", "path: ../policy"),
        );
    }
    shell.write("all/notes.txt", "kind: Nonsense\n");
    let table = shell.run(&["apply", "-f", "all"]).done();
    let kinds: Vec<_> = table
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(kinds, ["Workload", "Secret", "PolicyBundle"]);
}

#[test]
fn the_outputs_are_a_table_json_and_yaml() {
    let (shell, _server) = served();
    let good = GOOD.replace(
        "name: web",
        "name: web\nuuid: 11111111-2222-4333-8444-555555555555",
    );
    shell.write("m.yaml", good);
    let mut all = String::new();
    for arguments in ["--dry-run", "", "-o yaml", "-o json"] {
        let line = format!("apply -f m.yaml {arguments}");
        let out = shell.run(&line.split_whitespace().collect::<Vec<_>>()).done();
        all.push_str(&format!("$ keyward {line}\n{out}\n"));
    }
    transcript("apply.txt", &all);
}

#[test]
fn what_can_t_be_registered_is_said_with_a_hint_and_nothing_else_is_registered_either() {
    let (shell, _server) = served();
    let mut all = String::new();
    for (from, to, place) in [
        (
            "policies: [release.disk]",
            "policies: [relaese.disk]",
            "m.yaml:8:12",
        ),
        ("policies: [release.disk]", "policies: []", "m.yaml:15:11"),
        ("secrets: [disk]", "secrets: [disc]", "m.yaml:15:11"),
        ("secrets: [disk]", "secrets: []", "m.yaml:15:1"),
        ("type: luks-passphrase", "type: opaque", "m.yaml:4:1"),
        (
            "launch_digests: ['8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c']",
            "images: [{name: one, firmware: ovmf}]",
            "m.yaml:14:32",
        ),
        (
            "path: policy",
            "path: policy\npolicies: [release.disc]",
            "m.yaml:3:12",
        ),
        (
            "secrets: [disk]",
            "secrets: [disk]\npolicies:\n  # release.web\n  - release.web",
            "m.yaml:18:5",
        ),
        (
            "name: disk\ntype: luks-passphrase\nvalue: {env: PASSPHRASE}\npolicies: [release.disk]",
            "name: database/disk\ntype: luks-passphrase\nvalue: {env: PASSPHRASE}\npolicies: [database]",
            "m.yaml:8:12",
        ),
        (
            "policies: [release.disk]",
            "policies:\n- release.disk\n- release.dis",
            "m.yaml:10:3",
        ),
        (
            "launch_digests: ['8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c']",
            "images: [{name: ovmf/1, firmware: ovmf}]",
            "m.yaml:14:35",
        ),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        shell.write("m.yaml", text);
        let said = shell.run(&["apply", "-f", "m.yaml"]).failed();
        assert!(said.contains(&format!(" --> {place}\n")), "{to}: {said}");
        all.push_str(&format!("{said}{}\n", "-".repeat(72)));
    }
    transcript("register-mistakes.txt", &all);
    shell.write("m.yaml", GOOD);
    assert_eq!(
        actions(&shell, &["-f", "m.yaml"]),
        ["created"; 3],
        "something had been registered"
    );
}

#[test]
fn what_is_wrong_in_a_policy_is_shown_in_its_own_line() {
    let (shell, _server) = served();
    let mut all = String::new();
    for wrong in [
        "allow if inputt.x == 1",
        "allow if input.attested.lunch_digest == \"\"",
        "allow if input.claimed.cpu_count <= 8",
        "allow if http.send({}).status == 200",
        "allow if {",
        "allow if { x := 1; x := 2 }",
    ] {
        shell.write("policy/release/disk.rego", format!("{POLICY}\n{wrong}\n"));
        let ran = shell.run(&["apply", "-f", "m.yaml"]);
        assert_eq!(ran.code, 1, "{wrong} was taken: {}", ran.out);
        let said = ran.failed();
        assert!(
            said.contains("--> policy/release/disk.rego:7:")
                || said.contains("--> policy/release/disk.rego:8:"),
            "{wrong}: {said}"
        );
        all.push_str(&format!("{said}\n{}\n", "-".repeat(72)));
    }
    transcript("policy-mistakes.txt", &all);
    shell.write("policy/release/disk.rego", POLICY);
    assert_eq!(
        actions(&shell, &["-f", "m.yaml"]),
        ["created"; 3],
        "something had been registered"
    );
}

#[test]
fn who_can_t_be_asked_or_does_not_know_the_token_is_named() {
    let (shell, server) = served();
    shell.write("other", "kw_DhgUaxSUDD2GEzf5DO6oeVHBJBVh9p0vVU9Jw-DI6Wg\n");
    shell.write("junk", "hunter2\n");
    let fail = |arguments: &[&str]| shell.run(&[&["decision", "list"], arguments].concat()).failed();
    assert_eq!(
        fail(&["--token-file", "other"]),
        format!(
            "error: {} does not know this token, or it has expired or was revoked: name the file of a valid one with --token-file\n",
            server.url
        )
    );
    assert_eq!(
        fail(&["--token-file", "junk"]),
        "error: token file junk: not a token: expected `kw_` and 43 characters\n"
    );
    assert_eq!(
        fail(&["--token-file", "nowhere"]),
        "error: token file nowhere: No such file or directory (os error 2)\n"
    );
    assert_eq!(
        fail(&["--server", "http://192.0.2.1:8443"]),
        "error: http://192.0.2.1:8443: a token is sent over https:// only; http:// is for a loopback address\n"
    );
    let url = server.url.clone();
    assert_eq!(server.stop().0, 0);
    let said = fail(&[]);
    assert!(
        said.starts_with(&format!("error: {url} can't be reached: ")),
        "{said}"
    );
    assert!(
        said.ends_with("is the server running there? Name another with --server\n"),
        "{said}"
    );
}
