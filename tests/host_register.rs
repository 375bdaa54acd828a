//! `POST /vm/{uuid}`, the mailing-list form, and what a host is held to by it.

use keyward::domain::Base64Bytes;
use serde_json::{Value, json};

use crate::support::host::{IMAGE, digest, launch_request};
use crate::support::{App, Reply, Vm, platform};

const UUID: &str = "99999999-2222-4333-8444-555555555555";

fn form(changes: Value) -> Value {
    let mut form = json!({
        "scheme": "amd-sev", "policy": 3, "firmware-hashes": [digest(IMAGE)],
        "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}],
    });
    for (name, value) in changes.as_object().unwrap() {
        form[name] = value.clone();
    }
    form
}

fn send(app: &App, method: &str, form: &Value) -> Reply {
    app.owner(method, &format!("/vm/{UUID}"), form)
}

fn run(app: &App, platform: &keyward::psp::Platform) -> (Vm, Reply) {
    let reply = app
        .post(&format!("/vm/{UUID}/launch"), &launch_request(platform))
        .ok();
    let mut vm = Vm::start(platform, &reply);
    let request = vm.measure(IMAGE);
    let reply = app.post(&vm.path(), &request);
    (vm, reply)
}

#[test]
fn a_workload_is_created_once_is_the_same_again_and_another_only_by_put() {
    let (app, platform) = (App::new(), platform());
    let (first, other) = (form(json!({})), form(json!({"max-releases": 1})));
    let mut newer = form(json!({}));
    newer["secrets"][0]["passphrase"] = json!("open");
    for (method, form, status, action) in [
        ("POST", &first, 201, "created"),
        ("POST", &first, 200, "unchanged"),
        ("PUT", &first, 200, "unchanged"),
        ("POST", &other, 409, ""),
        ("POST", &newer, 409, ""),
        ("PUT", &newer, 200, "updated"),
        ("POST", &newer, 200, "unchanged"),
        ("PUT", &other, 200, "updated"),
    ] {
        let reply = send(&app, method, form);
        assert_eq!(reply.status, status, "{method}: {}", reply.body);
        if action.is_empty() {
            assert_eq!(reply.problem(), "conflict");
        } else {
            assert_eq!(
                (&reply.body["uuid"], &reply.body["action"]),
                (&json!(UUID), &json!(action))
            );
        }
    }
    let (vm, reply) = run(&app, &platform);
    assert_eq!(vm.unwrap(&reply.ok())[0].1, b"sesame");
    let released = json!([{"name": format!("{UUID}/luks-passphrase"), "version": 3}]);
    assert_eq!(app.decisions()[0]["released"], released);
    run(&app, &platform).1.expect(403, "confirmation-required");
}

#[test]
fn a_pinned_cloud_certificate_keeps_other_operators_out_at_launch_and_at_release() {
    let (app, own, other) = (App::new(), platform(), platform());
    let oca = own.full_chain()[2 * 2084..3 * 2084].to_vec();
    assert_eq!(send(&app, "POST", &form(json!({}))).status, 201);
    let reply = app
        .post(&format!("/vm/{UUID}/launch"), &launch_request(&other))
        .ok();
    let mut early = Vm::start(&other, &reply);
    let request = early.measure(IMAGE);

    send(&app, "PUT", &form(json!({"cloud-cert": Base64Bytes(oca)}))).ok();
    let reason = app.denied(&early, &request);
    assert!(
        reason.contains("OCA fingerprint") && reason.contains("is not the pinned"),
        "{reason}"
    );
    let denied = app
        .post(&format!("/vm/{UUID}/launch"), &launch_request(&other))
        .expect(403, "denied");
    assert!(app.reason(&denied).contains("OCA fingerprint"));
    run(&app, &own).1.ok();
}

#[test]
fn what_can_t_be_proved_as_written_is_refused_with_what_is_missing() {
    let app = App::new();
    let hash = digest(b"kernel");
    let secret = |kind: &str, more: Value| {
        let mut secret = json!({"type": kind});
        for (name, value) in more.as_object().unwrap() {
            secret[name] = value.clone();
        }
        form(json!({"secrets": [secret]}))
    };
    let twice = json!([{"type": "luks-passphrase", "passphrase": "a"}, {"type": "luks-passphrase", "passphrase": "b"}]);
    for (form, why) in [
        (form(json!({"kernel-hash": hash})), "no firmware with SHA-256"),
        (form(json!({"initrd-hash": hash})), "need a `kernel-hash`"),
        (
            form(json!({"kernel-hash": hash, "firmware-hashes": []})),
            "need `firmware-hashes`",
        ),
        (
            form(json!({"scheme": "amd-sev-es", "policy": 7})),
            "need a `cpu-count`",
        ),
        (
            form(json!({"scheme": "amd-sev-es", "policy": 7, "cpu-count": 1})),
            "no firmware with SHA-256",
        ),
        (form(json!({"firmware-hashes": []})), "names no launch digests"),
        (form(json!({"secrets": []})), "no secrets"),
        (form(json!({"secrets": twice})), "one name"),
        (secret("opaque", json!({"value": "AAAA"})), "needs a `guid`"),
        (secret("luks-passphrase", json!({"value": "AGE="})), "NUL"),
        (secret("luks-passphrase", json!({"value": ""})), "empty"),
        (
            secret("luks-passphrase", json!({"passphrase": "x".repeat(17000)})),
            "at most",
        ),
    ] {
        let refused = send(&app, "POST", &form).expect(422, "invalid");
        assert!(refused.detail().contains(why), "{}", refused.detail());
    }
    assert_eq!(
        app.owner("GET", "/v1/workloads", &Value::Null).ok().body["items"],
        json!([])
    );
    assert_eq!(
        app.owner("GET", "/v1/secrets", &Value::Null).ok().body["items"],
        json!([])
    );
}

#[test]
fn a_named_product_keeps_out_what_has_none() {
    let (app, platform) = (App::new(), platform());
    app.apply(crate::support::host::standard(
        json!({"products": ["milan", "genoa"]}),
    ));
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    assert!(app.denied(&vm, &request).contains("is not one of the registered"));
}
