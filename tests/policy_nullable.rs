//! Null is less than every number and `not` is true of it: policies that would let it pass do not load.

use keyward::policy::{Input, Phase, input_schema};
use serde_json::Value;

use super::policy_support::{listed, load, release};

/// What is wrong with `package p` with these rules.
fn refused(rules: &str) -> String {
    let text = format!("package p\nimport data.keyward.vcpus\n{rules}\n");
    match load([("p.rego", &text)]) {
        Ok(_) => String::new(),
        Err(found) => listed(&found),
    }
}

#[test]
fn comparisons_and_negations_of_what_may_be_null_are_refused_with_their_place() {
    for rules in [
        "allow if input.claimed.cpu_count <= 4",
        "allow if input.claimed.cpu_count < 4",
        "allow if 4 >= input.claimed.cpu_count",
        "allow if input.attested.image.vcpus <= 8",
        "allow if not input.attested.image.vcpus > 8",
        "allow if input.platform.product != \"naples\"",
        "allow if not input.platform.product == \"naples\"",
        "allow if not input.platform.product = \"naples\"",
        "allow if not input.platform.product in {\"naples\"}",
        "allow if not startswith(input.claimed.description, \"test\")",
        "allow if not input.claimed.description",
        "allow if input[\"claimed\"][\"cpu_count\"] <= 4",
        "allow := input.claimed.cpu_count <= 4",
        "deny contains \"many\" if input.claimed.cpu_count > 8\nallow := true",
        "allow if {\n\tn := input.claimed.cpu_count\n\tn <= 4\n}",
        "allow if {\n\tn = input.claimed.cpu_count\n\tn <= 4\n}",
        "allow if {\n\tclaimed := input.claimed.cpu_count\n\tn := claimed\n\tn <= 4\n}",
        "n := input.claimed.cpu_count\nallow if n <= 4",
        "f(x) if x < 8\nallow if f(input.claimed.cpu_count)",
        "f(x) if not x > 8\nallow if f(input.claimed.cpu_count)",
        "f(x, y) if y < x\ng(z) if f(1, z)\nallow if g(input.claimed.cpu_count)",
        "few if input.claimed.cpu_count <= 4\nallow if few",
        "allow if count([n | n := input.claimed.cpu_count; n <= 4]) == 1",
        "allow if every limit in [4] { input.claimed.cpu_count <= limit }",
        "allow if {\n\tsome value in input.claimed\n\tvalue < 4\n}",
        "allow if input.claimed[_] < 4",
        "import input.claimed\nallow if claimed.cpu_count <= 4",
        // Under another name for what it is in, out of a list, an object or a built-in, through a function.
        "allow if {\n\ti := input.attested.image\n\ti.vcpus <= 4\n}",
        "img := input.attested.image\nallow if img.vcpus <= 4",
        "all := input\nallow if all.attested.image.vcpus <= 4",
        "ok(i) if i.vcpus <= 4\nallow if ok(input.attested.image)",
        "ok(i) if inner(i.image)\ninner(i) if i.vcpus <= 4\nallow if ok(input.attested)",
        "allow if {\n\tx := input\n\tx.attested.image.vcpus <= 4\n}",
        "allow if {\n\tinput.attested.image = i\n\ti.vcpus <= 4\n}",
        "allow if max([input.attested.image.vcpus, 1]) <= 4",
        "allow if every v in [input.attested.image.vcpus] { v <= 4 }",
        "allow if every v in [input.attested.image.vcpus, 1] { v <= 4 }",
        "allow if {\n\t{\"vcpus\": n} = {\"vcpus\": input.attested.image.vcpus}\n\tn <= 4\n}",
        "allow if {\n\t[n, _] := [input.attested.image.vcpus, 1]\n\tn <= 4\n}",
        "allow if object.get(input.attested.image, \"vcpus\", 9) <= 4",
        "allow if {\n\tsome i in [input.attested.image]\n\ti.vcpus <= 4\n}",
        "allow if {\n\ti := {\"image\": input.attested.image}\n\ti.image.vcpus <= 4\n}",
        "same(x) := x\nallow if same(input.claimed.cpu_count) <= 4",
        "pair(x) := [x, 1]\nallow if max(pair(input.claimed.cpu_count)) <= 4",
        "counts := [input.claimed.cpu_count]\nallow if counts[0] <= 4",
        "allow if {\n\tn := [m | m := input.claimed.cpu_count]\n\tn[0] <= 4\n}",
        "allow if {\n\tsome n\n\tn = input.claimed.cpu_count\n\tn <= 4\n}",
        "allow if [input.claimed.cpu_count, 9][0] <= 4",
        "allow if sort([input.claimed.cpu_count, 9])[0] <= 4",
        "allow if object.union({\"n\": input.claimed.cpu_count}, {}).n <= 4",
        "allow if to_number(input.claimed.cpu_count) <= 4",
        "allow if sprintf(\"%v\", [input.platform.product]) != \"naples\"",
        "n := 1 if input.version == 2\nelse := input.claimed.cpu_count\nallow if n <= 4",
        "n := input.attested.build_id if input.version == 2\nn := input.claimed.cpu_count if input.version == 1\nallow if n <= 4",
        "f(x) := 1 if x == 5\nelse := x\nallow if f(input.claimed.cpu_count) <= 4",
        // Proved in another body, of another member, or only that it is null or not.
        "allow if {\n\tis_number(input.attested.image.vcpus)\n\tinput.claimed.cpu_count <= 4\n}",
        "known if is_number(input.claimed.cpu_count)\nallow if {\n\tknown\n\tinput.claimed.cpu_count <= 4\n}",
        "allow if not is_string(input.claimed.cpu_count)\nallow if input.claimed.cpu_count <= 4",
        "allow if {\n\tx = input.claimed.cpu_count\n\tx == input.attested.image.vcpus\n\tx < 3\n}",
    ] {
        let found = refused(rules);
        assert!(found.contains("may be null"), "{rules}: {found}");
        assert!(found.contains(" --> p.rego:"), "{rules}: {found}");
    }
}

