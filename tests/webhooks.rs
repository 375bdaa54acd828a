//! Webhooks: told of holds and checkpoints, signed, at least once, and in nobody's way.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use keyward::sev::SystemRandom;
use keyward::store::Told;
use keyward::webhook::{Endpoint, Secret, Step, Webhook};
use serde_json::{Value, json};

use crate::crash::{Waiting, prepare};
use crate::support::app::bundle;
use crate::support::host::{IMAGE, standard};
use crate::support::other::{Other, shared};
use crate::support::receiver::{Receiver, status};
use crate::support::server::{Host, Server};
use crate::support::{App, platform};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn limited(app: &App, limit: u64) {
    let policy = format!("package release.any\n\nallow := true\n\nrelease_limit := {limit}\n");
    let mut objects = standard(json!({}));
    objects[0] = bundle(&[("release/any.rego", &policy)]);
    app.apply(objects);
}

fn told(name: &str) -> Told {
    Told {
        name: name.to_owned(),
        holds: true,
        checkpoints: false,
        owners: None,
    }
}

fn webhook(name: &str, url: &str, max_tries: u32) -> Webhook {
    Webhook {
        name: name.to_owned(),
        endpoint: Endpoint::new(url, Duration::from_secs(20), None).unwrap(),
        secrets: vec![Secret::parse(SECRET).unwrap()],
        max_tries,
    }
}

fn step(app: &App, webhook: &Webhook) -> Step {
    webhook
        .step(app.service.store(), &SystemRandom, app.service.now())
        .unwrap()
}

fn waiting(app: &App) -> usize {
    let database = rusqlite::Connection::open(app.folder.path().join("keyward.db")).unwrap();
    let count = "SELECT count(*) FROM webhook_outbox";
    database.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap() as usize
}

#[test]
fn a_new_hold_is_told_once_signed_and_without_any_secret() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 1);
    app.service.store().set_webhooks(&[told("pager")]).unwrap();
    let receiver = Receiver::start(|_| status(204, ""));
    let mut pager = webhook("pager", &receiver.url, 9);
    pager.secrets.push(Secret::parse(NEXT).unwrap());
    app.run(&platform).1.ok();
    assert_eq!(step(&app, &pager), Step::Idle);
    let held = app.run(&platform).1.expect(403, "confirmation-required").body;
    // Another launch in the same hold is not another hold.
    app.run(&platform).1.expect(403, "confirmation-required");
    assert_eq!(step(&app, &pager), Step::Delivered);
    assert_eq!(step(&app, &pager), Step::Idle);
    let call = receiver.call();
    assert_eq!(call.path, "/hooks/secret-path");
    assert_eq!(call.headers["content-type"], "application/json");
    assert!(call.id().starts_with("msg_"), "{}", call.id());
    let seconds = app.service.now().millis() / 1000;
    assert_eq!(call.headers["webhook-timestamp"], seconds.to_string());
    assert!(call.is_signed_with(SECRET) && call.is_signed_with(NEXT));
    assert!(!call.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let body = call.json();
    assert_eq!(body["type"], "hold.opened");
    assert_eq!(body["data"]["hold"], held["hold"]);
    assert_eq!(body["data"]["owner"], "acme");
    assert_eq!(body["data"]["secrets"], json!(["disk"]));
    assert_eq!(body["data"]["counts"][0]["limit"], 1);
    for secret in ["hunter2", "aHVudGVyMg", &hex::encode("hunter2"), &app.token] {
        assert!(!call.body.contains(secret), "{secret}");
    }
    assert_eq!(receiver.rest(), []);
}

#[test]
fn a_call_that_fails_is_tried_again_later_with_the_same_id_and_then_given_up() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    app.service.store().set_webhooks(&[told("pager")]).unwrap();
    let answers = [
        (status(500, ""), "status 500"),
        (status(302, "location: http://127.0.0.1:9/\r\n"), "redirect"),
        (b"nonsense".to_vec(), ""),
        (Vec::new(), ""),
    ];
    let sent: Vec<_> = answers.iter().map(|(answer, _)| answer.clone()).collect();
    let receiver = Receiver::start(move |number| sent[number % sent.len()].clone());
    let pager = webhook("pager", &receiver.url, 5);
    app.run(&platform).1.expect(403, "confirmation-required");
    let mut ids = BTreeSet::new();
    for (_, expected) in &answers {
        let Step::Failed { why } = step(&app, &pager) else {
            panic!("it was delivered")
        };
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains("secret-path"), "the URL may be a secret: {why}");
        ids.insert(receiver.call().id().to_owned());
        assert_eq!(step(&app, &pager), Step::Idle, "it waits");
        app.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(ids.len(), 1);
    assert!(matches!(step(&app, &pager), Step::GivenUp { .. }));
    assert_eq!(waiting(&app), 0);
}

#[test]
fn a_kill_between_delivery_and_its_note_tells_twice_with_one_id_and_none_is_lost() {
    let mut app = App::new();
    let platform = platform();
    limited(&app, 0);
    app.service.store().set_webhooks(&[told("pager")]).unwrap();
    app.run(&platform).1.expect(403, "confirmation-required");
    // Nothing was delivered yet: the server ends.
    app.restart();
    let receiver = Receiver::start(|_| status(200, ""));
    let pager = webhook("pager", &receiver.url, 9);
    let now = app.service.now();
    let message = app.service.store().next_message("pager", now).unwrap().unwrap();
    pager.call(message.id, &message.body, now).unwrap();
    // Delivered, and not noted: the server ends again.
    app.restart();
    assert_eq!(step(&app, &pager), Step::Delivered);
    assert_eq!(receiver.call(), receiver.call());
    assert_eq!(step(&app, &pager), Step::Idle);
}

