//! What is published about policies: a page for each rule of the library, and OPA's capabilities file.

use std::collections::BTreeMap;
use std::path::Path;

use keyward::policy::{
    allowed_builtins, capabilities, library_modules, library_pages, library_rules, policy_with,
};
use regorus::{Engine, Value};

use super::policy_support::{listed, load};
use crate::support::cli::golden;

#[test]
fn each_rule_of_the_library_has_a_page_made_from_its_annotation() {
    let pages = library_pages().unwrap();
    for (name, text) in &pages {
        golden(&format!("docs/library/{name}"), text);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/library");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(pages.contains_key(&name), "docs/library/{name} is about no rule");
    }
    for (path, text) in library_modules().filter(|(path, _)| !path.ends_with("workload.rego")) {
        let module = path.rsplit('/').next().unwrap().strip_suffix(".rego").unwrap();
        let public = text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        let rules = public.filter(|line| !line.starts_with("package ") && !line.starts_with("import "));
        for rule in rules {
            let name: String = rule
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            assert!(
                pages.contains_key(&format!("{module}.{name}.md")),
                "{module}.{name} has no page"
            );
        }
    }
}

#[test]
fn each_example_of_the_library_is_a_policy_that_loads() {
    let rules = library_rules().unwrap();
    assert!(rules.len() >= 20, "only {} rules", rules.len());
    for rule in rules {
        let name = format!("{}.{}", rule.package, rule.name);
        assert!(
            rule.example.contains(&name),
            "{name}: its example does not ask for it"
        );
        assert!(!rule.description.is_empty(), "{name} has no description");
        let policy = policy_with(&rule.package, &rule.example);
        let found = load([
            ("release/database.rego", &policy),
            ("data.yaml", "approved: [c2c0]\n"),
        ]);
        if let Err(found) = found {
            panic!("{name}:\n{}", listed(&found));
        }
    }
}

#[test]
fn every_line_of_the_library_is_reached_by_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_enable_coverage(true);
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rego") else {
            continue;
        };
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        let package = engine.add_policy(name.clone(), text.clone()).unwrap();
        let rules = text
            .lines()
            .filter(|line| module.ends_with("_test") && line.starts_with("test_"));
        tests.extend(rules.map(|line| format!("{package}.{}", line.split(' ').next().unwrap())));
    }
    tests.sort();
    tests.dedup();
    for test in &tests {
        assert_eq!(
            engine.eval_rule(test.clone()).unwrap(),
            Value::Bool(true),
            "{test}"
        );
    }
    let report = engine.get_coverage_report().unwrap();
    let missed: Vec<_> = report
        .files
        .iter()
        .filter(|file| !file.path.ends_with("_test.rego"))
        .flat_map(|file| {
            file.not_covered
                .iter()
                .map(move |line| format!("{}:{line}", file.path))
        })
        .collect();
    assert_eq!(missed, [""; 0], "lines that no test reaches");
}

#[test]
fn the_capabilities_are_the_allowed_built_ins_with_opas_types() {
    let all = capabilities();
    golden(
        "schemas/capabilities.json",
        &format!("{}\n", serde_json::to_string_pretty(&all).unwrap()),
    );
    let mut declared = BTreeMap::new();
    for builtin in all["builtins"].as_array().unwrap() {
        let name = builtin["name"].as_str().unwrap();
        let takes = builtin["decl"]["args"].as_array().map_or(0, Vec::len);
        let special = builtin["infix"].is_string() || name == "print" || name == "internal.print";
        if !special {
            assert!(
                builtin["decl"]["result"]["type"].is_string(),
                "{name} gives nothing"
            );
            declared.insert(name, takes);
        }
    }
    assert_eq!(declared, allowed_builtins().collect());
    for never in ["http.send", "time.now_ns", "opa.runtime", "io.jwt.decode", "walk"] {
        assert!(!declared.contains_key(never), "{never}");
    }
    assert_eq!(all["allow_net"], serde_json::json!([]));
}
