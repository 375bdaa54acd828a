//! The life of one release, through the host API.

use serde_json::json;

use crate::support::host::{IMAGE, WORKLOAD, launch_request};
use crate::support::{App, Vm, platform};

const LUKS: &str = "736869e5-84f0-4973-92ec-06879ce3da0b";

#[test]
fn a_proved_guest_gets_its_secret_once() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let reply = app.post(&vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply), [(LUKS.parse().unwrap(), b"hunter2".to_vec())]);

    let decision = app.decision(&reply.body["decision"]);
    assert_eq!(decision["outcome"], "released");
    assert_eq!(decision["released"], json!([{"name": "disk", "version": 1}]));
    assert_eq!(decision["input"]["attested"]["digest_source"], "registered");
    assert_eq!(decision["input"]["platform"]["root"], "test");

    app.post(&vm.path(), &request).expect(409, "launch-used");
}

#[test]
fn by_the_workload_s_uuid_each_of_many_guests_finds_its_own_launch() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut guests: Vec<Vm> = (0..3).map(|_| app.start(&platform)).collect();
    for vm in guests.iter_mut().rev() {
        let request = vm.measure(IMAGE);
        let reply = app.post(&format!("/vm/{WORKLOAD}/validate"), &request).ok();
        assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    }
    let ids: Vec<_> = app
        .decisions()
        .iter()
        .map(|d| d["launch"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, guests.iter().map(|vm| vm.id.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_lost_answer_is_given_again_for_the_same_idempotency_key_only() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let body = vm.measure(IMAGE).to_string();
    let send =
        |key: &str, body: &str| app.request("POST", &vm.path(), &[("idempotency-key", key)], body.as_bytes());
    let first = send("one", &body).ok();
    let again = send("one", &body).ok();
    assert_eq!(first.body, again.body);
    send("two", &body).expect(409, "launch-used");
    send("one", &body.replace("\"api-minor\":55", "\"api-minor\": 55")).expect(409, "launch-used");
    assert_eq!(app.decisions().len(), 1);

    app.clock.advance(std::time::Duration::from_secs(601));
    send("one", &body).expect(409, "launch-used");
}

#[test]
fn a_launch_survives_a_failed_measurement_and_ends_after_too_many() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let good = vm.measure(IMAGE);
    let mut bad = good.clone();
    bad["build-id"] = json!(9);
    for _ in 0..7 {
        app.post(&vm.path(), &bad).expect(422, "measurement-mismatch");
    }
    app.post(&vm.path(), &good).ok();

    let mut vm = app.start(&platform);
    let good = vm.measure(IMAGE);
    bad["measurement"] = good["measurement"].clone();
    for _ in 0..8 {
        app.post(&vm.path(), &bad).expect(422, "measurement-mismatch");
    }
    app.post(&vm.path(), &good).expect(409, "launch-used");
}

#[test]
fn a_launch_expires_is_said_to_have_for_a_day_and_is_then_forgotten() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.clock.advance(std::time::Duration::from_secs(600));
    app.post(&vm.path(), &request).expect(410, "launch-expired");
    app.service.tidy().unwrap();
    app.post(&vm.path(), &request).expect(410, "launch-expired");
    app.clock.advance(std::time::Duration::from_secs(24 * 3600));
    app.post(&vm.path(), &request).expect(404, "not-found");
    app.service.tidy().unwrap();
    app.post(&vm.path(), &request).expect(404, "not-found");
}

#[test]
fn at_the_limit_a_release_is_held_once_for_all_that_ask() {
    let (app, platform) = (App::new(), platform());
    let mut objects = crate::support::host::standard(json!({"max_releases": 1}));
    objects[1]["policies"] = json!(["keyward.workload"]);
    app.apply(objects);
    app.run(&platform).1.ok();

    let (vm, first) = app.run(&platform);
    let first = first.expect(403, "confirmation-required");
    assert_eq!(first.headers["retry-after"], "30");
    let (_, second) = app.run(&platform);
    let second = second.expect(403, "confirmation-required");
    assert_eq!(first.body["hold"], second.body["hold"]);
    assert_ne!(first.body["decision"], second.body["decision"]);
    drop(vm);

    let holds = app.owner("GET", "/v1/holds", &serde_json::Value::Null).ok().body;
    assert_eq!(holds["items"].as_array().unwrap().len(), 1);
    assert_eq!(holds["items"][0]["launches"], 2);
    assert_eq!(app.decision(&first.body["decision"])["outcome"], "held");
}

#[test]
fn a_launch_request_says_what_it_was_given() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let reply = app
        .post(&format!("/vm/{WORKLOAD}/launch"), &launch_request(&platform))
        .ok();
    assert_eq!(reply.body["policy"], 3);
    assert_eq!(reply.body["expires-at"], "2026-01-02T03:14:05.000Z");
    let other = app
        .post(&format!("/vm/{WORKLOAD}/launch"), &launch_request(&platform))
        .ok();
    assert_ne!(reply.body["id"], other.body["id"]);
    assert_ne!(reply.body["session"], other.body["session"]);
}
