//! Comparisons and negations of members that may be null.
//!
//! Rego orders null below every number and every text, so `input.claimed.cpu_count <= 4` is true where the host said
//! nothing; and `not` of anything about null is true. Neither may open a release, so both are refused where the same
//! body has not proved the member's type. What is proved in a body holds in all of it, whatever the order, and in
//! what is nested in it.
//!
//! Members are followed through local names for them and for what they are in, rules that name them, arguments and
//! results of the bundle's own functions, lists and objects, and built-ins that hand on what they are given. What is
//! followed there is also held to the members that there are.

mod body;
mod known;
mod parts;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Module as Tree, Ref, Rule as Node, RuleHead};
use serde_json::Value;

use super::check::reserved;
use super::decision::Phase;
use super::diagnostic::Diagnostic;
use super::graph::Graph;
use super::input::Input;
use super::members::Members;
use super::names::{Names, rule_path};
use super::syntax::{Form, Module, Rule, Step};
use body::{How, Use};
use known::{Body, Local, Subject};

type Path = Vec<String>;

/// How often what is found of one function may teach something about another.
const MAX_ROUNDS: usize = 100;
/// No member of the input lies deeper; a function that calls itself would go on for ever.
const MAX_STEPS: usize = 8;

/// The check of one bundle.
pub(super) struct Nullable<'a> {
    names: &'a Names<'a>,
    /// The input of each phase with null wherever null may be.
    barest: [(Phase, Value); 2],
    /// The rules that each phase evaluates.
    evaluated: [BTreeSet<Path>; 2],
    /// An input in which every member has a value.
    example: Value,
    /// The members that there are.
    members: Members,
    /// Rules whose value is a part of the input, or made of what may be null.
    aliases: BTreeMap<Path, Local>,
    /// What functions compare or negate without a proof, as steps from an argument.
    unproved: Vec<(Path, usize, Vec<Step>)>,
    /// What functions read, as steps from an argument.
    read: Vec<(Path, usize, Vec<Step>)>,
    /// Arguments that are in what functions return.
    returned: BTreeSet<(Path, usize)>,
}

impl<'a> Nullable<'a> {
    /// Everything wrong in the modules of the bundle itself, the first `own`.
    pub(super) fn check(
        names: &'a Names<'a>,
        graph: &Graph,
        trees: &[Ref<Tree>],
        own: usize,
    ) -> Vec<Diagnostic> {
        let roots = |phase: Phase| -> Vec<Path> {
            let packages = names.modules.iter().take(own).map(|module| &module.package);
            let asked = packages.flat_map(|package| {
                reserved(phase).iter().map(|name| {
                    let mut path = package.clone();
                    path.push((*name).to_owned());
                    path
                })
            });
            asked.filter(|path| names.rules.contains_key(path)).collect()
        };
        let mut check = Nullable {
            names,
            barest: [Phase::Launch, Phase::Release].map(|phase| {
                let barest = serde_json::to_value(Input::barest(phase)).unwrap_or_default();
                (phase, barest)
            }),
            evaluated: [Phase::Launch, Phase::Release].map(|phase| graph.reachable(&roots(phase))),
            example: serde_json::to_value(Input::example(Phase::Release)).unwrap_or_default(),
            members: Members::of_owners(),
            aliases: BTreeMap::new(),
            unproved: Vec::new(),
            read: Vec::new(),
            returned: BTreeSet::new(),
        };
        let rules: Vec<(&Module, &Rule, &Node)> = names
            .modules
            .iter()
            .zip(trees)
            .take(own)
            .flat_map(|(module, tree)| {
                let nodes = module.rules.iter().zip(&tree.policy);
                nodes.map(move |(rule, node)| (module, rule, node.as_ref()))
            })
            .collect();
        // Until no rule names, and no function passes on, what was found since.
        for _ in 0..MAX_ROUNDS {
            let before = check.known();
            check.name_aliases(&rules);
            for (module, rule, node) in &rules {
                if !matches!(rule.form, Form::Function { .. }) {
                    continue;
                }
                check.note_returned(module, rule, node);
                for used in check.uses(module, rule, node) {
                    let Subject::Argument(argument, steps) = used.subject else {
                        continue;
                    };
                    let entry = (rule_path(module, rule), argument, steps);
                    let into = match used.how {
                        How::Read => &mut check.read,
                        _ => &mut check.unproved,
                    };
                    if entry.2.len() <= MAX_STEPS && !into.contains(&entry) {
                        into.push(entry);
                    }
                }
            }
            if check.known() == before {
                break;
            }
        }
        let mut found = Vec::new();
        for (module, rule, node) in &rules {
            let uses = check.uses(module, rule, node);
            found.extend(
                uses.iter()
                    .filter_map(|used| check.diagnostic(module, rule, used)),
            );
        }
        found
    }

