//! What is forgotten by age, and what is not: hashes, proofs and the record of the forgetting stay.

use std::time::Duration;

use keyward::audit::export;
use keyward::audit::note::Note;
use keyward::audit::verify::{Verified, Verifier};
use keyward::release::Kept;
use serde_json::{Value, json};

use crate::support::app::log_key;
use crate::support::{App, Shell, platform};

const DAY: Duration = Duration::from_secs(86_400);

fn records(days: u32) -> Kept {
    Kept {
        records: Some(days),
        decisions: None,
    }
}

fn decisions(days: u32) -> Kept {
    Kept {
        records: None,
        decisions: Some(days),
    }
}

/// Makes something be recorded and signed.
fn act(app: &App, text: &str) {
    let policy = format!("package release.any\n\nallow := true\n\n# {text}\n");
    app.bundle(&[("release/any.rego", &policy)]);
    app.service.checkpoint().unwrap();
}

/// The log as an export.
fn export(app: &App) -> Vec<String> {
    let key = log_key();
    let store = app.service.store();
    let checkpoints = store.log_checkpoints(0, 1000).unwrap();
    let newest = checkpoints.last().unwrap().size;
    let mut lines = vec![export::header(key.verifier().name())];
    for entry in store.log_entries(0, 1000).unwrap() {
        if entry.index >= newest {
            break;
        }
        lines.push(match &entry.record {
            Some(record) => export::stored_record(entry.index, &entry.leaf, record),
            None => export::bare_leaf(entry.index, &entry.leaf),
        });
        let signed = checkpoints.iter().filter(|kept| kept.size == entry.index + 1);
        lines.extend(signed.map(|kept| export::checkpoint(&Note::parse(&kept.note).unwrap())));
    }
    lines
}

fn verified(lines: &[String], seen: &[String]) -> Verified {
    let mut verifier = Verifier::new(log_key().verifier().clone(), seen).unwrap();
    for line in lines {
        verifier.line(line).unwrap();
    }
    verifier.finish().unwrap()
}

/// For each record whether what it says is there.
fn kept(app: &App) -> Vec<bool> {
    let entries = app.service.store().log_entries(0, 1000).unwrap();
    entries.iter().map(|entry| entry.record.is_some()).collect()
}

fn last_event(app: &App) -> Value {
    let entries = app.service.store().log_entries(0, 1000).unwrap();
    let record = entries.last().unwrap().record.as_ref().unwrap();
    serde_json::from_str::<Value>(record).unwrap()["event"].clone()
}

#[test]
fn old_records_are_forgotten_and_the_log_verifies_before_and_after() {
    let app = App::new();
    act(&app, "a");
    let before = export(&app);
    let seen = app.service.store().log_checkpoint().unwrap().unwrap().note;
    app.clock.advance(DAY);
    act(&app, "b");
    app.service.forget(records(2)).unwrap();
    assert_eq!(kept(&app), [true; 4], "none is so old");

    app.clock.advance(2 * DAY);
    app.service.forget(records(2)).unwrap();
    assert_eq!(kept(&app), [false, false, false, true, true]);
    assert_eq!(
        last_event(&app),
        json!({"kind": "records-dropped", "first": 0, "last": 2})
    );
    app.service.checkpoint().unwrap();

    assert_eq!(verified(&before, &[]).bare, 0);
    let after = verified(&export(&app), &[seen]);
    assert_eq!((after.bare, after.seen, after.checkpoint.head().size), (3, 1, 5));
    // A record that was forgotten is proved by its hash.
    let id: String = {
        let line: Value = serde_json::from_str(&before[3]).unwrap();
        line["record"]["id"].as_str().unwrap().to_owned()
    };
    let proof = app
        .owner("GET", &format!("/v1/audit/proof/{id}"), &Value::Null)
        .ok()
        .body;
    assert_eq!(
        (&proof["status"], &proof["record"]),
        (&json!("included"), &Value::Null)
    );
    // Nothing more on the same day.
    app.service.forget(records(2)).unwrap();
    assert_eq!(kept(&app).len(), 5);
}

