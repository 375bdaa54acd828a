//! Text that must never be evaluated: refused when an owner registers it, with its place, and nothing is registered.

use serde_json::{Value, json};

use crate::support::App;
use crate::support::app::bundle;
use crate::support::host::standard;

/// A module of the bound policy that nothing is wrong with.
const HEAD: &str = "package release.any\n\nallow if is_string(input.attested.launch_digest)\n\n";

/// What registering the usual objects with these files says: the places with their messages.
fn refused(app: &App, name: &str, files: &[(&str, &str)]) -> Vec<(String, u64, String)> {
    let mut objects = standard(json!({}));
    objects[0] = bundle(files);
    let refused = app.try_apply(objects);
    assert_eq!((refused.status, refused.problem()), (422, "invalid"), "{name}");
    let place = |error: &Value| {
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        (
            text("file"),
            error["line"].as_u64().unwrap_or_default(),
            text("message"),
        )
    };
    let found: Vec<_> = refused.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect();
    assert!(!found.is_empty(), "{name}: {}", refused.body);
    found
}

/// Each of these rules, from line 5 of the bound policy on, is refused at this line with this message; then the
/// server registers and releases as ever.
fn all_refused(rows: &[(&str, &str, u64, &str)]) {
    let app = App::new();
    for (name, rules, line, message) in rows {
        let found = refused(&app, name, &[("release/any.rego", &format!("{HEAD}{rules}\n"))]);
        assert!(
            found
                .iter()
                .any(|(file, at, said)| file == "release/any.rego" && at == line && said.contains(message)),
            "{name}: {found:?}"
        );
    }
    well(&app);
}

/// Nothing was registered, and what is well is.
fn well(app: &App) {
    let active = app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    assert_eq!(active, Value::Null);
    app.standard();
    app.run(&crate::support::platform()).1.ok();
}

/// `r0 := r1`, `r1 := r2` and so on.
fn chain(length: usize, rule: impl Fn(usize) -> String) -> String {
    (0..length).map(rule).collect()
}

#[test]
fn what_would_overflow_the_stack_is_refused() {
    let rules = chain(500, |n| format!("r{n} := r{}\n", n + 1)) + "r500 := 1";
    let functions = chain(1000, |n| format!("f{n}(x) := f{}(x)\n", n + 1)) + "f1000(x) := x";
    let sum = format!("x := {}1", "1 + ".repeat(4000));
    all_refused(&[
        ("a function of itself", "f(x) := f(x + 1)", 5, "recursive"),
        (
            "rules of each other",
            "a if b\n\nb if c\n\nc if a",
            5,
            "recursive",
        ),
        ("500 rules", &rules, 5, "a chain of"),
        ("1,000 functions", &functions, 5, "a chain of"),
        ("a sum of 4,000", &sum, 5, "operators"),
    ]);
}

#[test]
fn what_no_parser_would_finish_is_refused() {
    let nested = |depth: usize, open: &str, close: &str| {
        format!("x := {}1{}", open.repeat(depth), close.repeat(depth))
    };
    let deep = "brackets nested deeper than 8";
    all_refused(&[
        ("16 arrays", &nested(16, "[", "]"), 5, deep),
        ("20 arrays", &nested(20, "[", "]"), 5, deep),
        ("5,000 arrays", &nested(5000, "[", "]"), 5, deep),
        ("20 sets", &nested(20, "{", "}"), 5, deep),
        ("20 objects", &nested(20, "{1: ", "}"), 5, deep),
    ]);
}

#[test]
fn built_ins_that_hang_or_exhaust_are_refused_even_behind_a_guard_that_never_holds() {
    let call = |call: &str| format!("x if {{\n\tfalse\n\t{call}\n}}");
    let rows = [
        "numbers.range(1, 1000000000)",
        "numbers.range_step(1, 1000000000, 1)",
        "net.cidr_expand(\"::/0\")",
        "graph.reachable_paths({\"a\": [\"a\"]}, {\"a\"})",
        "units.parse_bytes(\"9e999999999Ei\")",
        "object.union_n([{}])",
        "walk(input, [a, b])",
        "http.send({})",
        "opa.runtime()",
        "time.now_ns()",
        "rand.intn(\"a\", 9)",
    ]
    .map(|built_in| (built_in, call(built_in)));
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, rules)| (*name, rules.as_str(), 7, "is not available to policies"))
        .collect();
    all_refused(&rows);
}

#[test]
fn what_the_engine_loads_and_opa_refuses_is_refused() {
    all_refused(&[
        (
            "recursion that is never reached",
            "a if {\n\tfalse\n\tb\n}\n\nb if a",
            5,
            "recursive",
        ),
        (
            "a function that is nowhere",
            "a if {\n\tfalse\n\tnowhere(1)\n}",
            7,
            "nowhere",
        ),
        ("an unsafe variable in not", "a if {\n\tnot x == 1\n}", 6, "`x`"),
        ("an unsafe variable in a head", "a contains x if true", 5, "`x`"),
        (
            "an unsafe variable in an else",
            "a if {\n\ttrue\n} else := x if {\n\ttrue\n}",
            7,
            "`x`",
        ),
        ("two defaults", "default a := 1\n\ndefault a := 2", 7, "default"),
    ]);
    // Imports stand before the rules.
    let app = App::new();
    let rules = "\n\nallow if is_string(input.attested.launch_digest)\n";
    for (name, imports, line, message) in [
        ("an input of one's own", "import data.lists as input", 3, "input"),
        (
            "two imports of one name",
            "import data.lists.a as x\nimport data.lists.b as x",
            4,
            "shadows",
        ),
        (
            "a keyword of the future that never came",
            "import future.keywords.never",
            3,
            "never",
        ),
        ("Rego of the past", "import rego.v0", 3, "rego"),
    ] {
        let text = format!("package release.any\n\n{imports}{rules}");
        let data = "{\"a\": 1, \"b\": 2}";
        let found = refused(
            &app,
            name,
            &[("release/any.rego", &text), ("lists/data.json", data)],
        );
        assert!(
            found
                .iter()
                .any(|(file, at, said)| file == "release/any.rego" && *at == line && said.contains(message)),
            "{name}: {found:?}"
        );
    }
    // Data and packages where a rule is.
    for (name, file, text, message) in [
        (
            "data at a rule's path",
            "release/any/data.json",
            "{\"allow\": true}",
            "data",
        ),
        (
            "a package at a rule's path",
            "release/more.rego",
            "package release.any.allow\n\nx := 1\n",
            "a rule has this package's path",
        ),
    ] {
        let found = refused(&app, name, &[("release/any.rego", HEAD), (file, text)]);
        assert!(
            found
                .iter()
                .any(|(at, _, said)| !at.is_empty() && said.contains(message)),
            "{name}: {found:?}"
        );
    }
    well(&app);
}
