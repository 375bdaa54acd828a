//! A decision for people: everything that its JSON has and an auditor asks about, in a terminal's width.
//!
//! Digests and fingerprints that tell two things apart are cut to 12 digits; those that are compared with
//! others are whole. What a host said stands below `claimed`, escaped: a terminal obeys control characters.

use crate::domain::decision::{Decision, Outcome};
use crate::domain::launch::BoundVerdict;
use crate::policy::{DigestSource, Input, Scheme, explanation_lines};
use crate::release::DecisionExplanation;

/// The columns that a decision is written in.
const WIDTH: usize = 100;

/// The highest limit, by which `keyward.workload` says that there is none.
const NO_LIMIT: u64 = 1 << 53;

/// As many digits tell two digests apart.
const SHORT: usize = 12;

/// A decision for people.
pub(super) fn text(decision: &Decision) -> String {
    let outcome = decision.outcome.as_str().to_uppercase();
    let mut lines = wrapped(&format!("{outcome}  "), &headline(decision));
    lines.push(String::new());
    lines.extend(circumstances(decision));
    if let Some(input) = &decision.input {
        lines.push(String::new());
        lines.extend(platform(input));
        lines.extend(attested(input));
        lines.extend(claimed(input));
    }
    if !decision.policies.is_empty() {
        lines.extend([String::new(), "policies".to_owned()]);
        lines.extend(decision.policies.iter().flat_map(policy));
    }
    lines.join("\n")
}

/// Why, in a line. What each policy said follows further down, so that here it is named only.
fn headline(decision: &Decision) -> String {
    let mut denying: Vec<&str> = decision
        .policies
        .iter()
        .filter(|bound| !bound.verdict.allow)
        .map(|bound| bound.verdict.policy.as_str())
        .collect();
    denying.dedup();
    if decision.outcome == Outcome::Denied && !denying.is_empty() {
        format!("by {}", denying.join(", "))
    } else {
        decision.reason.clone()
    }
}

/// Who asked for what, when, and what came of it.
fn circumstances(decision: &Decision) -> Vec<String> {
    let workload = format!("{} ({})", decision.workload.name, decision.workload.uuid);
    let mut lines = [
        row("decision", &decision.id.to_string()),
        row("time", &decision.time.to_string()),
        row("workload", &workload),
    ]
    .concat();
    if let Some(launch) = decision.launch {
        lines.extend(row("launch", &launch.to_string()));
    }
    lines.extend(row("phase", decision.phase.as_str()));
    let host = match &decision.host_identity {
        None => decision.address.clone(),
        Some(identity) => format!("{identity} at {}", decision.address),
    };
    lines.extend(row("host", &host));
    if decision.count > 1 {
        lines.extend(row("requests", &format!("{} in this minute", decision.count)));
    }
    let listed = |names: Vec<String>| names.join(", ");
    if !decision.secrets.is_empty() {
        let names = decision.secrets.iter().map(ToString::to_string);
        lines.extend(row("asked for", &listed(names.collect())));
    }
    if !decision.released.is_empty() {
        let released = decision.released.iter();
        let released = released.map(|s| format!("{} (version {})", s.name, s.version));
        lines.extend(row("released", &listed(released.collect())));
    }
    if let Some(hold) = decision.hold {
        lines.extend(row("hold", &hold.to_string()));
    }
    if let Some(connection) = decision.connection {
        lines.extend(row("connection", &connection.to_string()));
    }
    if decision.danger_weak_policy {
        lines.extend(row("danger", "the workload lets weak SEV policies pass"));
    }
    lines
}

/// What the certificates proved.
fn platform(input: &Input) -> Vec<String> {
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
    let platform = &input.platform;
    let prints = &platform.fingerprints;
    [
        row(
            "platform",
            &format!("{} under root {}", or_unknown(&platform.product), platform.root),
        ),
        row("chip", &halved(&or_unknown(&platform.chip_id))),
        row(
            "keys",
            &format!("CEK {}, OCA {}", short(&prints.cek), short(&prints.oca)),
        ),
    ]
    .concat()
}

/// What the measurement proved; nothing at launch.
fn attested(input: &Input) -> Vec<String> {
    let attested = &input.attested;
    let (Some(digest), Some(policy)) = (&attested.launch_digest, attested.policy) else {
        return Vec::new();
    };
    let version = |n: Option<u8>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let what = format!(
        "API {}.{} build {}, SEV policy {policy:#x}, {}",
        version(attested.api_major),
        version(attested.api_minor),
        version(attested.build_id),
        match input.scheme {
            Scheme::AmdSev => "amd-sev",
            Scheme::AmdSevEs => "amd-sev-es",
        },
    );
    let mut lines = [row("attested", &what), row("digest", digest)].concat();
    let source = match attested.digest_source {
        Some(DigestSource::Registered) => "registered: the workload names this digest",
        Some(DigestSource::Image) => "image: computed from one that the workload names",
        Some(DigestSource::Hint) => "hint: the host proposed it, and that is what runs",
        None => "not known",
    };
    lines.extend(row("found as", source));
    let image = &attested.image;
    if let Some(name) = &image.name {
        let vcpus = image.vcpus.map(|n| format!("{n} vCPUs"));
        let vmsa = image.vmsa.as_ref().map(|variant| format!("VMSA {variant}"));
        let parts = [Some(name.clone()), vcpus, image.vcpu_type.clone(), vmsa];
        lines.extend(row(
            "image",
            &parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ));
    }
    lines
}

