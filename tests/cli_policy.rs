//! `policy check` and `policy eval`: the desk of who writes policies, without a server.

use keyward::policy::{Input, Phase};
use serde_json::{Value, json};

use crate::support::Shell;
use crate::support::cli::transcript;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first-release/policy");

const POLICY: &str = "package release.disk

import data.keyward.sev

default allow := false

allow if {
\tsev.launch_digest_in(data.approved)
\tnot input.owner in data.closed
}

deny contains sprintf(\"build %v is below 8\", [input.attested.build_id]) if input.attested.build_id < 8

release_limit := 3
";

/// A folder with a good repository and an input for each phase.
fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("policy/release/disk.rego", POLICY);
    let digest = Input::example(Phase::Release).attested.launch_digest.unwrap();
    shell.write(
        "policy/data.json",
        json!({"approved": [digest], "closed": ["nobody"]}).to_string(),
    );
    for phase in [Phase::Launch, Phase::Release] {
        let input = serde_json::to_string(&Input::example(phase)).unwrap();
        shell.write(&format!("{}.json", phase.as_str()), input);
    }
    shell
}

#[test]
fn check_shows_what_is_wrong_as_the_server_would() {
    let shell = shell();
    let mut all = String::new();
    let mut run = |arguments: &str, code: i32| {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, code, "{arguments}: {}{}", ran.out, ran.err);
        all.push_str(&format!("$ keyward {arguments}\n{}{}\n", ran.out, ran.err));
    };
    run("policy check policy", 0);
    run("policy check policy -o json", 0);
    run("policy check nowhere", 1);
    shell.write(
        "policy/release/disk.rego",
        POLICY
            .replace("launch_digest_in", "launch_digests_in")
            .replace("data.closed", "data.closd")
            + "\nmany if input.claimed.cpu_count > 8\n\ndenny contains \"x\" if many\n",
    );
    for form in ["pretty", "json", "github", "sarif"] {
        run(&format!("policy check policy -o {form}"), 1);
    }
    shell.write(
        "policy/release/disk.rego",
        format!("{POLICY}\nreleas_limit := 2\n"),
    );
    run("policy check policy", 0);
    run("policy check policy -o github", 0);
    shell.write("policy/release/disk.rego", "package release.disk\nallow if {\n");
    run("policy check policy", 1);
    transcript("policy-check.txt", &all);
}

#[test]
fn eval_is_the_decision_with_its_exit_code() {
    let shell = shell();
    let eval = |arguments: &str| {
        let line = format!("policy eval policy --policy release.disk {arguments}");
        shell.run(&line.split_whitespace().collect::<Vec<_>>())
    };
    let allowed = eval("--phase release --input release.json -o json");
    assert_eq!(allowed.code, 0, "{}", allowed.err);
    let verdict: Value = serde_json::from_str(&allowed.out).unwrap();
    assert_eq!(
        verdict,
        json!({"policy": "release.disk", "allow": true, "deny": [], "release_limit": 3, "error": null, "reason": "allowed"})
    );

    let mut old = Input::example(Phase::Release);
    old.attested.build_id = Some(7);
    shell.write("old.json", serde_json::to_string(&old).unwrap());
    let denied = eval("--phase release --input old.json -o json");
    assert_eq!(denied.code, 2, "{}", denied.err);
    let verdict: Value = serde_json::from_str(&denied.out).unwrap();
    assert_eq!(
        (&verdict["allow"], &verdict["deny"]),
        (&json!(false), &json!(["build 7 is below 8"]))
    );
    let shown = eval("--input old.json");
    assert_eq!(
        (shown.code, shown.out.as_str()),
        (
            2,
            "DENIED  release.disk: denied: build 7 is below 8\n  deny           build 7 is below 8\n  release_limit  3\n"
        )
    );
    // A policy without a rule for launch leaves it to the server.
    assert_eq!(eval("--phase launch --input launch.json").code, 0);

    // The server's own policy is there too, and denies without a registration.
    let built_in = "policy eval policy --policy keyward.workload --input release.json -o json";
    assert_eq!(shell.run(&built_in.split(' ').collect::<Vec<_>>()).code, 2);
}

#[test]
fn eval_that_can_t_be_asked_fails_with_what_to_do() {
    let shell = shell();
    let fail = |arguments: &str| {
        let line = format!("policy eval policy {arguments}");
        let ran = shell.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{arguments}: {}", ran.err);
        ran.err
    };
    assert_eq!(
        fail("--policy release.disc --input release.json"),
        "error: there is no policy `release.disc`: did you mean `release.disk`?\n"
    );
    let phase = fail("--policy release.disk --input launch.json");
    assert!(phase.contains("the input is of phase launch"), "{phase}");
    let mut input = serde_json::to_value(Input::example(Phase::Release)).unwrap();
    input["attested"].as_object_mut().unwrap().remove("build_id");
    shell.write("hole.json", input.to_string());
    let hole = fail("--policy release.disk --input hole.json");
    assert!(hole.contains("`attested`: missing field `build_id`"), "{hole}");
    input["attested"]["build_id"] = json!(300);
    shell.write("hole.json", input.to_string());
    assert!(fail("--policy release.disk --input hole.json").contains("attested.build_id"));
    assert!(fail("--policy release.disk --input nowhere.json").contains("nowhere.json"));
    shell.write("policy/release/disk.rego", format!("{POLICY}allow if inputt\n"));
    let broken = fail("--policy release.disk --input release.json");
    assert!(broken.contains("--> policy/release/disk.rego:15:10"), "{broken}");
    assert_eq!(shell.run(&["policy", "eval", "policy"]).code, 64);
}

