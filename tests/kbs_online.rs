//! Over a connection: decided on the facts of its launch, counted once, bounded in time and number.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::support::app::bundle;
use crate::support::hooked::{Fate, Hook};
use crate::support::host::ALLOW;
use crate::support::host::{IMAGE, digest};
use crate::support::kbs::{
    Client, Kbs, LIFETIME, REQUESTS, asked, decision, denied, guid, objects, refused, report_key,
};
use crate::support::{App, platform};

#[test]
fn a_connected_guest_asks_for_more_later() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let entries = kbs
        .online(
            &client,
            &[
                asked(&guid(1).to_uppercase(), "binary", "key", "k1"),
                asked(&guid(2), "json", "bundle", "set"),
                asked(&guid(3), "binary", "resource", "motd"),
                asked(&guid(4), "json", "report", "reports"),
            ],
        )
        .unwrap();
    // Under the names that the client gave, as it gave them.
    assert_eq!(entries[0], (guid(1).to_uppercase(), b"first key".to_vec()));
    let set: Value = serde_json::from_slice(&entries[1].1).unwrap();
    assert_eq!(set["k1"], "Zmlyc3Qga2V5");
    assert_eq!(entries[2].1, b"a file\n");
    assert!(String::from_utf8_lossy(&entries[3].1).contains("\"signature\""));
    let recorded = &app.decisions()[0];
    assert_eq!(recorded["connection"], client.connection());
    assert_eq!(recorded["secrets"], json!(["k1", "k2", "motd", "reports"]));
    let (launch, attested) = (&app.decisions()[1], &recorded["input"]["attested"]);
    assert_eq!(recorded["launch"], launch["launch"]);
    assert_eq!(
        *attested, launch["input"]["attested"],
        "the facts are those of the launch"
    );
    assert_eq!(recorded["input"]["platform"], launch["input"]["platform"]);
    assert_eq!(recorded["input"]["claimed"], launch["input"]["claimed"]);
}

#[test]
fn each_guid_and_id_counts_once_and_is_answered_as_at_first() {
    let (mut app, platform) = (App::new(), platform());
    app.standard_kbs();
    let client = {
        let kbs = Kbs::of(&app);
        let client = kbs.connected(&platform);
        let wanted = [asked(&guid(1), "binary", "key", "k1")];
        let first = kbs.online_raw(&client.id, &wanted).unwrap();
        let again = kbs.online_raw(&client.id, &wanted).unwrap();
        assert_ne!(first.iv, again.iv, "a nonce is never used twice");
        assert_eq!(client.open(&first), client.open(&again));
        assert_eq!(app.counted("k1"), (1, 0));
        client
    };
    // A new value, another format, and a restart: what was answered first is answered still.
    app.apply(json!([{
        "kind": "Secret", "name": "k1", "type": "opaque", "guid": guid(1001),
        "value": {"base64": "bmV3"}, "policies": ["release.any"],
    }]));
    app.restart();
    let kbs = Kbs::of(&app);
    let again = kbs
        .online(&client, &[asked(&guid(1), "json", "key", "k1")])
        .unwrap();
    assert_eq!(again[0].1, b"first key");
    assert_eq!(app.counted("k1"), (1, 0));
    // At another GUID it is another release, of what is current; beside it the old one is as it was.
    let both = kbs
        .online(
            &client,
            &[
                asked(&guid(1), "binary", "key", "k1"),
                asked(&guid(2), "binary", "key", "k1"),
            ],
        )
        .unwrap();
    assert_eq!(
        (both[0].1.as_slice(), both[1].1.as_slice()),
        (&b"first key"[..], &b"new"[..])
    );
    assert_eq!(app.counted("k1"), (2, 0));
}

#[test]
fn a_connection_has_an_end_in_time_and_number() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    let client = kbs.connected(&platform);
    for number in 0..REQUESTS {
        // Whatever it is answered.
        let id = if number % 2 == 0 { "k1" } else { "nobody-s" };
        let answer = kbs.online(&client, &[asked(&guid(1), "binary", "key", id)]);
        assert_eq!(answer.is_ok(), number % 2 == 0, "{number}");
    }
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)), denied());

    let client = kbs.connected(&platform);
    app.clock.advance(LIFETIME - Duration::from_millis(1));
    kbs.online(&client, &wanted).unwrap();
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)), denied());
    app.service.tidy().unwrap();
    assert_eq!(
        app.sql("DELETE FROM connection_answers"),
        0,
        "what expired is forgotten"
    );
    assert_eq!(app.sql("DELETE FROM connections"), 0);
}

