//! The schemas that are checked in are those of the types, and hold for what is really written and read.

use keyward::audit::record::AuditRecord;
use keyward::config::Config;
use keyward::domain::decision::Decision;
use keyward::domain::notice::Notice;
use keyward::manifest::Manifest;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::support::cli::golden;
use crate::support::host::launch_request;
use crate::support::{App, platform};

fn schema<T: schemars::JsonSchema>() -> Value {
    serde_json::to_value(schemars::schema_for!(T)).unwrap()
}

#[track_caller]
fn assert_valid(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
}

fn invalid(schema: &Value, value: &Value) -> bool {
    !jsonschema::validator_for(schema).unwrap().is_valid(value)
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

#[test]
fn they_are_the_ones_checked_in() {
    for (name, schema) in [
        ("manifest", schema::<Manifest>()),
        ("config", schema::<Config>()),
        ("decision", schema::<Decision>()),
        ("audit-record", schema::<AuditRecord>()),
        ("webhook", schema::<Notice>()),
    ] {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        golden(&format!("schemas/{name}.schema.json"), &text);
    }
    let text = format!(
        "{}\n",
        serde_json::to_string_pretty(&keyward::http::openapi()).unwrap()
    );
    golden("schemas/openapi.json", &text);
}

#[test]
fn the_example_s_manifests_fit_theirs_and_mistakes_do_not() {
    let schema = schema::<Manifest>();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/manifests.yaml"
    );
    let all = documents(&std::fs::read_to_string(path).unwrap());
    assert_eq!(all.len(), 4);
    for document in &all {
        assert_valid(&schema, document);
        let mut wrong = document.clone();
        wrong["colour"] = json!("red");
        assert!(invalid(&schema, &wrong), "an unknown member passes: {wrong}");
        let mut wrong = document.clone();
        wrong.as_object_mut().unwrap().remove("kind");
        assert!(invalid(&schema, &wrong), "no kind passes: {wrong}");
    }
    for wrong in [
        json!({"kind": "Secret", "name": "a", "type": "opaque", "value": {}}),
        json!({"kind": "Secret", "name": "a", "type": "opaque", "value": {"generate": 3, "env": "A"}}),
        json!({"kind": "Secret", "name": "a b", "type": "opaque", "value": {"generate": 3}}),
        json!({"kind": "Workload", "name": "a", "scheme": "amd-sev-snp", "secrets": []}),
        json!({"kind": "KeySet", "name": "a", "secrets": [], "labels": {"a b": "c"}}),
        json!({"kind": "KeySet", "name": "a", "secrets": [], "labels": {"a": 1}}),
        json!({"kind": "SigningKey", "name": "a", "public_key": {}}),
        json!({"kind": "Trust", "platforms": "all"}),
        json!({"kind": "Owner", "name": "a", "approvals_required": 3}),
    ] {
        assert!(invalid(&schema, &wrong), "{wrong}");
    }
}

#[test]
fn every_kind_of_manifest_that_is_read_fits() {
    let schema = schema::<Manifest>();
    let text = "kind: KeySet\nname: a\nsecrets: [b]\npolicies: [p.q]\nlabels: {app: web}\n---\n\
        kind: Secret\nname: a\ntype: luks-passphrase\nlabels: {app: ''}\n---\n\
        kind: Firmware\nname: a\nsha256: 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c\n---\n\
        kind: PolicyBundle\ndigest: 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c\n---\n\
        kind: SigningKey\nname: a\npublic_key: {file: key.pem}\nalgorithm: ES256\nscope: write\n---\n\
        kind: Trust\nplatforms: any\nenrolled: []\nrefused: []\n---\n\
        kind: Owner\nname: a\napprovals_required: 2\ntoken_file: token\n---\n\
        kind: Token\nname: a\nrole: auditor\nowner: b\nexpires: 2030-01-01T00:00:00Z\ntoken_file: token\n---\n\
        kind: Secret\nname: a\ntype: opaque\nguid: 5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e\nvalue: {base64: aGk=}\n---\n\
        kind: PolicyBundle\npath: p\npolicies: []\n---\n\
        kind: Workload\nname: a\nuuid: 5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e\nscheme: amd-sev\npolicy: 3\nvcpus: 2\n\
        products: [naples, rome]\ndanger_weak_policy: true\nlaunch_digests: []\ncloud_cert: oca.cert\nmax_releases: 3\n\
        secrets: [a]\npolicies: []\n";
    for document in documents(text) {
        assert_valid(&schema, &document);
        serde_json::from_value::<Manifest>(document).unwrap();
    }
}

