//! Holds: what a person's word lets pass, and what it does not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, digest, standard};
use crate::support::other::{Other, shared};
use crate::support::{App, Reply, Vm, platform};

const OTHER_IMAGE: &[u8] = b"another image that the owner reviewed: 48 bytes.";

fn policy(limit: u64) -> String {
    format!("package release.any\n\nallow := true\n\nrelease_limit := {limit}\n")
}

/// The usual server with a limit on its secret, and two images that are reviewed.
fn limited(app: &App, limit: u64) {
    let mut objects = standard(json!({"launch_digests": [digest(IMAGE), digest(OTHER_IMAGE)]}));
    objects[0] = bundle(&[("release/any.rego", &policy(limit))]);
    app.apply(objects);
}

fn limit(app: &App, limit: u64) {
    app.bundle(&[("release/any.rego", &policy(limit))]);
}

/// A guest that was held.
struct Held {
    vm: Vm,
    request: Value,
    hold: Value,
}

impl Held {
    fn of(app: &App, platform: &keyward::psp::Platform, image: &[u8]) -> Self {
        let mut vm = app.start(platform);
        let request = vm.measure(image);
        let reply = app
            .post(&vm.path(), &request)
            .expect(403, "confirmation-required");
        let hold = reply.body["hold"].clone();
        Self { vm, request, hold }
    }

    fn ask(&self, app: &App) -> Reply {
        app.post(&self.vm.path(), &self.request)
    }
}

#[test]
fn a_confirmation_gives_waiting_launches_as_many_releases_as_it_says() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 1);
    app.run(&platform).1.ok();
    let held: Vec<Held> = (0..3).map(|_| Held::of(&app, &platform, IMAGE)).collect();
    let hold = app.hold(&held[0].hold);
    assert_eq!((&hold["state"], &hold["launches"]), (&json!("open"), &json!(3)));
    assert_eq!(hold["attested"][0]["launch_digest"], digest(IMAGE));
    assert_eq!(hold["attested"][0]["digest_source"], "registered");
    assert_eq!(hold["counts"].as_array().unwrap().len(), 1);
    assert_eq!(hold["counts"][0]["limit"], 1);

    let confirmed = app.confirm(&held[0].hold, 2).ok().body;
    assert_eq!(confirmed["state"], "confirmed");
    assert_eq!(confirmed["approvals"][0]["by"]["name"], "init");
    assert_eq!(confirmed["approvals"][0]["reason"], "a test");
    assert_eq!(app.counted("disk"), (1, 2));

    let released = held[0].ask(&app).ok();
    assert_eq!(held[0].vm.unwrap(&released)[0].1, b"hunter2");
    let decision = app.decision(&released.body["decision"]);
    assert_eq!(decision["hold"], held[0].hold);
    assert_eq!(
        decision["reason"],
        "every policy allows, and init confirmed it beyond the limit"
    );
    held[1].ask(&app).ok();
    let third = held[2].ask(&app).expect(403, "confirmation-required");
    assert_ne!(third.body["hold"], held[2].hold, "it waits for a word of its own");
    assert_eq!(app.counted("disk"), (3, 0));
    assert_eq!(app.hold(&held[0].hold)["allowances"][0]["used"], 2);
}

#[test]
fn a_confirmation_is_for_one_image_and_one_chip_unless_it_says_any() {
    let (app, one, other) = (App::new(), platform(), platform());
    limited(&app, 0);
    let first = Held::of(&app, &one, IMAGE);
    app.confirm(&first.hold, 5).ok();
    let strangers = [(&one, OTHER_IMAGE), (&other, IMAGE)].map(|(at, image)| Held::of(&app, at, image));
    assert_eq!(app.counted("disk"), (0, 5));
    first.ask(&app).ok();
    let hold = &strangers[0].hold;
    assert_eq!(hold, &strangers[1].hold);

    // It stands for two guests by now: which of them?
    let unclear = app.confirm(hold, 1).expect(409, "wrong-state");
    assert!(
        unclear.detail().contains("stands for 2 guests"),
        "{}",
        unclear.body
    );
    let unknown = json!({"additional": 1, "reason": "a test", "launch_digest": "00".repeat(32)});
    app.say(hold, "confirm", &unknown).expect(409, "wrong-state");
    let this = json!({"additional": 1, "reason": "a test", "launch_digest": digest(OTHER_IMAGE)});
    app.say(hold, "confirm", &this).ok();
    let second = strangers[1].ask(&app).expect(403, "confirmation-required");
    strangers[0].ask(&app).ok();

    let any = json!({"additional": 2, "reason": "a test", "any": true});
    app.say(&second.body["hold"], "confirm", &any).ok();
    strangers[1].ask(&app).ok();
    app.run(&platform()).1.ok();
    assert_eq!(
        app.counted("disk"),
        (4, 4),
        "what is for the first guest alone is left"
    );
    app.run(&platform()).1.expect(403, "confirmation-required");
}

