//! `keyward import simple-kbs` from PostgreSQL: the same as from SQLite, over connections that are what was asked for.

use crate::cli_import::{LATER_TABLES, TABLES, database, rows};
use crate::support::Shell;
use crate::support::certificates::{Pair, Says};
use crate::support::cli::Ran;
use crate::support::postgres::{Cluster, Database, USER};

/// The tables in PostgreSQL's words.
fn tables() -> String {
    let words = [
        ("longtext", "text"),
        ("datetime", "timestamp"),
        ("tinyint(1)", "smallint"),
        // SQLite takes longer values, and one of the rows has one.
        ("varchar(1024)", "text"),
    ];
    let tables = format!("{TABLES}{LATER_TABLES}");
    words
        .into_iter()
        .fold(tables, |sql, (from, to)| sql.replace(from, to))
}

fn import(shell: &Shell, db: &str, out: &str, more: &[&str]) -> Ran {
    let words = [
        "import",
        "simple-kbs",
        "--no-default-policy",
        "--db",
        db,
        "--out",
        out,
    ];
    shell.run(&[words.as_slice(), more].concat())
}

/// Every file below a folder, by its name.
fn files(shell: &Shell, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in shell.list(folder) {
        let path = format!("{folder}/{name}");
        if shell.path(&path).is_dir() {
            found.extend(files(shell, &path));
        } else {
            found.push((
                path.split_once('/').unwrap().1.to_owned(),
                std::fs::read(shell.path(&path)).unwrap(),
            ));
        }
    }
    found
}

#[test]
fn a_postgresql_database_becomes_what_the_same_one_in_sqlite_does() {
    let Some(postgres) = Database::new() else { return };
    let shell = Shell::new();
    let rows = rows();
    database(&shell.path("kbs.db"), &rows);
    postgres.sql(&format!("{}{rows}", tables()));
    let of_sqlite = import(&shell, "kbs.db", "one", &[]).done();
    let of_postgres = import(&shell, &postgres.url(), "two", &[]).done();
    assert_eq!(of_postgres.replace("two", "one"), of_sqlite);
    let one = files(&shell, "one");
    assert!(one.len() > 8, "{} files", one.len());
    assert_eq!(files(&shell, "two"), one);
    assert_eq!(
        postgres.sql("SELECT count(*) FROM secrets"),
        "8\n",
        "it is only read"
    );
}

#[test]
fn tables_of_later_versions_may_be_missing_and_those_of_the_first_may_not() {
    let Some(postgres) = Database::new() else { return };
    let shell = Shell::new();
    let error = import(&shell, &postgres.url(), "taken", &[]).failed();
    assert!(
        error.contains("is no simple-kbs database that can be read")
            && error.contains("\"policy\" does not exist"),
        "{error}"
    );
    let first = tables();
    let first = first.split("CREATE TABLE report_keypair").next().unwrap();
    postgres.sql(&format!(
        "{first}; DROP TABLE conn_bundle; INSERT INTO secrets VALUES (1, 'k', 'AAAA', NULL)"
    ));
    let told = import(&shell, &postgres.url(), "taken", &[]).done();
    assert!(
        told.starts_with("taken: 0 policies, 1 secret, 0 key sets, 1 workload\n"),
        "{told}"
    );
}