#[test]
fn the_default_configuration_fits_and_an_unknown_key_does_not() {
    let schema = schema::<Config>();
    let mut config = serde_json::to_value(Config::default()).unwrap();
    assert_valid(&schema, &config);
    assert_valid(&schema, &json!({}));
    config["launch"]["lifetime"] = json!(3);
    assert!(invalid(&schema, &config));
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let schema = schema::<Config>();
    let mut places = vec![("Config".to_owned(), &schema)];
    let parts = schema["$defs"].as_object().unwrap();
    places.extend(parts.iter().map(|(name, part)| (name.clone(), part)));
    for (name, part) in places {
        for (key, member) in part["properties"].as_object().into_iter().flatten() {
            assert!(member["description"].is_string(), "{name}.{key} is not explained");
        }
    }
}

#[test]
fn real_bodies_replies_and_decisions_fit() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let (api, decision) = (keyward::http::openapi(), schema::<Decision>());
    let part = |name: &str| {
        let mut whole = api.clone();
        whole["$ref"] = json!(format!("#/components/schemas/{name}"));
        assert!(whole["components"]["schemas"][name].is_object(), "{name}");
        whole
    };
    assert_valid(&part("LaunchBody"), &launch_request(&platform));
    let mut vm = app.start(&platform);
    let request = vm.measure(crate::support::host::IMAGE);
    assert_valid(&part("ValidateBody"), &request);
    let reply = app.post(&vm.path(), &request).ok();
    assert_valid(&part("ValidateReply"), &reply.body);
    assert_valid(&decision, &app.decision(&reply.body["decision"]));

    let owner = |method, path, body: &Value| app.owner(method, path, body).body;
    let wish = json!({"name": "ci", "role": "auditor", "expires": "2030-01-01T00:00:00Z"});
    assert_valid(&part("TokenBody"), &wish);
    assert_valid(&part("TokenReply"), &owner("POST", "/v1/tokens", &wish));
    let versions = owner("GET", "/v1/secret-versions/disk", &Value::Null);
    assert_valid(&part("SecretVersionInfoList"), &versions);
    assert_valid(&part("TokenEntryList"), &owner("GET", "/v1/tokens", &Value::Null));

    let mut vm = app.start(&platform);
    let mut tampered = vm.measure(b"what nobody ever reviewed, 32 by");
    app.post(&vm.path(), &tampered)
        .expect(422, "measurement-mismatch");
    tampered["launch-digest"] = json!(crate::support::host::digest(b"what nobody ever reviewed, 32 by"));
    app.post(&vm.path(), &tampered).expect(403, "denied");
    app.service.tidy().unwrap();
    let all = app.owner("GET", "/v1/decisions", &Value::Null).ok().body;
    assert_valid(&part("DecisionList"), &all);
    let outcomes: Vec<_> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["outcome"])
        .collect();
    assert!(
        outcomes.contains(&&json!("denied")) && outcomes.contains(&&json!("refused")),
        "{outcomes:?}"
    );

    // Last, as with a second owner the test's root counts for nobody.
    let admin = app.mint(keyward::domain::Role::Admin, None, None).text;
    let admin = |method, body: &Value| app.as_token(&admin, method, "/v1/owners", body).body;
    let nova = json!({"name": "nova"});
    assert_valid(&part("OwnerBody"), &nova);
    assert_valid(&part("OwnerReply"), &admin("POST", &nova));
    assert_valid(&part("OwnerEntryList"), &admin("GET", &Value::Null));
}
