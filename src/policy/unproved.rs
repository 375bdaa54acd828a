//! Policies that can allow without looking at what was proved.
//!
//! Both checks are warnings: a policy may leave the guest to `keyward.workload` and the platform to a workload's
//! `cloud_cert`, and neither is to be seen in a bundle.

use regorus::unstable::{Expr, Module as Tree, Ref, Rule as Node, RuleHead};

use super::check::{RESERVED, at};
use super::diagnostic::Diagnostic;
use super::graph::Graph;
use super::names::Names;
use super::syntax::{Form, Module, Rule};

type Path = Vec<String>;

/// What ties a decision to one operator, chip or host.
const PINS: &[&[&str]] = &[
    &["platform", "fingerprints", "oca"],
    &["platform", "fingerprints", "cek"],
    &["platform", "fingerprints", "pek"],
    &["platform", "fingerprints", "pdh"],
    &["platform", "chip_id"],
    &["host"],
];

/// The doubts about the bundle itself, the first `own` modules.
pub(super) fn check(names: &Names<'_>, graph: &Graph, trees: &[Ref<Tree>], own: usize) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (module, tree) in names.modules.iter().zip(trees).take(own) {
        for (rule, node) in module.rules.iter().zip(&tree.policy) {
            if rule.name != ["allow"] || rule.form != Form::Value || deny_reads(names, graph, module) {
                continue;
            }
            for (number, branch) in Rule::branches(node).iter().enumerate() {
                let read = graph.inputs_of_definition(names, module, branch);
                if gives_false(node, number) || read.iter().any(|path| touches(path, &["attested"])) {
                    continue;
                }
                let message = format!(
                    "`{}` can allow here without looking at anything that is attested",
                    module.package.join(".")
                );
                found.push(
                    at(module, branch.offset, message)
                        .with_hint(
                            "ask what the guest proved, as with `sev.launch_digest_in` of `data.keyward.sev`; else only what the workload names holds it",
                        )
                        .warning(),
                );
            }
        }
    }
    found.extend(unpinned(names, graph, own));
    found
}

/// Whether a rule `deny` of the module's package looks at what is attested; it holds for every `allow`.
fn deny_reads(names: &Names<'_>, graph: &Graph, module: &Module) -> bool {
    let deny = in_package(&module.package, "deny");
    names.rules.contains_key(&deny)
        && graph
            .inputs_of(&[deny])
            .iter()
            .any(|path| touches(path, &["attested"]))
}

/// Whether a body gives `false`, which allows nothing.
fn gives_false(node: &Node, number: usize) -> bool {
    let Node::Spec {
        head: RuleHead::Compr { assign, .. },
        bodies,
        ..
    } = node
    else {
        return false;
    };
    let assign = match number {
        0 => assign.as_ref(),
        _ => bodies.get(number).and_then(|body| body.assign.as_ref()),
    };
    assign.is_some_and(|assign| {
        matches!(
            assign.value.as_ref(),
            Expr::Bool {
                value: regorus::Value::Bool(false),
                ..
            }
        )
    })
}

/// A bundle in which nothing says whose platform it may be.
fn unpinned(names: &Names<'_>, graph: &Graph, own: usize) -> Option<Diagnostic> {
    let modules = names.modules.iter().take(own);
    let asked: Vec<Path> = modules
        .flat_map(|module| RESERVED.iter().map(|name| in_package(&module.package, name)))
        .filter(|path| names.rules.contains_key(path))
        .collect();
    if !asked
        .iter()
        .any(|path| path.last().is_some_and(|name| name == "allow"))
    {
        return None;
    }
    let read = graph.inputs_of(&asked);
    if read.iter().any(|path| PINS.iter().any(|pin| touches(path, pin))) {
        return None;
    }
    let message = "no policy of the bundle pins the operator (OCA), the chip (CEK or id) or the host: \
                   anybody with such a processor could use up a release limit";
    let hint = "ask `platform.oca_in`, `cek_in`, `chip_in`, `host_in` or `host_address_in` of `data.keyward.platform`; \
                a workload with a `cloud_cert` pins its OCA without that";
    Some(Diagnostic::on_file("", message).with_hint(hint).warning())
}

fn in_package(package: &[String], name: &str) -> Path {
    package.iter().cloned().chain([name.to_owned()]).collect()
}

/// Whether reading a path reads (part of) what another leads to.
fn touches(path: &[String], wanted: &[&str]) -> bool {
    path.iter().zip(wanted).all(|(step, wanted)| step == wanted)
}
