//! Comparisons and negations of members that may be null.
//!
//! Rego orders null below every number and every text, so `input.claimed.cpu_count <= 4` is true where the host said
//! nothing; and `not` of anything about null is true. Neither may open a release, so both are refused where the same
//! body has not proved the member's type. What is proved in a body holds in all of it, whatever the order, and in
//! what is nested in it.
//!
//! Members are followed through local names, rules that only name them, and arguments of the bundle's own functions.

mod body;
mod known;

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Module as Tree, Ref, Rule as Node, RuleHead};
use serde_json::Value;

use super::check::reserved;
use super::decision::Phase;
use super::diagnostic::Diagnostic;
use super::graph::Graph;
use super::input::Input;
use super::names::{Names, rule_path};
use super::syntax::{Form, Module, Rule, Step};
use body::{How, Use};
use known::{Body, Local, Scope, Subject};

type Path = Vec<String>;

/// The check of one bundle.
pub(super) struct Nullable<'a> {
    names: &'a Names<'a>,
    /// The input of each phase with null wherever null may be.
    barest: [(Phase, Value); 2],
    /// The rules that each phase evaluates.
    evaluated: [BTreeSet<Path>; 2],
    /// Rules whose value is a member that may be null.
    aliases: BTreeMap<Path, Subject>,
    /// Arguments that functions compare or negate without a proof.
    unproved: BTreeSet<(Path, usize)>,
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
            aliases: BTreeMap::new(),
            unproved: BTreeSet::new(),
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
        check.name_aliases(&rules);
        // Until no function passes an argument on to one that was found since.
        loop {
            let before = check.unproved.len();
            for (module, rule, node) in &rules {
                if !matches!(rule.form, Form::Function { .. }) {
                    continue;
                }
                for used in check.uses(module, rule, node) {
                    if let Subject::Argument(argument) = used.subject {
                        check.unproved.insert((rule_path(module, rule), argument));
                    }
                }
            }
            if check.unproved.len() == before {
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

    /// Rules without a condition whose value is nothing but a member that may be null.
    fn name_aliases(&mut self, rules: &[(&Module, &Rule, &Node)]) {
        for (module, rule, node) in rules {
            let Node::Spec {
                head: RuleHead::Compr {
                    assign: Some(assign), ..
                },
                ..
            } = node
            else {
                continue;
            };
            let here = Body {
                check: self,
                module,
                rule,
            };
            if let Some(subject) = here.subject(&assign.value, &Scope::default()) {
                self.aliases.insert(rule_path(module, rule), subject);
            }
        }
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
        let mut scope = Scope::default();
        let assign = match head {
            RuleHead::Compr { assign, .. } => assign.as_ref(),
            RuleHead::Set { .. } => None,
            RuleHead::Func { args, assign, .. } => {
                for (at, argument) in args.iter().enumerate() {
                    match argument.as_ref() {
                        Expr::Var { span, .. } => {
                            let subject = Subject::Argument(at);
                            scope
                                .locals
                                .insert(span.text().to_owned(), Local::Subject(subject));
                        }
                        _ => body.open(argument, &mut scope),
                    }
                }
                assign.as_ref()
            }
        };
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
        let only_launch = self.null_at(&rule_path(module, rule), &steps) == [Phase::Launch];
        let when = if only_launch { " at launch" } else { "" };
        let shown = member.replace(".[_]", "[_]");
        let message = match &used.how {
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
        let kind = match leaf(&self.example(), &steps) {
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

    /// An input in which every member has a value.
    fn example(&self) -> Value {
        serde_json::to_value(Input::example(Phase::Release)).unwrap_or_default()
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
