//! What a policy's rules mean: the decision, its error and its reason.

use std::time::{Duration, Instant};

use keyward::policy::{ErrorKind, Input, Limits, Phase, PreparedBundle};

use super::policy_support::{bundle, launch, listed, loaded, module, release};

#[test]
fn a_release_is_allowed_by_exactly_true_and_by_nothing_else() {
    use ErrorKind::*;
    // Rules of `package p`, the decision, the error's kind and what the reason says.
    let table: &[(&str, bool, Option<ErrorKind>, &str)] = &[
        ("allow := true", true, None, "allowed"),
        ("allow if input.phase == \"release\"", true, None, "allowed"),
        ("allow := false", false, None, "allow is false"),
        (
            "default allow := false\nallow if input.owner == \"nobody\"",
            false,
            None,
            "allow is false",
        ),
        (
            "allow if input.owner == \"nobody\"",
            false,
            Some(UndefinedAllow),
            "`allow` is undefined",
        ),
        (
            "allow := [\"true\"][0]",
            false,
            Some(WrongType),
            "`allow` is the string \"true\", expected true or false",
        ),
        (
            "allow := [1][0]",
            false,
            Some(WrongType),
            "`allow` is a number, expected true or false",
        ),
        ("allow := [null][0]", false, Some(WrongType), "`allow` is null"),
        (
            "allow := [[true]][0]",
            false,
            Some(WrongType),
            "`allow` is an array",
        ),
        (
            "allow := union({{true}})",
            false,
            Some(WrongType),
            "`allow` is a set, expected true or false",
        ),
        (
            "allow := [{\"x\": true}][0]",
            false,
            Some(WrongType),
            "`allow` is an object",
        ),
        (
            "allow := true\nallow := false if input.version == 1",
            false,
            Some(EvaluationError),
            "`allow` failed",
        ),
        (
            "allow if 1 / (input.version - 1) == 0",
            false,
            Some(EvaluationError),
            "`allow` failed",
        ),
        (
            "allow if to_number(input.owner) == 1",
            false,
            Some(EvaluationError),
            "not a number",
        ),
        // An error counts even where another body is true.
        (
            "allow if input.version == 1\nallow if to_number(input.owner) == 1",
            false,
            Some(EvaluationError),
            "",
        ),
        (
            "allow if to_number(input.owner) == 1\nallow if input.version == 1",
            false,
            Some(EvaluationError),
            "",
        ),
        (
            "allow := true\ndeny contains to_number(input.owner)",
            false,
            Some(EvaluationError),
            "`deny` failed",
        ),
        ("allow := true\ndeny contains \"no\"", false, None, "denied: no"),
        (
            "allow := true\ndeny contains \"no\" if input.version == 2",
            true,
            None,
            "allowed",
        ),
        (
            "allow := true\ndeny contains {\"code\": 7}",
            false,
            None,
            "denied: {\"code\":7}",
        ),
        ("allow := true\ndeny contains false", false, None, "denied: false"),
        ("allow := true\ndeny contains \"\"", false, None, "denied: "),
        (
            "allow := true\ndeny := [[\"no\"]][0]",
            false,
            Some(WrongType),
            "`deny` is an array, expected a set of messages",
        ),
        (
            "allow := true\ndeny := [false][0]",
            false,
            Some(WrongType),
            "`deny` is a boolean",
        ),
        (
            "allow := true\ndeny := [{}][0]",
            false,
            Some(WrongType),
            "`deny` is an object",
        ),
        (
            "allow := true\ndeny := [\"no\"][0] if input.version == 2",
            true,
            None,
            "allowed",
        ),
        (
            "allow := false\ndeny contains \"no\"",
            false,
            None,
            "denied: no; allow is false",
        ),
    ];
    for (rules, allow, kind, reason) in table {
        let verdict = release(rules);
        assert_eq!(verdict.allow, *allow, "{rules}\n{verdict:?}");
        assert_eq!(
            verdict.error.as_ref().map(|error| error.kind),
            *kind,
            "{rules}\n{verdict:?}"
        );
        assert!(
            verdict.reason.contains(reason),
            "{rules}\nreason: {}\nexpected: {reason}",
            verdict.reason
        );
        assert_eq!(verdict.policy, "p");
    }
}

#[test]
fn a_reason_is_one_line_with_the_place() {
    let verdict = release("allow if {\n\tinput.version == 1\n\tto_number(input.owner) == 1\n}");
    assert_eq!(verdict.reason, "`allow` failed: p.rego:4: not a number");
}

