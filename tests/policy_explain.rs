//! Why a policy decided as it did: conditions, values, and the rules behind them.

use std::time::Duration;

use keyward::policy::{
    ConditionOutcome, ExplainedCondition, ExplainedRule, Explanation, Input, Limits, Phase, PreparedBundle,
    explanation_lines,
};
use keyward::release::DecisionExplanation;
use serde_json::{Value, json};

use super::policy_support::{bundle, module};
use crate::support::cli::transcript;
use crate::support::host::{IMAGE, digest};
use crate::support::{App, Shell, platform};

/// What `package p` with these rules says about the example, explained.
fn explained(rules: &str) -> Explanation {
    explained_on(rules, &Input::example(Phase::Release))
}

fn explained_on(rules: &str, input: &Input) -> Explanation {
    let policy = module(&format!("import data.keyward.sev\n{rules}"));
    let explanation = policy.explain("p", input.phase, input).unwrap();
    let verdict = policy.evaluate("p", input.phase, input);
    assert_eq!(
        (explanation.allow, &explanation.reason),
        (verdict.allow, &verdict.reason),
        "the explanation is of the decision"
    );
    explanation
}

fn rule<'e>(explanation: &'e Explanation, name: &str) -> &'e ExplainedRule {
    let wanted = format!("p.{name}");
    explanation.rules.iter().find(|rule| rule.rule == wanted).unwrap()
}

/// The conditions of `allow` as `text outcome`.
fn conditions(explanation: &Explanation) -> Vec<String> {
    let all = rule(explanation, "allow")
        .definitions
        .iter()
        .flat_map(|one| &one.conditions);
    all.map(|one| format!("{} {:?}", one.text, one.outcome)).collect()
}

fn condition<'e>(explanation: &'e Explanation, text: &str) -> &'e ExplainedCondition {
    fn find<'e>(rule: &'e ExplainedRule, text: &str) -> Option<&'e ExplainedCondition> {
        let conditions = rule.definitions.iter().flat_map(|one| &one.conditions);
        conditions.clone().find(|one| one.text == text).or_else(|| {
            conditions
                .flat_map(|one| &one.because)
                .find_map(|because| find(because, text))
        })
    }
    let found = explanation.rules.iter().find_map(|rule| find(rule, text));
    found.unwrap_or_else(|| panic!("no condition {text}: {explanation:#?}"))
}

fn value(condition: &ExplainedCondition, name: &str) -> Option<String> {
    let seen = condition.values.iter().find(|one| one.name == name);
    seen.unwrap_or_else(|| panic!("no value {name}: {condition:#?}"))
        .value
        .clone()
}

#[test]
fn every_condition_that_does_not_hold_is_told_not_only_the_first() {
    let explanation = explained(
        "default allow := false\nallow if {\n\tinput.owner == \"example\"\n\tinput.phase == \"launch\"\n\tsome x in {1, 2}\n\tx > 5\n\ty := x + 1\n\ty < 3\n\tinput.host.address == \"10.0.0.1\"\n}",
    );
    assert_eq!(
        conditions(&explanation),
        [
            "input.owner == \"example\" Held",
            "input.phase == \"launch\" Failed",
            "some x in {1, 2} Held",
            "x > 5 Failed",
            "y := x + 1 Held",
            "y < 3 Held",
            "input.host.address == \"10.0.0.1\" Failed",
        ]
    );
    assert_eq!(
        value(condition(&explanation, "x > 5"), "x").as_deref(),
        Some("1, 2")
    );
    assert_eq!(
        value(
            condition(&explanation, "input.phase == \"launch\""),
            "input.phase"
        )
        .as_deref(),
        Some("\"release\"")
    );
}

#[test]
fn what_needs_a_value_that_a_failed_condition_would_have_given_is_not_reached() {
    let explanation =
        explained("default allow := false\nallow if {\n\tsome x in []\n\tx > 5\n\tinput.version == 1\n}");
    assert_eq!(
        conditions(&explanation),
        [
            "some x in [] Failed",
            "x > 5 NotReached",
            "input.version == 1 Held"
        ]
    );
}