#[test]
fn policies_run_again_after_a_confirmation_and_may_deny() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let held = Held::of(&app, &platform, IMAGE);
    app.confirm(&held.hold, 1).ok();
    app.bundle(&[("release/any.rego", &policy(0).replace("true", "false"))]);
    held.ask(&app).expect(403, "denied");
    assert_eq!(app.counted("disk"), (0, 1), "a denial uses nothing up");
    limit(&app, 0);
    held.ask(&app).ok();
    assert_eq!(app.counted("disk"), (1, 0));
}

#[test]
fn a_launch_that_expired_meanwhile_leaves_the_confirmation_to_the_next() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let held = Held::of(&app, &platform, IMAGE);
    app.confirm(&held.hold, 1).ok();
    app.clock.advance(Duration::from_secs(600));
    held.ask(&app).expect(410, "launch-expired");
    assert_eq!(app.counted("disk"), (0, 1));
    app.run(&platform).1.ok();
    assert_eq!(app.counted("disk"), (1, 0));
}

#[test]
fn a_key_whose_request_was_held_and_then_confirmed_is_counted_once_and_answered_alike() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let ask = || app.post_once("key", &vm.path(), &request);
    let held = ask().expect(403, "confirmation-required");
    app.confirm(&held.body["hold"], 2).ok();
    let given = ask().ok();
    assert_eq!(vm.unwrap(&given)[0].1, b"hunter2");
    assert_eq!(ask().ok().body, given.body);
    assert_eq!(app.counted("disk"), (1, 1));
}

#[test]
fn what_was_decided_is_not_decided_again() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let reason = json!({"reason": "a test"});
    let confirmed = Held::of(&app, &platform, IMAGE).hold;
    app.confirm(&confirmed, 2).ok();
    let rejected = Held::of(&app, &super::support::platform(), IMAGE).hold;
    app.say(&rejected, "withdraw", &reason).expect(409, "wrong-state");
    app.say(&rejected, "reject", &reason).ok();
    for (hold, verb, said) in [
        (
            &confirmed,
            "confirm",
            "was confirmed by init at 2026-01-02T03:04:05.000Z, with 2 additional",
        ),
        (&confirmed, "reject", "was confirmed by init"),
        (&rejected, "confirm", "was rejected by init"),
        (&rejected, "reject", "was rejected by init"),
        (&rejected, "withdraw", "is rejected: only what was confirmed"),
    ] {
        let mut body = reason.clone();
        if verb == "confirm" {
            body["additional"] = json!(1);
        }
        let reply = app.say(hold, verb, &body).expect(409, "wrong-state");
        assert!(reply.detail().contains(said), "{verb}: {}", reply.body);
    }
    assert_eq!(app.counted("disk"), (0, 2));
}

#[test]
fn a_rejected_launch_is_denied_at_the_cost_of_its_tries_until_the_limit_has_room() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let held = Held::of(&app, &platform, IMAGE);
    app.say(&held.hold, "reject", &json!({"reason": "nobody ordered this"}))
        .ok();
    let denied = held.ask(&app).expect(403, "denied");
    assert_eq!(denied.body.get("hold"), None, "a host is told no more than that");
    let decision = app.decision(&denied.body["decision"]);
    assert_eq!(decision["outcome"], "denied");
    assert_eq!(decision["hold"], held.hold);
    assert!(
        decision["reason"]
            .as_str()
            .unwrap()
            .starts_with("init rejected the hold")
    );

    // Another launch is another question, and the word on it does not count for the one that was rejected.
    let next = Held::of(&app, &platform, IMAGE);
    assert_ne!(next.hold, held.hold);
    app.confirm(&next.hold, 5).ok();
    held.ask(&app).expect(403, "denied");
    assert_eq!(app.counted("disk"), (0, 5));

    limit(&app, 1);
    held.ask(&app).ok();
    assert_eq!(app.counted("disk"), (1, 5));
    let stubborn = {
        limit(&app, 0);
        let mut vm = app.start(&super::support::platform());
        let request = vm.measure(IMAGE);
        let reply = app
            .post(&vm.path(), &request)
            .expect(403, "confirmation-required");
        app.say(&reply.body["hold"], "reject", &json!({"reason": "no"}))
            .ok();
        (vm, request)
    };
    for _ in 0..8 {
        app.post(&stubborn.0.path(), &stubborn.1).expect(403, "denied");
    }
    app.post(&stubborn.0.path(), &stubborn.1)
        .expect(409, "launch-used");
}

#[test]
fn a_hold_closes_by_itself_when_there_is_room_again() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 1);
    app.run(&platform).1.ok();
    let raised = Held::of(&app, &platform, IMAGE);
    limit(&app, 2);
    raised.ask(&app).ok();
    let hold = app.hold(&raised.hold);
    assert_eq!(
        (&hold["state"], &hold["closed"]),
        (&json!("closed"), &hold["created"])
    );
    let late = app.confirm(&raised.hold, 1).expect(409, "wrong-state");
    assert!(late.detail().contains("there was room again"), "{}", late.body);

    let reset = Held::of(&app, &platform, IMAGE);
    let body = json!({
        "binding": {"kind": "secret", "name": "disk"}, "secret": "disk", "to": 1, "reason": "moved",
    });
    app.owner("POST", "/v1/limits/reset", &body).ok();
    assert_eq!(app.hold(&reset.hold)["state"], "closed");
    reset.ask(&app).ok();
    assert_eq!(app.counted("disk"), (2, 0));
}