#[test]
fn a_release_limit_is_a_whole_number_or_a_deny() {
    let valid = [
        ("3", 3),
        ("3.0", 3),
        ("0", 0),
        ("9007199254740992", 9_007_199_254_740_992),
        ("1e3", 1000),
        ("input.version + 1", 2),
    ];
    for (value, limit) in valid {
        let verdict = release(&format!("allow := true\nrelease_limit := [{value}][0]"));
        assert_eq!(
            (verdict.allow, verdict.release_limit),
            (true, Some(limit)),
            "{value}: {verdict:?}"
        );
    }
    let invalid = [
        "3.5",
        "-1",
        "\"3\"",
        "9007199254740993",
        "1e30",
        "null",
        "[3]",
        "true",
        "{3}",
    ];
    for value in invalid {
        let verdict = release(&format!("allow := true\nrelease_limit := [{value}][0]"));
        assert!(!verdict.allow, "{value}: {verdict:?}");
        assert_eq!(verdict.release_limit, None, "{value}");
        assert_eq!(
            verdict.error.expect(value).kind,
            ErrorKind::InvalidReleaseLimit,
            "{value}"
        );
    }
    let undefined = release("allow := true\nrelease_limit := 3 if input.version == 2");
    assert_eq!(
        undefined.error.expect("a deny").kind,
        ErrorKind::InvalidReleaseLimit
    );
    assert!(!undefined.allow);
    let failed = release("allow := true\nrelease_limit := 3 / (input.version - 1)");
    assert_eq!(failed.error.expect("a deny").kind, ErrorKind::EvaluationError);
    assert_eq!(release("allow := true").release_limit, None);
}

#[test]
fn a_launch_is_left_to_the_server_unless_the_policy_has_rules_for_it() {
    use ErrorKind::*;
    let table: &[(&str, bool, Option<ErrorKind>)] = &[
        ("allow := false", true, None),
        ("allow := false\nallow_launch := true", true, None),
        ("allow := true\nallow_launch := false", false, None),
        (
            "allow := true\nallow_launch if input.phase == \"release\"",
            false,
            Some(UndefinedAllow),
        ),
        ("allow := true\nallow_launch := [1][0]", false, Some(WrongType)),
        (
            "allow := true\nallow_launch := true\ndeny_launch contains \"no\"",
            false,
            None,
        ),
        ("allow := true\ndeny_launch contains \"no\"", false, None),
        (
            "allow := true\ndeny_launch contains \"no\" if input.version == 2",
            true,
            None,
        ),
        (
            "allow := true\ndeny_launch := [[\"no\"]][0]",
            false,
            Some(WrongType),
        ),
        // What belongs to the release is not asked.
        (
            "allow := true\nallow_launch := true\ndeny contains \"no\"\nrelease_limit := [\"x\"][0]",
            true,
            None,
        ),
    ];
    for (rules, allow, kind) in table {
        let verdict = launch(rules);
        assert_eq!(verdict.allow, *allow, "{rules}\n{verdict:?}");
        assert_eq!(
            verdict.error.as_ref().map(|error| error.kind),
            *kind,
            "{rules}\n{verdict:?}"
        );
        assert_eq!(verdict.release_limit, None);
    }
    // And what belongs to the launch is not asked at release.
    assert!(release("allow := true\nallow_launch := false\ndeny_launch contains \"no\"").allow);
}

#[test]
fn several_definitions_of_a_rule_all_count() {
    let prepared = loaded([
        (
            "a.rego",
            "package p\ndefault allow := false\nallow if input.owner == \"nobody\"\ndeny contains \"one\"",
        ),
        (
            "b.rego",
            "package p\nallow if input.version == 1\ndeny contains \"two\"",
        ),
    ]);
    let verdict = prepared.evaluate("p", Phase::Release, &Input::example(Phase::Release));
    assert_eq!(verdict.deny, ["one", "two"]);
    assert_eq!(verdict.reason, "denied: one (and 1 more)");
}

#[test]
fn messages_are_sorted_and_bounded() {
    let verdict = release(
        "allow := true\ndeny contains message if {\n\tsome n in []\n\tmessage := sprintf(\"m%d\", [n])\n}\ndeny contains \"z\"",
    );
    assert_eq!(
        verdict.deny,
        ["z"],
        "nothing in the list, so only one message: {verdict:?}"
    );

    let numbers = (0..500).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let long = "x".repeat(5000);
    let prepared = loaded([
        (
            "p.rego",
            "package p\nallow := true\ndeny contains sprintf(\"m%v\", [n]) if some n in data.numbers\ndeny contains data.long",
        ),
        (
            "data.json",
            &format!("{{\"numbers\": [{numbers}], \"long\": \"{long}\"}}"),
        ),
    ]);
    let verdict = prepared.evaluate("p", Phase::Release, &Input::example(Phase::Release));
    assert_eq!(verdict.deny.len(), 65);
    assert_eq!(
        verdict.deny.last().map(String::as_str),
        Some("… and 437 more messages")
    );
    assert!(verdict.deny.iter().all(|message| message.len() <= 1100));
    let mut sorted = verdict.deny.clone();
    sorted.sort();
    assert_eq!(verdict.deny[..64], sorted[..64]);
}

