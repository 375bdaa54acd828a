//! What is refused when a bundle is loaded, with its place; and what is known of a policy once it is.

use keyward::policy::PreparedBundle;

use super::policy_support::{listed, load, loaded};

/// Loads `package p` with these lines before its rules, expects a refusal, and returns it as text.
fn refused(text: &str) -> String {
    match load([("p.rego", text)]) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(found) => listed(&found),
    }
}

#[test]
fn what_the_engine_would_load_and_must_not() {
    // Text of a module, the place and the message.
    let table: &[(&str, &str, &str)] = &[
        (
            "package p\nallow if {\n\tinput.version ==\n}",
            "p.rego:4:1",
            "expecting expression",
        ),
        ("package p\nallow if {\n\t\tx := ]\n}", "p.rego:3:8", "closes"),
        (
            "package p\nallow if {\n\t\tx := ,\n}",
            "p.rego:3:5",
            "expecting `}`",
        ),
        (
            "package p\nallow { true }",
            "p.rego:2:7",
            "`if` keyword is required",
        ),
        (
            "package keyward.mine\nallow := true",
            "p.rego:1:9",
            "reserved for the server's library",
        ),
        ("package keyward\nallow := true", "p.rego:1:9", "reserved"),
        (
            "package p[\"a-b\"]\nallow := true",
            "p.rego:1:9",
            "a path of plain names",
        ),
        (
            "package p\nx := 1",
            "",
            "no package of the bundle has a rule `allow`",
        ),
        (
            "package p\nallow(x) := true if x == 1",
            "p.rego:2:1",
            "`allow` is a function here",
        ),
        (
            "package p\nallow := true\ndeny(x) := \"no\" if x",
            "p.rego:3:1",
            "`deny` is a function here",
        ),
        (
            "package p\nallow := true\nrelease_limit(x) := x",
            "p.rego:3:1",
            "`release_limit` is a function here",
        ),
        (
            "package p\nallow := true\nallow_launch(x) if x",
            "p.rego:3:1",
            "`allow_launch` is a function here",
        ),
        (
            "package p\nallow := true\ndefault deny_launch(_) := 1",
            "p.rego:3:9",
            "`deny_launch` is a function here",
        ),
        (
            "package p\nallow.x := true",
            "p.rego:2:1",
            "`allow` is an object here",
        ),
        (
            "package p\nallow := true\ndeny[x] := 1 if some x in [1]",
            "p.rego:3:1",
            "`deny` is an object here",
        ),
        (
            "package p\ndefault allow := false\ndefault allow := true",
            "p.rego:3:9",
            "two defaults",
        ),
        (
            "package p\nallow := true\nf(x) := x\nf(x, y) := x + y",
            "p.rego:4:1",
            "exclude each other",
        ),
        (
            "package p\nallow := true\nf(x) := x\nf := 1",
            "p.rego:4:1",
            "exclude each other",
        ),
        (
            "package p\nimport data.x as input\nallow if input.ok",
            "p.rego:2:8",
            "would replace `input` itself",
        ),
        (
            "package p\nimport data.x as data\nallow if data.ok",
            "p.rego:2:8",
            "would replace `data` itself",
        ),
        (
            "package p\nimport data.x.input\nallow if input.ok",
            "p.rego:2:8",
            "would replace `input` itself",
        ),
        (
            "package p\nimport data.x.a\nimport data.y.a\nallow if a.ok",
            "p.rego:3:8",
            "a second import named `a`",
        ),
        (
            "package p\nimport data.x as a\nimport data.y.a\nallow if a.ok",
            "p.rego:3:8",
            "a second import named `a`",
        ),
        (
            "package p\nimport data.x.allow\nallow := true",
            "p.rego:2:8",
            "one name",
        ),
        (
            "package p\nimport rego.v0\nallow := true",
            "p.rego:2:8",
            "Rego v1",
        ),
        (
            "package p\nimport future.keywords.unless\nallow := true",
            "p.rego:2:8",
            "no keyword",
        ),
        (
            "package p\nimport data.keyward.sve\nallow if sve.es",
            "p.rego:2:8",
            "did you mean `data.keyward.sev`?",
        ),
        (
            "package p\nallow if http.send({\"url\": \"https://example.com\"}).status_code == 200",
            "p.rego:2:10",
            "can't reach the network",
        ),
        (
            "package p\nallow if opa.runtime().env.X == \"1\"",
            "p.rego:2:10",
            "not available",
        ),
        (
            "package p\nallow if time.now_ns() > 1",
            "p.rego:2:10",
            "`input.time`",
        ),
        (
            "package p\nallow if rand.intn(\"x\", 2) == 1",
            "p.rego:2:10",
            "never on chance",
        ),
        (
            "package p\nallow if net.lookup_ip_addr(\"x\") != set()",
            "p.rego:2:10",
            "not available",
        ),
        (
            "package p\nallow if io.jwt.decode(\"x\")[0] == 1",
            "p.rego:2:10",
            "not available",
        ),
        (
            "package p\nallow if count(numbers.range(1, 10)) == 10",
            "p.rego:2:16",
            "can't be bounded",
        ),
        (
            "package p\nallow if units.parse_bytes(\"1Ei\") > 1",
            "p.rego:2:10",
            "can't be bounded",
        ),
        ("package p\nallow if trace(\"x\")", "p.rego:2:10", "print"),
        (
            "package p\nallow if {\n\tfalse\n\tlookup(1)\n}",
            "p.rego:4:2",
            "there is no function `lookup`",
        ),
        (
            "package p\nallow if startwith(input.owner, \"a\")",
            "p.rego:2:10",
            "did you mean `startswith`?",
        ),
        (
            "package p\nallow if startswith(input.owner)",
            "p.rego:2:10",
            "takes 2 arguments, 1 is given",
        ),
        (
            "package p\nimport data.keyward.sev\nallow if sev.launch_digest_on([])",
            "p.rego:3:10",
            "launch_digest_in",
        ),
        (
            "package p\nf(x) := x\nallow if f(1, 2) == 1",
            "p.rego:3:10",
            "takes 1 argument, 2 are given",
        ),
        (
            "package p\nf(x) := f(x + 1)\nallow if f(1)",
            "p.rego:2:1",
            "recursive",
        ),
        (
            "package p\nf(x) := g(x)\ng(x) := f(x)\nallow if f(1)",
            "p.rego:2:1",
            "p.f → p.g → p.f",
        ),
        (
            "package p\nallow if not b\nb if not allow",
            "p.rego:2:1",
            "recursive",
        ),
        (
            "package p\nallow if data.p[input.owner]",
            "p.rego:2:1",
            "recursive",
        ),
        (
            "package p\nallow if input.attested.launch_digst == \"x\"",
            "p.rego:2:10",
            "did you mean `input.attested.launch_digest`?",
        ),
        (
            "package p\nallow if not input.atested.policy_bits.no_debug",
            "p.rego:2:14",
            "did you mean `input.attested`?",
        ),
        (
            "package p\nallow if input.attested[\"polcy\"] == 7",
            "p.rego:2:10",
            "did you mean `input.attested.policy`?",
        ),
        (
            "package p\nallow if input.owner.name == \"x\"",
            "p.rego:2:10",
            "has no member `name`",
        ),
        (
            "package p\nimport input.atested as a\nallow if a.policy == 7",
            "p.rego:2:8",
            "did you mean `input.attested`?",
        ),
        (
            "package p\nallow if input.registration.images",
            "p.rego:2:10",
            "no member `registration`",
        ),
        (
            "package p\nallow if alowed\nallowed := true",
            "p.rego:2:10",
            "did you mean `allowed`?",
        ),
        ("package p\nallow if not x", "p.rego:2:14", "`x` is not defined"),
        (
            "package p\nallow if data.p.other",
            "p.rego:2:10",
            "package `p` has no rule `other`",
        ),
        (
            "package p\nallow if f({\"ok\": true})\nf(input) if input.ok",
            "p.rego:3:1",
            "hides the document `input`",
        ),
        (
            "package p\nallow if {\n\tsome data in [{\"ok\": true}]\n\tdata.ok\n}",
            "p.rego:2:1",
            "hides the document `data`",
        ),
        (
            "package p\nallow if b with input.version as 2\nb if input.version == 2",
            "p.rego:2:12",
            "belongs in tests",
        ),
    ];
    for (text, place, message) in table {
        let found = refused(text);
        assert!(
            found.contains(place),
            "{text}\n\n{found}\n\nexpected place: {place}"
        );
        assert!(
            found.contains(message),
            "{text}\n\n{found}\n\nexpected: {message}"
        );
    }
}

