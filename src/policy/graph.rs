//! Which rule needs which: no cycles, no long chains, and what a policy reads through all it calls.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::Diagnostic;
use super::names::{Callee, Meaning, Names};
use super::syntax::{Module, Rule, Step};

/// Longest chain of rules and functions: evaluation recurses on each.
const MAX_CHAIN: usize = 100;
/// Most pairs of a rule and one that it may need: a reference to all of `data` is one to every rule.
const MAX_NEEDS: usize = 100_000;

type Path = Vec<String>;

/// The rules of a bundle and what each needs directly.
pub(super) struct Graph {
    /// What each rule surely needs.
    needs: BTreeMap<Path, BTreeSet<Path>>,
    /// The same, with what it might need where a local name hides a rule's in some part of the rule.
    may_need: BTreeMap<Path, BTreeSet<Path>>,
    /// The paths under `input` that each rule reads itself.
    inputs: BTreeMap<Path, BTreeSet<Path>>,
    /// Whether there are more than are taken, and the rest was not looked at.
    too_many: bool,
}

/// What one definition of a rule needs and reads itself.
#[derive(Default)]
struct Direct {
    needs: BTreeSet<Path>,
    may_need: BTreeSet<Path>,
    inputs: BTreeSet<Path>,
}

impl Direct {
    fn of(names: &Names<'_>, module: &Module, rule: &Rule) -> Direct {
        let mut direct = Direct::default();
        for call in &rule.calls {
            if let Callee::Function(callee) = names.callee(module, call) {
                direct.needs.insert(callee.clone());
                direct.may_need.insert(callee);
            }
        }
        for reference in &rule.references {
            let sure = names.meaning(module, rule, reference);
            match names.global(module, reference) {
                Meaning::Data(steps) => {
                    let read = names.evaluated_by(&steps).into_iter().cloned();
                    direct.may_need.extend(read.clone());
                    if sure != Meaning::Local {
                        direct.needs.extend(read);
                    }
                }
                Meaning::Input(steps) => {
                    direct.inputs.insert(prefix(&steps));
                }
                Meaning::Local | Meaning::Unknown => {}
            }
            if direct.may_need.len() > MAX_NEEDS {
                break;
            }
        }
        direct
    }
}

impl Graph {
    pub(super) fn of(names: &Names<'_>) -> Graph {
        let mut graph = Graph {
            needs: BTreeMap::new(),
            may_need: BTreeMap::new(),
            inputs: BTreeMap::new(),
            too_many: false,
        };
        let mut pairs = 0;
        for (path, definitions) in &names.rules {
            if pairs > MAX_NEEDS {
                graph.too_many = true;
                break;
            }
            let needs = graph.needs.entry(path.clone()).or_default();
            let may_need = graph.may_need.entry(path.clone()).or_default();
            let inputs = graph.inputs.entry(path.clone()).or_default();
            for (module, rule) in definitions.iter().filter_map(|at| names.definition(*at)) {
                let direct = Direct::of(names, module, rule);
                pairs += direct.may_need.len();
                needs.extend(direct.needs);
                may_need.extend(direct.may_need);
                inputs.extend(direct.inputs);
                if pairs > MAX_NEEDS {
                    graph.too_many = true;
                    return graph;
                }
            }
        }
        graph
    }