#[test]
fn policies_are_asked_again_each_time_and_what_they_deny_is_denied() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    app.apply(objects(&key, ALLOW));
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let wanted = |number| [asked(&guid(number), "binary", "key", "k1")];
    kbs.online(&client, &wanted(1)).unwrap();
    app.apply(json!([bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n\ndeny contains \"no more\"\n"
    )])]));
    let recorded = app.decision(&decision(kbs.online_raw(&client.id, &wanted(2))));
    assert!(recorded["reason"].as_str().unwrap().contains("no more"));
    assert_eq!(recorded["connection"], client.connection());
    // What the guest has, it has.
    kbs.online(&client, &wanted(1)).unwrap();
    // A freeze stops that too.
    let freeze = json!({"target": {"type": "secret", "name": "k1"}, "reason": "a test"});
    app.owner("POST", "/v1/freezes", &freeze).expect(201, "ok");
    let recorded = app.decision(&decision(kbs.online_raw(&client.id, &wanted(1))));
    assert!(
        recorded["reason"]
            .as_str()
            .unwrap()
            .starts_with("an answer given before was not sent again: frozen"),
        "{recorded}"
    );
}

#[test]
fn a_destroyed_value_is_not_given_again() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    kbs.online(&client, &wanted).unwrap();
    app.apply(json!([{
        "kind": "Secret", "name": "k1", "type": "opaque", "guid": guid(1001),
        "value": {"base64": "bmV3"}, "policies": ["release.any"],
    }]));
    app.owner("DELETE", "/v1/secret-versions/k1?version=1", &Value::Null)
        .expect(204, "ok");
    let reason = app.decision(&decision(kbs.online_raw(&client.id, &wanted)))["reason"].clone();
    assert_eq!(
        reason,
        "an answer given before was not sent again: a value that it was made of was destroyed"
    );
}

#[test]
fn a_used_up_count_waits_for_its_owner_over_a_connection_too() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    app.apply(objects(
        &key,
        "package release.any\n\nallow := true\n\nrelease_limit := 1\n",
    ));
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let wanted = |number| [asked(&guid(number), "binary", "key", "k1")];
    kbs.online(&client, &wanted(1)).unwrap();
    let (code, text) = refused(kbs.online_raw(&client.id, &wanted(2)));
    assert_eq!(code, Code::FailedPrecondition);
    let hold = text
        .split("(hold ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    app.confirm(&json!(hold), 1).ok();
    kbs.online(&client, &wanted(2)).unwrap();
    assert_eq!(app.counted("k1"), (2, 0));
    let held = app.decisions();
    assert!(
        held.iter()
            .any(|one| one["outcome"] == "held" && one["connection"] == client.connection())
    );
}

#[test]
fn who_has_no_connection_learns_nothing() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let good = asked(&guid(1), "binary", "key", "k1");
    let unknown = uuid::Uuid::new_v4().to_string();
    for (who, what) in [
        (unknown.as_str(), vec![good.clone()]),
        ("", vec![good.clone()]),
        ("not a uuid", vec![good.clone()]),
        (&client.id, vec![good.clone(), good.clone()]),
        (&client.id, vec![asked(&guid(1), "json", "connection", "")]),
        (&client.id, vec![asked(&guid(1), "xml", "key", "k1")]),
        (&client.id, vec![asked("1", "binary", "key", "k1")]),
    ] {
        assert_eq!(refused(kbs.online_raw(who, &what)), denied(), "{who} {what:?}");
    }
    // One that is not served here is not there.
    let (key, _) = report_key();
    app.apply(objects(&key, ALLOW));
    let other = Kbs::serving(&app, &["other"]);
    assert_eq!(
        refused(other.online_raw(&client.id, std::slice::from_ref(&good))),
        denied()
    );
    kbs.online(&client, &[good]).unwrap();
}

