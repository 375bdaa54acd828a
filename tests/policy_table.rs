//! Policies as security teams write them, under `tests/policies`: each with the inputs it is asked about, what it must
//! decide, and in `expected.txt` why.
//!
//! `asked.yaml` changes the example input; `allow` there is written by hand, the reasons are what came of it.

use std::collections::BTreeMap;
use std::path::Path;

use keyward::policy::{Bundle, Input, Phase, PreparedBundle, Verdict};
use serde::Deserialize;
use serde_json::Value;

use super::policy_support::{listed, patient};
use crate::support::cli::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// What is special about this input.
    say: String,
    allow: bool,
    #[serde(default)]
    change: Value,
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                let member = into
                    .get_mut(name)
                    .unwrap_or_else(|| panic!("the input has no `{name}`"));
                merge(member, value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn input(change: &Value) -> Input {
    let phase = match change["phase"].as_str() {
        Some("launch") => Phase::Launch,
        _ => Phase::Release,
    };
    let mut input = serde_json::to_value(Input::example(phase)).unwrap();
    if change.is_object() {
        merge(&mut input, change);
    }
    serde_json::from_value(input).unwrap()
}

fn shown(asked: &Asked, verdict: &Verdict) -> String {
    let word = if verdict.allow { "ALLOWED" } else { "DENIED" };
    let mut lines = vec![format!("{}: {word}, {}", asked.say, verdict.reason)];
    lines.extend(
        verdict
            .deny
            .iter()
            .map(|message| format!("  deny           {message}")),
    );
    lines.extend(
        verdict
            .release_limit
            .map(|limit| format!("  release_limit  {limit}")),
    );
    if let Some(error) = &verdict.error {
        let kind = serde_json::to_value(error.kind).unwrap();
        lines.push(format!("  error          {}", kind.as_str().unwrap()));
    }
    lines.join("\n")
}

#[test]
fn each_policy_decides_as_its_author_meant_and_says_why() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies");
    let mut cases: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    cases.sort();
    assert!(cases.len() >= 40, "only {} policies were found", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let folder = root.join(case);
        let mut files = BTreeMap::new();
        for name in ["policy.rego", "data.yaml"] {
            if let Ok(content) = std::fs::read(folder.join(name)) {
                files.insert(name.to_owned(), content);
            }
        }
        let prepared = Bundle::from_files(files)
            .and_then(|bundle| PreparedBundle::prepare(&bundle, &patient()))
            .unwrap_or_else(|found| panic!("{case}:\n{}", listed(&found)));
        let asked = std::fs::read_to_string(folder.join("asked.yaml")).unwrap();
        let asked: Vec<Asked> =
            serde_yaml::from_str(&asked).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(!asked.is_empty(), "{case} asks nothing");
        let mut text = String::new();
        for asked in &asked {
            let input = input(&asked.change);
            let verdict = prepared.evaluate("release.case", input.phase, &input);
            if verdict.allow != asked.allow {
                wrong.push(format!("{case}, {}: {}", asked.say, verdict.reason));
            }
            text.push_str(&shown(asked, &verdict));
            text.push('\n');
        }
        golden(&format!("tests/policies/{case}/expected.txt"), &text);
    }
    assert_eq!(wrong, [""; 0], "decided otherwise than meant");
}