#[test]
fn data_and_rules_never_share_a_path() {
    let policy = "package release.database\nallow := false\nlimits[x] := 1 if some x in [\"a\"]\n";
    for (path, data) in [
        ("data.json", "{\"release\": {\"database\": {\"allow\": true}}}"),
        ("release/data.json", "{\"database\": {\"allow\": true}}"),
        ("release/database/data.yaml", "allow: true\n"),
        ("release/database/allow/data.json", "true"),
        ("release/database/allow/data.json", "{}"),
        ("release/database/data.json", "{\"deny\": []}"),
        ("release/database/data.json", "{\"release_limit\": 3}"),
        ("release/database/data.json", "{\"allow_launch\": true}"),
        ("release/database/data.json", "{\"limits\": {\"b\": 2}}"),
        ("release/data.json", "{\"database\": 1}"),
        ("release/data.json", "1"),
    ] {
        let found = load([("p.rego", policy), (path, data)])
            .map(|_| ())
            .expect_err(path);
        assert!(
            listed(&found).contains("data"),
            "{path}: {data}\n{}",
            listed(&found)
        );
    }
    // Beside a rule, data is welcome.
    loaded([
        ("p.rego", policy),
        ("release/database/data.json", "{\"approved\": []}"),
    ]);
    // A rule and a package on one path.
    let found = load([
        ("a.rego", "package a\nallow := true\nb := 1"),
        ("b.rego", "package a.b\nallow := true"),
    ]);
    assert!(listed(&found.map(|_| ()).expect_err("a conflict")).contains("a rule has this package's path"));
}

