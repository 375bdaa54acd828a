//! PostgreSQL as the store: what it refuses to be, what it keeps as it is, and how a database comes to it.

use keyward::domain::launch::{Launch, LaunchBounds};
use keyward::store::LaunchBegun;
use serde_json::Value;
use uuid::Uuid;

use crate::crash::{Waiting, prepare};
use crate::replicas::Fleet;
use crate::support::app::Options;
use crate::support::certificates::{Pair, Says};
use crate::support::command::keyward;
use crate::support::postgres::{Cluster, Database, USER};
use crate::support::server::{Host, Server};
use crate::support::store::Place;
use crate::support::{App, Shell, platform};

/// What `init` says of a database, with this configuration.
fn refused(store: &str) -> String {
    let shell = Shell::new();
    shell.write("data/keyward.yaml", format!("store:\n  postgres: {store}\n"));
    let said = shell
        .run(&["init", "--owner", "acme", "--data-dir", "data"])
        .failed();
    assert_eq!(shell.list("data"), ["keyward.yaml"], "something was left");
    said
}

#[test]
fn a_database_that_can_not_be_used_is_told_with_what_to_do() {
    let Some(database) = Database::new() else { return };
    let url = database.url();
    let with_password = url.replacen(USER, &format!("{USER}:hunter2"), 1);
    let said = refused(&format!("{{url: '{with_password}'}}"));
    assert!(
        said.contains("password_file") && !said.contains("hunter2"),
        "{said}"
    );
    for (store, why) in [
        (
            "{url: 'nonsense'}".to_owned(),
            "expected postgres://USER@HOST:PORT/DATABASE",
        ),
        (
            "{url: 'postgres://k@db.example/k'}".to_owned(),
            "configure `tls`, or say `danger_plaintext: true`",
        ),
        (format!("{{url: '{url}', connections: 1}}"), "must be 2 to 1000"),
        (
            format!("{{url: '{url}', password_file: absent}}"),
            "password_file",
        ),
        (
            format!("{{url: '{url}', tls: {{certificate: a.crt}}}}"),
            "go together",
        ),
        (format!("{{url: '{url}x'}}"), "does not exist"),
    ] {
        let said = refused(&store);
        assert!(said.contains(why), "{store}: {said}");
    }
    database.sql("CREATE TABLE theirs (id INT)");
    let said = refused(&format!("{{url: '{url}'}}"));
    assert!(said.contains("tables that are not Keyward's"), "{said}");
    assert_eq!(database.sql("SELECT count(*) FROM theirs").trim(), "0");
}

#[test]
fn a_database_is_initialised_once_and_one_of_a_newer_program_is_left_alone() {
    let Some(database) = Database::new() else { return };
    let fleet = Fleet::new(&database.url(), 1, 5);
    let data = fleet.data(0);
    let data = data.to_str().unwrap();
    let again = keyward(["init", "--owner", "other", "--data-dir", data])
        .expect(1)
        .stderr;
    assert!(again.contains("the database is initialised already"), "{again}");
    let missing = keyward(["init", "--owner", "other", "--data-dir", data, "--if-missing"]).ok();
    assert!(missing.stdout.contains("is initialised already"));
    let owners = keyward(["owner", "list", "--data-dir", data]).ok().stdout;
    assert!(owners.contains("acme") && !owners.contains("other"), "{owners}");
    let backup = keyward(["backup", "--data-dir", data, "--out", "/nonexistent/x"])
        .expect(1)
        .stderr;
    assert!(backup.contains("pg_dump"), "{backup}");

    // The cluster of the tests is made for speed, which is told.
    let report = keyward(["doctor", "--data-dir", data, "-o", "json"]).ok().stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let outcome = |check: &str| {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["check"] == check);
        let found = found.unwrap_or_else(|| panic!("{check}: {report:#}"));
        (
            found["outcome"].as_str().unwrap(),
            found["detail"].as_str().unwrap(),
        )
    };
    assert_eq!(outcome("database").0, "warning");
    assert!(outcome("database").1.contains("fsync = off"), "{report:#}");
    for check in ["schema", "keys", "audit log"] {
        assert_eq!(outcome(check).0, "ok", "{report:#}");
    }

    // One that fails halfway is not taken for whole, and two at once can't both be the first.
    if let Some(half) = Database::new() {
        let shell = Shell::new();
        shell.write(
            "data/keyward.yaml",
            format!("store:\n  postgres: {{url: '{}'}}\n", half.url()),
        );
        let init = [
            "init",
            "--owner",
            "acme",
            "--data-dir",
            "data",
            "--token-file",
            "absent/token",
        ];
        shell.run(&init).failed();
        let again = shell
            .run(&["init", "--owner", "acme", "--data-dir", "data"])
            .failed();
        assert!(again.contains("under way, or failed halfway"), "{again}");
        assert_eq!(half.sql("SELECT count(*) FROM owners").trim(), "0");
    }

    database.sql("UPDATE keyward_schema SET version = 99");
    let newer = keyward(["serve", "--listen", "127.0.0.1:0", "--data-dir", data])
        .expect(1)
        .stderr;
    assert!(newer.contains("the database has schema 99"), "{newer}");
    database.sql("DROP TABLE keyward_schema");
    let foreign = keyward(["serve", "--listen", "127.0.0.1:0", "--data-dir", data])
        .expect(1)
        .stderr;
    assert!(foreign.contains("run `keyward init`"), "{foreign}");
}