#[test]
fn a_raised_limit_is_used_before_what_was_confirmed_and_what_is_left_can_be_withdrawn() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 1);
    app.run(&platform).1.ok();
    let held = Held::of(&app, &platform, IMAGE);
    app.confirm(&held.hold, 3).ok();
    held.ask(&app).ok();
    assert_eq!(app.counted("disk"), (2, 2));
    limit(&app, 3);
    app.run(&platform).1.ok();
    assert_eq!(
        app.counted("disk"),
        (3, 2),
        "what was released counts within the new limit"
    );
    app.run(&platform).1.ok();
    assert_eq!(app.counted("disk"), (4, 1));

    let reason = json!({"reason": "enough"});
    let left = app.say(&held.hold, "withdraw", &reason).ok().body;
    assert_eq!(left["allowances"][0]["withdrawn"], 1);
    assert_eq!(left["withdrawn"]["reason"], "enough");
    app.say(&held.hold, "withdraw", &reason)
        .expect(409, "wrong-state");
    app.run(&platform).1.expect(403, "confirmation-required");
    assert_eq!(app.counted("disk"), (4, 0));
}

#[test]
fn another_owner_sees_and_changes_no_hold_and_no_count() {
    let app = App::with(shared());
    let other = Other::of(&app);
    limited(&app, 0);
    let held = Held::of(&app, &platform(), IMAGE);
    assert_eq!(other.items("/v1/holds"), [] as [Value; 0]);
    assert_eq!(other.items("/v1/limits"), [] as [Value; 0]);
    let path = format!("/v1/holds/{}", held.hold.as_str().unwrap());
    other.get(&path).expect(404, "not-found");
    let word = json!({"reason": "mine"});
    for (verb, body) in [
        ("confirm", json!({"additional": 1, "reason": "mine", "any": true})),
        ("reject", word.clone()),
        ("withdraw", word),
    ] {
        other
            .send("POST", &format!("{path}/{verb}"), &body)
            .expect(404, "not-found");
    }
    let reset = json!({
        "binding": {"kind": "secret", "name": "disk"}, "secret": "disk", "to": 0, "reason": "mine",
    });
    other
        .send("POST", "/v1/limits/reset", &reset)
        .expect(404, "not-found");
    assert_eq!(app.hold(&held.hold)["state"], "open");
    held.ask(&app).expect(403, "confirmation-required");
}

#[test]
fn holds_are_found_by_state_in_pages_and_bad_words_are_named() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    let mut expected = Vec::new();
    for _ in 0..3 {
        let held = Held::of(&app, &platform, IMAGE);
        app.say(&held.hold, "reject", &json!({"reason": "no"})).ok();
        expected.insert(0, held.hold);
    }
    let open = Held::of(&app, &platform, IMAGE).hold;
    let list = |query: &str| {
        let page = app
            .owner("GET", &format!("/v1/holds?{query}"), &Value::Null)
            .ok()
            .body;
        let items = page["items"].as_array().unwrap().iter();
        (
            items.map(|item| item["id"].clone()).collect::<Vec<_>>(),
            page["next"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(list("state=open").0, std::slice::from_ref(&open));
    let (first, next) = list("state=rejected&limit=2");
    let (rest, end) = list(&format!("state=rejected&limit=2&cursor={}", next.unwrap()));
    assert_eq!([first, rest].concat(), expected);
    assert_eq!(end, None);
    app.owner("GET", "/v1/holds?state=maybe", &Value::Null)
        .expect(400, "malformed");

    for (body, member) in [
        (
            json!({"additional": 0, "reason": "a"}),
            "`additional`: 0 is not from 1 to 1000000",
        ),
        (json!({"additional": 1_000_001, "reason": "a"}), "`additional`"),
        (json!({"additional": 1, "reason": "  "}), "`reason`: say why"),
        (
            json!({"additional": 1, "reason": "a".repeat(4097)}),
            "`reason`: 4097 bytes",
        ),
        (json!({"additional": 1}), "missing field `reason`"),
        (json!({"reason": "a"}), "missing field `additional`"),
        (json!({"additional": 1, "reason": "a", "many": 1}), "`many`"),
        (
            json!({"additional": 1, "reason": "a", "any": true, "cek": "00".repeat(32)}),
            "`any`",
        ),
    ] {
        let reply = app.say(&open, "confirm", &body).expect(400, "malformed");
        assert!(reply.detail().contains(member), "{}", reply.body);
    }
    assert_eq!(app.hold(&open)["state"], "open");
}
