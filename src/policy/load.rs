//! From a bundle's text to an engine that is ready to evaluate: scan, parse, check, prepare.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use regorus::{Engine, PolicyLengthConfig, Value};
use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, MAX_FILE_BYTES, MAX_LINE_BYTES};
use super::check::{Checked, RESERVED};
use super::contract;
use super::diagnostic::Diagnostic;
use super::documents;
use super::graph::Graph;
use super::guards;
use super::library;
use super::manifest::Manifest;
use super::members::Members;
use super::names::Names;
use super::nullable::Nullable;
use super::safety;
use super::scan::scan;
use super::syntax::Module;
use super::unproved;

/// Most definitions of rules in a bundle.
const MAX_RULES: usize = 4_000;
/// Most diagnostics that are reported at once.
const MAX_REPORTED: usize = 50;

/// What is known of a policy before it is asked: which of the rules that the server asks for it has, and what it
/// reads.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PolicyFacts {
    /// The policy's name: its package path without `data.`.
    pub name: String,
    /// Whether it has a rule `allow_launch`, so that it is asked at launch.
    pub has_allow_launch: bool,
    /// Whether it has a rule `deny_launch`.
    pub has_deny_launch: bool,
    /// Whether it has a rule `deny`.
    pub has_deny: bool,
    /// Whether it has a rule `release_limit`.
    pub has_release_limit: bool,
    /// Whether `allow` or `deny` read `input.attested.launch_digest` (or all of what it is in), themselves or
    /// through what they call.
    pub reads_launch_digest: bool,
    /// Whether any rule that the server asks for reads `input.releases`, itself or through what it calls.
    pub reads_releases: bool,
}

impl PolicyFacts {
    /// Whether it has a rule for the launch phase. One that has none leaves the launch to the server's own checks.
    pub fn is_asked_at_launch(&self) -> bool {
        self.has_allow_launch || self.has_deny_launch
    }
}

/// A bundle, loaded.
pub(super) struct Loaded {
    pub(super) engine: Engine,
    pub(super) policies: BTreeMap<String, PolicyFacts>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Loads an owner's bundle together with the library's helpers. Runs on a big stack only.
pub(super) fn load(bundle: &Bundle) -> Result<Loaded, Vec<Diagnostic>> {
    let own: Vec<(String, String)> = bundle
        .modules()
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    let data = documents::merge(bundle.data_files()).map_err(|diagnostic| vec![diagnostic])?;
    let mut engine = new_engine()?;
    let modules = parse(&mut engine, &own)?;
    let tests: Vec<(String, String)> = bundle
        .test_modules()
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    let tests = parse(&mut new_engine()?, &tests)?;
    let checked = |names: &Names<'_>, own: usize| {
        let checked = Checked {
            names,
            data: bundle.data_files(),
            manifest: bundle.manifest(),
            members: &Members::of_owners(),
            own,
            library: false,
        };
        let mut found = checked.run();
        checked.tests(&tests, &mut found);
        (found, checked.misspelt())
    };
    Value::from_json_str(&data.to_string())
        .and_then(|value| engine.add_data(value))
        .map_err(|error| {
            vec![Diagnostic::on_file(
                "",
                format!("the data can't be loaded: {error}"),
            )]
        })?;
    finish(engine, modules, false, checked)
}

/// An engine with a bundle, its test files and the library's helpers; and what the test files say.
pub(super) fn with_tests(bundle: &Bundle) -> Result<(Engine, Vec<Module>), Vec<Diagnostic>> {
    let owned = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
    let mut engine = new_engine()?;
    let own: Vec<_> = bundle.modules().map(owned).collect();
    parse(&mut engine, &own)?;
    let helpers: Vec<_> = library::HELPERS.iter().copied().map(owned).collect();
    parse(&mut engine, &helpers)?;
    let tests: Vec<_> = bundle.test_modules().map(owned).collect();
    let modules = parse(&mut engine, &tests)?;
    let failed = |error: String| {
        vec![Diagnostic::on_file(
            "",
            format!("the tests can't be loaded: {error}"),
        )]
    };
    let data = documents::merge(bundle.data_files()).map_err(|diagnostic| vec![diagnostic])?;
    Value::from_json_str(&data.to_string())
        .and_then(|value| engine.add_data(value))
        .and_then(|()| engine.eval_query("true".to_owned(), false).map(|_| ()))
        .map_err(|error| failed(error.to_string()))?;
    Ok((engine, modules))
}

