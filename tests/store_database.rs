//! The database as a file: pages of decisions, what is forgotten, and files that are not to be opened.

use std::path::Path;
use std::time::Duration;

use keyward::store::SqlStore;
use keyward::store::sqlite::{FILE, OpenError};
use openssl::sha::sha256;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::app::Options;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, platform};

const OTHER: &str = "22222222-2222-4333-8444-555555555555";

fn page(app: &App, query: &str) -> (Vec<Value>, Option<String>) {
    let page = app
        .owner("GET", &format!("/v1/decisions?{query}"), &Value::Null)
        .ok()
        .body;
    let next = page["next"].as_str().map(str::to_owned);
    (page["items"].as_array().unwrap().clone(), next)
}

/// Ids of all decisions, page by page.
fn walk(app: &App, query: &str, between: impl Fn()) -> (Vec<Value>, usize) {
    let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let (items, next) = page(app, &format!("{query}{cursor}"));
        ids.extend(items.into_iter().map(|item| item["id"].clone()));
        pages += 1;
        let Some(next) = next else { return (ids, pages) };
        cursor = format!("&cursor={next}");
        between();
    }
}

#[test]
fn decisions_come_newest_first_in_pages_that_new_ones_do_not_shift() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut expected: Vec<Value> = (0..5)
        .map(|_| app.run(&platform).1.ok().body["decision"].clone())
        .collect();
    expected.reverse();
    for (limit, pages) in [(1, 5), (2, 3), (4, 2), (5, 1), (1000, 1)] {
        assert_eq!(
            walk(&app, &format!("limit={limit}"), || ()),
            (expected.clone(), pages),
            "{limit}"
        );
    }
    let (walked, _) = walk(&app, "limit=2", || drop(app.run(&platform).1.ok()));
    assert_eq!(walked, expected);
    for bad in [
        "limit=x",
        "limit=-1",
        "limit=0",
        "limit=1001",
        "limit=4000000000",
        "before=x",
        "cursor=x",
        "cursor=aG9sZHM6MQ",
        "cursor=",
        "outcome=maybe",
        "workload=web",
        "sort=time",
    ] {
        let path = format!("/v1/decisions?{bad}");
        app.owner("GET", &path, &Value::Null).expect(400, "malformed");
    }
    assert_eq!(page(&app, "before=-1"), (vec![], None));
}

#[test]
fn decisions_are_found_by_outcome_and_by_workload() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.run(&platform).1.ok();
    let mut other = standard(json!({"name": "other", "uuid": OTHER}));
    let policy = "package release.any\n\nallow := input.workload.name == \"web\"\n";
    other[0] = crate::support::app::bundle(&[("release/any.rego", policy)]);
    app.apply(other);
    let path = format!("/vm/{OTHER}/launch");
    let reply = app
        .post(&path, &crate::support::host::launch_request(&platform))
        .ok();
    let mut vm = crate::support::Vm::start(&platform, &reply);
    let denied = app
        .post(&vm.path(), &vm.measure(IMAGE))
        .expect(403, "denied")
        .body["decision"]
        .clone();

    for (query, expected) in [
        ("outcome=released", vec!["released"]),
        ("outcome=denied", vec!["denied"]),
        ("outcome=held", vec![]),
        ("outcome=refused", vec![]),
        (&format!("workload={WORKLOAD}"), vec!["released"]),
        (&format!("workload={OTHER}"), vec!["denied"]),
        (&format!("workload={OTHER}&outcome=released"), vec![]),
    ] {
        let (items, _) = page(&app, query);
        let outcomes: Vec<_> = items
            .iter()
            .map(|item| item["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, expected, "{query}");
    }
    assert_eq!(page(&app, "outcome=denied").0[0]["id"], denied);
}

#[test]
fn keys_and_answers_are_wiped_when_a_launch_has_had_its_time_and_the_launch_a_day_later() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut used = app.start(&platform);
    let request = used.measure(IMAGE);
    app.post_once("key", &used.path(), &request).ok();
    let waiting = app.start(&platform);
    let sealed = |id| {
        app.service
            .store()
            .launch(id)
            .unwrap()
            .map(|launch| launch.sealed_keys.len())
    };
    let answers = || {
        count(
            &app,
            "answer IS NOT NULL OR answer_key IS NOT NULL OR answer_request IS NOT NULL",
        )
    };
    assert_eq!(sealed(used.id), Some(0), "a spent launch keeps no keys");
    assert!(sealed(waiting.id) > Some(0));
    assert_eq!(answers(), 1);

    app.clock.advance(Duration::from_secs(599));
    app.service.tidy().unwrap();
    assert!(sealed(waiting.id) > Some(0));
    assert_eq!(answers(), 1);

    app.clock.advance(Duration::from_secs(1));
    app.service.tidy().unwrap();
    assert_eq!(
        (sealed(used.id), sealed(waiting.id), answers()),
        (Some(0), Some(0), 0)
    );

    app.clock.advance(Duration::from_secs(86_400));
    app.service.tidy().unwrap();
    assert_eq!((sealed(used.id), sealed(waiting.id)), (None, None));
    assert_eq!(app.decisions().len(), 1, "decisions are not forgotten");
}