#[test]
fn over_a_network_the_server_is_verified_and_a_password_comes_from_a_file() {
    let authority = Pair::authority("Database CA");
    let of = |ip| {
        authority.issue(&Says {
            common_name: "db",
            ip: Some(ip),
            days: 1,
            server: true,
            ..Says::default()
        })
    };
    let shell = Shell::new();
    authority.write(&shell.path(""), "ca");
    let pem = |pair: &Pair| {
        (
            pair.certificate.to_pem().unwrap(),
            pair.key.private_key_to_pem_pkcs8().unwrap(),
        )
    };
    let (certificate, key) = pem(&of("127.0.0.1"));
    let Some(cluster) = Cluster::with_tls(&certificate, &key) else {
        return;
    };
    let postgres = cluster.database();
    postgres.sql(&format!("{}{}", tables(), rows()));
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'word of 12'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    shell.write("word", "word of 12\n");
    shell.write("wrong", "word of 13\n");

    for mode in ["require", "verify-ca", "verify-full", "prefer"] {
        let url = postgres.tcp_url(USER, &format!("sslmode={mode}"));
        import(&shell, &url, mode, &["--db-ca", "ca.pem"]).done();
    }
    let nameless = import(&shell, &postgres.tcp_url(USER, "sslmode=verify-ca"), "taken", &[]).failed();
    assert!(nameless.contains("needs --db-ca"), "{nameless}");
    for mode in ["require", "verify-full"] {
        let url = postgres.tcp_url(USER, &format!("sslmode={mode}"));
        let unknown = import(&shell, &url, "taken", &[]).failed();
        assert!(unknown.contains("certificate verify failed"), "{mode}: {unknown}");
    }
    // The server takes nothing but TLS.
    let clear = import(&shell, &postgres.tcp_url(USER, "sslmode=disable"), "taken", &[]).failed();
    assert!(clear.contains("no encryption"), "{clear}");
    let odd = import(&shell, &postgres.tcp_url(USER, "sslmode=maybe"), "taken", &[]).failed();
    assert!(
        odd.contains("expected disable, prefer, require, verify-ca or verify-full"),
        "{odd}"
    );

    let reader = postgres.tcp_url("reader", "sslmode=require");
    let with = |word: &'static str| ["--db-ca", "ca.pem", "--db-password-file", word];
    import(&shell, &reader, "by-reader", &with("word")).done();
    let wrong = import(&shell, &reader, "taken", &with("wrong")).failed();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    let spelt = reader.replace("reader@", "reader:word%20of%2012@");
    let spelt = import(&shell, &spelt, "taken", &["--db-ca", "ca.pem"]).failed();
    assert!(
        spelt.contains("put it into a file") && !spelt.contains("word%20"),
        "{spelt}"
    );
    assert!(!shell.path("taken").exists());
}

#[test]
fn a_certificate_for_another_host_is_not_enough() {
    let authority = Pair::authority("Database CA");
    let other = authority.issue(&Says {
        common_name: "db",
        ip: Some("127.0.0.9"),
        days: 1,
        server: true,
        ..Says::default()
    });
    let shell = Shell::new();
    authority.write(&shell.path(""), "ca");
    let (certificate, key) = (
        other.certificate.to_pem().unwrap(),
        other.key.private_key_to_pem_pkcs8().unwrap(),
    );
    let Some(cluster) = Cluster::with_tls(&certificate, &key) else {
        return;
    };
    let postgres = cluster.database();
    postgres.sql(&tables());
    let from = |mode: &str| {
        let url = postgres.tcp_url(USER, &format!("sslmode={mode}"));
        import(&shell, &url, mode, &["--db-ca", "ca.pem"])
    };
    from("verify-ca").done();
    for mode in ["require", "verify-full"] {
        let refused = from(mode).failed();
        assert!(refused.contains("certificate verify failed"), "{mode}: {refused}");
    }
}

#[test]
fn a_server_that_was_killed_gives_what_was_committed_once_it_is_back() {
    let Some(cluster) = Cluster::alone(&[]) else {
        return;
    };
    let postgres = cluster.database();
    postgres.sql(&format!("{}{}", tables(), rows()));
    let shell = Shell::new();
    cluster.kill();
    let error = import(&shell, &postgres.url(), "taken", &[]).failed();
    assert!(error.contains("the database can't be reached"), "{error}");
    cluster.start();
    let told = import(&shell, &postgres.url(), "taken", &[]).done();
    assert!(told.starts_with("taken: 2 policies, 6 secrets"), "{told}");
}

#[test]
fn a_database_that_is_not_there_is_told_as_such() {
    let shell = Shell::new();
    let host = shell.path("").display().to_string().replace('/', "%2F");
    let error = import(&shell, &format!("postgres://kbs@{host}/kbs"), "taken", &[]).failed();
    assert!(error.contains("the database can't be reached"), "{error}");
    let error = import(&shell, "postgres://kbs@host:port/kbs", "taken", &[]).failed();
    assert!(
        error.contains("expected postgres://USER@HOST:PORT/DATABASE"),
        "{error}"
    );
    let ran = import(&shell, "kbs.db", "taken", &["--db-ca", "ca.pem"]);
    assert_eq!(ran.code, 64, "{}", ran.err);
    assert_eq!(shell.list(""), [""; 0]);
}
