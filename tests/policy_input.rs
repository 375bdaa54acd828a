//! The input document: total, strict, and as its schema says.

use keyward::policy::{Input, Phase, Registration, input_schema};
use serde_json::{Value, json};

use super::policy_support::{module, release};

#[test]
fn the_schema_is_the_one_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/policy-input.schema.json");
    let generated = format!(
        "{}\n",
        serde_json::to_string_pretty(&input_schema()).expect("JSON")
    );
    if std::env::var_os("KEYWARD_UPDATE").is_some() {
        std::fs::write(path, &generated).expect("the schema can be written");
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        stored, generated,
        "run the tests with KEYWARD_UPDATE=1 and review the change"
    );
}

#[test]
fn examples_fit_the_schema_and_come_back_unchanged() {
    let validator = jsonschema::validator_for(&input_schema()).expect("a valid schema");
    for phase in [Phase::Launch, Phase::Release] {
        let input = Input::example(phase);
        let value = serde_json::to_value(&input).expect("JSON");
        assert!(
            validator.is_valid(&value),
            "{:?}",
            validator
                .iter_errors(&value)
                .map(|e| e.to_string())
                .collect::<Vec<_>>()
        );
        assert_eq!(serde_json::from_value::<Input>(value).expect("reads back"), input);
    }
}

#[test]
fn every_member_is_present_and_every_missing_one_is_refused() {
    let validator = jsonschema::validator_for(&input_schema()).expect("a valid schema");
    let complete = serde_json::to_value(Input::example(Phase::Launch)).expect("JSON");
    let mut places = Vec::new();
    members(&complete, "", &mut places);
    assert!(places.len() > 60, "only {} members", places.len());
    for place in places {
        let mut holed = complete.clone();
        let (parent, name) = place.rsplit_once('/').expect("a pointer");
        holed
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .remove(name);
        assert!(
            serde_json::from_value::<Input>(holed.clone()).is_err(),
            "{place} may be missing"
        );
        assert!(
            !validator.is_valid(&holed),
            "{place} may be missing by the schema"
        );
    }
    // And the schema lists nothing that the document has not.
    let required = input_schema()["required"].as_array().expect("a list").len();
    assert_eq!(required, complete.as_object().expect("an object").len());
}

fn members(value: &Value, at: &str, out: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let place = format!("{at}/{name}");
        members(member, &place, out);
        out.push(place);
    }
}

#[test]
fn the_document_is_the_contracts() {
    let input = serde_json::to_value(Input::example(Phase::Launch)).expect("JSON");
    let names = |pointer: &str| -> Vec<String> {
        let mut names: Vec<String> = input
            .pointer(pointer)
            .and_then(Value::as_object)
            .expect(pointer)
            .keys()
            .cloned()
            .collect();
        names.sort();
        names
    };
    let table: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "attested", "claimed", "host", "owner", "phase", "platform", "releases", "scheme", "secret",
                "secrets", "time", "version", "workload",
            ],
        ),
        ("/workload", &["name", "policy", "uuid", "vcpus"]),
        (
            "/platform",
            &[
                "api_major",
                "api_minor",
                "chip_id",
                "fingerprints",
                "product",
                "root",
            ],
        ),
        (
            "/platform/fingerprints",
            &["ark", "ask", "cek", "oca", "pdh", "pek"],
        ),
        (
            "/attested",
            &[
                "api_major",
                "api_minor",
                "build_id",
                "digest_source",
                "image",
                "launch_digest",
                "policy",
                "policy_bits",
            ],
        ),
        (
            "/attested/policy_bits",
            &[
                "domain",
                "es",
                "min_api_major",
                "min_api_minor",
                "no_debug",
                "no_key_sharing",
                "no_send",
                "sev",
            ],
        ),
        ("/attested/image", &["name", "vcpu_type", "vcpus", "vmsa"]),
        (
            "/claimed",
            &[
                "cmdline_hash",
                "cpu_count",
                "cpu_id",
                "description",
                "firmware_hash",
                "initrd_hash",
                "kernel_hash",
            ],
        ),
        ("/host", &["address", "identity"]),
        ("/releases", &["last_day", "last_hour", "total"]),
    ];
    for (pointer, expected) in table {
        assert_eq!(names(pointer), *expected, "{pointer}");
    }
    // At launch nothing is attested.
    let mut leaves = Vec::new();
    members(&input["attested"], "", &mut leaves);
    for leaf in leaves {
        let value = input["attested"].pointer(&leaf).expect("present");
        assert!(value.is_null() || value.is_object(), "{leaf} is {value}");
    }
}

#[test]
fn unknown_members_and_wrong_types_are_refused() {
    let complete = serde_json::to_value(Input::example(Phase::Release)).expect("JSON");
    for (pointer, value) in [
        ("/extra", json!(1)),
        ("/attested/extra", json!(1)),
        ("/version", json!("1")),
        ("/phase", json!("Launch")),
        ("/scheme", json!("amd-sev-snp")),
        ("/attested/build_id", json!(256)),
        ("/attested/policy_bits/no_debug", json!("true")),
        ("/secrets", json!(null)),
    ] {
        let mut changed = complete.clone();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        changed
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .insert(name.to_owned(), value);
        assert!(serde_json::from_value::<Input>(changed).is_err(), "{pointer}");
    }
}

#[test]
fn a_registration_is_hidden_from_owners() {
    let prepared = module("allow if not \"registration\" in object.keys(input)");
    let input = Input {
        registration: Some(Registration::default()),
        ..Input::example(Phase::Release)
    };
    assert!(prepared.evaluate("p", Phase::Release, &input).allow);
}

#[test]
fn null_is_below_every_number_and_the_library_knows() {
    let unproved = |mut input: Input| {
        input.attested.image.vcpus = None;
        input.claimed.cpu_count = None;
        input
    };
    let input = unproved(Input::example(Phase::Release));
    let ask = |rules: &str| module(rules).evaluate("p", Phase::Release, &input).allow;
    // What the guard is for, written so that the check does not see what is compared.
    assert!(ask("allow if object.get({\"vcpus\": null}, \"vcpus\", 9) <= 4"));
    for call in [
        "vcpus_proved_at_most(4)",
        "vcpus_claimed_at_most(4)",
        "vcpus_proved(2)",
        "vcpus_claimed(2)",
    ] {
        assert!(
            !ask(&format!("import data.keyward.vcpus\nallow if vcpus.{call}")),
            "{call}"
        );
        assert!(
            release(&format!("import data.keyward.vcpus\nallow if vcpus.{call}")).allow,
            "{call}"
        );
    }
    // A limit that is no number orders above every number, so it is none.
    for limit in ["\"4\"", "null", "[]"] {
        assert!(
            !release(&format!(
                "import data.keyward.vcpus\nallow if vcpus.vcpus_proved_at_most({limit})"
            ))
            .allow
        );
    }
}