/// What a bundle's modules say, its test files included. Runs on a big stack only.
pub(super) fn modules(bundle: &Bundle) -> Result<Vec<Module>, Vec<Diagnostic>> {
    let owned = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
    let all: Vec<_> = bundle.modules().chain(bundle.test_modules()).map(owned).collect();
    parse(&mut new_engine()?, &all)
}

/// Loads the library alone, with the policies of the server.
pub(super) fn load_library() -> Result<Loaded, Vec<Diagnostic>> {
    let mut engine = new_engine()?;
    let own: Vec<(String, String)> = library::POLICIES
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    let modules = parse(&mut engine, &own)?;
    let checked = |names: &Names<'_>, own: usize| {
        let manifest = Manifest::default();
        let members = Members::of_library();
        let checked = Checked {
            names,
            data: &[],
            manifest: &manifest,
            members: &members,
            own,
            library: true,
        };
        (checked.run(), Vec::new())
    };
    finish(engine, modules, true, checked)
}

fn finish(
    mut engine: Engine,
    mut modules: Vec<Module>,
    library: bool,
    checks: impl FnOnce(&Names<'_>, usize) -> (Vec<Diagnostic>, Vec<Diagnostic>),
) -> Result<Loaded, Vec<Diagnostic>> {
    let own = modules.len();
    let helpers: Vec<(String, String)> = library::HELPERS
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    modules.extend(parse(&mut engine, &helpers)?);
    let rules: usize = modules.iter().map(|module| module.rules.len()).sum();
    if rules > MAX_RULES {
        return Err(vec![Diagnostic::on_file(
            "",
            format!("{rules} rules; at most {MAX_RULES} are taken"),
        )]);
    }
    let names = Names::of(&modules);
    let graph = Graph::of(&names);
    let (mut found, mut warnings) = checks(&names, own);
    found.extend(graph.check(&names));
    if !library {
        let trees = engine.get_modules();
        found.extend(Nullable::check(&names, &graph, trees, own));
        found.extend(safety::check(&names, trees, own));
        let (wrong, doubtful) = contract::check(&names, trees, own);
        found.extend(wrong);
        warnings.extend(doubtful);
        warnings.extend(unproved::check(&names, &graph, trees, own));
    }
    let policies = policies(&names, &graph, modules.get(..own).unwrap_or_default());
    if policies.is_empty() && found.is_empty() {
        found.push(
            Diagnostic::on_file("", "no package of the bundle has a rule `allow`")
                .with_hint("a policy is a package with a rule `allow`"),
        );
    }
    if !found.is_empty() {
        return Err(in_order(found));
    }
    // The first query prepares the engine (schedules, hoisted loops, tables), and clones share the result. It names
    // no rule, so that what fails here is the bundle and not an evaluation.
    engine
        .eval_query("true".to_owned(), false)
        .map_err(|error| vec![from_engine(&error.to_string(), &modules)])?;
    Ok(Loaded {
        engine,
        policies,
        warnings: in_order(warnings),
    })
}

/// By place, without repetitions, and no more than anybody reads.
fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found.dedup();
    found.truncate(MAX_REPORTED);
    found
}

fn new_engine() -> Result<Engine, Vec<Diagnostic>> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    // The engine counts a tab as four columns, and refuses long lines by default.
    let columns = u32::try_from(4 * MAX_LINE_BYTES).ok().and_then(NonZeroU32::new);
    let bytes = NonZeroUsize::new(MAX_FILE_BYTES);
    if let (Some(max_col), Some(max_file_bytes)) = (columns, bytes) {
        engine.set_policy_length_config(PolicyLengthConfig {
            max_col,
            max_file_bytes,
            ..PolicyLengthConfig::default()
        });
    }
    guards::install(&mut engine).map_err(|error| {
        vec![Diagnostic::on_file(
            "",
            format!("the engine can't be set up: {error}"),
        )]
    })?;
    Ok(engine)
}

