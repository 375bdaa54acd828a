//! A host that wants to know what there is: every answer reads the same whether a thing exists or not.

use serde_json::{Value, json};

use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, platform};

const UNKNOWN: &str = "99999999-2222-4333-8444-555555555555";
const GUID: &str = "e6f5a162-d67f-4750-a67c-5d065f2a9910";

/// What a host can tell one answer from another by: all but the ids that are fresh each time.
fn seen(reply: Reply) -> (u16, Value, Vec<String>) {
    let mut body = reply.body;
    for fresh in ["request_id", "decision"] {
        if body.get(fresh).is_some() {
            body[fresh] = json!("fresh");
        }
    }
    // A connection is closed where a path that is no UUID was refused before the body was read.
    let headers = reply.headers.into_keys().filter(|name| name != "connection");
    let mut headers: Vec<String> = headers.collect();
    headers.sort();
    (reply.status, body, headers)
}

#[track_caller]
fn all_alike(replies: Vec<Reply>) -> (u16, Value) {
    let mut replies = replies.into_iter().map(seen);
    let first = replies.next().unwrap();
    for other in replies {
        assert_eq!(first, other);
    }
    (first.0, first.1)
}

/// The usual objects with two more secrets: one of the workload's, denied by its policy, and one of nobody's.
fn with_more_secrets(app: &App) {
    let mut objects = standard(json!({"secrets": ["disk", "denied"]}));
    let modules = [
        ("release/any.rego", crate::support::host::ALLOW),
        ("release/never.rego", "package release.never\n\nallow := false\n"),
    ];
    objects[0] = crate::support::app::bundle(&modules);
    for (name, policy) in [("denied", "release.never"), ("foreign", "release.any")] {
        objects.as_array_mut().unwrap().push(json!({
            "kind": "Secret", "name": name, "type": "opaque", "guid": GUID,
            "value": {"base64": "c2Vzc2Ft"}, "policies": [policy],
        }));
    }
    app.apply(objects);
}

#[test]
fn what_is_unknown_reads_the_same_whatever_it_would_be() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let launch = launch_request(&platform);
    let (status, body) = all_alike(vec![
        app.post(&format!("/vm/{UNKNOWN}/validate"), &request),
        app.post(&format!("/vm/{UNKNOWN}/launch"), &launch),
        // A launch is no workload, and a workload's name or a launch of it is no way in.
        app.post(&format!("/vm/{}/launch", vm.id), &launch),
        app.post("/vm/web/launch", &launch),
        app.post("/vm/web/validate", &request),
        app.post("/vm/disk/validate", &request),
    ]);
    assert_eq!((status, &body["type"]), (404, &json!("/problems/not-found")));
    // A chain that proves nothing is told so only where there is a workload; that one exists is no secret.
    app.post(
        &format!("/vm/{UNKNOWN}/launch"),
        &json!({"pdh": "", "cert-chain": ""}),
    )
    .expect(400, "malformed");
}

#[test]
fn before_the_measurement_holds_no_name_of_a_secret_makes_a_difference() {
    let (app, platform) = (App::new(), platform());
    with_more_secrets(&app);
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    request["build-id"] = json!(9);
    let asked = [
        json!(null),
        json!([]),
        json!(["disk"]),
        json!(["denied"]),
        json!(["foreign"]),
        json!(["nowhere"]),
        json!(["disk", "disk"]),
    ];
    for path in [vm.path(), format!("/vm/{WORKLOAD}/validate")] {
        let replies = asked.iter().map(|names| {
            request["secrets"] = names.clone();
            app.post(&path, &request)
        });
        let (status, body) = all_alike(replies.collect());
        assert_eq!(
            (status, &body["type"]),
            (422, &json!("/problems/measurement-mismatch"))
        );
    }
}

