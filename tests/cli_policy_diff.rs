//! `policy diff` and `policy new`: what a change changes, and where a repository begins.

use serde_json::{Value, json};

use crate::policy_replay::{decided, policy};
use crate::support::Shell;
use crate::support::cli::{masked, transcript};

const RULES: &str = "package release.disk

import data.keyward.sev

default allow := false

allow if sev.launch_digest_in(data.approved)

# Nobody of these.
closed if input.owner in {\"nobody\"}

deny contains \"closed\" if closed

release_limit := data.most
";

/// Two repositories that differ in every way.
fn two() -> Shell {
    let shell = Shell::new();
    shell.write("a/release/disk.rego", RULES);
    shell.write("a/release/old.rego", "package release.old\n\nallow := true\n");
    shell.write(
        "a/data.json",
        json!({"approved": ["aa", "bb"], "most": 3, "gone": true}).to_string(),
    );
    shell.write("a/.manifest", json!({"revision": "1"}).to_string());
    let changed = RULES
        .replace("allow if sev", "allow if {\n\tsev.no_debug\n\tsev")
        .replace("approved)\n", "approved)\n}\n")
        .replace(
            "# Nobody of these.\nclosed if input.owner in {\"nobody\"}\n\n",
            "",
        )
        .replace(" if closed", " if input.owner == \"nobody\"");
    shell.write(
        "b/release/disk.rego",
        changed + "\ndeny_launch contains \"no\" if input.owner == \"nobody\"\n",
    );
    shell.write(
        "b/release/new.rego",
        "package release.new\n\ndefault allow := false\n",
    );
    shell.write(
        "b/release/disk_test.rego",
        "package release.disk_test\n\ntest_a if true\n",
    );
    shell.write("b/lib/lib.rego", "package lib\n\nx := 1\n");
    let data = json!({"approved": ["bb", "cc"], "most": 10, "odd name": {"\u{1b}[2J": 1}});
    shell.write("b/data.json", data.to_string());
    shell.write("b/.manifest", json!({"revision": "2"}).to_string());
    shell
}

#[test]
fn rules_data_manifest_and_limits_are_compared() {
    let shell = two();
    // The same rules in another file: another bundle, but nothing that differs in words.
    shell.write("moved/release/elsewhere.rego", RULES);
    shell.write("one/release/disk.rego", RULES);
    for folder in ["moved", "one"] {
        shell.write(
            &format!("{folder}/data.json"),
            json!({"approved": ["aa"], "most": 3}).to_string(),
        );
    }
    shell.write("sorted/release/disk.rego", RULES);
    shell.write(
        "sorted/data.json",
        json!({"approved": ["bb", "aa"], "most": 3, "gone": true}).to_string(),
    );
    shell.write("broken/a.rego", "package a\nallow if {\n");
    let mut text = String::new();
    let mut run = |line: &str, code: i32| {
        let ran = shell.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, code, "{line}: {}{}", ran.out, ran.err);
        assert!(
            !ran.out.contains('\u{1b}'),
            "no colour in a pipe, and no escape of the data's"
        );
        text.push_str(&masked(&format!("$ keyward {line}\n{}{}\n", ran.out, ran.err)));
    };
    run("policy diff a b", 2);
    run("policy diff a b -o json", 2);
    run("policy diff a a", 0);
    run("policy diff one moved", 2);
    run("policy diff a sorted", 2);
    run("policy diff a broken", 1);
    run("policy diff a nowhere", 1);
    run("policy diff a active", 1);
    run("policy diff a", 64);
    transcript("policy-diff.txt", &text);
}

