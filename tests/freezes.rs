//! Freezes: what was frozen gets no release from the moment that was answered, and what was not is untouched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::domain::Role;
use keyward::domain::freeze::Subject;
use keyward::sev::Product;
use serde_json::{Value, json};

use crate::support::app::Options;
use crate::support::hooked::Hook;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::other::{OTHERS_WORKLOAD, Other, run, shared};
use crate::support::{App, Reply, Vm, platform};

fn body(target: &Value) -> Value {
    json!({"target": target, "reason": "ticket 4711"})
}

fn freeze(app: &App, target: Value) -> Value {
    app.owner("POST", "/v1/freezes", &body(&target))
        .expect(201, "ok")
        .body
}

fn lift(app: &App, freeze: &Value) -> Reply {
    app.owner("POST", &lift_path(freeze), &json!({"reason": "it was nothing"}))
}

fn lift_path(freeze: &Value) -> String {
    format!("/v1/freezes/{}/lift", freeze["id"].as_str().unwrap())
}

/// A guest that is measured and asks for nothing yet.
struct Waiting {
    vm: Vm,
    request: Value,
}

impl Waiting {
    fn on(app: &App, platform: &keyward::psp::Platform) -> Self {
        let mut vm = app.start(platform);
        let request = vm.measure(IMAGE);
        Self { vm, request }
    }

    fn ask(&self, app: &App) -> Reply {
        app.post(&self.vm.path(), &self.request)
    }
}

/// The fingerprints of a platform, as a decision has them.
fn fingerprints(app: &App, platform: &keyward::psp::Platform) -> Value {
    let reply = app.run(platform).1;
    app.decision(&reply.body["decision"])["input"]["platform"]["fingerprints"].clone()
}

fn total(app: &App) -> usize {
    let path = "/v1/decisions?outcome=released&limit=1000";
    let page = app.owner("GET", path, &Value::Null).ok().body;
    page["items"].as_array().unwrap().len()
}

#[test]
fn whatever_is_frozen_stops_a_launch_that_waits_and_new_ones_until_it_is_lifted() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let prints = fingerprints(&app, &platform);
    let elsewhere = super::support::platform();
    for (target, said) in [
        (json!({"type": "owner"}), "the owner acme"),
        (json!({"type": "owner", "name": "acme"}), "the owner acme"),
        (json!({"type": "workload", "name": "web"}), "the workload web"),
        (json!({"type": "workload", "name": WORKLOAD}), "the workload web"),
        (json!({"type": "secret", "name": "disk"}), "the secret disk"),
        (
            json!({"type": "platform", "fingerprint": prints["cek"]}),
            "the platform ",
        ),
        (
            json!({"type": "platform", "fingerprint": prints["oca"]}),
            "the platform ",
        ),
    ] {
        let waiting = Waiting::on(&app, &platform);
        let before = total(&app);
        let frozen = freeze(&app, target.clone());
        assert_eq!(
            (&frozen["owner"], &frozen["by"]["name"], &frozen["lifted"]),
            (&json!("acme"), &json!("init"), &json!([])),
            "{frozen}"
        );

        let denied = waiting.ask(&app).expect(403, "denied");
        assert_eq!(denied.detail(), "denied", "a host learns that, not why");
        let decision = app.decision(&denied.body["decision"]);
        let reason = decision["reason"].as_str().unwrap();
        let expected = format!("frozen: init froze {said}");
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(
            reason.contains(" at 2026-01-02T03:04:05.000Z: ticket 4711 (freeze "),
            "{reason}"
        );
        assert_eq!(decision["policies"], json!([]), "no policy was asked");
        assert!(decision["input"]["attested"]["launch_digest"].is_string());
        let begun = app.ask_launch(&launch_request(&platform)).expect(403, "denied");
        assert!(app.reason(&begun).starts_with("frozen: init froze "));
        if target["type"] == "platform" {
            app.run(&elsewhere).1.ok();
        }
        let only_elsewhere = usize::from(target["type"] == "platform");
        assert_eq!(total(&app), before + only_elsewhere);

        let lifted = lift(&app, &frozen).ok().body;
        assert_eq!(lifted["lifted"][0]["reason"], "it was nothing");
        waiting.ask(&app).ok();
        let again = lift(&app, &frozen).expect(409, "wrong-state");
        assert!(
            again.detail().contains("init lifted the freeze at"),
            "{}",
            again.body
        );
    }
}

