//! Several owners on one server: none sees, changes or counts for another.

use keyward::audit::actor::Act;
use keyward::domain::token::Token;
use keyward::domain::{Base64Bytes, Clock as _};
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use keyward::store::OwnerCreated;
use serde_json::{Value, json};

use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::other::{OTHERS_WORKLOAD, Other, run, shared};
use crate::support::{App, Reply, platform, vectors};

#[test]
fn one_sees_and_changes_nothing_of_the_other_s() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.apply(standard(json!({"max_releases": 1})));
    let set = json!({"kind": "KeySet", "name": "set", "secrets": ["disk"], "policies": ["release.any"]});
    app.apply(json!([set]));
    let released = run(&app, WORKLOAD).1.ok();
    let held = run(&app, WORKLOAD).1.expect(403, "confirmation-required");

    for list in [
        "secrets",
        "keysets",
        "firmware",
        "workloads",
        "decisions",
        "holds",
    ] {
        assert_eq!(other.items(&format!("/v1/{list}")), [] as [Value; 0], "{list}");
    }
    assert_eq!(other.get("/v1/bundles").ok().body["active"], Value::Null);
    let active = app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    let id = |reply: &Reply| reply.body["decision"].as_str().unwrap().to_owned();
    for path in [
        "/v1/secrets/disk".to_owned(),
        "/v1/keysets/set".to_owned(),
        format!("/v1/workloads/{WORKLOAD}"),
        format!("/v1/decisions/{}", id(&released)),
        format!("/v1/decisions/{}", id(&held)),
        format!("/v1/bundles/{}", active.as_str().unwrap()),
    ] {
        other.get(&path).expect(404, "not-found");
    }
    for path in [
        "/v1/secrets/disk",
        "/v1/keysets/set",
        &format!("/v1/workloads/{WORKLOAD}"),
    ] {
        other.send("DELETE", path, &Value::Null).expect(404, "not-found");
    }
    // A secret of the other's is none that could be bound, and the other's UUID none to be had.
    let mut foreign = standard(json!({"name": "mine", "uuid": OTHERS_WORKLOAD}));
    foreign.as_array_mut().unwrap().remove(1);
    let objects = |objects: &Value| json!({ "objects": objects });
    let refused = other.send("POST", "/v1/apply", &objects(&foreign));
    let refused = refused.expect(422, "invalid");
    assert!(
        refused.detail().contains("there is no secret disk"),
        "{}",
        refused.detail()
    );
    let refused = other.send("POST", "/v1/apply", &objects(&standard(json!({}))));
    let refused = refused.expect(422, "invalid");
    assert!(refused.detail().contains("is taken"), "{}", refused.detail());
    assert_eq!(other.items("/v1/secrets"), [] as [Value; 0]);

    let own = app.owner("GET", "/v1/decisions", &Value::Null).ok();
    assert_eq!(own.body["items"].as_array().unwrap().len(), 2);
}

#[test]
fn equal_names_of_two_owners_neither_mix_nor_count_together() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.apply(standard(json!({"max_releases": 1})));
    let mut theirs = standard(json!({"max_releases": 1, "uuid": OTHERS_WORKLOAD}));
    theirs[1]["value"] = json!({"base64": "Z2VoZWlt"});
    other
        .send("POST", "/v1/apply", &json!({ "objects": theirs }))
        .ok();

    for (uuid, value) in [(WORKLOAD, &b"hunter2"[..]), (OTHERS_WORKLOAD, b"geheim")] {
        let (vm, reply) = run(&app, uuid);
        assert_eq!(vm.unwrap(&reply.ok())[0].1, value);
        run(&app, uuid).1.expect(403, "confirmation-required");
    }
    // Each made again goes on with its own count, and its own UUID.
    let path = format!("/v1/workloads/{OTHERS_WORKLOAD}");
    assert_eq!(other.send("DELETE", &path, &Value::Null).status, 204);
    theirs[2].as_object_mut().unwrap().remove("uuid");
    let again = other
        .send("POST", "/v1/apply", &json!({ "objects": theirs }))
        .ok();
    assert_eq!(
        again.body["changes"][2]["detail"],
        format!("uuid {OTHERS_WORKLOAD}")
    );
    run(&app, OTHERS_WORKLOAD).1.expect(403, "confirmation-required");
    let mine = app.owner("GET", &format!("/v1/workloads/{WORKLOAD}"), &Value::Null);
    mine.ok();
    let outcomes = |decisions: Vec<Value>| -> Vec<Value> {
        decisions
            .iter()
            .map(|decision| decision["outcome"].clone())
            .collect()
    };
    assert_eq!(outcomes(app.decisions()), ["held", "released"]);
    assert_eq!(
        outcomes(other.items("/v1/decisions")),
        ["held", "held", "released"]
    );
    assert_eq!(other.items("/v1/holds").len(), 1);
}

#[test]
fn an_extra_root_that_names_no_owners_counts_for_nobody_once_there_are_two() {
    let app = App::new();
    app.standard();
    let platform = platform();
    let mut waiting = app.start(&platform);
    let request = waiting.measure(IMAGE);
    assert_eq!(app.service.ownerless_roots().unwrap(), [] as [&str; 0]);

    let _other = Other::of(&app);
    assert_eq!(app.service.ownerless_roots().unwrap(), ["test"]);
    let refused = app.ask_launch(&launch_request(&platform));
    let refused = refused.expect(422, "chain-invalid");
    assert!(
        refused.detail().contains("the root is not trusted"),
        "{}",
        refused.detail()
    );
    let reason = app.denied(&waiting, &request);
    assert!(reason.contains("root test is not trusted any more"), "{reason}");
    if let Some(real) = vectors::read("rome-chain.bin") {
        let (pdh, rest) = real.split_at(2084);
        let request = json!({"pdh": Base64Bytes(pdh.to_vec()), "cert-chain": Base64Bytes(rest.to_vec())});
        app.ask_launch(&request).ok();
    }
}

#[test]
fn a_name_that_an_owner_has_is_not_given_to_another() {
    let app = App::new();
    app.standard();
    let token = Token::from_random(&new_key(&SystemRandom).unwrap());
    let name = "acme".parse().unwrap();
    let store = app.service.store();
    let created = store.create_owner(&name, token.hash(), &Act::of_server(app.clock.now()));
    assert_eq!(created.unwrap(), OwnerCreated::Exists);
    assert!(
        store.caller(token.hash(), app.clock.now()).unwrap().is_none(),
        "the token is nobody's"
    );
    assert_eq!(store.owners().unwrap(), [name]);
}