    /// How much is known of rules and functions.
    fn known(&self) -> [usize; 5] {
        let doubtful = self
            .aliases
            .values()
            .filter(|local| matches!(local, Local::Holds(_)));
        [
            self.aliases.len(),
            doubtful.count(),
            self.unproved.len(),
            self.read.len(),
            self.returned.len(),
        ]
    }

    /// Rules whose value is a part of the input, or holds one.
    fn name_aliases(&mut self, rules: &[(&Module, &Rule, &Node)]) {
        for (module, rule, node) in rules {
            let here = Body {
                check: self,
                module,
                rule,
            };
            let values = here.values(node).into_iter();
            let values: Vec<_> = values.map(|local| (here.doubt(&local), local)).collect();
            for (doubt, local) in values {
                match self.aliases.entry(rule_path(module, rule)) {
                    Entry::Vacant(entry) => {
                        entry.insert(local);
                    }
                    // A rule with several values is as doubtful as the worst of them.
                    Entry::Occupied(mut entry) => {
                        if *entry.get() != local
                            && let (Local::Part(_), Some(doubt)) = (entry.get(), doubt)
                        {
                            entry.insert(Local::Holds(doubt));
                        }
                    }
                }
            }
        }
    }

    /// Arguments that are in what a function returns.
    fn note_returned(&mut self, module: &Module, rule: &Rule, node: &Node) {
        let here = Body {
            check: self,
            module,
            rule,
        };
        let arguments = here.values(node).into_iter().filter_map(|local| match local {
            Local::Part(part) => part.argument,
            Local::Holds(Subject::Argument(argument, _)) => Some(argument),
            _ => None,
        });
        let arguments: Vec<usize> = arguments.collect();
        let entries = arguments
            .into_iter()
            .map(|argument| (rule_path(module, rule), argument));
        self.returned.extend(entries);
    }

    fn uses(&self, module: &Module, rule: &Rule, node: &Node) -> Vec<Use> {
        let body = Body {
            check: self,
            module,
            rule,
        };
        let mut found = Vec::new();
        let Node::Spec { head, bodies, .. } = node else {
            return found;
        };
        let (assign, arguments) = match head {
            RuleHead::Compr { assign, .. } => (assign.as_ref(), [].as_slice()),
            RuleHead::Set { .. } => (None, [].as_slice()),
            RuleHead::Func { args, assign, .. } => (assign.as_ref(), args.as_slice()),
        };
        let scope = body.arguments(arguments);
        let mut first = scope.clone();
        for (number, part) in bodies.iter().enumerate() {
            let within = body.query(&part.query, &scope, &mut found);
            if let Some(assign) = &part.assign {
                body.expression(&assign.value, &within, false, &mut found);
            }
            if number == 0 {
                first = within;
            }
        }
        // What the head says is evaluated where the first body held.
        if let RuleHead::Set { key: Some(key), .. } = head {
            body.expression(key, &first, false, &mut found);
        }
        if let Some(assign) = assign {
            body.expression(&assign.value, &first, false, &mut found);
        }
        found
    }

    /// The phases in which a member may be null where this rule is evaluated.
    fn null_at(&self, rule: &Path, steps: &[Step]) -> Vec<Phase> {
        let evaluated = |number: usize| self.evaluated.get(number).is_some_and(|all| all.contains(rule));
        let (launch, release) = (evaluated(0), evaluated(1));
        self.barest
            .iter()
            .filter(|(phase, _)| match phase {
                Phase::Launch => launch,
                // What nothing asks for is held to what is asked for most.
                Phase::Release => release || !launch,
            })
            .filter(|(_, barest)| may_be_null(barest, steps))
            .map(|(phase, _)| *phase)
            .collect()
    }

