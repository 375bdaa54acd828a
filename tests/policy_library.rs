//! The library that ships in the binary: its own Rego tests, its metadata, and the built-in policy of each workload.

use std::collections::BTreeMap;
use std::path::Path;

use keyward::policy::{
    DigestSource, Input, Phase, PreparedBundle, Registration, Scheme, Verdict, library_modules,
};
use regorus::{Engine, Value};

/// Runs all `test_` rules of a folder, as `opa test` would; returns the names of those that ran.
fn run_tests(folder: &Path) -> Vec<String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "rego") {
            let text = std::fs::read_to_string(&path).expect("text");
            let package = engine
                .add_policy(path.display().to_string(), text.clone())
                .expect("parses");
            for line in text.lines().filter(|line| line.starts_with("test_")) {
                let name: String = line
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                tests.push(format!("{package}.{name}"));
            }
        }
    }
    tests.sort();
    tests.dedup();
    for test in &tests {
        let value = engine
            .eval_rule(test.clone())
            .unwrap_or_else(|error| panic!("{test}: {error}"));
        assert_eq!(value, Value::Bool(true), "{test}");
    }
    tests
}

#[test]
fn the_librarys_own_tests_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let tests = run_tests(&folder);
    assert!(tests.len() >= 25, "only {} tests ran", tests.len());
    // Each module has its tests beside it.
    for (path, _) in library_modules() {
        let name = path
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".rego"))
            .expect("a module");
        assert!(
            folder.join(format!("{name}_test.rego")).exists(),
            "{name} has no tests"
        );
    }
}

/// The rules of a module, without its private ones.
fn public_rules(text: &str) -> std::collections::BTreeSet<String> {
    let rules = text.lines().filter_map(|line| {
        let rule = line.strip_prefix("default ").unwrap_or(line);
        let begins = rule.starts_with(|c: char| c.is_ascii_lowercase());
        let keyword = ["package ", "import "].iter().any(|word| rule.starts_with(word));
        (begins && !keyword).then(|| {
            let name = rule.chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            name.collect()
        })
    });
    rules.collect()
}

#[test]
fn every_public_rule_of_the_library_is_named_in_the_tests_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let (mut seen, mut untested) = (0, Vec::new());
    for (path, text) in library_modules() {
        let module = path
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".rego"));
        let module = module.expect("a module");
        let tests = std::fs::read_to_string(folder.join(format!("{module}_test.rego"))).expect("its tests");
        let code = tests.lines().filter(|line| !line.starts_with('#'));
        let code = code.collect::<Vec<_>>().join("\n");
        let words: std::collections::BTreeSet<&str> =
            code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        for rule in public_rules(text) {
            seen += 1;
            if !words.contains(rule.as_str()) {
                untested.push(format!("{module}.{rule}"));
            }
        }
    }
    assert!(seen >= 15, "only {seen} rules were found");
    assert_eq!(untested, [""; 0], "rules that no test names");
}

/// Where `allow` is true nothing else of such a policy is asked: it must say itself that nothing is denied.
#[test]
fn the_servers_own_policies_allow_only_where_nothing_is_denied() {
    let own = library_modules().filter(|(_, text)| text.contains("default allow :="));
    let mut policies = 0;
    for (path, text) in own {
        policies += 1;
        for (rule, phase, deny) in [
            ("allow", "release", "deny"),
            ("allow_launch", "launch", "deny_launch"),
        ] {
            let body = format!("\n{rule} if {{\n\tinput.phase == \"{phase}\"\n\tcount({deny}) == 0\n}}\n");
            assert!(text.contains(&body), "{path}: {body}");
            assert!(text.contains(&format!("\ndefault {rule} := false\n")), "{path}");
            let heads = text.lines().filter(|line| line.starts_with(&format!("{rule} ")));
            assert_eq!(heads.count(), 1, "{path}: {rule} has another body");
        }
    }
    assert_eq!(policies, 1);
}

#[test]
fn every_rule_of_the_library_has_a_title_and_a_description() {
    for (path, text) in library_modules() {
        let mut documented: BTreeMap<String, bool> = BTreeMap::new();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let rule = line.strip_prefix("default ").unwrap_or(line);
            if !rule.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') || rule.starts_with("import ")
            {
                continue;
            }
            let name: String = rule
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let comment: Vec<&&str> = lines[..number]
                .iter()
                .rev()
                .take_while(|line| line.starts_with('#'))
                .collect();
            let has = |word: &str| comment.iter().any(|line| line.starts_with(word));
            let complete = has("# METADATA") && has("# title: ") && has("# description: ");
            *documented.entry(name).or_default() |= complete;
        }
        for (rule, documented) in documented {
            assert!(documented, "{path}: `{rule}` has no metadata");
        }
    }
}

fn registration() -> Registration {
    let digest = Input::example(Phase::Release)
        .attested
        .launch_digest
        .expect("attested");
    Registration {
        images: true,
        names_digests: true,
        image_digests: vec![digest],
        oca: Some("a4".repeat(32)),
        vcpus: Some(2),
        max_releases: Some(5),
        products: vec!["milan".to_owned(), "genoa".to_owned()],
        ..Registration::default()
    }
}

fn ask(phase: Phase, change: impl FnOnce(&mut Input, &mut Registration)) -> Verdict {
    let mut input = Input::example(phase);
    let mut registration = registration();
    change(&mut input, &mut registration);
    input.registration = Some(registration);
    let library = PreparedBundle::library().expect("the library loads");
    library.evaluate("keyward.workload", phase, &input)
}