#[test]
fn a_hold_that_can_not_be_noted_for_its_webhook_is_not_answered() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    app.service.store().set_webhooks(&[told("pager")]).unwrap();
    app.sql("CREATE TRIGGER broken BEFORE INSERT ON webhook_outbox BEGIN SELECT RAISE(ABORT, 'broken'); END");
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.post(&vm.path(), &request).expect(503, "unavailable");
    app.sql("DROP TRIGGER broken");
    app.post(&vm.path(), &request)
        .expect(403, "confirmation-required");
    assert_eq!(waiting(&app), 1);
}

#[test]
fn a_receiver_that_is_away_is_in_nobodys_way() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 1);
    app.service
        .store()
        .set_webhooks(&[told("pager"), told("other")])
        .unwrap();
    // Nobody listens there.
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let pager = webhook("pager", &format!("http://{gone}/"), 3);
    app.run(&platform).1.ok();
    let hold = app.run(&platform).1.expect(403, "confirmation-required").body["hold"].clone();
    assert!(matches!(step(&app, &pager), Step::Failed { .. }));
    app.confirm(&hold, 1).ok();
    app.run(&platform).1.ok();
    let receiver = Receiver::start(|_| status(200, ""));
    assert_eq!(step(&app, &webhook("other", &receiver.url, 3)), Step::Delivered);
}

#[test]
fn a_webhook_is_told_of_its_owners_holds_alone() {
    let (app, platform) = (App::with(shared()), platform());
    let _umbra = Other::of(&app);
    limited(&app, 0);
    let owners = |name: &str| Told {
        owners: Some(vec![name.parse().unwrap()]),
        ..told(name)
    };
    let all = [owners("acme"), owners("umbra"), told("all")];
    app.service.store().set_webhooks(&all).unwrap();
    app.run(&platform).1.expect(403, "confirmation-required");
    let now = app.service.now();
    let has = |name: &str| app.service.store().next_message(name, now).unwrap().is_some();
    assert_eq!(["acme", "umbra", "all"].map(has), [true, false, true]);
    // Who is no longer in the configuration is told nothing any more.
    app.service.store().set_webhooks(&[told("all")]).unwrap();
    assert_eq!(waiting(&app), 1);
}

#[test]
fn of_checkpoints_that_wait_only_the_newest_is_told() {
    let app = App::new();
    let checkpoints = Told {
        holds: false,
        checkpoints: true,
        ..told("witness")
    };
    app.service.store().set_webhooks(&[checkpoints]).unwrap();
    let mut note = String::new();
    for text in ["a", "b", "c"] {
        let policy = format!("package release.any\n\nallow := true\n\n# {text}\n");
        app.bundle(&[("release/any.rego", &policy)]);
        note = app.service.checkpoint().unwrap().unwrap();
    }
    assert_eq!(waiting(&app), 1);
    let receiver = Receiver::start(|_| status(200, ""));
    let witness = webhook("witness", &receiver.url, 3);
    assert_eq!(step(&app, &witness), Step::Delivered);
    let body = receiver.call().json();
    assert_eq!(body["type"], "checkpoint.signed");
    assert_eq!(body["data"], json!({"size": 5, "checkpoint": note}));
    assert_eq!(step(&app, &witness), Step::Idle);
}

#[test]
fn of_holds_that_wait_the_oldest_gives_way() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    app.service.store().set_webhooks(&[told("pager")]).unwrap();
    let series = "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series LIMIT 10000)";
    let many = "INSERT INTO webhook_outbox (id, webhook, event, body, created, due)
                SELECT randomblob(16), 'pager', 'hold', CAST(n AS TEXT), 0, n FROM series";
    app.sql(&format!("{series} {many}"));
    app.run(&platform).1.expect(403, "confirmation-required");
    assert_eq!(waiting(&app), 10_000);
    let next = app
        .service
        .store()
        .next_message("pager", app.service.now())
        .unwrap()
        .unwrap();
    assert_eq!(next.body, "2");
}

#[test]
fn nobody_is_told_where_no_webhook_is_configured() {
    let (app, platform) = (App::new(), platform());
    limited(&app, 0);
    app.run(&platform).1.expect(403, "confirmation-required");
    app.service.checkpoint().unwrap();
    assert_eq!(waiting(&app), 0);
    let limits = app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    assert_eq!(limits["items"][0]["unknown"], Value::Null);
}

#[test]
fn no_hold_is_lost_however_often_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(&prepare(folder.path(), 0));
    let data = folder.path().join("data");
    let receiver = Receiver::start(|_| status(200, ""));
    let secret = data.join("pager.secret");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = std::fs::read_to_string(data.join("keyward.yaml")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["webhooks"] = json!([
        {"name": "pager", "url": receiver.url, "events": ["hold"], "secret_file": secret},
    ]);
    std::fs::write(data.join("keyward.yaml"), config.to_string()).unwrap();

    let platform = platform();
    let mut holds = BTreeSet::new();
    for _ in 0..5 {
        let mut server = Server::start(&data);
        let guest = Waiting::start(&host, &server.base, &platform).unwrap();
        let held = guest.validate(&host, &server.base).unwrap();
        let hold = held.expect(403, "confirmation-required").body["hold"].clone();
        // The next launch opens another.
        let reject = format!("{}/v1/holds/{}/reject", server.base, hold.as_str().unwrap());
        host.say("POST", &reject, &json!({"reason": "a test"}))
            .unwrap()
            .ok();
        server.kill();
        assert!(holds.insert(hold.to_string()));
    }
    let _server = Server::start(&data);
    let mut told = BTreeSet::new();
    while told != holds {
        let call = receiver.call();
        assert!(call.is_signed_with(SECRET));
        told.insert(call.json()["data"]["hold"].to_string());
        assert!(told.is_subset(&holds));
    }
}