#[test]
fn launches_without_number_are_swept_a_part_at_a_time_until_none_is_left() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let id = app.start(&platform).id;
    {
        let database = Connection::open(app.folder.path().join(FILE)).unwrap();
        let many = "INSERT INTO launches
            SELECT randomblob(16), owner, workload, state, policy, bucket, randomblob(32), cek, facts, keys, created,
                   expires, tries_left, answer_key, answer_request, answer, 0
            FROM launches, generate_series";
        let series = "WITH RECURSIVE generate_series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM generate_series LIMIT 1200)";
        database.execute_batch(&format!("{series} {many}")).unwrap();
    }
    app.clock.advance(Duration::from_secs(600));
    let now = keyward::domain::Clock::now(app.clock.as_ref());
    assert!(
        app.service.store().sweep(now).unwrap(),
        "there is more than one sweep takes"
    );
    assert!(count(&app, "length(keys) > 0") > 0);
    app.service.tidy().unwrap();
    assert_eq!((count(&app, "length(keys) > 0"), count(&app, "true")), (0, 1201));
    app.clock.advance(Duration::from_secs(86_400));
    app.service.tidy().unwrap();
    assert_eq!(count(&app, "true"), 0);
    assert!(app.service.store().launch(id).unwrap().is_none());
}

#[test]
fn of_launches_that_ended_before_their_time_only_so_many_are_remembered() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let (oldest, waiting) = (app.start(&platform).id, app.start(&platform).id);
    let end = format!(
        "UPDATE launches SET state = 'used' WHERE id = x'{}'",
        oldest.simple()
    );
    assert_eq!(app.sql(&end), 1);
    // As many as are remembered besides, each a little younger, and none expired.
    let many = "INSERT INTO launches
        SELECT randomblob(16), owner, workload, CASE n % 2 WHEN 0 THEN 'used' ELSE 'exhausted' END, policy, bucket,
               pdh, cek, '{}', x'', created, expires + n, tries_left, NULL, NULL, NULL, 0
        FROM launches, generate_series WHERE state = 'used'";
    let series = "WITH RECURSIVE generate_series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM generate_series LIMIT 200000)";
    assert_eq!(app.sql(&format!("{series} {many}")), 200_000);
    app.service.tidy().unwrap();
    assert_eq!(count(&app, "state <> 'pending'"), 200_000);
    let store = app.service.store();
    assert!(store.launch(oldest).unwrap().is_none(), "the oldest goes first");
    assert!(store.launch(waiting).unwrap().is_some());
}

#[test]
fn a_flood_on_one_chain_leaves_a_bounded_number_of_evicted_launches() {
    let mut options = Options::default();
    options.settings.bounds.per_pdh = 2;
    let app = App::with(options);
    app.standard();
    let (flooded, other) = (platform(), platform());
    let first = app.start(&flooded).id;
    for _ in 0..70 {
        app.ask_launch(&launch_request(&flooded)).ok();
    }
    for _ in 0..4 {
        app.ask_launch(&launch_request(&other)).ok();
    }
    assert_eq!(count(&app, "state = 'pending'"), 4);
    assert_eq!(count(&app, "state = 'evicted'"), 64 + 2);
    assert!(app.service.store().launch(first).unwrap().is_none());
}

