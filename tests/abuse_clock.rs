//! A clock that jumps: nothing lives longer than it may, nothing is released twice, and the log goes on.

use std::time::Duration;

use keyward::release::Kept;
use serde_json::{Value, json};

use crate::support::host::IMAGE;
use crate::support::{App, platform};

const HOUR: Duration = Duration::from_secs(3600);
const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

fn head(app: &App) -> u64 {
    app.service.checkpoint().unwrap();
    app.service.store().log_checkpoint().unwrap().unwrap().size
}

#[test]
fn a_launch_outlives_no_jump_forwards_and_is_not_brought_back() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.clock.advance(YEARS);
    app.post(&vm.path(), &request).expect(404, "not-found");
    app.service.tidy().unwrap();
    app.clock.set_back(YEARS);
    // It was swept with its keys: the clock that was right all along finds nothing.
    let again = app.post(&vm.path(), &request);
    assert!(matches!(again.status, 404 | 410), "{}", again.body);
    app.run(&platform).1.ok();
}

#[test]
fn a_launch_waits_through_a_jump_backwards_and_is_given_its_secret_once() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.clock.set_back(YEARS);
    app.service.tidy().unwrap();
    let reply = app.post_once("key", &vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    app.post(&vm.path(), &request).expect(409, "launch-used");
    let again = app.post_once("key", &vm.path(), &request).ok();
    assert_eq!(again.body, reply.body);
    assert_eq!(app.decisions().len(), 1);
}

#[test]
fn a_count_that_was_raised_in_the_future_still_counts() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n\nrelease_limit := 1\n",
    )]);
    app.clock.advance(YEARS);
    app.run(&platform).1.ok();
    app.clock.set_back(YEARS);
    let (_, held) = app.run(&platform);
    let held = held.expect(403, "confirmation-required");
    let path = format!("/v1/holds/{}/confirm", held.body["hold"].as_str().unwrap());
    app.owner("POST", &path, &json!({"additional": 1, "reason": "ticket 4711"}))
        .ok();
    app.clock.advance(YEARS);
    app.run(&platform).1.ok();
    app.clock.set_back(2 * YEARS);
    app.run(&platform).1.expect(403, "confirmation-required");
}

#[test]
fn a_token_s_end_is_the_clock_s() {
    let app = App::new();
    let expires = "2026-01-02T04:04:05Z";
    let body = json!({"name": "ci", "role": "auditor", "expires": expires});
    let made = app.owner("POST", "/v1/tokens", &body);
    assert_eq!(made.status, 201, "{}", made.body);
    let bearer = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let asks = || app.request("GET", "/v1/decisions", &[("authorization", &bearer)], b"");
    asks().ok();
    app.clock.advance(2 * HOUR);
    asks().expect(401, "unauthorized");
    app.clock.set_back(HOUR + HOUR / 2);
    asks().ok();
    app.clock.set_back(YEARS);
    asks().ok();
    app.clock.advance(YEARS + YEARS);
    asks().expect(401, "unauthorized");
}

#[test]
fn the_log_is_signed_on_whatever_the_clock_says_and_loses_nothing_young() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.run(&platform).1.ok();
    let first = head(&app);
    app.clock.set_back(YEARS);
    app.run(&platform).1.ok();
    let second = head(&app);
    assert!(second > first, "{second} after {first}");
    app.clock.advance(2 * YEARS);
    app.run(&platform).1.ok();
    let third = head(&app);
    assert!(third > second, "{third} after {second}");
    // In the future everything is old; what was forgotten is told of, and the tree is the same.
    let kept = || Kept {
        records: Some(30),
        decisions: None,
    };
    app.service.forget(kept()).unwrap();
    app.clock.set_back(YEARS);
    app.service.forget(kept()).unwrap();
    let last = head(&app);
    assert!(last >= third);
    let page = app
        .owner("GET", "/v1/audit/entries?limit=1000", &Value::Null)
        .ok()
        .body;
    assert_eq!(page["items"].as_array().unwrap().len() as u64, last);
    app.run(&platform).1.ok();
}