#[test]
fn a_frozen_product_is_frozen_whatever_chip_it_is() {
    let app = App::new();
    app.standard();
    freeze(&app, json!({"type": "product", "name": "milan"}));
    let store = app.service.store();
    let stopped = |product| {
        let subject = Subject {
            owner: "acme".parse().unwrap(),
            workload: WORKLOAD.parse().unwrap(),
            secrets: Some(vec!["disk".parse().unwrap()]),
            cek: [7; 32].into(),
            oca: [8; 32].into(),
            product,
            measured: true,
        };
        store.stopped(&subject).unwrap().map(|stop| stop.reason())
    };
    let reason = stopped(Some(Product::Milan)).unwrap();
    assert!(
        reason.starts_with("frozen: init froze the product milan at"),
        "{reason}"
    );
    assert_eq!(stopped(Some(Product::Genoa)), None);
    assert_eq!(stopped(None), None);
}

#[test]
fn a_frozen_secret_does_not_stop_a_guest_that_asks_for_another() {
    let (app, platform) = (App::new(), platform());
    app.apply(standard(json!({})));
    let spare = json!({"kind": "Secret", "name": "spare", "type": "luks-passphrase",
                       "value": {"base64": "aHVudGVyMg=="}, "policies": ["release.any"]});
    let mut objects = standard(json!({"secrets": ["disk", "spare"]}));
    objects.as_array_mut().unwrap().insert(1, spare);
    app.apply(objects);
    let (one, both) = (Waiting::on(&app, &platform), Waiting::on(&app, &platform));
    freeze(&app, json!({"type": "secret", "name": "spare"}));
    both.ask(&app).expect(403, "denied");
    let mut only = one.request.clone();
    only["secrets"] = json!(["disk"]);
    app.post(&one.vm.path(), &only).ok();
    app.ask_launch(&launch_request(&platform)).expect(403, "denied");
}

#[test]
fn a_freeze_between_the_decision_and_its_commit_stops_it_at_the_cost_of_one_try() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    let beside = Arc::new(app.again(Options::default()));
    let waiting = Waiting::on(&app, &platform());
    for tries in 1..=8 {
        let (other, set) = (beside.clone(), Arc::new(std::sync::Mutex::new(Value::Null)));
        let kept = set.clone();
        hook.before("commit_release", move || {
            *kept.lock().unwrap() = freeze(&other, json!({"type": "workload", "name": "web"}));
        });
        let denied = waiting.ask(&app).expect(403, "denied");
        hook.clear();
        let decision = app.decision(&denied.body["decision"]);
        assert!(decision["reason"].as_str().unwrap().starts_with("frozen: init"));
        assert_eq!(
            decision["policies"][0]["allow"],
            json!(true),
            "policies had allowed it"
        );
        assert_eq!(
            (&decision["outcome"], &decision["released"]),
            (&json!("denied"), &json!([]))
        );
        assert_eq!(total(&app), 0);
        lift(&app, &set.lock().unwrap()).ok();
        if tries == 8 {
            // As many as any denial costs, and no count was raised.
            waiting.ask(&app).expect(409, "launch-used");
        }
    }
    let limits = app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    assert_eq!(limits["items"], json!([]));
}

#[test]
fn a_freeze_between_a_launch_s_policies_and_its_beginning_leaves_no_launch() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    let beside = Arc::new(app.again(Options::default()));
    hook.before("begin_launch", move || {
        freeze(&beside, json!({"type": "secret", "name": "disk"}));
    });
    let denied = app.ask_launch(&launch_request(&platform())).expect(403, "denied");
    hook.clear();
    assert!(
        app.reason(&denied)
            .starts_with("frozen: init froze the secret disk")
    );
    assert_eq!(app.sql("UPDATE launches SET expires = expires"), 0);
}