#[test]
fn the_closest_definition_stands_for_those_that_failed() {
    let explanation = explained(
        "default allow := false\nallow if {\n\tinput.owner == \"x\"\n\tinput.scheme == \"x\"\n}\nallow if {\n\tinput.version == 1\n\tinput.owner == \"y\"\n}\nallow if input.owner == \"z\"",
    );
    assert_eq!(
        conditions(&explanation),
        ["input.version == 1 Held", "input.owner == \"y\" Failed"]
    );
    let allow = rule(&explanation, "allow");
    assert_eq!((allow.others, allow.value.as_deref()), (2, Some("false")));
    assert_eq!(allow.definitions[0].file, "p.rego");
}

#[test]
fn an_else_is_explained_where_nothing_before_it_held() {
    let policy = "default allow := false\nallow if tier == 3\ntier := 1 if input.owner == \"x\"\nelse := 2 if input.version == 1\nelse := 3";
    let explanation = explained(policy);
    let tier = &condition(&explanation, "tier == 3").values;
    assert_eq!(tier[0].value.as_deref(), Some("2"));
    let reached = explained(&policy.replace("tier == 3", "tier == 2"));
    assert!(reached.allow, "{reached:#?}");
}

#[test]
fn rules_and_functions_behind_a_condition_are_followed_with_their_arguments() {
    let explanation = explained(
        "default allow := false\nallow if outer\nouter if {\n\tsome n in [\"a\", \"b\"]\n\tinner(n, {\"k\": {1, 2}})\n}\ninner(name, sets) if {\n\tcount(sets.k) == 2\n\tname == input.owner\n}\ninner(\"c\", _) if input.version == 7",
    );
    let failed = condition(&explanation, "name == input.owner");
    assert_eq!(failed.outcome, ConditionOutcome::Failed);
    assert_eq!(value(failed, "name").as_deref(), Some("\"a\""));
    assert_eq!(
        condition(&explanation, "count(sets.k) == 2").outcome,
        ConditionOutcome::Held
    );
}

#[test]
fn the_library_s_own_conditions_are_shown_with_the_values_compared() {
    let mut input = Input::example(Phase::Release);
    input.attested.launch_digest = Some("cd".repeat(32));
    let explanation = explained_on(
        "default allow := false\nallow if sev.launch_digest_in([\"ab\"])",
        &input,
    );
    let failed = condition(&explanation, "lower(digest) == input.attested.launch_digest");
    assert_eq!(value(failed, "lower(digest)").as_deref(), Some("\"ab\""));
    assert_eq!(
        value(failed, "input.attested.launch_digest"),
        Some(format!("\"{}\"", "cd".repeat(32)))
    );
}

#[test]
fn a_negation_that_fails_says_what_held() {
    let explanation = explained(
        "default allow := false\nallow if not closed\nclosed if input.owner == \"nobody\"\nclosed if {\n\tinput.version == 1\n}",
    );
    let not = condition(&explanation, "not closed");
    assert_eq!(not.outcome, ConditionOutcome::Failed);
    assert_eq!(
        not.because[0].definitions[0].conditions[0].text,
        "input.version == 1"
    );
    assert_eq!(not.because[0].value.as_deref(), Some("true"));
}

#[test]
fn an_every_that_fails_names_the_item() {
    let explanation = explained(
        "default allow := false\nallow if {\n\tevery n, s in [1, 9, 2] {\n\t\tn < 3\n\t\ts < 5\n\t}\n}",
    );
    let every = condition(&explanation, "every n, s in [1, 9, 2] { n < 3; s < 5 }");
    assert_eq!(every.outcome, ConditionOutcome::Failed);
    assert_eq!(value(every, "n, s that fails").as_deref(), Some("9"));
}

