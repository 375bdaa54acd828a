//! Every mistake that is found when a bundle is loaded, as its author reads it: a folder each under `tests/check`,
//! with the diagnostics in `expected.txt`.

use std::collections::BTreeMap;
use std::path::Path;

use keyward::policy::{Bundle, Diagnostic, PreparedBundle};

use super::policy_support::patient;
use crate::support::cli::golden;

/// The files of a case, by path below its folder.
fn files(folder: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else if name != "expected.txt" {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// What the loader finds: the errors that refuse a bundle, or the warnings of one that loads.
fn diagnostics(files: BTreeMap<String, Vec<u8>>) -> Vec<Diagnostic> {
    match Bundle::from_files(files).and_then(|bundle| PreparedBundle::prepare(&bundle, &patient())) {
        Ok(prepared) => prepared.facts().warnings.clone(),
        Err(errors) => errors,
    }
}

#[test]
fn each_mistake_is_shown_with_its_line_its_reason_and_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let mut cases: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    cases.sort();
    assert!(cases.len() >= 60, "only {} cases were found", cases.len());
    for case in cases {
        let mut found = BTreeMap::new();
        files(&root.join(&case), "", &mut found);
        let shown: Vec<String> = diagnostics(found).iter().map(ToString::to_string).collect();
        let text = match shown.is_empty() {
            true => "Fine\n".to_owned(),
            false => format!("{}\n", shown.join("\n\n")),
        };
        let expected = format!("tests/check/{case}/expected.txt");
        // Only a case without a mistake may find nothing.
        assert_eq!(
            text == "Fine\n",
            case.ends_with("nothing-wrong") || case.ends_with("deny-that-looks"),
            "{case}: {text}"
        );
        golden(&expected, &text);
    }
}
