//! Static checks: what the engine would load, and allow with, although it is wrong.
//!
//! Everything here is refused when a bundle is loaded, with file, line and column; nothing waits for a request.

use std::collections::BTreeMap;

use super::builtins;
use super::decision::Phase;
use super::diagnostic::{Diagnostic, nearest};
use super::documents::DataFile;
use super::manifest::Manifest;
use super::members::Members;
use super::names::{Callee, Meaning, Names};
use super::syntax::{Form, Module, Rule, Step};

/// The names that the server asks a policy for. They must be rules.
pub(super) const RESERVED: [&str; 5] = ["allow", "deny", "release_limit", "allow_launch", "deny_launch"];

/// Those of them that decide in a phase.
pub(super) fn reserved(phase: Phase) -> &'static [&'static str] {
    match phase {
        Phase::Launch => &["allow_launch", "deny_launch"],
        Phase::Release => &["allow", "deny", "release_limit"],
    }
}

/// What a check looks at.
pub(super) struct Checked<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) data: &'a [DataFile],
    pub(super) manifest: &'a Manifest,
    pub(super) members: &'a Members,
    /// How many of the modules are checked; those that follow are the library's helpers.
    pub(super) own: usize,
    /// Whether the modules are the library's own, which lives in `keyward`.
    pub(super) library: bool,
}