#[test]
fn of_many_launches_none_is_released_after_the_freeze_was_answered() {
    let (app, platforms) = (App::new(), [platform(), platform()]);
    app.standard();
    let guests: Vec<_> = (0..60).map(|n| Waiting::on(&app, &platforms[n % 2])).collect();
    let answered = AtomicUsize::new(0);
    let after = std::thread::scope(|scope| {
        for part in guests.chunks(15) {
            let (app, answered) = (&app, &answered);
            scope.spawn(move || {
                for guest in part {
                    match guest.ask(app).status {
                        200 => {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        403 => {}
                        other => panic!("{other}"),
                    }
                }
            });
        }
        while answered.load(Ordering::SeqCst) < 5 {
            std::thread::yield_now();
        }
        freeze(&app, json!({"type": "owner"}));
        total(&app)
    });
    assert!(after >= 5);
    assert_eq!(
        total(&app),
        after,
        "something was released after the freeze was answered"
    );
    assert_eq!(answered.load(Ordering::SeqCst), after);
    assert!(after < guests.len(), "the freeze came after everything: {after}");
}

#[test]
fn an_answer_that_was_given_is_not_given_again_while_it_is_frozen() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let waiting = Waiting::on(&app, &platform);
    let ask = || app.post_once("key", &waiting.vm.path(), &waiting.request);
    let given = ask().ok();
    let frozen = freeze(&app, json!({"type": "secret", "name": "disk"}));
    let denied = ask().expect(403, "denied");
    assert!(denied.body.get("secret-payload").is_none());
    let reason = app.reason(&denied);
    assert!(
        reason.starts_with("an answer given before was not sent again: frozen: init froze the secret disk"),
        "{reason}"
    );
    let by_workload = format!("/vm/{WORKLOAD}/validate");
    app.post_once("key", &by_workload, &waiting.request)
        .expect(403, "denied");
    lift(&app, &frozen).ok();
    assert_eq!(ask().ok().body, given.body);
    assert_eq!(total(&app), 1);
}

#[test]
fn what_was_confirmed_beyond_a_limit_is_not_used_up_by_what_is_frozen() {
    let (app, platform) = (App::new(), platform());
    app.apply(standard(json!({"max_releases": 0})));
    let waiting = Waiting::on(&app, &platform);
    let held = waiting.ask(&app).expect(403, "confirmation-required");
    let frozen = freeze(&app, json!({"type": "workload", "name": "web"}));
    app.confirm(&held.body["hold"], 1).ok();
    waiting.ask(&app).expect(403, "denied");
    let left = &app.hold(&held.body["hold"])["allowances"][0];
    assert_eq!(
        (&left["used"], &left["additional"]),
        (&json!(0), &json!(1)),
        "{left}"
    );
    lift(&app, &frozen).ok();
    waiting.ask(&app).ok();
}

#[test]
fn an_owner_s_freeze_is_another_owner_s_business_in_nothing() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.standard();
    let theirs = standard(json!({"uuid": OTHERS_WORKLOAD}));
    other.send("POST", "/v1/apply", &json!({"objects": theirs})).ok();
    let platform = platform();
    let prints = fingerprints(&app, &platform);
    let own = [
        json!({"type": "owner"}),
        json!({"type": "secret", "name": "disk"}),
        json!({"type": "platform", "fingerprint": prints["cek"]}),
        json!({"type": "product", "name": "rome"}),
    ];
    let frozen: Vec<_> = own.into_iter().map(|target| freeze(&app, target)).collect();
    // Theirs have the same names.
    let reply = app
        .post(
            &format!("/vm/{OTHERS_WORKLOAD}/launch"),
            &launch_request(&platform),
        )
        .ok();
    let mut vm = Vm::start(&platform, &reply);
    let request = vm.measure(IMAGE);
    app.post(&vm.path(), &request).ok();

    assert_eq!(other.items("/v1/freezes"), [] as [Value; 0]);
    for freeze in &frozen {
        let path = format!("/v1/freezes/{}", freeze["id"].as_str().unwrap());
        other.get(&path).expect(404, "not-found");
        let word = json!({"reason": "mine"});
        other
            .send("POST", &lift_path(freeze), &word)
            .expect(404, "not-found");
    }
    for target in [
        json!({"type": "owner", "name": "acme"}),
        json!({"type": "workload", "name": WORKLOAD}),
        json!({"type": "secret", "name": "nobodys"}),
    ] {
        other
            .send("POST", "/v1/freezes", &body(&target))
            .expect(404, "not-found");
    }
}