#[test]
fn keys_are_checked_and_rotated_and_nothing_comes_in_under_a_retired_one() {
    let Some(database) = Database::new() else { return };
    let fleet = Fleet::new(&database.url(), 1, 5);
    let data = fleet.data(0);
    let data = data.to_str().unwrap();
    let old = database.sql("SELECT encode(sealed, 'hex') FROM secrets");
    keyward(["keys", "check", "--data-dir", data]).ok();
    let to = format!("{{file: {}}}", fleet.path("next.key").display());
    keyward(["keys", "rotate", "--data-dir", data, "--to", &to]).ok();
    keyward(["keys", "check", "--data-dir", data]).ok();
    assert_ne!(database.sql("SELECT encode(sealed, 'hex') FROM secrets"), old);
    let late = format!("UPDATE secrets SET sealed = '\\x{}'", old.trim());
    assert!(database.fails(&late).contains("sealed under a retired key"));

    let (server, host) = (fleet.start(0), Host::new(&fleet.token));
    let guest = Waiting::start(&host, &server.base, &platform()).unwrap();
    let given = guest.validate(&host, &server.base).unwrap().ok();
    assert_eq!(guest.vm.unwrap(&given)[0].1, b"hunter2");
}

#[test]
fn what_is_recorded_is_not_changed_or_deleted_by_mistake() {
    let Some(database) = Database::new() else { return };
    let fleet = Fleet::new(&database.url(), 1, 5);
    drop(fleet.start(0));
    for (statement, why) in [
        ("DELETE FROM audit_leaves", "never deleted"),
        ("TRUNCATE audit_leaves", "never deleted"),
        ("UPDATE audit_leaves SET record = '{}'", "never changed"),
        ("UPDATE audit_leaves SET idx = idx + 1000", "never changed"),
        ("UPDATE audit_leaves SET hash = sha256(hash)", "never changed"),
        ("DELETE FROM revisions", "never deleted"),
        ("UPDATE revisions SET number = number + 1", "never changed"),
    ] {
        assert!(database.fails(statement).contains(why), "{statement}");
    }
}

#[test]
fn a_head_that_was_moved_behind_its_back_is_never_appended_to() {
    let Some(database) = Database::new() else { return };
    let fleet = Fleet::new(&database.url(), 1, 5);
    let (server, host) = (fleet.start(0), Host::new(&fleet.token));
    let guest = Waiting::start(&host, &server.base, &platform()).unwrap();
    let placed = "SELECT count(*) FROM audit_leaves WHERE idx IS NOT NULL";
    // Waits for what is pending, as readers do.
    host.get(&format!("{}/v1/audit/entries", server.base))
        .unwrap()
        .ok();
    let before = database.sql(placed);
    database.sql("UPDATE audit_head SET size = size + 1");
    // It is durable, and pending: no place is given by somebody whose head is another's.
    guest.validate(&host, &server.base).unwrap().ok();
    host.get(&format!("{}/v1/audit/entries", server.base))
        .unwrap()
        .expect(503, "unavailable");
    assert_eq!(database.sql(placed), before);
    database.sql("UPDATE audit_head SET size = size - 1");
    host.get(&format!("{}/v1/audit/entries", server.base))
        .unwrap()
        .ok();
    assert_ne!(database.sql(placed), before);
}