#[test]
fn imports_are_a_files_own() {
    // The engine shares imports within a package, so that what one file imports changes what another means.
    let ab = |a: &str, b: &str| {
        let a = format!("package p\n{a}\nallow := true");
        let b = format!("package p\n{b}");
        let found = load([("a.rego", &a), ("b.rego", &b), ("x/data.json", "{\"a\": 1}")]).map(|_| ());
        found.map_err(|found| listed(&found)).err().unwrap_or_default()
    };
    let found = ab("import data.x.a\nok if a == 1", "import data.y.a\nok2 if a == 1");
    assert!(
        found.contains("b.rego:2:8") && found.contains("another meaning"),
        "{found}"
    );
    let found = ab("import data.x.a\nok if a == 1", "ok2 if a == 1");
    assert!(
        found.contains("b.rego:2:8") && found.contains("imported in another file"),
        "{found}"
    );
    let found = ab("import data.x.a\nok if a == 1", "a := 2");
    assert!(
        found.contains("a.rego:2:8") && found.contains("one name"),
        "{found}"
    );
    // A built-in's name that another file redirects, to hide a recursion.
    let found = ab(
        "import data.p as json\nmarshal(x) := f(x)",
        "f(x) := json.marshal(x)",
    );
    assert!(found.contains("recursive"), "{found}");
    assert_eq!(
        ab("import data.x.a\nok if a == 1", "import data.x.a\nok2 if a == 1"),
        ""
    );
    let found = ab("default count := 3", "ok if count([]) == 3");
    assert!(found.contains("would take the place of the built-in"), "{found}");
}

#[test]
fn ordinary_policies_load() {
    let text = r#"
package release.database

import rego.v1
import data.approved
import data.keyward.platform
import data.keyward.sev as guest
import input.attested as proved

default allow := false

allow if {
	guest.no_debug
	guest.min_api_version(1, 50)
	platform.product_in(approved.products)
	every name in input.secrets {
		startswith(name, "database/")
	}
	count({x | some x in input.secrets}) >= 1
	some i, digest in approved.digests
	i >= 0
	digest == proved.launch_digest
	bits := {bit: value | some bit, value in proved.policy_bits}
	bits.no_debug
	[major, minor] := [proved.api_major, proved.api_minor]
	major + minor > 0
	names = [name | name := approved.products[_]]
	names[j] == "milan"
	j >= 0
	helper(input.owner) == "EXAMPLE"
	bits.and(1, 1) == 1
	time.parse_rfc3339_ns(input.time) > 0
} else := false

helper(x) := upper(x) if is_string(x)

default helper2(_) := 1

deny contains sprintf("%s: %d vCPUs", [input.owner, n]) if {
	n := proved.image.vcpus
	is_number(n)
	n > limits.vcpus
}

limits.vcpus := 8

limits.names contains "a"

release_limit := 3 if {
	input.secret == null
} else := 1
"#;
    // `bits` is a local here, so `bits.and` would be odd to read; the engine calls the built-in all the same.
    let data = r#"{"approved": {"products": ["milan"], "digests": ["c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d"]}}"#;
    let prepared = loaded([
        ("release/database.rego", text),
        ("data.json", data),
        ("release/x_test.rego", "package x_test\ntest_x if http.send({})"),
    ]);
    let input = keyward::policy::Input::example(keyward::policy::Phase::Release);
    let verdict = prepared.evaluate("release.database", keyward::policy::Phase::Release, &input);
    assert!(verdict.allow, "{verdict:?}");
    assert_eq!(verdict.release_limit, Some(3));
}