#[test]
fn where_the_body_proves_the_type_or_the_library_does_they_are_taken() {
    for rules in [
        "allow if {\n\tis_number(input.claimed.cpu_count)\n\tinput.claimed.cpu_count <= 4\n}",
        "allow if {\n\tinput.claimed.cpu_count <= 4\n\tis_number(input.claimed.cpu_count)\n}",
        "allow if {\n\tn := input.claimed.cpu_count\n\tis_number(n)\n\tn <= 4\n}",
        "allow if {\n\tn := input.claimed.cpu_count\n\tis_number(input.claimed.cpu_count)\n\tn <= 4\n}",
        "allow if {\n\tinput.claimed.cpu_count != null\n\tinput.claimed.cpu_count <= 4\n}",
        "allow if {\n\tnot is_null(input.claimed.cpu_count)\n\tinput.claimed.cpu_count <= 4\n}",
        "allow if {\n\tinput.platform.product in {\"milan\", \"genoa\"}\n\tinput.platform.product != \"naples\"\n}",
        "allow if {\n\tinput.claimed.cpu_count == 2\n\tinput.claimed.cpu_count <= 4\n}",
        "allow if {\n\tis_number(input.claimed.cpu_count)\n\tcount([n | n := input.claimed.cpu_count; n <= 4]) == 1\n}",
        "f(x) if {\n\tis_number(x)\n\tx < 8\n}\nallow if f(input.claimed.cpu_count)",
        "f(x) if x < 8\nallow if {\n\tis_number(input.claimed.cpu_count)\n\tf(input.claimed.cpu_count)\n}",
        "allow if {\n\ti := input.attested.image\n\tis_number(i.vcpus)\n\ti.vcpus <= 4\n}",
        "ok(i) if {\n\tis_number(i.vcpus)\n\ti.vcpus <= 4\n}\nallow if ok(input.attested.image)",
        "ok(a) if a.build_id >= 8\nallow if ok(input.attested)",
        "n := input.claimed.cpu_count if is_number(input.claimed.cpu_count)\nallow if n <= 4",
        "level(\"milan\") := 3\nlevel(\"genoa\") := 4\nallow if level(input.platform.product) >= 3",
        "allow if count([1 | input.claimed.cpu_count == 2]) < 3",
        "allow if {\n\tversion := [input.attested.api_major, input.attested.api_minor]\n\tversion >= [1, 50]\n}",
        "allow if {\n\ta := input.attested\n\ta.launch_digest in approved\n}\napproved := [\"aa\"]",
        "n := 1 if input.version == 2\nelse := input.attested.build_id\nallow if n <= 4",
        "allow if {\n\tsome n\n\tn = input.attested.build_id\n\tn <= 40\n}",
        "deny contains sprintf(\"on %v\", [input.platform.product]) if input.attested.build_id < 8\nallow := true",
        "allow if vcpus.vcpus_claimed_at_most(4)",
        "allow if not vcpus.vcpus_claimed_at_most(4)",
        "allow if input.platform.product == \"milan\"",
        "allow if input.claimed.cpu_count == null",
        // Never null when a release is decided.
        "allow if input.attested.build_id >= 8",
        "allow if not input.attested.launch_digest == \"aa\"",
        "allow if input.releases.last_hour < 10",
        "release_limit := 4 if input.attested.api_minor > 51\nallow := true",
    ] {
        assert_eq!(refused(rules), "", "{rules}");
    }
}

