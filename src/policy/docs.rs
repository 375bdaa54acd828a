//! Pages about the library, from the annotations of its modules: one for each package, a section for each rule.
//!
//! An annotation is a block of comments that begins with `# METADATA`, in YAML, above a package or rule. `title` says
//! what holds, `description` when it does not, and `custom.example` is the body of a rule that asks for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::library::HELPERS;

/// An annotation, as far as a page shows it.
#[derive(Deserialize)]
struct Annotation {
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    custom: Custom,
}

#[derive(Deserialize, Default)]
struct Custom {
    #[serde(default)]
    example: String,
}

/// One rule of the library that owners' policies use.
#[derive(Clone, Debug)]
pub struct LibraryRule {
    /// Its package under `keyward`, such as `sev`.
    pub package: String,
    /// Its name.
    pub name: String,
    /// How it is written where it is asked for: with arguments, if it takes any.
    pub call: String,
    /// What it says when it holds.
    pub title: String,
    /// The rest of what there is to say.
    pub description: String,
    /// The body of a rule that asks for it; a whole line or more of Rego.
    pub example: String,
    /// The rule's own text.
    pub source: String,
}

/// The public rules of the library's helpers, in the order of their files.
///
/// # Errors
/// An annotation that is not YAML with a title, with its file and rule.
pub fn library_rules() -> Result<Vec<LibraryRule>, String> {
    let mut rules: Vec<LibraryRule> = Vec::new();
    for (path, text) in HELPERS {
        let package = package(path);
        for (annotation, code) in blocks(text) {
            if code.starts_with("package ") {
                continue;
            }
            let head = |line: &str| line.split(" if ").next().unwrap_or_default().trim().to_owned();
            let first = head(code.lines().next().unwrap_or_default());
            let name = first.split('(').next().unwrap_or_default();
            // Of several definitions, the one that names all of its arguments.
            let heads = code.lines().filter(|line| line.starts_with(name)).map(head);
            let call = heads.min_by_key(|head| head.contains("_)")).unwrap_or_default();
            if name.starts_with('_') {
                continue;
            }
            let read: Annotation = serde_yaml::from_str(&annotation)
                .map_err(|error| format!("{path}: the annotation of `{name}`: {error}"))?;
            rules.push(LibraryRule {
                package: package.to_owned(),
                name: name.to_owned(),
                call,
                title: read.title,
                description: read.description.trim().to_owned(),
                example: read.custom.example.trim().to_owned(),
                source: code,
            });
        }
    }
    Ok(rules)
}

/// Every page as Markdown, by file name: one for each rule, and `README.md` that lists them.
///
/// # Errors
/// As [`library_rules`].
pub fn library_pages() -> Result<BTreeMap<String, String>, String> {
    let mut pages = BTreeMap::new();
    let mut index = "# The policy library, rule by rule\n\n\
        Made from the annotations in [`policies/`](../../policies); every owner's bundle sees these packages under \
        `data.keyward`.\n"
        .to_owned();
    let rules = library_rules()?;
    let mut last = "";
    for rule in &rules {
        if rule.package != last {
            let _ = write!(
                index,
                "\n## {}\n\n| rule | holds when |\n|---|---|\n",
                rule.package
            );
            last = &rule.package;
        }
        let file = format!("{}.{}.md", rule.package, rule.name);
        let _ = writeln!(
            index,
            "| [`{}.{}`]({file}) | {} |",
            rule.package, rule.call, rule.title
        );
        pages.insert(file, page(rule));
    }
    pages.insert("README.md".to_owned(), index);
    Ok(pages)
}

fn page(rule: &LibraryRule) -> String {
    let LibraryRule {
        package,
        name,
        call,
        title,
        description,
        example,
        source,
    } = rule;
    format!(
        "# {package}.{name}\n\n**{title}.** {description}\n\n\
         Asked as `{package}.{call}` after `import data.keyward.{package}`.\n\n\
         ## Example\n\n```rego\n{}```\n\n## What it is\n\n```rego\n{source}```\n\n\
         Its tests are in [`{package}_test.rego`](../../policies/{package}_test.rego).\n",
        policy_with(package, example)
    )
}

/// A whole policy whose `allow` asks what an example does.
pub fn policy_with(package: &str, example: &str) -> String {
    let body: String = example.lines().map(|line| format!("\t{line}\n")).collect();
    format!(
        "package release.database\n\nimport data.keyward.{package}\n\ndefault allow := false\n\nallow if {{\n{body}}}\n"
    )
}

/// `sev` for `keyward/sev.rego`.
fn package(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".rego").unwrap_or(file)
}

/// Annotations without their `# `, each with the code below it up to the next annotation.
fn blocks(text: &str) -> Vec<(String, String)> {
    let pieces = text.split("# METADATA\n").skip(1);
    let block = |piece: &str| {
        let lines = || piece.lines();
        let comments = lines().take_while(|line| line.starts_with('#'));
        let annotation: Vec<&str> = comments
            .map(|line| {
                line.strip_prefix("# ")
                    .or_else(|| line.strip_prefix('#'))
                    .unwrap_or(line)
            })
            .collect();
        let code: Vec<&str> = lines().skip(annotation.len()).collect();
        (annotation.join("\n"), format!("{}\n", code.join("\n").trim_end()))
    };
    pieces.map(block).collect()
}
