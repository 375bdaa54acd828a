//! `policy new`: a repository to start from.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use super::{loaded, workers};
use crate::cli::Ended;
use crate::cli::output::{self, Misused};
use crate::policy::{Bundle, Limits};

#[derive(Args)]
pub(in crate::cli) struct New {
    /// Folder to write it to; made where there is none, and otherwise empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The policy: the name that it is bound by
    #[arg(long, value_name = "NAME", default_value = "release.database")]
    name: String,
}

/// Words that OPA takes for no name.
const KEYWORDS: [&str; 15] = [
    "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null", "package",
    "some", "true", "with",
];

/// Paths and texts, with `@…@` where the policy's name comes in.
const FILES: [(&str, &str); 6] = [
    ("@PATH@.rego", include_str!("template/policy.rego")),
    ("@PATH@_test.rego", include_str!("template/policy_test.rego")),
    ("reference/data.yaml", include_str!("template/data.yaml")),
    (".manifest", include_str!("template/manifest.json")),
    ("README.md", include_str!("template/README.md")),
    (
        ".github/workflows/policy.yml",
        include_str!("template/workflow.yml"),
    ),
];

impl New {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let shown = self.folder.display();
        match fs::read_dir(&self.folder) {
            Ok(entries) => {
                // A repository that was just begun has nothing else.
                let mut others = entries.filter_map(Result::ok).map(|entry| entry.file_name());
                if let Some(other) = others.find(|name| name != ".git") {
                    bail!(
                        "{shown} is not empty (it has {}): name a folder that is, or none that is there",
                        other.to_string_lossy()
                    );
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| shown.to_string()),
        }
        let files = files(&self.name)?;
        for (path, text) in &files {
            write(&self.folder.join(path), text)?;
        }
        output::line(&format!("Wrote {} with a policy {}:", shown, self.name))?;
        for path in files.keys() {
            output::line(&format!("  {path}"))?;
        }
        output::line("Replace the zeros in reference/data.yaml, then: keyward policy check, policy test")?;
        Ok(Ended::Done)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The repository for a policy of this name, which loads: a name that can't be a policy's is told before anything is
/// written.
fn files(name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let wrong = |why: String| anyhow!(Misused(format!("--name {name}: {why}")));
    let words: Vec<&str> = name.split('.').collect();
    let plain = |word: &&str| {
        let first = word.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
        first
            && word
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    let (Some(root), true) = (words.first(), words.len() > 1 && words.iter().all(plain)) else {
        return Err(wrong(
            "expected words with dots between them, such as release.database".to_owned(),
        ));
    };
    if ["keyward", "reference"].contains(root) {
        return Err(wrong(format!("`{root}` is taken; begin with another word")));
    }
    if let Some(word) = words.iter().find(|word| KEYWORDS.contains(word)) {
        return Err(wrong(format!("`{word}` is a word of Rego's own")));
    }
    let filled = |text: &str| {
        text.replace("@PACKAGE@", name)
            .replace("@PATH@", &words.join("/"))
            .replace("@ROOT@", root)
    };
    let files: BTreeMap<_, _> = FILES
        .iter()
        .map(|(path, text)| (filled(path), filled(text)))
        .collect();
    let bytes = files
        .iter()
        .map(|(path, text)| (path.clone(), text.clone().into_bytes()));
    let first =
        |found: Vec<crate::policy::Diagnostic>| found.first().map(|d| d.message.clone()).unwrap_or_default();
    let bundle = Bundle::from_files(bytes.collect()).map_err(|found| wrong(first(found)))?;
    loaded(&workers(Limits::default().time), &bundle, None).map_err(|error| wrong(error.to_string()))?;
    Ok(files)
}