/// Scans and parses modules, and reports the first problem of each.
fn parse(engine: &mut Engine, sources: &[(String, String)]) -> Result<Vec<Module>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let before = engine.get_modules().len();
    for (path, text) in sources {
        if let Err(diagnostic) = scan(path, text) {
            found.push(diagnostic);
            continue;
        }
        if let Err(error) = engine.add_policy(path.clone(), text.clone()) {
            found.push(from_text(&error.to_string(), path, text));
        }
        if found.len() >= MAX_REPORTED {
            break;
        }
    }
    if !found.is_empty() {
        return Err(found);
    }
    Ok(engine
        .get_modules()
        .iter()
        .skip(before)
        .map(|tree| Module::of(tree))
        .collect())
}

/// The engine's errors are texts: `--> file:row:column`, the line, a caret, `error: …`. This reads the place out of
/// one, to show it; nothing is decided by it.
fn from_text(error: &str, file: &str, text: &str) -> Diagnostic {
    // Some go on with a second place, drawn below the first.
    let message = error.rsplit_once("error: ").map_or(error, |(_, message)| message);
    let message = message.trim().lines().next().unwrap_or_default().trim();
    let place = error
        .split_once("--> ")
        .and_then(|(_, rest)| rest.lines().next())
        .and_then(|place| {
            let (rest, column) = place.rsplit_once(':')?;
            let (_, line) = rest.rsplit_once(':')?;
            Some((line.parse::<usize>().ok()?, column.parse::<usize>().ok()?))
        });
    match place {
        Some((line, column)) => {
            let column = column_in(
                text.lines().nth(line.saturating_sub(1)).unwrap_or_default(),
                column,
            );
            Diagnostic::at_line(file, text, line, column, message)
        }
        None => Diagnostic::on_file(file, message),
    }
}

/// The engine counts a tab as four columns; an editor as one character.
fn column_in(line: &str, column: usize) -> usize {
    let mut engine = 1;
    line.chars()
        .take_while(|character| {
            let before = engine < column;
            engine += if *character == '\t' { 4 } else { 1 };
            before
        })
        .count()
        + 1
}

/// The same for an error that may be in any module.
fn from_engine(error: &str, modules: &[Module]) -> Diagnostic {
    let file = error
        .split_once("--> ")
        .and_then(|(_, rest)| rest.split_once(':'))
        .map(|(file, _)| file);
    let module = modules.iter().find(|module| Some(module.file.as_str()) == file);
    match module {
        Some(module) => from_text(error, &module.file, &module.text),
        None => Diagnostic::on_file("", error.trim()),
    }
}

/// What is known of each package that has `allow`.
fn policies(names: &Names<'_>, graph: &Graph, own: &[Module]) -> BTreeMap<String, PolicyFacts> {
    let mut policies = BTreeMap::new();
    for package in own.iter().map(|module| &module.package) {
        let rule = |name: &str| {
            let mut path = package.clone();
            path.push(name.to_owned());
            names.rules.contains_key(&path).then_some(path)
        };
        let Some(allow) = rule("allow") else { continue };
        let deciding: Vec<Vec<String>> = [Some(allow), rule("deny")].into_iter().flatten().collect();
        let asked: Vec<Vec<String>> = RESERVED.iter().filter_map(|name| rule(name)).collect();
        let reads = |roots: &[Vec<String>], wanted: &[&str]| {
            graph
                .inputs_of(roots)
                .iter()
                .any(|read| read.iter().zip(wanted).all(|(read, wanted)| read == wanted))
        };
        let name = package.join(".");
        policies.insert(
            name.clone(),
            PolicyFacts {
                name,
                has_allow_launch: rule("allow_launch").is_some(),
                has_deny_launch: rule("deny_launch").is_some(),
                has_deny: rule("deny").is_some(),
                has_release_limit: rule("release_limit").is_some(),
                reads_launch_digest: reads(&deciding, &["attested", "launch_digest"]),
                reads_releases: reads(&asked, &["releases"]),
            },
        );
    }
    policies
}