impl Checked<'_> {
    /// All checks but those on the graph.
    pub(super) fn run(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for module in self.names.modules.iter().take(self.own) {
            self.package(module, &mut found);
            self.imports(module, &mut found);
            for rule in &module.rules {
                self.rule(module, rule, &mut found);
                self.bindings(module, rule, &mut found);
                self.calls(module, rule, &mut found);
                self.references(module, rule, &mut found);
            }
        }
        self.definitions(&mut found);
        self.data(&mut found);
        found
    }

    fn package(&self, module: &Module, found: &mut Vec<Diagnostic>) {
        let at = |message: String| at(module, module.package_offset, message);
        if module.package.is_empty() {
            found.push(at(
                "a package is a path of plain names, such as `release.database`".to_owned(),
            ));
        }
        if !self.library && module.package.first().map(String::as_str) == Some("keyward") {
            found.push(
                at("packages under `keyward` are reserved for the server's library".to_owned()).with_hint(
                    "choose another package; the library is imported as `import data.keyward.sev`",
                ),
            );
        }
        if !self.manifest.contains(&module.package) {
            found.push(
                at(format!(
                    "package {} is outside the manifest's roots",
                    module.package.join(".")
                ))
                .with_hint("list its path in `roots` of .manifest"),
            );
        }
        for length in 1..=module.package.len() {
            let Some(prefix) = module.package.get(..length) else {
                continue;
            };
            if let Some(&first) = self.names.rules.get(prefix).and_then(|at| at.first())
                && let Some((other, _)) = self.names.definition(first)
            {
                found.push(
                    at(format!(
                        "a rule has this package's path, or one above it: {}",
                        prefix.join(".")
                    ))
                    .with_hint(format!("the rule is in {}", other.file)),
                );
            }
        }
    }

    fn imports(&self, module: &Module, found: &mut Vec<Diagnostic>) {
        let mut aliases: BTreeMap<&str, usize> = BTreeMap::new();
        for import in &module.imports {
            let at = |message: String| at(module, import.offset, message);
            let path: Vec<&str> = import.path.iter().map(String::as_str).collect();
            match path.as_slice() {
                ["rego", "v1"] | ["future", "keywords"] => continue,
                ["future", "keywords", keyword] => {
                    if !["in", "if", "every", "contains", "not"].contains(keyword) {
                        found.push(at(format!("`future.keywords.{keyword}` is no keyword of Rego")));
                    }
                    continue;
                }
                ["rego", ..] => {
                    found.push(at(format!(
                        "`{}` can't be imported; policies are Rego v1",
                        path.join(".")
                    )));
                    continue;
                }
                ["data" | "input"] => {
                    found.push(at(format!("`{}` needs no import", path.join("."))));
                    continue;
                }
                ["data" | "input", ..] => {}
                _ => {
                    found.push(at("an import begins with `data` or `input`".to_owned()));
                    continue;
                }
            }
            if import.alias == "input" || import.alias == "data" {
                found.push(
                    at(format!("this import would replace `{}` itself", import.alias))
                        .with_hint("give it another name with `as`"),
                );
            }
            if aliases.insert(&import.alias, import.offset).is_some() {
                found.push(
                    at(format!("a second import named `{}`", import.alias)).with_hint("name one with `as`"),
                );
            }
            if self
                .names
                .import(module, &import.alias)
                .is_some_and(|other| *other != import.path)
            {
                found.push(
                    at(format!(
                        "another import of this package gives `{}` another meaning",
                        import.alias
                    ))
                    .with_hint("imports are shared within a package; name one with `as`"),
                );
            }
            let mut own = module.package.clone();
            own.push(import.alias.clone());
            if self.names.below(&own).next().is_some() {
                found.push(at(format!(
                    "the import `{}` and a rule have one name",
                    import.alias
                )));
            }
            match path.split_first() {
                Some((&"input", rest)) => {
                    let steps: Vec<Step> = rest.iter().map(|name| Step::Name((*name).to_owned())).collect();
                    self.members
                        .check(&steps)
                        .err()
                        .into_iter()
                        .for_each(|problem| found.push(problem.at(at(String::new()))));
                }
                Some((&"data", rest)) if rest.first() == Some(&"keyward") => {
                    let rest: Vec<String> = rest.iter().map(|name| (*name).to_owned()).collect();
                    if self.names.below(&rest).next().is_none() {
                        let known: Vec<String> = self
                            .names
                            .packages
                            .iter()
                            .map(|package| package.join("."))
                            .collect();
                        let mut diagnostic = at(format!("the library has no `{}`", rest.join(".")));
                        if let Some(near) = nearest(&rest.join("."), known.iter().map(String::as_str)) {
                            diagnostic = diagnostic.with_hint(format!("did you mean `data.{near}`?"));
                        }
                        found.push(diagnostic);
                    }
                }
                _ => {}
            }
        }
    }

    fn rule(&self, module: &Module, rule: &Rule, found: &mut Vec<Diagnostic>) {
        let Some(name) = rule.name.first() else { return };
        if RESERVED.contains(&name.as_str()) {
            let problem = match rule.form {
                Form::Function { .. } | Form::DefaultFunction { .. } => Some("a function"),
                _ if rule.name.len() > 1 => Some("an object"),
                _ if rule.partial && rule.form != Form::Set => Some("an object"),
                _ => None,
            };
            if let Some(problem) = problem {
                found.push(
                    at(
                        module,
                        rule.offset,
                        format!("`{name}` is {problem} here; the server asks for it as a rule"),
                    )
                    .with_hint(match name.as_str() {
                        "deny" | "deny_launch" => format!("write `{name} contains message if {{ … }}`"),
                        "release_limit" => "write `release_limit := 3`".to_owned(),
                        _ => format!("write `{name} if {{ … }}`"),
                    }),
                );
            }
        }
        let names_built_in = builtins::ALLOWED
            .iter()
            .any(|(built_in, _)| built_in.split('.').next() == Some(name));
        if names_built_in && rule.form == Form::Default {
            found.push(at(
                module,
                rule.offset,
                format!("a default of `{name}` would take the place of the built-in of this name"),
            ));
        }
        if let Some(offset) = rule.with {
            found.push(
                at(
                    module,
                    offset,
                    "`with` replaces documents and functions; it belongs in tests".to_owned(),
                )
                .with_hint("move it to a *_test.rego file, or give the rule an argument"),
            );
        }
    }

    fn bindings(&self, module: &Module, rule: &Rule, found: &mut Vec<Diagnostic>) {
        for name in ["input", "data"] {
            if rule.locals.contains(name) {
                found.push(at(
                    module,
                    rule.offset,
                    format!("a variable of this rule hides the document `{name}`"),
                ));
            }
        }
    }

    fn calls(&self, module: &Module, rule: &Rule, found: &mut Vec<Diagnostic>) {
        for call in &rule.calls {
            let at = |message: String| at(module, call.offset, message);
            if let Some(first) = call.path.first() {
                found.extend(self.imported_elsewhere(module, first).map(at));
            }
            let (name, arity) = match self.names.callee(module, call) {
                Callee::Function(path) => {
                    let arity = self.names.functions.get(&path).copied();
                    (path.join("."), arity)
                }
                Callee::BuiltIn(name) if name == "print" => continue,
                Callee::BuiltIn(name) => {
                    let arity = builtins::arity(&name);
                    (name, arity)
                }
            };
            match arity {
                Some(arity) if arity == call.arguments => {}
                Some(arity) => found.push(at(format!(
                    "`{name}` takes {}, {} given",
                    plural(arity, "argument"),
                    if call.arguments == 1 {
                        "1 is".to_owned()
                    } else {
                        format!("{} are", call.arguments)
                    },
                ))),
                None => found.push(self.unknown_function(&name, at)),
            }
        }
    }

    /// A name that another file of the package imports and this one does not: undefined in OPA, and whatever the
    /// other file means by it here.
    fn imported_elsewhere(&self, module: &Module, name: &str) -> Option<String> {
        let here = module.imports.iter().any(|import| import.alias == name);
        let elsewhere = self.names.import(module, name).is_some_and(|path| path.len() > 1);
        (elsewhere && !here)
            .then(|| format!("`{name}` is imported in another file of this package, not in this one"))
    }

    fn unknown_function(&self, name: &str, at: impl Fn(String) -> Diagnostic) -> Diagnostic {
        if let Some(reason) = builtins::why_not(name) {
            return at(format!("`{name}` is not available to policies")).with_hint(reason);
        }
        let functions = self.names.functions.keys().flat_map(|path| {
            [
                Some(path.join(".")),
                path.last().cloned(),
                path.get(path.len().saturating_sub(2)..).map(|p| p.join(".")),
            ]
        });
        let known: Vec<String> = functions
            .flatten()
            .chain(builtins::ALLOWED.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        let diagnostic = at(format!("there is no function `{name}`"));
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            None => diagnostic,
        }
    }

    fn references(&self, module: &Module, rule: &Rule, found: &mut Vec<Diagnostic>) {
        for reference in &rule.references {
            let at = |message: String| at(module, reference.offset, message);
            let meaning = self.names.meaning(module, rule, reference);
            if meaning != Meaning::Local {
                found.extend(self.imported_elsewhere(module, &reference.root).map(at));
            }
            match meaning {
                Meaning::Local => {}
                Meaning::Input(steps) => {
                    self.members
                        .check(&steps)
                        .err()
                        .into_iter()
                        .for_each(|problem| found.push(problem.at(at(String::new()))));
                }
                Meaning::Data(steps) => found.extend(self.missing_rule(&steps).map(|(message, hint)| {
                    let diagnostic = at(message);
                    match hint {
                        Some(hint) => diagnostic.with_hint(hint),
                        None => diagnostic,
                    }
                })),
                Meaning::Unknown => {
                    let known = self
                        .names
                        .rules
                        .keys()
                        .filter_map(|path| path.strip_prefix(module.package.as_slice()));
                    let known: Vec<&str> = known
                        .filter_map(|rest| rest.first())
                        .map(String::as_str)
                        .collect();
                    let diagnostic = at(format!("`{}` is not defined", reference.root));
                    found.push(match nearest(&reference.root, known) {
                        Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
                        None => {
                            diagnostic.with_hint("variables are bound with `:=`, `some` or as an argument")
                        }
                    });
                }
            }
        }
    }
}

pub(super) fn at(module: &Module, offset: usize, message: String) -> Diagnostic {
    Diagnostic::at_offset(&module.file, &module.text, offset, message)
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("{count} {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