#[test]
fn revisions_of_a_server_are_compared_and_what_that_does_to_its_decisions() {
    let app = decided();
    let shell = Shell::new();
    shell.write("token", &app.token);
    let rules = |limit| policy("is_string(input.attested.launch_digest)", limit);
    shell.write("candidate/release/any.rego", rules(1));
    let bundles = app.owner("GET", "/v1/bundles", &Value::Null).ok().body;
    let active = bundles["active"].as_str().unwrap().to_owned();
    let items = bundles["items"].as_array().unwrap();
    let older = items
        .iter()
        .map(|item| item["digest"].as_str().unwrap())
        .find(|digest| **digest != active)
        .unwrap();
    let diff = |first: &str, second: &str| {
        let server = ["--server", app.base.as_str(), "--token-file", "token"];
        shell.run(&[&["policy", "diff", first, second, "-o", "json"], &server[..]].concat())
    };
    let same = diff("active", &active[..12]);
    assert_eq!(same.code, 0, "{}", same.err);
    let loosened = diff(&older[..8], "active");
    assert_eq!(loosened.code, 2, "{}", loosened.err);
    let report: Value = serde_json::from_str(&loosened.out).unwrap();
    assert_eq!(
        (&report["first"], &report["second"]),
        (&json!(older), &json!(active))
    );
    assert_eq!(report["packages"][0]["rules"][0]["rule"], "allow");
    assert_eq!(
        report["recorded"]["flips"],
        json!([
            {"from": "denied", "to": "held", "loosens": true, "count": 1},
            {"from": "denied", "to": "released", "loosens": true, "count": 3},
        ])
    );
    let tightened = diff("active", "candidate");
    let report: Value = serde_json::from_str(&tightened.out).unwrap();
    assert_eq!(
        report["limits"],
        json!([{"policy": "release.any", "old": 2, "new": 1}])
    );
    assert_eq!(
        report["recorded"]["flips"],
        json!([{"from": "released", "to": "held", "loosens": false, "count": 1}])
    );
    let unknown = diff("active", "00000000ff");
    assert!(
        unknown.code == 1
            && unknown
                .err
                .contains("no bundle of the server begins with 00000000ff"),
        "{}",
        unknown.err
    );
    let short = diff("active", &active[..7]);
    assert!(
        short.code == 1 && short.err.contains("at least 8 digits"),
        "{}",
        short.err
    );
    // With a file of decisions, for people.
    let all = serde_json::to_string(&app.decisions()).unwrap();
    shell.write("decisions.json", all);
    shell.write("older/release/any.rego", policy("input.owner == \"nobody\"", 2));
    let shown = shell.run(&[
        "policy",
        "diff",
        "older",
        "candidate",
        "--decisions",
        "decisions.json",
    ]);
    assert_eq!(shown.code, 2, "{}", shown.err);
    transcript("policy-diff-decisions.txt", &masked(&shown.out));
}

#[test]
fn a_new_repository_passes_its_own_checks_and_tests_at_once() {
    let shell = Shell::new();
    for (folder, name) in [("a", None), ("b", Some("team.release.backup_key"))] {
        let mut arguments = vec!["policy", "new", folder];
        arguments.extend(name.iter().flat_map(|name| ["--name", *name]));
        let told = shell.run(&arguments).done();
        if folder == "a" {
            transcript("policy-new.txt", &format!("$ keyward policy new a\n{told}"));
        }
        let name = name.unwrap_or("release.database");
        let checked = shell.run(&["policy", "check", folder, "-o", "json"]).json();
        assert_eq!(checked, json!({"policies": [name], "errors": [], "warnings": []}));
        let tested = shell
            .run(&["policy", "test", folder, "--coverage", "--threshold", "100"])
            .done();
        assert!(tested.contains("PASS: 10/10"), "{tested}");
        let path = name.replace('.', "/");
        for file in [
            format!("{path}.rego"),
            format!("{path}_test.rego"),
            "README.md".to_owned(),
            ".manifest".to_owned(),
        ] {
            let text = shell.read(&format!("{folder}/{file}"));
            assert!(!text.contains('@'), "{file} has a place that was not filled");
            let tidy = |line: &str| line == line.trim_end() && !line.starts_with(' ');
            let rego = file.ends_with(".rego");
            assert!(
                !rego || text.lines().all(|line| line.starts_with('#') || tidy(line)),
                "{file} is not as `opa fmt` leaves it"
            );
        }
        let workflow = shell.read(&format!("{folder}/.github/workflows/policy.yml"));
        let workflow: Value = serde_yaml::from_str(&workflow).unwrap();
        let steps = workflow["jobs"]["policy"]["steps"].as_array().unwrap();
        let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
        assert!(runs.contains(&"keyward policy check -o github ."), "{runs:?}");
        assert!(
            runs.contains(&"keyward policy test --coverage --threshold 100 ."),
            "{runs:?}"
        );
    }
}

#[test]
fn a_new_repository_is_written_whole_or_not_at_all() {
    let shell = Shell::new();
    shell.write("full/notes.txt", "mine");
    let refused = shell.run(&["policy", "new", "full"]).failed();
    assert_eq!(
        refused,
        "error: full is not empty (it has notes.txt): name a folder that is, or none that is there\n"
    );
    assert_eq!(shell.list("full"), ["notes.txt"]);
    for (name, why) in [
        (
            "database",
            "expected words with dots between them, such as release.database",
        ),
        (
            "release/database",
            "expected words with dots between them, such as release.database",
        ),
        (
            "release.1st",
            "expected words with dots between them, such as release.database",
        ),
        ("release.default", "`default` is a word of Rego's own"),
        ("keyward.mine", "`keyward` is taken; begin with another word"),
        ("release.mine_test", "the bundle holds no policy"),
    ] {
        let ran = shell.run(&["policy", "new", "fresh", "--name", name]);
        assert_eq!(
            (ran.code, ran.err),
            (64, format!("error: --name {name}: {why}\n"))
        );
        assert!(!shell.path("fresh").exists(), "{name}");
    }
}