    /// Refuses recursion, and chains that would exhaust the stack.
    pub(super) fn check(&self, names: &Names<'_>) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if self.too_many {
            found.push(
                Diagnostic::on_file(
                    "",
                    "the rules refer to each other in too many ways to be looked at",
                )
                .with_hint("name the rule or the data that is meant, instead of `data` as a whole"),
            );
            return found;
        }
        for problem in Walk::over(&self.needs).found {
            let Some((module, rule)) = problem
                .first()
                .and_then(|path| names.rules.get(path))
                .and_then(|at| at.first())
                .and_then(|at| names.definition(*at))
            else {
                continue;
            };
            let chain: Vec<String> = problem.iter().map(|path| path.join(".")).collect();
            found.push(
                Diagnostic::at_offset(
                    &module.file,
                    &module.text,
                    rule.offset,
                    format!(
                        "rule `{}` is recursive: {}",
                        rule.name.join("."),
                        chain.join(" → ")
                    ),
                )
                .with_hint("Rego does not allow recursion, in rules or in functions"),
            );
        }
        // What a rule might need counts here, as a hidden chain exhausts the stack like any other.
        if let Some((path, depth)) = Walk::over(&self.may_need)
            .state
            .iter()
            .filter_map(|(path, depth)| Some((path, (*depth)?)))
            .max_by_key(|(_, d)| *d)
            && depth > MAX_CHAIN
            && let Some((module, rule)) = names
                .rules
                .get(*path)
                .and_then(|at| at.first())
                .and_then(|at| names.definition(*at))
        {
            found.push(Diagnostic::at_offset(
                &module.file,
                &module.text,
                rule.offset,
                format!("a chain of {depth} rules begins here; at most {MAX_CHAIN} are taken"),
            ));
        }
        found
    }

    /// These rules and all that they need, directly or through others.
    pub(super) fn reachable(&self, roots: &[Path]) -> BTreeSet<Path> {
        let mut seen = BTreeSet::new();
        let mut pending: Vec<&Path> = roots.iter().collect();
        while let Some(path) = pending.pop() {
            if seen.insert(path.clone()) {
                pending.extend(self.may_need.get(path).into_iter().flatten());
            }
        }
        seen
    }

    /// All paths under `input` that rules read, directly or through what they need.
    pub(super) fn inputs_of(&self, roots: &[Path]) -> BTreeSet<Path> {
        let reachable = self.reachable(roots);
        let read = reachable.iter().filter_map(|path| self.inputs.get(path));
        read.flatten().cloned().collect()
    }

    /// All paths under `input` that one definition reads, itself or through what it needs.
    pub(super) fn inputs_of_definition(
        &self,
        names: &Names<'_>,
        module: &Module,
        rule: &Rule,
    ) -> BTreeSet<Path> {
        let direct = Direct::of(names, module, rule);
        let needed: Vec<Path> = direct.may_need.into_iter().collect();
        let mut read = self.inputs_of(&needed);
        read.extend(direct.inputs);
        read
    }
}

/// A walk over the graph, depth first.
struct Walk<'a> {
    edges: &'a BTreeMap<Path, BTreeSet<Path>>,
    /// The longest chain below each finished rule; none while the rule is on the trail.
    state: BTreeMap<&'a Path, Option<usize>>,
    trail: Vec<&'a Path>,
    found: Vec<Vec<Path>>,
}

impl<'a> Walk<'a> {
    fn over(edges: &'a BTreeMap<Path, BTreeSet<Path>>) -> Walk<'a> {
        let mut walk = Walk {
            edges,
            state: BTreeMap::new(),
            trail: Vec::new(),
            found: Vec::new(),
        };
        for path in edges.keys() {
            walk.depth_of(path);
        }
        walk
    }

    fn depth_of(&mut self, path: &'a Path) -> usize {
        match self.state.get(path) {
            Some(Some(depth)) => return *depth,
            Some(None) => {
                if self.found.len() < 10 {
                    let start = self.trail.iter().position(|on| *on == path).unwrap_or(0);
                    let mut cycle: Vec<Path> = self
                        .trail
                        .iter()
                        .skip(start)
                        .map(|path| (*path).clone())
                        .collect();
                    cycle.push(path.clone());
                    self.found.push(cycle);
                }
                return 0;
            }
            None => {}
        }
        self.state.insert(path, None);
        self.trail.push(path);
        let mut deepest = 0;
        for next in self.edges.get(path).into_iter().flatten() {
            deepest = deepest.max(self.depth_of(next));
        }
        self.trail.pop();
        self.state.insert(path, Some(deepest + 1));
        deepest + 1
    }
}

fn prefix(steps: &[Step]) -> Path {
    super::names::static_prefix(steps)
}