fn count(app: &App, condition: &str) -> i64 {
    let database = Connection::open(app.folder.path().join(FILE)).unwrap();
    let sql = format!("SELECT count(*) FROM launches WHERE {condition}");
    database.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_that_is_not_this_program_s_is_not_opened_and_not_changed() {
    type Make = fn(&Path);
    let made: [(&str, Make, &str); 6] = [
        ("none", |_| {}, "run `keyward init"),
        (
            "a newer schema",
            |path| {
                drop(SqlStore::open(path.parent().unwrap(), true).unwrap());
                alter(path, "PRAGMA user_version = 99");
            },
            "schema 99, this keyward knows up to 13",
        ),
        (
            "another program's",
            |path| alter(path, "PRAGMA application_id = 7; CREATE TABLE photos (name TEXT)"),
            "not Keyward's",
        ),
        (
            "another program's without a mark",
            |path| alter(path, "CREATE TABLE photos (name TEXT)"),
            "not Keyward's",
        ),
        (
            "no database",
            |path| std::fs::write(path, "Dear diary, ".repeat(500)).unwrap(),
            "not Keyward's",
        ),
        (
            "a folder",
            |path| std::fs::create_dir(path).unwrap(),
            "can't be opened",
        ),
    ];
    for (name, make, says) in made {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        make(&path);
        let content = || std::fs::read(&path).ok().map(|bytes| sha256(&bytes));
        let before = content();
        for create in [false, true] {
            if name == "none" && create {
                continue;
            }
            let error: OpenError = SqlStore::open(folder.path(), create).err().expect(name);
            assert!(error.to_string().contains(says), "{name}: {error}");
            assert_eq!(content(), before, "{name} was changed");
        }
    }
}

fn alter(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn what_is_damaged_is_said_to_be_and_never_read_as_absent() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let path = app.folder.path().join(FILE);
    for (name, damage, repair) in [
        (
            "a workload",
            "UPDATE workloads SET document = document || '}'",
            "UPDATE workloads SET document = rtrim(document, '}') || '}'",
        ),
        (
            "its policies",
            "UPDATE owners SET policies = '[\"release.any\"'",
            "UPDATE owners SET policies = '[]'",
        ),
        (
            "a count",
            "INSERT INTO counts SELECT owner, 'secret', 'disk', 'disk', 0, NULL, 0 FROM tokens; PRAGMA ignore_check_constraints = ON; UPDATE counts SET released = -1",
            "DELETE FROM counts",
        ),
        (
            "a total",
            "INSERT INTO release_totals SELECT owner, 'secret:disk', -1 FROM tokens",
            "DELETE FROM release_totals",
        ),
        (
            "the launch's facts",
            "UPDATE launches SET facts = '{' || facts",
            "UPDATE launches SET facts = substr(facts, 2)",
        ),
        (
            "the launch's keys",
            "UPDATE launches SET keys = CAST(substr(keys, 1, 40) || x'0000' || substr(keys, 43) AS BLOB)",
            "",
        ),
    ] {
        if name == "a count" {
            let limited = "package release.any\n\nallow := true\n\nrelease_limit := 5\n";
            app.bundle(&[("release/any.rego", limited)]);
        }
        alter(&path, damage);
        // Whoever writes to an owner's objects says so; what was read before is known else.
        let said = "UPDATE owners SET generation = generation + 1";
        alter(&path, said);
        let reply = app.post(&vm.path(), &request);
        assert_eq!(
            (reply.status, reply.problem()),
            (503, "unavailable"),
            "{name}: {}",
            reply.body
        );
        assert_eq!(app.decisions(), Vec::<Value>::new(), "{name}");
        alter(&path, repair);
        alter(&path, said);
    }
}