#[test]
fn an_answer_that_is_lost_was_counted_and_is_given_again() {
    let hook = Hook::default();
    let (mut app, platform) = (App::with(hook.options()), platform());
    app.standard_kbs();
    let client = {
        let kbs = Kbs::of(&app);
        let client = kbs.connected(&platform);
        let wanted = [asked(&guid(1), "binary", "key", "k1")];
        hook.once("commit_release", Fate::FailsUndone);
        assert_eq!(refused(kbs.online_raw(&client.id, &wanted)).0, Code::Unavailable);
        hook.once("commit_release", Fate::FailsDone);
        assert_eq!(refused(kbs.online_raw(&client.id, &wanted)).0, Code::Unavailable);
        hook.clear();
        assert_eq!(app.counted("k1"), (1, 0));
        client
    };
    // As after a kill at that moment.
    app.restart();
    let kbs = Kbs::of(&app);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    assert_eq!(kbs.online(&client, &wanted).unwrap()[0].1, b"first key");
    assert_eq!(app.counted("k1"), (1, 0));
    // Each of these three took a request, and so does one that was taken and not looked at.
    hook.once("take_request", Fate::FailsDone);
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)).0, Code::Unavailable);
    hook.clear();
    for _ in 4..REQUESTS {
        kbs.online(&client, &wanted).unwrap();
    }
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)), denied());
}

#[test]
fn those_who_ask_for_the_same_at_once_are_counted_once() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..REQUESTS)
            .map(|_| scope.spawn(|| kbs.online(&client, &wanted).unwrap()))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|one| one[0].1 == b"first key"));
    assert_eq!(app.counted("k1"), (1, 0));
    assert_eq!(refused(kbs.online_raw(&client.id, &wanted)), denied());
}

#[test]
fn what_is_below_the_floor_by_now_is_not_given_again() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    let mut all = objects(&key, ALLOW);
    all[6]["policy"] = Value::Null;
    all[6]["danger_weak_policy"] = json!(true);
    app.apply(all.clone());
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start_with(&platform, 0);
    let request = vm.measure(IMAGE, &[asked(&guid(9), "json", "connection", "")]);
    let client = Client::read(&vm.unwrap(&kbs.secret(&request).unwrap())[0].1);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    kbs.online(&client, &wanted).unwrap();
    kbs.online(&client, &wanted).unwrap();
    all[6]["danger_weak_policy"] = json!(false);
    app.apply(all);
    let recorded = app.decision(&decision(kbs.online_raw(&client.id, &wanted)));
    let reason = recorded["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("an answer given before was not sent again: ") && reason.contains("NODBG"),
        "{reason}"
    );
}

#[test]
fn the_image_of_a_digest_is_the_one_that_was_found_at_the_launch() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let candidate = |image: &str| json!({"digest": digest(IMAGE), "image": {"name": image}});
    let candidates = json!([candidate("one"), candidate("two")]);
    assert_eq!(
        app.sql(&format!(
            "UPDATE workloads SET candidates = '{candidates}' WHERE name = 'web'"
        )),
        1
    );
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    kbs.online(&client, &[asked(&guid(1), "binary", "key", "k1")])
        .unwrap();
    for recorded in app.decisions() {
        let image = recorded["input"]["attested"]["image"].to_string();
        assert!(image.contains("one"), "{recorded}");
    }
}

#[test]
fn where_policies_count_the_same_request_that_was_slower_gets_the_same_answer() {
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    let (key, _) = report_key();
    let once = "package release.any\n\ndefault allow := false\n\nallow if input.releases.total < 1\n";
    app.apply(objects(&key, once));
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let first = [asked(&guid(1), "binary", "key", "k1")];
    kbs.online(&client, &first).unwrap();
    let wanted = [asked(&guid(2), "binary", "key", "k1")];
    decision(kbs.online_raw(&client.id, &wanted));
    // As if another had been answered at this GUID after it was looked for.
    let database = app.folder.path().join(keyward::store::sqlite::FILE);
    hook.before("release_counts", move || {
        let (one, two) = (guid(1), guid(2));
        let answered = format!(
            "INSERT INTO connection_answers
             SELECT connection, x'{}', id, replace(document, '{one}', '{two}') FROM connection_answers",
            two.replace('-', "")
        );
        let database = rusqlite::Connection::open(database).unwrap();
        assert_eq!(database.execute(&answered, []).unwrap(), 1);
    });
    assert_eq!(kbs.online(&client, &wanted).unwrap()[0].1, b"first key");
    hook.clear();
    let denied = app.decisions();
    let denied = denied.iter().filter(|one| one["outcome"] == "denied");
    assert_eq!(denied.count(), 1, "only the one before");
}
