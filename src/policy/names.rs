//! What the names in a bundle's rules stand for.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Call, Form, Module, Reference, Rule, Step};

/// All modules of a bundle (and of the library it sees), indexed.
pub(super) struct Names<'a> {
    pub(super) modules: &'a [Module],
    /// Every rule's path under `data`, with its definitions as (module, rule) indices.
    pub(super) rules: BTreeMap<Vec<String>, Vec<(usize, usize)>>,
    /// Every function's path and number of arguments.
    pub(super) functions: BTreeMap<Vec<String>, usize>,
    /// Every package.
    pub(super) packages: BTreeSet<Vec<String>>,
    /// Every import's path, by package and alias. The engine knows imports by package: what one file imports, the
    /// package's other files see. (Two files that give one alias two meanings are refused.)
    pub(super) imports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

/// What a reference stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A name bound within the rule.
    Local,
    /// A path under `input`.
    Input(Vec<Step>),
    /// A path under `data`.
    Data(Vec<Step>),
    /// Nothing: the name is bound nowhere.
    Unknown,
}

/// What a call calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Callee {
    Function(Vec<String>),
    /// A built-in's dotted name, allowed or not.
    BuiltIn(String),
}

impl<'a> Names<'a> {
    pub(super) fn of(modules: &'a [Module]) -> Names<'a> {
        let mut names = Names {
            modules,
            rules: BTreeMap::new(),
            functions: BTreeMap::new(),
            packages: BTreeSet::new(),
            imports: BTreeMap::new(),
        };
        for (at, module) in modules.iter().enumerate() {
            names.packages.insert(module.package.clone());
            for import in &module.imports {
                let key = (module.package.clone(), import.alias.clone());
                names.imports.entry(key).or_insert_with(|| import.path.clone());
            }
            for (rule_at, rule) in module.rules.iter().enumerate() {
                let path = rule_path(module, rule);
                if let Form::Function { arity } | Form::DefaultFunction { arity } = rule.form {
                    names.functions.entry(path.clone()).or_insert(arity);
                }
                names.rules.entry(path).or_default().push((at, rule_at));
            }
        }
        names
    }

    /// The definition that an index pair names.
    pub(super) fn definition(&self, at: (usize, usize)) -> Option<(&'a Module, &'a Rule)> {
        let module = self.modules.get(at.0)?;
        Some((module, module.rules.get(at.1)?))
    }

    /// What a reference stands for; locals come first, as in the engine.
    pub(super) fn meaning(&self, module: &Module, rule: &Rule, reference: &Reference) -> Meaning {
        let root = reference.root.as_str();
        if rule.locals.contains(root) || root == "_" {
            return Meaning::Local;
        }
        match self.global(module, reference) {
            Meaning::Unknown if rule.bindable.contains(root) => Meaning::Local,
            meaning => meaning,
        }
    }

    /// What a reference stands for outside of any rule: a document, a rule of the package or an import.
    pub(super) fn global(&self, module: &Module, reference: &Reference) -> Meaning {
        let root = reference.root.as_str();
        match root {
            "input" => return Meaning::Input(reference.steps.clone()),
            "data" => return Meaning::Data(reference.steps.clone()),
            _ => {}
        }
        let mut own = module.package.clone();
        own.push(root.to_owned());
        if self.below(&own).next().is_some() {
            let steps = own
                .into_iter()
                .map(Step::Name)
                .chain(reference.steps.iter().cloned());
            return Meaning::Data(steps.collect());
        }
        let Some((document, path)) = self.import(module, root).and_then(|path| path.split_first()) else {
            return Meaning::Unknown;
        };
        let steps = path
            .iter()
            .cloned()
            .map(Step::Name)
            .chain(reference.steps.iter().cloned())
            .collect();
        match document.as_str() {
            "input" => Meaning::Input(steps),
            "data" => Meaning::Data(steps),
            _ => Meaning::Unknown,
        }
    }

    /// What a call calls, in the engine's order: an import's function, the package's own, an absolute path, a built-in.
    pub(super) fn callee(&self, module: &Module, call: &Call) -> Callee {
        let (Some(first), rest) = (call.path.first(), call.path.get(1..).unwrap_or_default()) else {
            return Callee::BuiltIn(String::new());
        };
        let imported = self.import(module, first).and_then(|import| {
            let mut path = import.strip_prefix(&["data".to_owned()])?.to_vec();
            path.extend_from_slice(rest);
            Some(path)
        });
        let mut own = module.package.clone();
        own.extend_from_slice(&call.path);
        let absolute = (first == "data").then(|| rest.to_vec());
        [imported, Some(own), absolute]
            .into_iter()
            .flatten()
            .find(|path| self.functions.contains_key(path))
            .map_or_else(|| Callee::BuiltIn(call.path.join(".")), Callee::Function)
    }

    /// The path that an alias stands for in a module's package.
    pub(super) fn import(&self, module: &Module, alias: &str) -> Option<&Vec<String>> {
        self.imports.get(&(module.package.clone(), alias.to_owned()))
    }

    /// Paths of all rules at or below a path.
    pub(super) fn below<'s>(&'s self, path: &'s [String]) -> impl Iterator<Item = &'s Vec<String>> {
        self.rules
            .range(path.to_vec()..)
            .map(|(rule, _)| rule)
            .take_while(move |rule| rule.starts_with(path))
    }

    /// Paths of all rules that reading a path under `data` evaluates: those at it, above it and below it.
    pub(super) fn evaluated_by(&self, steps: &[Step]) -> Vec<&Vec<String>> {
        let path = static_prefix(steps);
        let above = (1..path.len()).filter_map(|length| {
            self.rules
                .get_key_value(path.get(..length)?)
                .map(|(rule, _)| rule)
        });
        let mut found: Vec<&Vec<String>> = above.collect();
        // `below` borrows its argument for its answer's life; the range is short, so it is repeated here.
        found.extend(
            self.rules
                .range(path.clone()..)
                .map(|(rule, _)| rule)
                .take_while(|rule| rule.starts_with(&path)),
        );
        found
    }
}

/// A rule's path under `data`.
pub(super) fn rule_path(module: &Module, rule: &Rule) -> Vec<String> {
    module.package.iter().chain(&rule.name).cloned().collect()
}

/// The names up to the first step that could be any.
pub(super) fn static_prefix(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map_while(|step| match step {
            Step::Name(name) => Some(name.clone()),
            Step::Any => None,
        })
        .collect()
}