#[test]
fn what_no_checkpoint_counts_is_not_forgotten() {
    let app = App::new();
    app.clock.advance(9 * DAY);
    app.service.forget(records(1)).unwrap();
    assert_eq!(kept(&app), [true, true]);
    app.service.checkpoint().unwrap();
    app.service.forget(records(1)).unwrap();
    assert_eq!(kept(&app), [false, false, true]);
}

#[test]
fn an_idle_log_does_not_grow_by_more_than_a_record_a_day() {
    let app = App::new();
    for _ in 0..10 {
        app.clock.advance(DAY / 2);
        app.service.forget(records(1)).unwrap();
        app.service.forget(records(1)).unwrap();
        app.service.checkpoint().unwrap();
    }
    assert!(kept(&app).len() <= 2 + 5, "{:?}", kept(&app));
    let says = kept(&app).iter().filter(|kept| **kept).count();
    assert!((1..=2).contains(&says), "{says}");
}

#[test]
fn many_are_forgotten_a_part_at_a_time_until_none_is_left() {
    let app = App::new();
    let record = |number: u32| keyward::audit::record::Event::RecordsDropped {
        first: number.into(),
        last: number.into(),
    };
    for number in 0..2100 {
        app.service.record(record(number)).unwrap();
    }
    app.service.checkpoint().unwrap();
    app.clock.advance(3 * DAY);
    let now = app.service.now();
    assert!(app.service.store().forget_records(now, now).unwrap());
    assert_eq!(kept(&app)[..1000], [false; 1000]);
    app.service.forget(records(1)).unwrap();
    let rest = app.service.store().log_entries(1000, 1000).unwrap();
    assert_eq!(rest.len(), 1000);
    assert!(rest.iter().all(|entry| entry.record.is_none()));
    app.service.checkpoint().unwrap();
}

#[test]
fn old_decisions_are_forgotten_and_what_the_log_says_of_them_stays() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let old = app.run(&platform).1.ok().body["decision"].clone();
    app.clock.advance(3 * DAY);
    let new = app.run(&platform).1.ok().body["decision"].clone();
    app.service.forget(Kept::default()).unwrap();
    assert_eq!(app.decisions().len(), 2);
    app.service.forget(decisions(2)).unwrap();
    let left = app.decisions();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], new);
    let event = last_event(&app);
    assert_eq!(
        (&event["kind"], &event["count"]),
        (&json!("decisions-dropped"), &json!(1))
    );
    app.service.checkpoint().unwrap();
    let path = format!("/v1/audit/proof/{}", old.as_str().unwrap());
    let proof = app.owner("GET", &path, &Value::Null).ok().body;
    assert_eq!(proof["record"]["event"]["outcome"], "released");
    assert_eq!(app.counted("disk"), (2, 0), "counts are no decisions");
}

#[test]
fn a_server_keeps_to_the_rule_of_its_configuration() {
    let shell = Shell::initialised();
    let config = "listen: 127.0.0.1:0\nkds: {url: ''}\n";
    let insert = "INSERT INTO decisions (id, owner, workload, time, outcome, document)
                  VALUES (randomblob(16), 'acme', randomblob(16), 0, 'denied', '{}')";
    let database = || rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    let left = || -> u32 {
        let count = "SELECT count(*) FROM decisions";
        database().query_row(count, [], |row| row.get(0)).unwrap()
    };
    database().execute(insert, []).unwrap();
    assert_eq!(shell.serve(&[]).stop().0, 0);
    assert_eq!(left(), 1, "without a rule everything is kept");
    shell.write(
        "data/keyward.yaml",
        format!("{config}decisions: {{retention_days: 30}}\n"),
    );
    assert_eq!(shell.serve(&[]).stop().0, 0);
    assert_eq!(left(), 0);
    let log = shell.run(&["audit", "export", "--data-dir", "data"]).done();
    assert!(
        log.contains("\"kind\":\"decisions-dropped\",\"count\":1"),
        "{log}"
    );
    shell.write(
        "data/keyward.yaml",
        format!("{config}audit: {{retention_days: 99999}}\n"),
    );
    let told = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert!(
        told.contains("`audit.retention_days`: must be 0 to 36500"),
        "{told}"
    );
}
