//! What a registration remembers of what was there, and what it refuses because of what is.

use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, digest, launch_request, standard};
use crate::support::{App, Reply, Vm, platform};

/// The usual objects with a workload that names no UUID.
fn unnumbered() -> Value {
    standard(json!({"uuid": null, "max_releases": 1}))
}

/// The UUID that this answer gives the workload.
fn uuid_in(applied: &Reply) -> String {
    let detail = applied.body["changes"][2]["detail"].as_str().unwrap();
    detail.strip_prefix("uuid ").unwrap().to_owned()
}

fn run(app: &App, uuid: &str) -> Reply {
    let platform = platform();
    let reply = app
        .post(&format!("/vm/{uuid}/launch"), &launch_request(&platform))
        .ok();
    let mut vm = Vm::start(&platform, &reply);
    let request = vm.measure(IMAGE);
    app.post(&vm.path(), &request)
}

#[test]
fn a_workload_made_again_under_its_name_goes_on_with_its_counts() {
    let app = App::new();
    let first = uuid_in(&app.apply(unnumbered()));
    run(&app, &first).ok();
    run(&app, &first).expect(403, "confirmation-required");
    for _ in 0..2 {
        let gone = app.owner("DELETE", &format!("/v1/workloads/{first}"), &Value::Null);
        assert_eq!(gone.status, 204, "{}", gone.body);
        assert_eq!(uuid_in(&app.apply(unnumbered())), first);
        run(&app, &first).expect(403, "confirmation-required");
    }
    // Another name is another workload.
    let mut other = unnumbered();
    other[2]["name"] = json!("api");
    let other = uuid_in(&app.apply(other));
    assert_ne!(other, first);
    run(&app, &other).ok();
}

#[test]
fn a_uuid_that_another_workload_has_by_now_is_not_taken_back_from_it() {
    let app = App::new();
    let first = uuid_in(&app.apply(unnumbered()));
    app.owner("DELETE", &format!("/v1/workloads/{first}"), &Value::Null);
    app.apply(standard(json!({"name": "api", "uuid": first})));
    let refused = app.try_apply(unnumbered()).expect(422, "invalid");
    assert!(
        refused
            .detail()
            .contains(&format!("{first} is that of workload api"))
            && refused.detail().contains("`uuid` of its own"),
        "{}",
        refused.detail()
    );
}

#[test]
fn a_name_that_another_workload_has_is_refused_and_says_which() {
    let app = App::new();
    let (named, numbered) = (
        "99999999-2222-4333-8444-555555555555",
        "99999999-0000-4000-8000-000000000000",
    );
    app.apply(standard(json!({"name": named, "uuid": numbered})));
    let form = json!({
        "scheme": "amd-sev", "policy": 3, "firmware-hashes": [digest(IMAGE)],
        "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}],
    });
    for method in ["POST", "PUT"] {
        let refused = app.owner(method, &format!("/vm/{named}"), &form);
        let refused = refused.expect(422, "invalid");
        let expected = format!("the name is that of the workload with UUID {numbered}");
        assert!(refused.detail().contains(&expected), "{}", refused.detail());
    }
    // The one that has it is as it was.
    run(&app, numbered).ok();
}

#[test]
fn a_secret_s_guid_is_looked_at_though_its_value_stays() {
    let app = App::new();
    let secret = |guid: &str, bytes: u32| {
        json!([{
            "kind": "Secret", "name": "token", "type": "opaque", "guid": guid, "value": {"generate": bytes},
        }])
    };
    let good = "00000000-0000-4000-8000-000000000001";
    app.apply(secret(good, 16));
    for (guid, bytes, why) in [
        (
            "00000000-0000-0000-0000-000000000000",
            16,
            "cannot have the null GUID",
        ),
        (
            "1e74f542-71dd-4d66-963e-ef4287ff173b",
            16,
            "the GUID that marks the table itself",
        ),
        (good, 20_000, "the value has 20000 bytes"),
    ] {
        let refused = app.try_apply(secret(guid, bytes)).expect(422, "invalid");
        assert!(refused.detail().contains(why), "{}", refused.detail());
    }
    let same = app.apply(secret(good, 16));
    assert_eq!(same.body["changes"][0]["action"], "unchanged");
}

#[test]
fn an_object_said_twice_in_one_call_is_refused_by_its_name() {
    let app = App::new();
    let secret = |name: &str, value: &str| {
        json!({
            "kind": "Secret", "name": name, "type": "luks-passphrase", "value": {"base64": value},
        })
    };
    let set = json!({"kind": "KeySet", "name": "disk", "secrets": ["disk"]});
    let bundle = bundle(&[("release/any.rego", "package release.any\n\nallow := true\n")]);
    for (objects, label) in [
        (
            json!([secret("disk", "aHVudGVyMg=="), secret("disk", "Z2VoZWlt")]),
            "Secret disk",
        ),
        (json!([set, secret("disk", "aHVudGVyMg=="), set]), "KeySet disk"),
    ] {
        let refused = app.try_apply(objects).expect(422, "invalid");
        let expected = format!("{label}: it is said twice");
        assert!(refused.detail().starts_with(&expected), "{}", refused.detail());
    }
    app.try_apply(json!([bundle, bundle])).expect(422, "invalid");
    // One name in two kinds is no name twice.
    app.apply(json!([secret("disk", "aHVudGVyMg=="), set]));
}