    /// The paths at or below this one that may be null where this rule is evaluated.
    fn nulls_below(&self, rule: &Path, steps: &[Step]) -> Vec<Vec<Step>> {
        let mut found = Vec::new();
        let mut pending = vec![steps.to_vec()];
        while let Some(path) = pending.pop() {
            if !self.null_at(rule, &path).is_empty() {
                found.push(path);
                continue;
            }
            if let Some(Value::Object(members)) = leaf(&self.example, &path) {
                pending.extend(members.keys().rev().map(|name| {
                    let mut below = path.clone();
                    below.push(Step::Name(name.clone()));
                    below
                }));
            }
        }
        found
    }

    fn diagnostic(&self, module: &Module, rule: &Rule, used: &Use) -> Option<Diagnostic> {
        let Subject::Member(member) = &used.subject else {
            return None;
        };
        let steps: Vec<Step> = member
            .split('.')
            .skip(1)
            .map(|name| match name {
                "[_]" => Step::Any,
                name => Step::Name(name.to_owned()),
            })
            .collect();
        if matches!(used.how, How::Read) {
            let place = Diagnostic::at_offset(&module.file, &module.text, used.offset, "");
            return self.members.check(&steps).err().map(|problem| problem.at(place));
        }
        let only_launch = self.null_at(&rule_path(module, rule), &steps) == [Phase::Launch];
        let when = if only_launch { " at launch" } else { "" };
        let shown = member.replace(".[_]", "[_]");
        let message = match &used.how {
            How::Read => return None,
            How::Compared => {
                format!("`{shown}` may be null{when}, and null is less than every number and text")
            }
            How::Negated => format!("`{shown}` may be null{when}, and `not` is true of null"),
            How::Passed(function) => format!(
                "`{shown}` may be null{when}, and `{function}` compares or negates it without asking for its type"
            ),
        };
        let library = match member.as_str() {
            "input.claimed.cpu_count" => ", or use `vcpus.vcpus_claimed_at_most` of `data.keyward.vcpus`",
            "input.attested.image.vcpus" => ", or use `vcpus.vcpus_proved_at_most` of `data.keyward.vcpus`",
            "input.platform.product" => ", or use `platform.product_in` of `data.keyward.platform`",
            "input.platform.chip_id" => ", or use `platform.chip_in` of `data.keyward.platform`",
            "input.host.identity" => ", or use `platform.host_in` of `data.keyward.platform`",
            "input.attested.build_id" => ", or use `sev.build_at_least` of `data.keyward.sev`",
            "input.attested.api_major" | "input.attested.api_minor" => {
                ", or use `sev.min_api_version` of `data.keyward.sev`"
            }
            "input.attested.launch_digest" => ", or use `sev.launch_digest_in` of `data.keyward.sev`",
            _ => "",
        };
        let kind = match leaf(&self.example, &steps) {
            Some(Value::Number(_)) => "is_number",
            Some(Value::Bool(_)) => "is_boolean",
            _ => "is_string",
        };
        let hint = match shown.contains('[') {
            true => "name the member, and prove its type first".to_owned(),
            false => format!("prove its type in the same body, `{kind}({shown})`{library}"),
        };
        Some(Diagnostic::at_offset(&module.file, &module.text, used.offset, message).with_hint(hint))
    }
}

fn leaf<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Name(name) => value.get(name),
        Step::Any => None,
    })
}

/// Whether a path may lead to null in this input.
fn may_be_null(value: &Value, steps: &[Step]) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return value.is_null();
    };
    match step {
        Step::Name(name) => value.get(name).is_some_and(|value| may_be_null(value, rest)),
        Step::Any => match value {
            Value::Object(members) => members.values().any(|value| may_be_null(value, rest)),
            Value::Array(items) => items.iter().any(|value| may_be_null(value, rest)),
            _ => false,
        },
    }
}
