//! After an older copy of the database was accepted: no release is within a limit until a person says what was released.

use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, standard};
use crate::support::kbs::{Kbs, asked, denied, guid, refused};
use crate::support::{App, platform};

fn policy(limit: &str) -> String {
    format!("package release.any\n\nallow := true\n{limit}\n")
}

fn limited(app: &App, limit: u64) {
    let mut objects = standard(json!({}));
    objects[0] = bundle(&[(
        "release/any.rego",
        &policy(&format!("\nrelease_limit := {limit}")),
    )]);
    app.apply(objects);
}

fn reset(app: &App, to: u64) -> crate::support::Reply {
    let body = json!({
        "binding": {"kind": "secret", "name": "disk"},
        "secret": "disk",
        "to": to,
        "reason": "counted the guests",
    });
    app.owner("POST", "/v1/limits/reset", &body)
}

fn unknown(app: &App) -> bool {
    let limits = app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    let items = limits["items"].as_array().unwrap();
    let own = items.iter().find(|item| item["binding"]["kind"] == "secret");
    own.unwrap()["unknown"] == true
}

#[test]
fn every_release_with_a_limit_is_held_and_confirmed_one_by_one() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 10);
    app.run(&platform).1.ok();
    let mut waiting = app.start(&platform);
    let request = waiting.measure(IMAGE);
    app.service.accept_rollback(99).unwrap();
    app.post(&waiting.path(), &request).expect(410, "launch-expired");

    let held = app.run(&platform).1.expect(403, "confirmation-required").body;
    let decision = app.decision(&held["decision"]);
    assert_eq!(decision["counts"][0]["unknown"], true);
    let reason = decision["reason"].as_str().unwrap();
    assert!(reason.contains("is not known since an older copy"), "{reason}");
    app.confirm(&held["hold"], 2).ok();
    app.run(&platform).1.ok();
    app.run(&platform).1.ok();
    app.run(&platform).1.expect(403, "confirmation-required");
    assert_eq!(app.counted("disk"), (3, 0));
    assert!(unknown(&app));
}

#[test]
fn a_reset_says_what_was_released_also_if_that_is_more_and_the_limit_counts_again() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 5);
    app.run(&platform).1.ok();
    reset(&app, 4).expect(409, "wrong-state");
    app.service.accept_rollback(99).unwrap();
    let hold = app.run(&platform).1.expect(403, "confirmation-required").body["hold"].clone();
    assert!(unknown(&app));
    reset(&app, 4).ok();
    assert!(!unknown(&app));
    assert_eq!(app.hold(&hold)["state"], "closed");
    app.run(&platform).1.ok();
    app.run(&platform).1.expect(403, "confirmation-required");
    assert_eq!(app.counted("disk"), (5, 0));
    // A second rollback makes it unknown again.
    reset(&app, 0).ok();
    app.service.accept_rollback(99).unwrap();
    app.run(&platform).1.expect(403, "confirmation-required");
    reset(&app, u64::MAX).expect(409, "wrong-state");
}

#[test]
fn releases_without_a_limit_go_on() {
    let (app, platform) = (App::new(), platform());
    let mut objects = standard(json!({}));
    objects[0] = bundle(&[("release/any.rego", &policy(""))]);
    app.apply(objects);
    app.service.accept_rollback(99).unwrap();
    app.run(&platform).1.ok();
}

#[test]
fn what_was_confirmed_before_is_withdrawn_and_a_secret_registered_later_is_held_too() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let hold = app.run(&platform).1.expect(403, "confirmation-required").body["hold"].clone();
    app.confirm(&hold, 5).ok();
    app.run(&platform).1.ok();
    assert_eq!(app.counted("disk"), (1, 4));
    app.service.accept_rollback(99).unwrap();
    assert_eq!(app.counted("disk"), (1, 0));
    assert_eq!(app.hold(&hold)["allowances"][0]["withdrawn"], 4);
    app.run(&platform).1.expect(403, "confirmation-required");

    let later = json!({
        "kind": "Secret", "name": "later", "type": "luks-passphrase",
        "value": {"base64": "aHVudGVyMg=="}, "policies": ["release.any"],
    });
    let mut objects = standard(json!({"secrets": ["later"]}));
    objects[0] = bundle(&[("release/any.rego", &policy("\nrelease_limit := 3"))]);
    objects.as_array_mut().unwrap().insert(1, later);
    app.apply(objects);
    app.run(&platform).1.expect(403, "confirmation-required");
}

#[test]
fn an_idempotent_answer_is_not_given_again() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 5);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.post_once("key", &vm.path(), &request).ok();
    app.post_once("key", &vm.path(), &request).ok();
    app.service.accept_rollback(99).unwrap();
    app.post_once("key", &vm.path(), &request)
        .expect(409, "launch-used");
}

#[test]
fn a_connection_of_before_is_closed() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    kbs.online(&client, &wanted).unwrap();
    app.service.accept_rollback(99).unwrap();
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)), denied());
    assert_eq!(app.sql("DELETE FROM connection_answers"), 0);
}
