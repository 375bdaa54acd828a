//! What Rego refuses and the engine would answer somehow: names that nothing binds, and references to nothing.

use super::policy_support::{files, listed, load};
use keyward::policy::Bundle;

/// What is wrong with `package p` with these rules, beside some data.
fn refused(rules: &str) -> String {
    let text = format!("package p\n{rules}\n");
    let data = r#"{"revoked": {"rome": [3], "milan": []}, "approved": ["aa"]}"#;
    match load([("p.rego", &text), ("data.json", data)]) {
        Ok(_) => String::new(),
        Err(found) => listed(&found),
    }
}

#[test]
fn names_in_a_negation_that_nothing_binds_are_refused_with_their_place() {
    for (rules, message) in [
        ("allow if {\n\tsome x\n\tnot x == 1\n}", "`x` is bound by nothing"),
        ("allow if not input.secrets[_] == \"root\"", "`not` with `[_]`"),
        ("allow if not data.revoked[x] == 1", "`x` is bound by nothing"),
        (
            "allow if not data.approved[i] == \"bb\"",
            "`i` is bound by nothing",
        ),
        (
            "allow if {\n\tsome x\n\tnot data.revoked.rome[x] == input.version\n}",
            "`x`",
        ),
        ("f(a) if not a == b\nallow if f(1)", "`b`"),
        ("allow if count([1 | not data.approved[i] == \"bb\"]) == 1", "`i`"),
        (
            "allow if every x in data.approved { not data.approved[y] == x }",
            "`y`",
        ),
    ] {
        let found = refused(rules);
        assert!(
            found.contains(message) && found.contains(" --> p.rego:"),
            "{rules}: {found}"
        );
    }
    for rules in [
        "allow if not \"bb\" in data.approved",
        "allow if {\n\tsome x in data.approved\n\tnot x == \"bb\"\n}",
        "allow if {\n\tx := input.owner\n\tnot x == \"nobody\"\n}",
        "allow if {\n\tx = input.owner\n\tnot x == \"nobody\"\n}",
        "allow if {\n\tdata.approved[i]\n\tnot i == 7\n}",
        "f(a) if not a == 3\nallow if f(1)",
        "allow if not any_bad\nany_bad if input.secrets[_] == \"root\"",
        "allow if every x in data.approved { not x == \"bb\" }",
        "allow if not count([x | some x in data.approved; x == \"bb\"]) > 0",
        "limit := 4\nallow if not limit == 5",
    ] {
        assert_eq!(refused(rules), "", "{rules}");
    }
}

#[test]
fn data_that_the_bundle_does_not_carry_is_refused_with_what_was_meant() {
    for (rules, message, hint) in [
        (
            "allow if not input.attested.build_id in data.revokedd.milan",
            "no `data.revokedd`",
            "`data.revoked`",
        ),
        (
            "allow if input.owner in data.revoked.romme",
            "no `data.revoked.romme`",
            "`data.revoked.rome`",
        ),
        (
            "allow if input.owner in data.lists",
            "no `data.lists`",
            "put it in a data.json",
        ),
        (
            "import data.aproved\nallow if input.owner in aproved",
            "no `data.aproved`",
            "`data.approved`",
        ),
        (
            "f(x) if x\nallow if not f(data.revoked.genoa)",
            "no `data.revoked.genoa`",
            "object.get",
        ),
    ] {
        let found = refused(rules);
        assert!(
            found.contains(message) && found.contains(hint),
            "{rules}: {found}"
        );
        assert!(found.contains(" --> p.rego:"), "{rules}: {found}");
    }
    for rules in [
        "allow if input.owner in data.approved",
        "allow if input.attested.build_id in data.revoked[input.platform.product]",
        "allow if object.get(data.revoked, \"genoa\", []) == []",
        "import data.revoked as gone\nallow if input.owner in gone.rome",
        "allow if data.p.helper\nhelper := true",
    ] {
        assert_eq!(refused(rules), "", "{rules}");
    }
}

#[test]
fn control_characters_hide_nothing() {
    for text in [
        "package p\nallow := true # \0\ndeny contains \"x\" if true\n",
        "package p\nallow := true # a\rdeny contains \"x\" if true\n",
        "package p\nx := `\0`\nallow := true\n",
    ] {
        let found = listed(
            &load([("p.rego", text)])
                .map(|_| ())
                .expect_err("a control character"),
        );
        assert!(found.contains("a control character, U+"), "{found}");
    }
    assert!(load([("p.rego", "package p\r\nallow := true # fine\r\n")]).is_ok());
}

#[test]
fn a_policy_s_rules_are_not_in_test_files() {
    let policy = "package release.database\nallow := true\n";
    let hidden = "package release.database\ndeny contains \"closed\" if true\n";
    let found = load([("a.rego", policy), ("guard_test.rego", hidden)])
        .map(|_| ())
        .expect_err("a deny that nobody evaluates");
    assert!(
        listed(&found).contains("`deny` in a test file"),
        "{}",
        listed(&found)
    );
    assert!(
        listed(&found).contains("guard_test.rego:2:1"),
        "{}",
        listed(&found)
    );
    let test = "package release.database_test\nallow if true\ntest_it if data.release.database.allow\n";
    assert!(load([("a.rego", policy), ("a_test.rego", test)]).is_ok());
}

#[test]
fn yaml_that_its_parser_would_be_busy_with_or_that_unfolds_is_refused_at_once() {
    let long = "x".repeat(500_000);
    let aliases = format!("a: &a \"{long}\"\nb:\n{}", "- *a\n".repeat(10_000));
    let open = format!("a: {}", "[".repeat(500_000));
    let pairs = format!("a: [{}]", "[\"]\",".repeat(30_000));
    for (yaml, message) in [
        (&aliases, "bytes of text"),
        (&open, "too many brackets"),
        (&pairs, "too many brackets"),
    ] {
        let begun = std::time::Instant::now();
        let content = files([("p.rego", "package p\nallow := true\n"), ("data.yaml", yaml)]);
        let found = listed(&Bundle::from_files(content).map(|_| ()).expect_err(message));
        assert!(
            found.contains(message),
            "{}",
            found.chars().take(300).collect::<String>()
        );
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(10),
            "{message}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn references_to_everything_are_bounded() {
    let rules: String = (0..2000).map(|n| format!("r{n} if data[_]\n")).collect();
    let found = refused(&format!("allow := true\n{rules}"));
    assert!(
        found.contains("in too many ways"),
        "{}",
        found.chars().take(300).collect::<String>()
    );
}