/// What the host said and nothing proves, each on a line of its own.
fn claimed(input: &Input) -> Vec<String> {
    let claimed = &input.claimed;
    let said = [
        ("vCPUs", claimed.cpu_count.map(|count| count.to_string())),
        ("cpu-id", claimed.cpu_id.as_deref().map(halved)),
        ("firmware", claimed.firmware_hash.clone()),
        ("kernel", claimed.kernel_hash.clone()),
        ("initrd", claimed.initrd_hash.clone()),
        ("cmdline", claimed.cmdline_hash.clone()),
        ("says", claimed.description.clone()),
    ];
    let said = said
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)));
    let mut lines = Vec::new();
    for (name, value) in said {
        let label = if lines.is_empty() { "claimed" } else { "" };
        lines.extend(wrapped(&format!("{label:<10} {name:<8} "), &value));
    }
    lines
}

/// What one policy said: every message of a denial, and what went wrong.
fn policy(bound: &BoundVerdict) -> Vec<String> {
    let verdict = &bound.verdict;
    let mark = if verdict.allow { "allows" } else { "DENIES" };
    let mut facts = vec![match &bound.secret {
        Some(secret) => format!("bound to {} {secret}", bound.binding.kind.as_str()),
        None => format!("bound to {}", bound.binding.kind.as_str()),
    }];
    if let Some(limit) = verdict.release_limit.filter(|limit| *limit < NO_LIMIT) {
        facts.push(format!("limit {limit}"));
    }
    if let Some(bundle) = &bound.bundle {
        facts.push(format!("bundle {}", short(&bundle.to_string())));
    }
    let mut lines = wrapped(
        &format!("  {mark}  "),
        &format!("{} ({})", verdict.policy, facts.join(", ")),
    );
    if verdict.allow {
        return lines;
    }
    let mut why: Vec<&str> = verdict.deny.iter().map(String::as_str).collect();
    why.extend(verdict.error.as_ref().map(|error| error.message.as_str()));
    // The reason sums up what the messages say, and ends with what they don't.
    let rest = verdict.reason.rsplit("; ").next().unwrap_or_default();
    if why.is_empty() {
        why.push(&verdict.reason);
    } else if rest.starts_with("allow is ") {
        why.push(rest);
    }
    lines.extend(why.into_iter().flat_map(|why| wrapped("          - ", why)));
    lines
}

/// Why, for people: the policies that denied, or, where none did, the owner's own.
pub(super) fn why(explanation: &DecisionExplanation) -> Vec<String> {
    let denied = explanation.policies.iter().any(|policy| !policy.allow);
    let told = explanation.policies.iter().filter(|policy| {
        if denied {
            !policy.allow
        } else {
            !policy.policy.starts_with("keyward.")
        }
    });
    let mut lines = Vec::new();
    for policy in told {
        let problem = policy
            .problem
            .iter()
            .map(|problem| format!("  not as recorded: {problem}"));
        let explained = policy.explanation.iter().flat_map(explanation_lines);
        let secret = policy
            .secret
            .iter()
            .map(|secret| format!("  asked for the secret {secret}"));
        // The first line is the policy's name and its verdict.
        let mut all: Vec<String> = explained.collect();
        if all.is_empty() {
            all.push(policy.policy.clone());
        }
        all.splice(1..1, secret.chain(problem));
        lines.extend(all);
    }
    if !lines.is_empty() {
        lines = ["", "why"]
            .into_iter()
            .map(str::to_owned)
            .chain(lines.into_iter().map(|line| format!("  {}", printable(&line))))
            .collect();
    }
    lines
}

fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}

/// A chip's id has 128 digits, in which there is no place to break a line; it is given one.
fn halved(id: &str) -> String {
    match id.split_at_checked(64) {
        Some((first, second)) if !second.is_empty() => format!("{first} {second}"),
        _ => id.to_owned(),
    }
}

fn row(label: &str, value: &str) -> Vec<String> {
    wrapped(&format!("{label:<10} "), value)
}

/// A text after a first part, broken into lines that a terminal holds; the rest is indented as far.
fn wrapped(first: &str, text: &str) -> Vec<String> {
    let indent = " ".repeat(first.chars().count());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(first)
        .subsequent_indent(&indent)
        .break_words(false);
    let text = printable(text);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// A text without control characters, and without those that reorder or hide what stands beside them: part
/// of it may be a host's own words.
pub(in crate::cli) fn printable(text: &str) -> String {
    let hides = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || hides(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