#[test]
fn data_that_is_not_there_is_missing_and_not_false() {
    let explanation =
        explained("default allow := false\nlists := {\"milan\": [1]}\nallow if 1 in lists[input.owner]");
    let failed = condition(&explanation, "1 in lists[input.owner]");
    assert_eq!(value(failed, "lists[input.owner]"), None);
    assert!(
        explanation_lines(&explanation)
            .iter()
            .any(|line| line.ends_with("lists[input.owner] is missing")),
        "{:#?}",
        explanation_lines(&explanation)
    );
}

#[test]
fn an_evaluation_that_fails_says_where_and_why() {
    let explanation = explained("default allow := false\nallow if to_number(input.owner) > 1");
    let failed = condition(&explanation, "to_number(input.owner) > 1");
    assert_eq!(failed.outcome, ConditionOutcome::Error);
    assert!(
        failed.error.as_deref().is_some_and(|why| !why.is_empty()),
        "{failed:?}"
    );
    assert_eq!(value(failed, "input.owner").as_deref(), Some("\"example\""));
}

#[test]
fn messages_are_told_with_the_conditions_that_made_them_and_silence_is_not() {
    let explanation = explained(
        "allow := true\ndeny contains sprintf(\"%v is odd\", [n]) if {\n\tsome n in [1, 2, 3]\n\tn % 2 == 1\n}\ndeny contains \"never\" if input.version == 2",
    );
    let deny = rule(&explanation, "deny");
    assert_eq!(deny.value.as_deref(), Some("{\"1 is odd\", \"3 is odd\"}"));
    assert_eq!(deny.definitions.len(), 1);
    let silent = explained("allow := true\ndeny contains \"never\" if input.version == 2");
    assert!(silent.rules.iter().all(|rule| rule.rule != "p.deny"));
}

#[test]
fn a_head_s_own_expression_is_a_condition() {
    let explanation = explained("allow := input.version > 4\nrelease_limit := input.version + 2");
    assert_eq!(
        condition(&explanation, ":= input.version > 4").outcome,
        ConditionOutcome::Failed
    );
    assert_eq!(rule(&explanation, "release_limit").value.as_deref(), Some("3"));
}

#[test]
fn at_launch_the_rules_for_launch_are_explained() {
    let input = Input::example(Phase::Launch);
    let explanation = explained_on("allow := true\nallow_launch if input.owner == \"nobody\"", &input);
    assert!(!explanation.allow);
    assert_eq!(explanation.rules.len(), 1);
    assert_eq!(explanation.rules[0].rule, "p.allow_launch");
    let unasked = explained_on("allow := true", &input);
    assert!(unasked.allow && unasked.rules.is_empty());
}