#[test]
fn the_example_s_policy_passes() {
    let checked = Shell::new().run(&["policy", "check", EXAMPLE]);
    assert_eq!(
        (checked.code, checked.out.as_str()),
        (0, "Fine: release.database\n"),
        "{}",
        checked.err
    );
}

#[test]
fn a_policy_that_hangs_is_denied_and_the_command_ends() {
    let shell = shell();
    let mut text = "package hang\n\nallow if {\n\tinput.owner == \"loop\"\n".to_owned();
    for side in ["x", "y"] {
        text.push_str(&format!("\t{side}0 := [input.version]\n"));
        for n in 0..40 {
            text.push_str(&format!("\t{side}{} := [{side}{n}, {side}{n}]\n", n + 1));
        }
    }
    shell.write("policy/hang.rego", text + "\tx40 == y40\n}\n");
    let input = Input {
        owner: "loop".to_owned(),
        ..Input::example(Phase::Release)
    };
    shell.write("loop.json", serde_json::to_string(&input).unwrap());
    let ran = shell.run(&[
        "policy",
        "eval",
        "policy",
        "--policy",
        "hang",
        "--input",
        "loop.json",
        "-o",
        "json",
    ]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let verdict: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(verdict["error"]["kind"], "time-limit");
}

const TESTS: &str = "package release.disk_test

import data.release.disk

good := {\"owner\": \"acme\", \"attested\": {\"launch_digest\": data.approved[0], \"build_id\": 9}}

test_approved if disk.allow with input as good

test_limit if disk.release_limit == 3

test_closed if {
\tclosed := object.union(good, {\"owner\": \"nobody\"})
\tnot disk.allow with input as closed
}

todo_test_later if false
";

#[test]
fn tests_are_run_as_opa_runs_them_in_every_form() {
    let shell = shell();
    shell.write("policy/release/disk_test.rego", TESTS);
    let mut all = String::new();
    let mut run = |arguments: &str, code: i32| {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, code, "{arguments}: {}{}", ran.out, ran.err);
        let timeless = regex::Regex::new(r#"(time="|"duration": )[0-9.]+"#).unwrap();
        let out = timeless.replace_all(&ran.out, "${1}0");
        all.push_str(&format!("$ keyward {arguments}\n{out}{}\n", ran.err));
    };
    run("policy test policy", 0);
    run("policy test policy -v", 0);
    run("policy test policy -v --run closed", 0);
    run("policy test policy --run nothing", 0);
    run("policy test policy --coverage --threshold 100", 0);
    run("policy test policy --run limit --coverage --threshold 100", 2);
    run("policy test policy --coverage -o json", 0);
    let failing = "\ntest_wrong if {\n\tprint(\"limit\", disk.release_limit)\n\tdisk.release_limit == 4\n\tdisk.allow\n}\n\n\
                   test_broken if to_number(\"x\") == 1\n";
    shell.write("policy/release/disk_test.rego", format!("{TESTS}{failing}"));
    for form in ["pretty", "json", "junit", "tap"] {
        run(&format!("policy test policy -o {form}"), 2);
    }
    shell.write("policy/release/disk_test.rego", "package t\ntest_a if {\n");
    run("policy test policy", 1);
    transcript("policy-test.txt", &all);
}

#[test]
fn the_example_s_tests_reach_all_of_its_policy() {
    let ran = Shell::new().run(&["policy", "test", EXAMPLE, "--coverage", "--threshold", "100"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn tests_side_by_side_print_what_they_print_one_after_the_other() {
    let shell = shell();
    let mut tests = TESTS.to_owned();
    for n in 0..40 {
        tests.push_str(&format!(
            "\ntest_{n} if {{\n\tprint(\"number\", {n})\n\tinput.version + {n} == {}\n\tdisk.allow\n}}\n",
            n % 3
        ));
    }
    shell.write("policy/release/disk_test.rego", tests);
    let timeless = regex::Regex::new(r#"(time="|"duration": )[0-9.]+"#).unwrap();
    let printed = |options: &str| {
        let arguments = format!("policy test policy {options}");
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, 2, "{options}: {}", ran.err);
        timeless.replace_all(&ran.out, "${1}0").into_owned()
    };
    for form in [
        "-v --coverage",
        "-o json",
        "-o json --coverage",
        "-o junit",
        "-o tap",
    ] {
        let alone = printed(&format!("{form} --parallel 1"));
        assert!(!alone.is_empty());
        for parallel in ["", "-p 2", "-p 7", "--parallel 0"] {
            assert_eq!(printed(&format!("{form} {parallel}")), alone, "{form} {parallel}");
        }
    }
    let refused = shell.run(&["policy", "test", "policy", "--parallel", "many"]);
    assert_eq!(refused.code, 64, "{}", refused.err);
}