#[test]
fn what_an_administrator_froze_owners_see_and_only_an_administrator_lifts() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.standard();
    let theirs = standard(json!({"uuid": OTHERS_WORKLOAD}));
    other.send("POST", "/v1/apply", &json!({"objects": theirs})).ok();
    let admin = app.mint(Role::Admin, None, None).text;
    let admin = |method: &str, path: &str, body: &Value| app.as_token(&admin, method, path, body);
    let waiting = Waiting::on(&app, &platform());

    let one = admin(
        "POST",
        "/v1/freezes",
        &body(&json!({"type": "owner", "name": "acme"})),
    );
    let one = one.expect(201, "ok").body;
    assert_eq!(one["owner"], Value::Null);
    let denied = waiting.ask(&app).expect(403, "denied");
    let reason = app.reason(&denied);
    assert!(
        reason.starts_with("frozen: the administrator a-admin froze the owner acme"),
        "{reason}"
    );
    run(&app, OTHERS_WORKLOAD).1.ok();
    let seen = app.owner("GET", "/v1/freezes", &Value::Null).ok().body;
    assert_eq!(seen["items"][0]["id"], one["id"]);
    assert_eq!(other.items("/v1/freezes"), [] as [Value; 0]);
    let refused = lift(&app, &one).expect(409, "wrong-state");
    assert!(
        refused.detail().contains("only an administrator lifts it"),
        "{}",
        refused.body
    );

    // The owner's own is beside it, and lifting one leaves the other.
    let own = freeze(&app, json!({"type": "owner"}));
    assert_ne!(own["id"], one["id"]);
    admin("POST", &lift_path(&own), &json!({"reason": "x"})).expect(404, "not-found");
    admin("POST", &lift_path(&one), &json!({"reason": "x"})).ok();
    waiting.ask(&app).expect(403, "denied");
    lift(&app, &own).ok();
    waiting.ask(&app).ok();

    let all = admin("POST", "/v1/freezes", &body(&json!({"type": "server"})));
    let all = all.expect(201, "ok").body;
    app.ask_launch(&launch_request(&platform())).expect(403, "denied");
    assert_eq!(other.items("/v1/freezes")[0]["id"], all["id"]);
    admin("POST", &lift_path(&all), &json!({"reason": "x"})).ok();
    app.run(&platform()).1.ok();
}

#[test]
fn where_an_owner_asks_for_two_people_one_freezes_and_two_unfreeze() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let second = app.mint(Role::Owner, Some("acme"), None).text;
    let two = json!({"approvals_required": 2, "reason": "a rule"});
    app.owner("PUT", "/v1/approvals", &two).ok();
    let waiting = Waiting::on(&app, &platform);
    let frozen = freeze(&app, json!({"type": "workload", "name": "web"}));
    let pending = lift(&app, &frozen).ok().body;
    assert_eq!(pending["lifted"], json!([]));
    assert_eq!(pending["proposal"]["change"]["unfreeze"]["freeze"], frozen["id"]);
    let alone = lift(&app, &frozen).expect(409, "wrong-state");
    assert!(alone.detail().contains("2 different people"), "{}", alone.body);
    waiting.ask(&app).expect(403, "denied");
    let word = json!({"reason": "so it is"});
    let lifted = app
        .as_token(&second, "POST", &lift_path(&frozen), &word)
        .ok()
        .body;
    let names: Vec<_> = lifted["lifted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| &w["by"]["name"])
        .collect();
    assert_eq!(names, ["init", "a-owner"]);
    waiting.ask(&app).ok();
}

