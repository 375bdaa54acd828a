//! Requests that are wrong before their body matters: paths, methods, tokens, headers.

use serde_json::Value;

use crate::bad_input::{Calls, UNKNOWN, problem};
use crate::support::host::WORKLOAD;

#[test]
fn paths_and_methods_that_are_none_are_told_so() {
    let calls = Calls::new();
    let launch = &calls.valid[0].1.to_string();
    let long = format!("/vm/{}/launch", "a".repeat(3000));
    for path in [
        "/vm/x/launch",
        "/vm/1/validate",
        "/vm/%00/launch",
        "/vm/%ff/launch",
        "/vm/%2e%2e/validate",
        "/vm//launch",
        "/vm",
        "/vm/",
        "/",
        "/vm/11111111-2222-4333-8444-55555555555/launch",
        "/vm/11111111-2222-4333-8444-555555555555/",
        "/vm/11111111-2222-4333-8444-555555555555/launch/",
        "/v1/apply/x",
        "/v1/secrets/%ff",
        "/v1/decisions/x",
        "/problems/%ff",
        &long,
    ] {
        let reply = calls.send(path, launch.as_bytes());
        problem(&reply);
        assert!(matches!(reply.status, 404 | 405), "{path}: {}", reply.body);
        let reply = calls.app.owner("GET", path, &Value::Null);
        problem(&reply);
    }
    for (path, _) in &calls.valid {
        for method in ["GET", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let reply = calls.app.request(method, path, &[], b"");
            problem(&reply);
            reply.expect(405, "method-not-allowed");
        }
    }
}

#[test]
fn without_a_token_an_owner_s_call_is_refused_before_its_body_is_looked_at() {
    let calls = Calls::new();
    let almost = format!("Bearer {}x", calls.app.token);
    let basic = format!("Basic {}", calls.app.token);
    for (path, valid) in &calls.valid[2..] {
        for body in [valid.to_string(), "{".to_owned()] {
            for header in ["", "Bearer", "Bearer ", &almost, &basic, &calls.app.token] {
                let reply = calls
                    .app
                    .request("POST", path, &[("authorization", header)], body.as_bytes());
                problem(&reply);
                let reply = reply.expect(401, "unauthorized");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
        }
    }
}

#[test]
fn an_idempotency_key_is_one_short_header() {
    let calls = Calls::new();
    let (path, valid) = &calls.valid[1];
    let long = "k".repeat(256);
    for headers in [
        vec![("idempotency-key", "")],
        vec![("idempotency-key", long.as_str())],
        vec![("idempotency-key", "a"), ("idempotency-key", "b")],
    ] {
        let reply = calls
            .app
            .request("POST", path, &headers, valid.to_string().as_bytes());
        problem(&reply);
        assert!(reply.detail().contains("`Idempotency-Key`"), "{}", reply.body);
    }
}

#[test]
fn a_malformed_request_reads_the_same_whether_its_workload_exists_or_not() {
    let calls = Calls::new();
    for call in ["launch", "validate"] {
        let mut answers = [WORKLOAD, UNKNOWN].map(|uuid| {
            let mut reply = calls.send(&format!("/vm/{uuid}/{call}"), b"{\"policy\": -1}");
            reply.body["request_id"] = Value::Null;
            (reply.status, reply.body)
        });
        assert_eq!(answers[0].0, 400);
        assert_eq!(answers[0].1.take(), answers[1].1.take());
    }
}