#[test]
fn over_the_network_the_database_is_spoken_to_under_tls_and_must_be_the_one_it_says() {
    let authority = Pair::authority("database");
    let says = Says {
        common_name: "db.example",
        ip: Some("127.0.0.1"),
        days: 1,
        server: true,
        ..Says::default()
    };
    let pair = authority.issue(&says);
    let (certificate, key) = (
        pair.certificate.to_pem().unwrap(),
        pair.key.private_key_to_pem_pkcs8().unwrap(),
    );
    let Some(cluster) = Cluster::with_tls(&certificate, &key) else {
        return;
    };
    let database = cluster.database();
    let url = database.tcp_url(USER, "");
    let url = url.trim_end_matches('?');
    let init = |ca: &Pair, folder: &Shell| {
        folder.write("data/ca.pem", ca.certificate.to_pem().unwrap());
        folder.write(
            "data/keyward.yaml",
            format!("store:\n  postgres: {{url: '{url}', tls: {{ca_file: ca.pem}}}}\n"),
        );
        folder.run(&["init", "--owner", "acme", "--data-dir", "data"])
    };
    let said = init(&Pair::authority("somebody else"), &Shell::new()).failed();
    assert!(said.contains("certificate verify failed"), "{said}");
    let shell = Shell::new();
    init(&authority, &shell).done();
    let ssl = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'keyward'";
    let server = Server::start(&shell.path("data"));
    assert_eq!(database.sql(ssl).trim(), "t");
    drop(server);
}

#[test]
fn a_database_moves_to_postgresql_whole_and_goes_on_where_it_was() {
    let Some(database) = Database::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let token = prepare(folder.path(), 2);
    let data = folder.path().join("data");
    let data_dir = data.to_str().unwrap();
    let host = Host::new(&token);
    let server = Server::start(&data);
    let guests: Vec<Waiting> = (0..3)
        .map(|_| Waiting::start(&host, &server.base, &platform()).unwrap())
        .collect();
    guests[0].validate(&host, &server.base).unwrap().ok();
    let waits = &guests[1];
    drop(server);
    let export = |name: &str| {
        let out = folder.path().join(name);
        keyward([
            "audit",
            "export",
            "--data-dir",
            data_dir,
            "-o",
            out.to_str().unwrap(),
        ])
        .ok();
        std::fs::read_to_string(out).unwrap()
    };
    drop(Server::start(&data));
    let before = export("before.jsonl");

    let migrate = [
        "store",
        "migrate",
        "--from",
        "sqlite",
        "--to",
        "postgres",
        "--data-dir",
        data_dir,
        "-o",
        "json",
    ];
    let said = keyward(migrate).expect(1).stderr;
    assert!(said.contains("names no PostgreSQL database"), "{said}");
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(data.join("keyward.yaml")).unwrap()).unwrap();
    config["store"] = serde_json::json!({"postgres": {"url": database.url()}});
    let with_postgres = config.to_string();
    let without = std::fs::read_to_string(data.join("keyward.yaml")).unwrap();
    std::fs::write(data.join("keyward.yaml"), &with_postgres).unwrap();
    let moved: Value = serde_json::from_str(&keyward(migrate).ok().stdout).unwrap();
    assert_eq!(
        moved["records"],
        before.lines().filter(|line| line.contains("\"record\"")).count()
    );
    assert_eq!(moved["tables"]["launches"], 3);
    let again = keyward(migrate).expect(1).stderr;
    assert!(again.contains("initialised already"), "{again}");

    assert_eq!(export("after.jsonl"), before);
    let server = Server::start(&data);
    let given = waits.validate(&host, &server.base).unwrap().ok();
    assert_eq!(waits.vm.unwrap(&given)[0].1, b"hunter2");
    guests[2]
        .validate(&host, &server.base)
        .unwrap()
        .expect(403, "confirmation-required");
    guests[0].validate(&host, &server.base).unwrap().ok();
    drop(server);

    std::fs::write(data.join("keyward.yaml"), without).unwrap();
    let left = keyward(["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir])
        .expect(1)
        .stderr;
    assert!(left.contains("was moved to PostgreSQL at"), "{left}");
}

#[test]
fn nothing_is_moved_where_the_copy_is_not_what_it_was_made_of() {
    let Some(database) = Database::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), 2);
    let data = folder.path().join("data");
    let data_dir = data.to_str().unwrap();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(data.join("keyward.yaml")).unwrap()).unwrap();
    let without = config.to_string();
    config["store"] = serde_json::json!({"postgres": {"url": database.url()}});
    std::fs::write(data.join("keyward.yaml"), config.to_string()).unwrap();
    let migrate = [
        "store",
        "migrate",
        "--from",
        "sqlite",
        "--to",
        "postgres",
        "--data-dir",
        data_dir,
    ];
    // Makes the tables, and refuses to go on.
    let file = rusqlite::Connection::open(data.join("keyward.db")).unwrap();
    file.execute("ALTER TABLE workloads ADD COLUMN later TEXT", [])
        .unwrap();
    let said = keyward(migrate).expect(1).stderr;
    assert!(
        said.contains("workloads has a column that only one of the databases has: later"),
        "{said}"
    );
    file.execute("ALTER TABLE workloads DROP COLUMN later", [])
        .unwrap();
    // A copy that the database changes on its way is found out.
    database.sql(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN NEW.document := NEW.document || '' ''; RETURN NEW; END';
         CREATE TRIGGER meddle BEFORE INSERT ON workloads FOR EACH ROW EXECUTE FUNCTION meddle()",
    );
    let said = keyward(migrate).expect(1).stderr;
    assert!(said.contains("the copy of workloads differs"), "{said}");
    assert_eq!(database.sql("SELECT count(*) FROM owners").trim(), "0");
    // The file is served as before.
    std::fs::write(data.join("keyward.yaml"), without).unwrap();
    drop(Server::start(&data));
}