#[test]
fn a_launch_that_is_what_the_workload_names_is_released() {
    let verdict = ask(Phase::Release, |_, _| {});
    assert!(verdict.allow, "{verdict:?}");
    assert_eq!(verdict.release_limit, Some(5));
    assert!(ask(Phase::Launch, |_, _| {}).allow);
    let unlimited = ask(Phase::Release, |_, registration| registration.max_releases = None);
    assert_eq!((unlimited.allow, unlimited.release_limit), (true, Some(1 << 53)));
}

#[test]
fn each_condition_that_fails_is_a_message_with_both_values() {
    type Change = fn(&mut Input, &mut Registration);
    let other = "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c";
    let table: &[(Change, &str)] = &[
        (
            |input, _| {
                input.attested.launch_digest =
                    Some("8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c".to_owned())
            },
            "launch digest 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c is not one that the workload names",
        ),
        (
            |_, named| named.image_digests.clear(),
            "is not one that the workload names",
        ),
        (
            |input, _| input.attested.launch_digest = None,
            "no launch digest is attested",
        ),
        (
            |_, named| named.oca = Some("bb".repeat(32)),
            "OCA fingerprint a4a4",
        ),
        (
            |_, named| named.vcpus = Some(4),
            "2 vCPUs are proved, expected the registered 4",
        ),
        (
            |_, named| named.products = vec!["turin".to_owned(), "genoa".to_owned()],
            "product milan is not one of the registered turin, genoa",
        ),
        (
            |input, _| input.platform.product = None,
            "product null is not one of the registered",
        ),
        (
            |input, _| input.attested.policy = Some(0),
            "SEV policy 0 is not the registered 7",
        ),
        (
            |input, _| input.attested.policy_bits.no_debug = Some(false),
            "bit no_debug of the SEV policy is false",
        ),
        (
            |input, _| input.attested.policy_bits.no_key_sharing = None,
            "bit no_key_sharing of the SEV policy is null",
        ),
        (
            |input, _| input.scheme = Scheme::AmdSev,
            "bit ES of the SEV policy is true, which does not fit the scheme amd-sev",
        ),
        (
            |input, named| {
                input.platform.product = Some("naples".to_owned());
                named.products.clear();
            },
            "product naples is not accepted unless the workload names it",
        ),
    ];
    for (change, message) in table {
        let verdict = ask(Phase::Release, change);
        assert!(!verdict.allow, "{message}: {verdict:?}");
        assert!(verdict.error.is_none(), "{verdict:?}");
        assert!(
            verdict.deny.iter().any(|deny| deny.contains(message)),
            "{message}\n{:?}",
            verdict.deny
        );
    }
    let all = ask(Phase::Release, |input, named| {
        input.attested.launch_digest = Some(other.to_owned());
        named.oca = Some("bb".repeat(32));
        named.vcpus = Some(4);
    });
    assert_eq!(all.deny.len(), 3, "{:?}", all.deny);
}

#[test]
fn under_plain_sev_the_vcpu_count_is_claimed_and_silence_denies() {
    let plain = |claimed: Option<u32>| {
        ask(Phase::Release, |input, _| {
            input.scheme = Scheme::AmdSev;
            input.attested.policy_bits.es = Some(false);
            input.attested.image.vcpus = None;
            input.attested.image.vcpu_type = None;
            input.attested.image.vmsa = None;
            input.claimed.cpu_count = claimed;
        })
    };
    assert!(plain(Some(2)).allow, "{:?}", plain(Some(2)));
    assert_eq!(
        plain(Some(4)).deny,
        ["4 vCPUs (claimed, not proved), expected the registered 2"]
    );
    assert_eq!(
        plain(None).deny,
        ["null vCPUs (claimed, not proved), expected the registered 2"]
    );
}

#[test]
fn wrong_04_an_empty_list_of_digests_means_none_and_not_all() {
    let verdict = ask(Phase::Release, |_, registration| {
        registration.image_digests.clear();
        registration.launch_digests.clear();
    });
    assert!(!verdict.allow);
    // A workload that names nothing leaves the digest to its own policies.
    let silent = ask(Phase::Release, |input, registration| {
        *registration = Registration::default();
        input.attested.digest_source = Some(DigestSource::Hint);
    });
    assert!(silent.allow, "{silent:?}");
}

#[test]
fn a_weak_policy_needs_to_be_wanted() {
    let weak = |wanted: bool| {
        ask(Phase::Release, |input, registration| {
            input.attested.policy_bits.no_debug = Some(false);
            registration.danger_weak_policy = wanted;
        })
    };
    assert!(!weak(false).allow);
    assert!(weak(true).allow, "{:?}", weak(true));
}

#[test]
fn a_launch_is_held_to_the_pinned_operator_only() {
    let foreign = ask(Phase::Launch, |_, registration| {
        registration.oca = Some("bb".repeat(32))
    });
    assert!(!foreign.allow);
    assert!(
        foreign.deny[0].starts_with("OCA fingerprint a4"),
        "{:?}",
        foreign.deny
    );
    assert!(
        ask(Phase::Launch, |input, _| input.platform.product =
            Some("naples".to_owned()))
        .allow
    );
}

#[test]
fn without_a_registration_nothing_is_allowed() {
    let library = PreparedBundle::library().expect("the library loads");
    for phase in [Phase::Launch, Phase::Release] {
        let verdict = library.evaluate("keyward.workload", phase, &Input::example(phase));
        assert!(!verdict.allow, "{verdict:?}");
        assert!(
            verdict
                .deny
                .contains(&"the workload's registration is missing".to_owned()),
            "{verdict:?}"
        );
    }
}
