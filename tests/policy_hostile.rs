//! Text that would keep the parser or the engine busy, crash it, or make it allocate without bound.

use std::time::{Duration, Instant};

use keyward::policy::{ErrorKind, allowed_builtins};

use super::policy_support::{listed, load, release};

#[test]
fn text_that_no_parser_would_finish_is_refused_at_once() {
    let nested = format!("package p\nallow if x == {}1{}", "[".repeat(20), "]".repeat(20));
    let deep = format!(
        "package p\nallow if x == {}1{}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let braces = format!("package p\nallow := {}1{}", "{".repeat(20), "}".repeat(20));
    let parens = format!("package p\nallow if {}1{}", "(".repeat(40), ")".repeat(40));
    let sum = format!("package p\nallow if {}1 == 1", "1 +\n".repeat(4000));
    let equal = format!("package p\nallow if {}1", "1 == ".repeat(4000));
    let within = format!("package p\nallow if {}[1]", "1 in ".repeat(4000));
    let minus = format!("package p\nallow if {}1 == 1", "- ".repeat(4000));
    let sets = format!("package p\nallow if x == {}", "set(".repeat(4000));
    let long_line = format!("package p\nallow := true # {}", "x".repeat(70_000));
    let many_lines = format!("package p\nallow := true\n{}", "\n".repeat(20_000));
    let table = format!(
        "package p\nallow := true\nx := {{{}}}",
        "{1: [{2: [[3]]}]},\n".repeat(5000)
    );
    for (name, text, message) in [
        ("nested arrays", &nested, "brackets nested deeper than 8"),
        ("5,000 arrays", &deep, "brackets nested deeper than 8"),
        ("nested sets", &braces, "brackets nested deeper than 8"),
        ("nested parentheses", &parens, "brackets nested deeper than 8"),
        ("a long sum", &sum, "operators"),
        ("a long comparison", &equal, "operators"),
        ("a long membership", &within, "operators"),
        ("many minuses", &minus, "`-` in a row"),
        ("many set(", &sets, "brackets nested deeper than 8"),
        ("a long line", &long_line, "a line of"),
        ("many lines", &many_lines, "lines"),
        ("a large table", &table, "too much text within nested brackets"),
    ] {
        let start = Instant::now();
        let found = listed(&load([("p.rego", text)]).map(|_| ()).expect_err(name));
        assert!(
            found.contains(message),
            "{name}: {}",
            found.chars().take(400).collect::<String>()
        );
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{name} took {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn brackets_in_strings_and_comments_are_no_brackets() {
    let text =
        "allow if input.owner != \"[[[[[[[[[[[[\\\"[[[[\"\n# [[[[[[[[[[[[[[[\nx := `[[[[[[[[[[[[[[\n[[[[`";
    assert!(release(text).allow);
    for (text, message) in [
        ("allow := \"x", "has no end"),
        ("allow := `x", "has no end"),
        ("allow := [1)", "`)` closes `[`"),
        ("allow := 1]", "`]` closes nothing"),
        ("allow := [1", "never closed"),
        ("allow := true\0", "U+0000"),
        ("allow := true\rx := 1", "U+000D"),
    ] {
        let found = listed(
            &load([("p.rego", &format!("package p\n{text}"))])
                .map(|_| ())
                .expect_err(text),
        );
        assert!(found.contains(message), "{text:?}: {found}");
    }
}

#[test]
fn the_worst_text_that_the_scan_lets_through_is_parsed_in_time() {
    // As many of the deepest literals as the scan's budget allows.
    let row = format!("{}1{},\n", "[".repeat(7), "]".repeat(7));
    let mut most = 0;
    for count in [20, 40, 80, 160, 320, 640, 1280] {
        let text = format!("package p\nallow := true\nx := [{}]", row.repeat(count));
        let start = Instant::now();
        match load([("p.rego", &text)]) {
            Ok(_) => most = count,
            Err(found) => {
                assert!(listed(&found).contains("too much text"), "{}", found[0].message);
                break;
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{count} rows took {:?}",
            start.elapsed()
        );
    }
    assert!(most >= 20, "{most}");
}

#[test]
fn long_chains_of_rules_are_refused_and_shorter_ones_evaluated() {
    let chain = |length: usize, step: &str| {
        let mut text = "package p\nallow if r0 > 0\n".to_owned();
        for n in 0..length {
            text.push_str(&format!("r{n} := {step}r{}\n", n + 1));
        }
        text.push_str(&format!("r{length} := 1\n"));
        text
    };
    let found = load([("p.rego", &chain(500, ""))])
        .map(|_| ())
        .expect_err("too long");
    assert!(listed(&found).contains("a chain of"), "{}", listed(&found));
    // The deepest evaluation that is let through: long chains of long sums. It must fit the stack.
    let steps = "0 + ".repeat(95);
    let prepared = load([("p.rego", &chain(95, &steps))])
        .map_err(|found| listed(&found))
        .expect("loads");
    let input = keyward::policy::Input::example(keyward::policy::Phase::Release);
    let verdict = prepared.evaluate("p", keyward::policy::Phase::Release, &input);
    assert!(verdict.allow, "{verdict:?}");
}

#[test]
fn built_ins_are_bounded() {
    let doubling = |step: &str, first: &str| {
        let mut rules = format!("allow if {{\n\tx0 := {first}\n");
        for n in 0..60 {
            rules.push_str(&format!(
                "\tx{} := {}\n",
                n + 1,
                step.replace('X', &format!("x{n}"))
            ));
        }
        rules.push_str("\tcount(x60) > 0\n}");
        rules
    };
    for (step, first) in [
        ("concat(\"\", [X, X])", "\"aa\""),
        ("concat(X, [\"a\", X])", "\"aa\""),
        ("sprintf(\"%s%s\", [X, X])", "\"aa\""),
        ("replace(X, \"a\", \"aa\")", "\"aa\""),
        ("array.concat(X, X)", "[1]"),
    ] {
        let start = Instant::now();
        let verdict = release(&doubling(step, first));
        assert!(!verdict.allow, "{step}");
        let error = verdict.error.expect(step);
        assert!(
            matches!(error.kind, ErrorKind::EvaluationError | ErrorKind::TimeLimit),
            "{step}: {error:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{step} took {:?}",
            start.elapsed()
        );
    }
    for (rules, message) in [
        ("allow if sprintf(\"%2000000000d\", [1]) != \"\"", "plain verbs"),
        ("allow if sprintf(\"%[1]s%[1]s\", [\"a\"]) != \"\"", "plain verbs"),
        ("allow if sprintf(\"%d\", [null]) != \"\"", "use %v"),
        ("allow if sprintf(\"%s\", []) != \"\"", "1 verbs and 0 values"),
        ("allow if strings.count(\"abc\", \"\") == 0", "empty"),
        ("allow if indexof(input.owner, \"\") == 0", "empty"),
        (
            "allow if sprintf(\"%x\", [\"a\"]) == sprintf(\"%x\", [\"b\"])",
            "use %v",
        ),
        ("allow if sprintf(\"%q\", [1]) == \"\"", "use %v"),
        (
            "allow if hex.decode(\"ff41ff\") == hex.decode(\"fe41fd\")",
            "no text",
        ),
        (
            "allow if base64.decode(\"/0H/\") == base64.decode(\"/kH9\")",
            "no text",
        ),
        ("allow if time.clock([1, \"Local\"])[0] < 24", "time zone"),
        ("allow if time.weekday([1, \"local\"]) != \"\"", "time zone"),
        ("allow if replace(\"abc\", \"\", \"x\") != \"\"", "empty"),
        ("allow if bits.lsh(1, 100000000000) > 0", "from 0 to 63"),
        ("allow if object.subset([1], [])", "empty array"),
        (
            "allow if not object.subset({\"a\": [1]}, {\"a\": []})",
            "empty array",
        ),
        ("allow if to_number(\" 24\") == 24", "not a number"),
        ("allow if to_number(\"0x18\") == 24", "not a number"),
        (
            "allow if time.parse_rfc3339_ns(\"2026-01-02 03:04:05Z\") > 0",
            "not a time",
        ),
        (
            "allow if time.parse_rfc3339_ns(\"2026-01-02T03:04:60Z\") > 0",
            "not a time",
        ),
    ] {
        let verdict = release(rules);
        assert!(!verdict.allow, "{rules}: {verdict:?}");
        assert!(verdict.reason.contains(message), "{rules}: {}", verdict.reason);
    }
    // Values that share their parts are small to hold and huge to write: the engine's errors would.
    let mut shared = "allow if {\n\tx0 := [1]\n".to_owned();
    for n in 0..40 {
        shared.push_str(&format!("\tx{} := [x{n}, x{n}]\n", n + 1));
    }
    for call in [
        "abs(x40)",
        "lower(x40)",
        "json.marshal(x40)",
        "upper(x40)",
        "sort(x40)",
    ] {
        let start = Instant::now();
        let verdict = release(&format!("{shared}\t{call} == 1\n}}"));
        assert!(
            !verdict.allow && verdict.reason.contains("more than"),
            "{call}: {verdict:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{call} took {:?}",
            start.elapsed()
        );
    }
    // And they still work.
    for rules in [
        "allow if concat(\"/\", [\"a\", \"b\"]) == \"a/b\"",
        "allow if concat(\",\", {\"b\", \"a\"}) == \"a,b\"",
        "allow if sprintf(\"%s is %d (%v) 100%%\", [\"a\", 3, [1, null]]) == \"a is 3 ([1, null]) 100%\"",
        "allow if replace(\"a-b-c\", \"-\", \"+\") == \"a+b+c\"",
        "allow if array.concat([1], [2]) == [1, 2]",
        "allow if strings.count(\"banana\", \"an\") == 2",
        "allow if bits.lsh(1, 19) == 524288",
        "allow if to_number(\"24\") == 24",
        "allow if hex.decode(\"6869\") == \"hi\"",
        "allow if base64.decode(\"aGk=\") == \"hi\"",
        "allow if sprintf(\"%x %q\", [255, \"a\"]) != \"\"",
        "allow if indexof(\"abc\", \"c\") == 2",
        "allow if time.clock([1, \"Europe/Berlin\"])[0] < 24",
        "allow if json.marshal({\"a\": [1]}) == \"{\\\"a\\\":[1]}\"",
        "allow if time.parse_rfc3339_ns(\"2026-01-02T03:04:05.5+01:00\") == 1767319445500000000",
    ] {
        let verdict = release(rules);
        assert!(verdict.allow, "{rules}: {}", verdict.reason);
    }
}

#[test]
fn no_argument_makes_a_built_in_hang_or_crash() {
    use keyward::policy::{Input, Phase, PreparedBundle};

    use super::policy_support::{bundle, patient};

    let values =
        r#"[null, -1, 1e308, 9223372036854775807, "", "aé%s{1}{9999}(a*)*", ["x", -1.5], {"a": {"b": []}}]"#;
    let count = 8usize;
    let mut crashed = Vec::new();
    for (name, arguments) in allowed_builtins() {
        let picked: Vec<String> = (0..arguments)
            .map(|n| format!("values[to_number(input.secrets[{n}])]"))
            .collect();
        let call = format!("{name}({})", picked.join(", "));
        let text = format!(
            "package p\nvalues := {values}\nallow if {{\n\tx := {call}\n\tprint(x)\n}}\ndeny contains {call}"
        );
        let bundle = bundle([("p.rego", text.as_str())]);
        let prepared = PreparedBundle::prepare(&bundle, &patient())
            .map_err(|found| listed(&found))
            .expect(name);
        for case in 0..count.pow(arguments.min(3) as u32) {
            let secrets: Vec<String> = (0..arguments)
                .map(|n| ((case / count.pow((n % 3) as u32)) % count).to_string())
                .collect();
            let input = Input {
                secrets: secrets.clone(),
                ..Input::example(Phase::Release)
            };
            let verdict = prepared.evaluate("p", Phase::Release, &input);
            let kind = verdict.error.map(|error| error.kind);
            assert_ne!(kind, Some(ErrorKind::TimeLimit), "{name}({})", secrets.join(", "));
            if kind == Some(ErrorKind::Internal) {
                crashed.push(format!("{name}({}): {}", secrets.join(", "), verdict.reason));
            }
        }
    }
    assert!(
        crashed.is_empty(),
        "denied by a caught panic:\n{}",
        crashed.join("\n")
    );
}

#[test]
fn every_allowed_built_in_exists_with_its_arguments() {
    let mut last = "";
    for (name, arguments) in allowed_builtins() {
        assert!(last < name, "{name} is out of order");
        last = name;
        // One argument too many is refused statically, the right number is not: so the engine's count is ours.
        let call = |count: usize| {
            format!(
                "package p\nallow if {name}({})",
                vec!["[input.owner][0]"; count].join(", ")
            )
        };
        let found = load([("p.rego", &call(arguments + 1))])
            .map(|_| ())
            .expect_err(name);
        assert!(listed(&found).contains("argument"), "{name}: {}", listed(&found));
        let prepared = load([("p.rego", &call(arguments))])
            .map_err(|found| listed(&found))
            .expect(name);
        let input = keyward::policy::Input::example(keyward::policy::Phase::Release);
        let verdict = prepared.evaluate("p", keyward::policy::Phase::Release, &input);
        assert!(
            !verdict.reason.contains("could not find function"),
            "{name}: {}",
            verdict.reason
        );
        assert!(
            !verdict.reason.contains("incorrect number"),
            "{name}: {}",
            verdict.reason
        );
    }
}