#[test]
fn after_it_holds_unknown_foreign_and_forbidden_read_denied_and_nothing_is_released() {
    let (app, platform) = (App::new(), platform());
    with_more_secrets(&app);
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    let mut reasons = Vec::new();
    let mut replies = Vec::new();
    for names in [
        json!(["nowhere"]),
        json!(["foreign"]),
        json!(["denied"]),
        json!(["disk", "nowhere"]),
        json!(["disk", "foreign"]),
        json!(["disk", "denied"]),
        json!([]),
    ] {
        request["secrets"] = names;
        let reply = app.post(&vm.path(), &request);
        reasons.push(app.reason(&reply));
        replies.push(reply);
    }
    let (status, body) = all_alike(replies);
    assert_eq!(
        (status, &body["type"], &body["detail"]),
        (403, &json!("/problems/denied"), &json!("denied"))
    );
    for (reason, why) in reasons.iter().zip([
        "no secret nowhere",
        "no secret foreign",
        "release.never for denied: allow is false",
        "no secret nowhere",
        "no secret foreign",
        "release.never for denied: allow is false",
        "no secret was asked for",
    ]) {
        assert!(reason.contains(why), "{reason}");
    }
    request["secrets"] = json!(["disk"]);
    let reply = app.post(&vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply).len(), 1);
    assert_eq!(
        app.decisions()[0]["released"],
        json!([{"name": "disk", "version": 1}])
    );
}

#[test]
fn all_of_the_workload_s_secrets_or_none() {
    let (app, platform) = (App::new(), platform());
    with_more_secrets(&app);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    assert!(app.denied(&vm, &request).contains("release.never for denied"));
    assert!(app.decisions().iter().all(|d| d["released"] == json!([])));
}

#[test]
fn two_secrets_with_one_guid_go_to_no_guest_together() {
    let (app, platform) = (App::new(), platform());
    let mut objects = standard(json!({"secrets": ["disk", "spare"]}));
    let mut spare = objects[1].clone();
    (spare["name"], spare["value"]) = (json!("spare"), json!({"base64": "c2Vzc2Ft"}));
    objects.as_array_mut().unwrap().push(spare);
    let warnings = app.apply(objects).body["warnings"].to_string();
    assert!(warnings.contains("same GUID"), "{warnings}");

    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    let reason = app.denied(&vm, &request);
    assert!(reason.contains("GUID"), "{reason}");
    request["secrets"] = json!(["spare", "spare"]);
    assert!(app.denied(&vm, &request).contains("asked for twice"));
    request["secrets"] = json!(["spare"]);
    let reply = app.post(&vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"sessam");
}

#[test]
fn the_guest_finds_its_secrets_in_the_order_asked_for_or_the_workload_s() {
    let (app, platform) = (App::new(), platform());
    let mut objects = standard(json!({"secrets": ["key", "disk"]}));
    objects.as_array_mut().unwrap().push(json!({
        "kind": "Secret", "name": "key", "type": "opaque", "guid": GUID,
        "value": {"base64": "c2Vzc2Ft"}, "policies": ["release.any"],
    }));
    app.apply(objects);
    for (names, order) in [
        (Value::Null, ["sessam", "hunter2"]),
        (json!(["disk", "key"]), ["hunter2", "sessam"]),
    ] {
        let mut vm = app.start(&platform);
        let mut request = vm.measure(IMAGE);
        request["secrets"] = names;
        let reply = app.post(&vm.path(), &request).ok();
        let found: Vec<_> = vm.unwrap(&reply).into_iter().map(|(_, value)| value).collect();
        assert_eq!(found, order.map(|text| text.as_bytes().to_vec()));
    }
}

#[test]
fn the_same_key_gives_each_launch_its_own_answer_and_counts_it_once() {
    let (app, platform) = (App::new(), platform());
    app.apply(standard(json!({"max_releases": 2})));
    let send = |path: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        app.request("POST", path, &headers, body.to_string().as_bytes())
    };
    let by_workload = format!("/vm/{WORKLOAD}/validate");
    let mut guests = [app.start(&platform), app.start(&platform)];
    let requests: Vec<Value> = guests.iter_mut().map(|vm| vm.measure(IMAGE)).collect();
    for (vm, request) in guests.iter().zip(&requests) {
        let first = send(&by_workload, request).ok();
        assert_eq!(vm.unwrap(&first)[0].1, b"hunter2");
        for path in [&by_workload, &vm.path()] {
            assert_eq!(send(path, request).ok().body, first.body);
        }
        // Another workload, or another launch, has no such answer.
        send(&format!("/vm/{UNKNOWN}/validate"), request).expect(404, "not-found");
    }
    send(&guests[0].path(), &requests[1]).expect(409, "launch-used");
    assert_eq!(app.decisions().len(), 2);
    app.run(&platform).1.expect(403, "confirmation-required");
}