#[test]
fn a_misspelt_policy_is_told_its_nearest_name() {
    let prepared = loaded([
        ("a.rego", "package release.database\nallow := true"),
        ("b.rego", "package release.web\nallow := true"),
        ("c.rego", "package helpers\nf(x) := x"),
    ]);
    assert_eq!(prepared.packages(), ["release.database", "release.web"]);
    let hint = |name: &str| prepared.resolve(name).expect_err(name).hint.unwrap_or_default();
    assert_eq!(hint("release.databse"), "did you mean `release.database`?");
    assert_eq!(
        hint("data.release.database.allow"),
        "did you mean `release.database`?"
    );
    assert!(
        hint("helpers").contains("release.database, release.web"),
        "{}",
        hint("helpers")
    );
    assert!(prepared.resolve("release.web").is_ok());
    assert!(prepared.resolve("keyward.workload").is_ok());
    assert!(prepared.resolve("keyward.sev").is_err(), "a helper is no policy");
}

#[test]
fn what_a_policy_reads_is_known_through_what_it_calls() {
    let facts = |text: &str| {
        loaded([("p.rego", &format!("package p\n{text}"))])
            .resolve("p")
            .expect("the policy")
    };
    for (text, digest, releases) in [
        ("allow if input.attested.launch_digest == \"x\"", true, false),
        (
            "import data.keyward.sev\nallow if sev.launch_digest_in([\"x\"])",
            true,
            false,
        ),
        (
            "import input.attested as a\nallow if a.launch_digest == \"x\"",
            true,
            false,
        ),
        (
            "allow if f(input.attested)\nf(a) if a.launch_digest == \"x\"",
            true,
            false,
        ),
        ("allow if count(input) > 1", true, true),
        ("allow if input[input.owner]", true, true),
        ("allow if input.attested.policy == 7", false, false),
        (
            "allow := true\ndeny contains \"x\" if other\nother if not input.attested.launch_digest in {\"x\"}",
            true,
            false,
        ),
        (
            "import data.keyward.limit\nallow if limit.fewer_within_hour(3)",
            false,
            true,
        ),
        (
            "allow := true\nrelease_limit := input.releases.total + 1",
            false,
            true,
        ),
        (
            "allow := true\nunused if input.attested.launch_digest == \"x\"",
            false,
            false,
        ),
    ] {
        let facts = facts(text);
        assert_eq!(
            (facts.reads_launch_digest, facts.reads_releases),
            (digest, releases),
            "{text}"
        );
    }
    let all = facts(
        "allow := true\nallow_launch := true\ndeny_launch contains 1\ndeny contains 1\nrelease_limit := 1",
    );
    assert!(all.has_allow_launch && all.has_deny_launch && all.has_deny && all.has_release_limit);
    let none = facts("allow := true");
    assert!(!(none.has_allow_launch || none.has_deny_launch || none.has_deny || none.has_release_limit));
}

#[test]
fn prepared_bundles_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PreparedBundle>();
}

#[test]
fn a_diagnostic_reads_like_a_compilers() {
    let found = refused("package p\n\nallow if {\n\tinput.attested.launch_digst == \"x\"\n}\n");
    let expected = concat!(
        "error: `input.attested` has no member `launch_digst`\n",
        " --> p.rego:4:2\n",
        "  |\n",
        "4 |     input.attested.launch_digst == \"x\"\n",
        "  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^\n",
        "  |\n",
        "  = help: did you mean `input.attested.launch_digest`?",
    );
    assert_eq!(found, expected);
}

#[test]
fn a_rule_that_is_all_but_one_the_server_asks_for_is_a_warning() {
    for (rule, meant) in [
        ("denny contains \"x\"", "deny"),
        ("dney contains \"x\"", "deny"),
        ("release_limt := 3", "release_limit"),
        ("allow_lanch := true", "allow_launch"),
        ("deny_launc contains \"x\"", "deny_launch"),
    ] {
        let text = format!("package p\nallow := true\n{rule}\n");
        let warnings = listed(&loaded([("p.rego", &text)]).facts().warnings);
        assert!(
            warnings.contains("warning: the server never asks for")
                && warnings.contains("p.rego:3:1")
                && warnings.contains(&format!("is it `{meant}`?")),
            "{rule}: {warnings}"
        );
    }
    let text = "package p\nallow if allowed\nallowed := true\ndenied := 3\nlimit := 4\n";
    let warnings = listed(&loaded([("p.rego", text)]).facts().warnings);
    assert!(!warnings.contains("never asks"), "{warnings}");
}