#[test]
fn a_result_too_large_to_keep_denies() {
    let long = "x".repeat(300_000);
    let prepared = loaded([
        (
            "p.rego",
            "package p\nallow := true\ndeny contains data.long if input.owner == \"big\"",
        ),
        ("data.json", &format!("{{\"long\": \"{long}\"}}")),
    ]);
    assert!(
        prepared
            .evaluate("p", Phase::Release, &Input::example(Phase::Release))
            .allow
    );
    let input = Input {
        owner: "big".to_owned(),
        ..Input::example(Phase::Release)
    };
    let verdict = prepared.evaluate("p", Phase::Release, &input);
    assert_eq!(verdict.error.expect("an error").kind, ErrorKind::TooLarge);
    assert!(!verdict.allow);
    assert!(verdict.reason.len() < 1000);
}

#[test]
fn an_unknown_policy_denies_and_an_input_for_another_phase_too() {
    let prepared = module("allow := true");
    let missing = prepared.evaluate("q", Phase::Release, &Input::example(Phase::Release));
    assert_eq!(missing.error.expect("an error").kind, ErrorKind::MissingPolicy);
    let mixed = prepared.evaluate("p", Phase::Release, &Input::example(Phase::Launch));
    assert_eq!(mixed.error.expect("an error").kind, ErrorKind::Internal);
    assert!(!missing.allow && !mixed.allow);
}

#[test]
fn an_endless_loop_denies_in_time_and_holds_up_nobody_else() {
    let data = format!(
        "{{\"long\": [{}]}}",
        (0..2000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    );
    let slow = "package slow\nallow if input.phase == \"launch\"\nallow if {\n\tinput.phase == \"release\"\n\tsome a in data.long\n\tsome b in data.long\n\tsome c in data.long\n\ta + b + c == -1\n}\n";
    let content = [
        ("slow.rego", slow),
        ("quick.rego", "package quick\nallow := true"),
        ("data.json", data.as_str()),
    ];
    // The trial at upload finds it and says so.
    let found = PreparedBundle::prepare(&bundle(content), &Limits::default()).expect("a slow bundle loads");
    assert!(
        listed(&found.facts().warnings).contains("trial evaluation of `slow` at release"),
        "{:?}",
        found.facts()
    );

    // Where the trial can't (here: it depends on the owner's name), the request is denied in time.
    let slow = slow.replace("input.phase == \"release\"", "input.owner == \"loop\"");
    let content = [
        ("slow.rego", slow.as_str()),
        ("quick.rego", "package quick\nallow := true"),
        ("data.json", &data),
    ];
    let prepared = PreparedBundle::prepare(&bundle(content), &Limits::default()).expect("the trial is quick");
    let input = Input {
        owner: "loop".to_owned(),
        ..Input::example(Phase::Release)
    };
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let start = Instant::now();
            (prepared.evaluate("slow", Phase::Release, &input), start.elapsed())
        });
        let start = Instant::now();
        let quick = prepared.evaluate("quick", Phase::Release, &Input::example(Phase::Release));
        assert!(quick.allow, "{quick:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let (verdict, took) = slow.join().expect("the thread ends");
        assert_eq!(verdict.error.expect("a deny").kind, ErrorKind::TimeLimit);
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

#[test]
fn wrong_04_empty_allow_list_denies() {
    // An empty list of what is approved approves nothing, in data, in literals and through the library.
    for rules in [
        "allow if input.attested.launch_digest in data.approved",
        "import data.keyward.sev\nallow if sev.launch_digest_in(data.approved)",
        "import data.keyward.sev\nallow if sev.launch_digest_in([])",
        "import data.keyward.platform\nallow if platform.product_in(set())",
    ] {
        let prepared = loaded([
            ("p.rego", &format!("package p\n{rules}")),
            ("data.json", "{\"approved\": []}"),
        ]);
        let verdict = prepared.evaluate("p", Phase::Release, &Input::example(Phase::Release));
        assert!(!verdict.allow, "{rules}: {verdict:?}");
        assert_eq!(
            verdict.error.expect("undefined").kind,
            ErrorKind::UndefinedAllow,
            "{rules}"
        );
    }
}

#[test]
fn printing_changes_nothing() {
    let verdict = release("allow if {\n\tprint(\"owner\", input.owner)\n\tinput.version == 1\n}");
    assert!(verdict.allow, "{verdict:?}");
}

#[test]
fn regular_expressions_know_unicode_classes() {
    // Pinned, as it depends on the features that the regex crate is built with: OPA's classes are ASCII, these are
    // Unicode, and never «invalid regex».
    for (rules, allow) in [
        ("allow if regex.match(`^\\d$`, \"5\")", true),
        ("allow if regex.match(`^\\d$`, \"\\u0665\")", true),
        ("allow if regex.match(`^[0-9]$`, \"\\u0665\")", false),
        ("allow if regex.match(`^\\w$`, \"\\u00e9\")", true),
        ("allow if regex.match(`(?i)^k$`, \"\\u212a\")", true),
    ] {
        assert_eq!(release(rules).allow, allow, "{rules}");
    }
}