#[test]
fn freezes_outlive_a_restart_and_are_in_the_audit_log_with_who_and_why() {
    let (mut app, platform) = (App::new(), platform());
    app.standard();
    let frozen = freeze(&app, json!({"type": "workload", "name": "web"}));
    let again = app.owner(
        "POST",
        "/v1/freezes",
        &body(&json!({"type": "workload", "name": "web"})),
    );
    let again = again.ok().body;
    assert_eq!((&again["id"], &again["already"]), (&frozen["id"], &json!(true)));
    app.restart();
    app.ask_launch(&launch_request(&platform)).expect(403, "denied");
    lift(&app, &frozen).ok();
    let log = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body;
    let events: Vec<_> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["record"])
        .collect();
    let of = |kind: &str| {
        let found: Vec<_> = events
            .iter()
            .filter(|record| record["event"]["kind"] == kind)
            .collect();
        assert_eq!(found.len(), 1, "{kind}");
        found[0]
    };
    let target = json!({"type": "object", "object": {"kind": "Workload", "name": "web", "version": null}});
    let (set, end) = (of("frozen"), of("unfrozen"));
    assert_eq!(
        (&set["event"]["target"], &set["event"]["reason"]),
        (&target, &json!("ticket 4711"))
    );
    assert_eq!(
        (&end["event"]["target"], &end["event"]["reason"]),
        (&target, &json!("it was nothing"))
    );
    assert_eq!(set["actor"]["name"], "init");
}

#[test]
fn freezes_are_listed_in_pages_and_bad_ones_are_named() {
    let app = App::new();
    app.standard();
    let mut ids = Vec::new();
    for product in ["naples", "rome", "milan", "genoa", "turin"] {
        ids.insert(0, freeze(&app, json!({"type": "product", "name": product})));
    }
    lift(&app, &ids[1]).ok();
    let list = |query: &str| {
        let page = app
            .owner("GET", &format!("/v1/freezes?{query}"), &Value::Null)
            .ok()
            .body;
        let items = page["items"].as_array().unwrap().iter();
        (
            items.map(|item| item["id"].clone()).collect::<Vec<_>>(),
            page["next"].clone(),
        )
    };
    let id = |n: usize| ids[n]["id"].clone();
    let (first, next) = list("limit=2");
    let (second, end) = list(&format!("limit=3&cursor={}", next.as_str().unwrap()));
    assert_eq!([first, second].concat(), (0..5).map(id).collect::<Vec<_>>());
    assert_eq!(end, Value::Null);
    assert_eq!(list("in_force=true").0, [id(0), id(2), id(3), id(4)]);
    for (target, reason, status, problem, said) in [
        (
            json!({"type": "server"}),
            "x",
            400,
            "malformed",
            "only an administrator freezes the server",
        ),
        (
            json!({"type": "rack", "name": "a"}),
            "x",
            400,
            "malformed",
            "`target.type`: expected one of",
        ),
        (
            json!({"type": "product", "name": "zen"}),
            "x",
            400,
            "malformed",
            "expected one of `naples`",
        ),
        (
            json!({"type": "secret", "name": "disk"}),
            " ",
            400,
            "malformed",
            "`reason`: say why",
        ),
        (
            json!({"type": "platform", "fingerprint": "00"}),
            "x",
            400,
            "malformed",
            "64 hexadecimal digits",
        ),
        (
            json!({"type": "secret", "name": "other"}),
            "x",
            404,
            "not-found",
            "no such object",
        ),
        (
            json!({"type": "workload", "name": "other"}),
            "x",
            404,
            "not-found",
            "no such object",
        ),
    ] {
        let reply = app.owner(
            "POST",
            "/v1/freezes",
            &json!({"target": target, "reason": reason}),
        );
        let reply = reply.expect(status, problem);
        assert!(reply.detail().contains(said), "{}", reply.body);
    }
    let admin = app.mint(Role::Admin, None, None).text;
    for target in [
        json!({"type": "secret", "name": "disk"}),
        json!({"type": "owner"}),
    ] {
        app.as_token(&admin, "POST", "/v1/freezes", &body(&target))
            .expect(400, "malformed");
    }
    app.owner("GET", "/v1/freezes?in_force=maybe", &Value::Null)
        .expect(400, "malformed");
}