#[test]
fn what_is_attested_later_is_null_at_launch() {
    let found = refused("allow := true\nallow_launch if input.attested.build_id <= 8");
    assert!(
        found.contains("`input.attested.build_id` may be null at launch"),
        "{found}"
    );
    // A rule that both phases evaluate is held to both.
    let both = "new if input.attested.build_id >= 8\nallow if new\nallow_launch if new";
    assert!(refused(both).contains("at launch"));
    assert_eq!(
        refused("new if input.attested.build_id >= 8\nallow if new\nallow_launch := true"),
        ""
    );
}

#[test]
fn the_hint_names_the_proof_and_the_library_s_rule() {
    let found = refused("allow if input.claimed.cpu_count <= 4");
    assert!(
        found.contains(
            "prove its type in the same body, `is_number(input.claimed.cpu_count)`, or use \
             `vcpus.vcpus_claimed_at_most` of `data.keyward.vcpus`"
        ),
        "{found}"
    );
    let found = refused("allow if not input.platform.product == \"naples\"");
    assert!(
        found.contains("`is_string(input.platform.product)`, or use `platform.product_in`"),
        "{found}"
    );
}

#[test]
fn what_is_refused_would_have_let_null_pass() {
    // The reason for all this, shown on the engine: an argument hides from the check what it may be, as it comes
    // from data.
    assert!(release("allow if object.get({}, \"nothing\", null) <= 4").allow);
}

#[test]
fn the_members_that_may_be_null_are_those_of_the_schema() {
    fn walk(schema: &Value, part: &Value, path: &str, phase: &str, found: &mut Vec<String>) {
        let part = match part["$ref"].as_str() {
            Some(name) => &schema["$defs"][name.trim_start_matches("#/$defs/")],
            None => part,
        };
        for (name, member) in part["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let phases = member["x-null-at"].as_array();
            if phases.is_some_and(|phases| phases.iter().any(|at| at == phase)) {
                found.push(path);
            } else {
                walk(schema, member, &path, phase, found);
            }
        }
    }
    fn nulls(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(path.to_owned()),
            Value::Object(members) => {
                for (name, member) in members {
                    nulls(member, &format!("{path}.{name}"), found);
                }
            }
            _ => {}
        }
    }
    let schema = input_schema();
    for phase in [Phase::Launch, Phase::Release] {
        let (mut documented, mut barest) = (Vec::new(), Vec::new());
        walk(&schema, &schema, "input", phase.as_str(), &mut documented);
        nulls(
            &serde_json::to_value(Input::barest(phase)).unwrap(),
            "input",
            &mut barest,
        );
        documented.sort();
        barest.sort();
        assert_eq!(documented, barest, "{}", phase.as_str());
        assert!(documented.len() > 10);
    }
}

#[test]
fn a_misspelt_member_is_found_under_another_name_for_what_it_is_in() {
    for rules in [
        "allow if {\n\ta := input.attested\n\tnot a.lauch_digest\n}",
        "allow := true\ndeny contains \"revoked\" if {\n\ta := input.attested\n\ta.lauch_digest in {\"aa\"}\n}",
        "f(a) if a.lauch_digest == \"x\"\nallow if f(input.attested)",
        "f(a) if g(a.attested)\ng(a) if a.lauch_digest == \"x\"\nallow if f(input)",
        "att := input.attested\nallow if att.lauch_digest == \"x\"",
        "allow if object.get(input.attested, \"lauch_digest\", \"y\") == \"y\"",
        "allow if {\n\tsome a in [input.attested]\n\ta.lauch_digest == \"x\"\n}",
    ] {
        let found = refused(rules);
        assert!(
            found.contains("`input.attested` has no member `lauch_digest`")
                && found.contains("did you mean `input.attested.launch_digest`?"),
            "{rules}: {found}"
        );
    }
}