#[test]
fn two_servers_that_append_at_once_leave_no_gap_in_the_log() {
    let Some(database) = Database::new() else { return };
    let app = App::on(Options::default(), Place::Postgres(database));
    let other = app.again(Options::default());
    std::thread::scope(|scope| {
        for app in [&app, &other] {
            scope.spawn(move || {
                for number in 0..20 {
                    let name = format!("t{number}-{}", app.base.rsplit(':').next().unwrap());
                    let body = serde_json::json!({"name": name, "role": "auditor"});
                    app.owner("POST", "/v1/tokens", &body).expect(201, "ok");
                }
            });
        }
    });
    let entries = app
        .owner("GET", "/v1/audit/entries?limit=1000", &Value::Null)
        .ok()
        .body;
    let indexes: Vec<u64> = entries["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, (0..indexes.len() as u64).collect::<Vec<_>>());
    assert!(indexes.len() > 40);
}

/// Whether a change of an owner's would be made: a launch that is remembered.
fn begin(store: &dyn keyward::store::Store, like: &Launch, owner: &str, id: Uuid) -> bool {
    let launch = Launch {
        id,
        owner: owner.parse().unwrap(),
        workload: Uuid::new_v4(),
        state: keyward::domain::LaunchState::Pending,
        ..like.clone()
    };
    let bounds = LaunchBounds {
        per_address: 1000,
        per_pdh: 1000,
        per_workload: 1000,
    };
    match store.begin_launch(&launch, bounds) {
        Ok(begun) => begun == LaunchBegun::Stored,
        Err(_) => false,
    }
}

#[test]
fn changes_of_one_owner_that_wait_take_one_connection_and_fail_each_by_itself() {
    let Some(database) = Database::new() else { return };
    let place = Place::Postgres(database);
    let app = App::on(Options::default(), place);
    let Place::Postgres(database) = app.database.as_ref() else {
        return;
    };
    app.standard();
    let vm = app.start(&platform());
    let store = app.service.store();
    let like = store.launch(vm.id).unwrap().unwrap();
    let act = keyward::audit::actor::Act::of_server(app.service.now());
    let token = keyward::domain::token::TokenHash([7; 32]);
    store.create_owner(&"zeta".parse().unwrap(), token, &act).unwrap();

    let of_keyward = |condition: &str| {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'keyward' AND {condition}"
        );
        database.sql(&sql).trim().parse::<usize>().unwrap()
    };
    let sleeps = "SELECT count(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let made = std::thread::scope(|scope| {
        // Somebody has the owner's row, as another server may.
        let holds = scope.spawn(|| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                database
                    .sql("BEGIN; SELECT 1 FROM owners WHERE name = 'acme' FOR UPDATE; SELECT pg_sleep(600)")
            }))
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let in_time = || assert!(std::time::Instant::now() < deadline);
        while database.sql(sleeps).trim() == "0" {
            in_time();
        }
        // More than there are connections; every fifth would be a launch that is there already.
        let asked: Vec<_> = (0..25)
            .map(|number| {
                let id = if number % 5 == 0 { vm.id } else { Uuid::new_v4() };
                let like = &like;
                scope.spawn(move || begin(store, like, "acme", id))
            })
            .collect();
        while of_keyward("wait_event_type = 'Lock'") == 0 {
            in_time();
        }
        for _ in 0..3 {
            assert!(begin(store, &like, "zeta", Uuid::new_v4()));
            assert_eq!(of_keyward("wait_event_type = 'Lock'"), 1);
        }
        assert!(asked.iter().all(|asked| !asked.is_finished()));
        database.sql(&sleeps.replace("count(pid)", "pg_terminate_backend(pid)"));
        let _ = holds.join();
        let made = asked.into_iter().map(|asked| asked.join().unwrap());
        made.collect::<Vec<_>>()
    });
    for (number, made) in made.into_iter().enumerate() {
        assert_eq!(made, number % 5 != 0, "{number}");
    }
    let there = database.sql("SELECT count(*) FROM launches WHERE owner = 'acme'");
    assert_eq!(there.trim(), "21");
}