#[test]
fn what_takes_too_long_to_explain_is_left_out_and_said_to_be() {
    let limits = Limits {
        time: Duration::from_millis(20),
        load_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let numbers: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let text = format!(
        "numbers := [{}]\nallow if {{\n\tsome a in numbers\n\tsome b in numbers\n\tsome c in numbers\n\ta + b + c == 2000\n}}",
        numbers.join(", ")
    );
    let bundle = bundle([("p.rego", &format!("package p\n{text}\n"))]);
    let policy = PreparedBundle::prepare(&bundle, &limits).unwrap();
    let explanation = policy
        .explain("p", Phase::Release, &Input::example(Phase::Release))
        .unwrap();
    assert!(explanation.cut && !explanation.allow, "{explanation:#?}");
}

#[test]
fn a_policy_that_is_not_there_can_t_be_explained() {
    let input = Input::example(Phase::Release);
    let error = module("allow := true")
        .explain("q", Phase::Release, &input)
        .unwrap_err();
    assert_eq!(error.message, "the bundle has no policy `q`");
}

#[test]
fn the_command_explains_a_repository_s_policies() {
    let shell = Shell::new();
    shell.write(
        "policy/release/disk.rego",
        "package release.disk

import data.keyward.sev

default allow := false

allow if {
\tsev.no_debug
\tsev.launch_digest_in(data.approved)
\tnot host_closed
}

host_closed if startswith(input.host.address, \"192.\")

deny contains message if {
\tnot sev.min_api_version(1, 60)
\tmessage := sprintf(\"API %v.%v is below 1.60\", [input.attested.api_major, input.attested.api_minor])
}

release_limit := data.limit
",
    );
    shell.write(
        "policy/data.json",
        json!({"approved": ["ab"], "limit": 3}).to_string(),
    );
    let mut input = Input::example(Phase::Release);
    input.host.address = "192.0.2.7".to_owned();
    shell.write("input.json", serde_json::to_string(&input).unwrap());
    let allowed = Input {
        host: Input::example(Phase::Release).host,
        ..input
    };
    let mut allowed: Value = serde_json::to_value(allowed).unwrap();
    allowed["attested"]["launch_digest"] = json!("ab");
    allowed["attested"]["api_minor"] = json!(61);
    allowed["host"]["address"] = json!("198.51.100.7");
    shell.write("allowed.json", allowed.to_string());
    let mut all = String::new();
    for (arguments, code) in [
        ("policy explain policy --input input.json", 2),
        ("policy explain policy --input allowed.json", 0),
        (
            "policy explain policy --input input.json --policy release.disk -o json",
            2,
        ),
        (
            "policy explain policy --input allowed.json --policy keyward.workload",
            2,
        ),
        (
            "policy explain policy --input input.json --policy release.disc",
            1,
        ),
        ("policy explain policy --input nowhere.json", 1),
        ("policy explain nowhere --input input.json", 1),
        ("policy explain policy", 64),
    ] {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, code, "{arguments}: {}{}", ran.out, ran.err);
        all.push_str(&format!("$ keyward {arguments}\n{}{}\n", ran.out, ran.err));
    }
    transcript("policy-explain.txt", &all);
}

#[test]
fn a_recorded_decision_is_explained_under_the_bundle_that_was_active() {
    let app = App::new();
    let closed = "package release.any\nimport data.keyward.sev\ndefault allow := false\nallow if sev.launch_digest_in([\"ab\"])\nallow_launch := true\n";
    app.standard();
    app.bundle(&[("any.rego", closed)]);
    let (_, reply) = app.run(&platform());
    let id = reply.expect(403, "denied").body["decision"]
        .as_str()
        .unwrap()
        .to_owned();
    // Another bundle by now, and the explanation is still that of the one before.
    app.bundle(&[("any.rego", "package release.any\nallow := true\n")]);
    let path = format!("/v1/decisions/{id}/explanation");
    let body = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(body["decision"], json!(id));
    let _: DecisionExplanation = serde_json::from_value(body.clone()).unwrap();
    let policies = body["policies"].as_array().unwrap();
    let denied = policies
        .iter()
        .find(|one| one["policy"] == "release.any")
        .unwrap();
    assert_eq!(
        (&denied["allow"], &denied["problem"]),
        (&json!(false), &Value::Null)
    );
    let explanation: Explanation = serde_json::from_value(denied["explanation"].clone()).unwrap();
    let failed = condition(&explanation, "lower(digest) == input.attested.launch_digest");
    assert_eq!(
        value(failed, "input.attested.launch_digest"),
        Some(format!("\"{}\"", digest(IMAGE)))
    );
    let built_in = policies
        .iter()
        .find(|one| one["policy"] == "keyward.workload")
        .unwrap();
    assert_eq!(
        (&built_in["allow"], &built_in["problem"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(built_in["explanation"]["allow"], json!(true));
    // Not to a host, and not for a decision that is not there.
    app.request("GET", &path, &[], b"").expect(401, "unauthorized");
    let other = format!("/v1/decisions/{}/explanation", uuid::Uuid::nil());
    app.owner("GET", &other, &Value::Null).expect(404, "not-found");
}

#[test]
fn texts_are_shown_as_they_are() {
    let mut input = Input::example(Phase::Release);
    input.claimed.description = Some("a b".to_owned());
    let explanation = explained_on(
        "default allow := false\nallow if {\n\tis_string(input.claimed.description)\n\tinput.claimed.description == # two blanks\n\t\t\"a  b\"\n}",
        &input,
    );
    let failed = condition(&explanation, "input.claimed.description == \"a  b\"");
    assert_eq!(
        value(failed, "input.claimed.description").as_deref(),
        Some("\"a b\"")
    );
}

#[test]
fn a_definition_for_other_arguments_says_so_and_comes_last() {
    let explanation = explained(
        "default allow := false\nallow if g(\"y\", 2)\ng(\"x\", v) if v == 2\ng(\"z\", v) if v == 2\ng(\"y\", v) if {\n\tv == 3\n\tinput.owner == \"nobody\"\n}",
    );
    assert_eq!(
        value(condition(&explanation, "v == 3"), "v").as_deref(),
        Some("2")
    );
    let alone = explained("default allow := false\nallow if g(\"y\", 2)\ng(\"x\", v) if v == 2");
    assert_eq!(
        condition(&alone, "\"x\" = \"y\"").outcome,
        ConditionOutcome::Failed
    );
}

#[test]
fn definitions_that_contradict_each_other_are_both_shown_and_the_rule_has_no_value() {
    let explanation = explained("allow := true if input.version == 1\nallow := false if input.version < 2");
    let allow = rule(&explanation, "allow");
    assert!(!explanation.allow);
    assert_eq!((allow.value.as_deref(), allow.definitions.len()), (None, 2));
}

#[test]
fn of_several_bindings_those_are_shown_that_denied() {
    let explanation = explained(
        "allow := true\ngood(s) if s in {\"fine\", \"also\"}\ndeny contains s if {\n\tsome s in [\"fine\", \"also\", \"evil\"]\n\tnot good(s)\n}",
    );
    let accused = condition(&explanation, "not good(s)");
    assert_eq!(value(accused, "s").as_deref(), Some("\"evil\""));
    assert_eq!(accused.because[0].rule, "p.good");
}

#[test]
fn what_comes_after_a_failed_guard_is_no_error() {
    let explanation = explained(
        "default allow := false\nallow if {\n\tinput.owner == \"nobody\"\n\tto_number(input.owner) > 1\n}",
    );
    assert_eq!(
        conditions(&explanation),
        [
            "input.owner == \"nobody\" Failed",
            "to_number(input.owner) > 1 NotReached"
        ]
    );
}

#[test]
fn an_else_that_says_false_does_not_hide_what_failed() {
    let explanation = explained("allow := true if {\n\tinput.owner == \"nobody\"\n} else := false");
    assert_eq!(conditions(&explanation), ["input.owner == \"nobody\" Failed"]);
}

#[test]
fn members_of_an_object_that_rules_make_are_shown_as_the_object() {
    let explanation = explained(
        "default allow := false\nallow if names.q == \"z\"\nnames[key] := concat(\"\", [key, \"!\"]) if some key in [\"p\", \"q\"]",
    );
    let failed = condition(&explanation, "names.q == \"z\"");
    assert_eq!(value(failed, "names.q").as_deref(), Some("\"q!\""));
}

#[test]
fn what_is_told_is_bounded_whatever_the_policy_holds() {
    let many: Vec<String> = (0..40).map(|n| format!("\"{}{n}\"", "long".repeat(60))).collect();
    let nested = format!("{{\"k\": [[{0}], [{0}], [{0}], [{0}], [{0}]]}}", many.join(", "));
    let explanation = explained(&format!(
        "default allow := false\nvalue := {nested}\nallow if value.k == [{}]",
        many.join(", ")
    ));
    let failed = &rule(&explanation, "allow").definitions[0].conditions[0];
    assert!(failed.text.chars().count() <= 1_001 && failed.text.ends_with('…'));
    let longest = failed
        .values
        .iter()
        .filter_map(|one| one.value.as_ref())
        .map(String::len)
        .max();
    assert!(longest.is_some_and(|longest| longest < 4_000), "{longest:?}");
}
