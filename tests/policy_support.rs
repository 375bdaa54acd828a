//! Bundles from text, and what loading and asking them gives.

use std::collections::BTreeMap;

use keyward::policy::{Bundle, Diagnostic, Input, Limits, Phase, PreparedBundle, Verdict};

/// Files by path, as a bundle takes them.
pub(crate) fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, Vec<u8>> {
    files
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
        .collect()
}

/// A bundle from files that are known to be good.
pub(crate) fn bundle<const N: usize>(content: [(&str, &str); N]) -> Bundle {
    Bundle::from_files(files(content)).expect("the test's files are a bundle")
}

/// Limits that a busy machine keeps, for tests that are not about time.
pub(crate) fn patient() -> Limits {
    Limits {
        time: std::time::Duration::from_secs(5),
        ..Limits::default()
    }
}

/// Loads files; the first step that refuses them answers.
pub(crate) fn load<const N: usize>(content: [(&str, &str); N]) -> Result<PreparedBundle, Vec<Diagnostic>> {
    PreparedBundle::prepare(&Bundle::from_files(files(content))?, &patient())
}

/// Loads a bundle that must load.
pub(crate) fn loaded<const N: usize>(content: [(&str, &str); N]) -> PreparedBundle {
    load(content).unwrap_or_else(|found| panic!("the bundle must load:\n{}", listed(&found)))
}

/// A loaded bundle with one module, `package p`.
pub(crate) fn module(rules: &str) -> PreparedBundle {
    loaded([("p.rego", &format!("package p\n{rules}\n"))])
}

/// What `package p` with these rules says to the example release.
pub(crate) fn release(rules: &str) -> Verdict {
    module(rules).evaluate("p", Phase::Release, &Input::example(Phase::Release))
}

/// What `package p` with these rules says to the example launch.
pub(crate) fn launch(rules: &str) -> Verdict {
    module(rules).evaluate("p", Phase::Launch, &Input::example(Phase::Launch))
}

/// All diagnostics as text.
pub(crate) fn listed(found: &[Diagnostic]) -> String {
    found
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
