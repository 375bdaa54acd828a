//! `keyward import simple-kbs`: what a database holds becomes manifests that apply takes, and in doubt denies.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use serde_json::Value;

use crate::support::Shell;
use crate::support::cli::transcript;
use crate::support::host::IMAGE;

/// The tables as simple-kbs makes them on SQLite.
pub(crate) const TABLES: &str = "
CREATE TABLE conn_bundle (id varchar(512) NOT NULL PRIMARY KEY, policy int, symkey varchar(512));
CREATE TABLE keysets (id INTEGER PRIMARY KEY, keysetid varchar(50) NOT NULL UNIQUE, kskeys longtext, polid int);
CREATE TABLE policy (id INTEGER PRIMARY KEY, allowed_digests longtext, allowed_policies longtext,
  min_fw_api_major int, min_fw_api_minor int, allowed_build_ids longtext, create_date datetime, delete_date datetime,
  valid tinyint(1));
CREATE TABLE secrets (id INTEGER PRIMARY KEY, secret_id varchar(1024) UNIQUE, secret varchar(1024), polid int);
";
pub(crate) const LATER_TABLES: &str = "
CREATE TABLE report_keypair (id INTEGER PRIMARY KEY, key_id varchar(1024) UNIQUE, keypair varchar(1024), polid int);
CREATE TABLE resources (id INTEGER PRIMARY KEY, resource_id varchar(1024) UNIQUE, resource_type varchar(1024),
  resource_path varchar(1024), polid int);
";

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn database(path: &Path, rows: &str) {
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch(TABLES).unwrap();
    database.execute_batch(LATER_TABLES).unwrap();
    database.execute_batch(rows).unwrap();
}

/// A database with one of everything, and of everything that is wrong.
pub(crate) fn rows() -> String {
    let digest = base64(&sha256(IMAGE));
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let key = base64(&key.private_key_to_pkcs8().unwrap());
    let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let rsa = base64(&rsa.private_key_to_pkcs8().unwrap());
    let long = base64(&[7; 16_400]);
    format!(
        "INSERT INTO policy VALUES (1, '[\"{digest}\"]', '[3]', 1, 40, '[7, 8]', NULL, NULL, 1);
         INSERT INTO policy VALUES (2, '[\"{digest}\", \"junk\"]', '[3, 1]', 0, 0, '[]', NULL, NULL, 1);
         INSERT INTO policy VALUES (3, '[\"{digest}\"]', '[3]', 0, 0, '[]', NULL, NULL, 0);
         INSERT INTO policy VALUES (4, 'no list', '[3]', 0, 0, '[]', NULL, NULL, 1);
         INSERT INTO secrets VALUES (1, 'key_id1', 'RcHGava52DPvj1uoIk/NVDYlwxi0A6yyIZ8ilhEX3X4=', 1);
         INSERT INTO secrets VALUES (2, 'key_id2', 'AP8H', 2);
         INSERT INTO secrets VALUES (3, 'free', 'AAAA', NULL);
         INSERT INTO secrets VALUES (4, 'withdrawn', 'AAAA', 3);
         INSERT INTO secrets VALUES (5, 'dangling', 'AAAA', 99);
         INSERT INTO secrets VALUES (6, 'kbs:///a/b/c', 'AAAA', NULL);
         INSERT INTO secrets VALUES (7, 'junk', '?', NULL);
         INSERT INTO secrets VALUES (8, 'long', '{long}', 1);
         INSERT INTO report_keypair VALUES (2, 'rsa', '{rsa}', 1);
         INSERT INTO resources VALUES (4, 'link', 'file', 'link', 1);
         INSERT INTO resources VALUES (5, 'folder', 'file', 'folder', 1);
         INSERT INTO resources VALUES (6, 'large', 'file', 'large.bin', 1);
         INSERT INTO keysets VALUES (1, 'KEYSET-1', '[\"key_id1\", \"key_id2\"]', NULL);
         INSERT INTO keysets VALUES (2, 'KEYSET-2', '[\"key_id1\", \"gone\"]', NULL);
         INSERT INTO keysets VALUES (3, 'KEYSET-3', '[\"key_id2\"]', 4);
         INSERT INTO report_keypair VALUES (1, 'reports', '{key}', 1);
         INSERT INTO resources VALUES (1, 'motd', 'file', 'motd.txt', 1);
         INSERT INTO resources VALUES (2, 'passwd', 'file', '../passwd', 1);
         INSERT INTO resources VALUES (3, 'missing', 'file', 'missing.txt', 1);
         INSERT INTO conn_bundle VALUES ('x', 3, 'AAAA');"
    )
}

const FROM: &[&str] = &["import", "simple-kbs", "--db", "kbs.db", "--out", "taken"];
const IMPORT: &[&str] = &[
    "import",
    "simple-kbs",
    "--no-default-policy",
    "--db",
    "kbs.db",
    "--out",
    "taken",
];

#[test]
fn a_database_becomes_a_folder_that_apply_takes() {
    let mut shell = Shell::initialised();
    database(&shell.path("kbs.db"), &rows());
    shell.write("files/motd.txt", "a file\n");
    shell.write("files/folder/x", "x");
    shell.write("files/large.bin", [7; 20_000]);
    shell.write("outside", "what nobody is to be given");
    std::os::unix::fs::symlink("../outside", shell.path("files/link")).unwrap();
    let told = shell.run(&[IMPORT, &["--resources", "files"]].concat()).done();
    transcript("import-simple-kbs.txt", &told);

    let mode = |path: &str| std::fs::metadata(shell.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("taken"), mode("taken/values")), (0o700, 0o700));
    for file in shell.list("taken/values") {
        assert_eq!(mode(&format!("taken/values/{file}")), 0o600);
    }
    assert_eq!(mode("taken/manifests.yaml"), 0o600);
    assert_eq!(
        std::fs::read(shell.path("taken/values/0002")).unwrap(),
        [0, 255, 7]
    );
    shell.run(&["policy", "check", "taken/policy"]).done();

    let _server = shell.served();
    shell.run(&["apply", "-f", "taken/manifests.yaml"]).done();
    let shown = |kind: &str, name: &str| shell.run(&["get", kind, name, "-o", "yaml"]).done();
    for (kind, name, expected) in [
        ("Secret", "key_id1", "simple_kbs.policy_1"),
        ("Secret", "free", "keyward.workload"),
        ("Secret", "withdrawn", "simple_kbs.withdrawn"),
        ("Secret", "dangling", "simple_kbs.withdrawn"),
        ("Secret", "reports", "type: report-key"),
        ("KeySet", "KEYSET-1", "key_id2"),
        ("KeySet", "KEYSET-3", "simple_kbs.withdrawn"),
        ("Workload", "simple-kbs", &hex::encode(sha256(IMAGE))),
    ] {
        let text = shown(kind, name);
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn what_was_imported_decides_as_it_did_and_denies_what_was_withdrawn() {
    let shell = Shell::new();
    database(&shell.path("kbs.db"), &rows());
    shell.run(IMPORT).done();
    let mut good = shell.run(&["psp", "input"]).json();
    let proved = [
        ("launch_digest", Value::from(hex::encode(sha256(IMAGE)))),
        ("policy", 3.into()),
        ("api_major", 1.into()),
        ("api_minor", 55.into()),
        ("build_id", 8.into()),
    ];
    for (member, value) in proved {
        good["attested"][member] = value;
    }
    let eval = |policy: &str, input: &Value| {
        shell.write("input.json", input.to_string());
        let ran = shell.run(&[
            "policy",
            "eval",
            "taken/policy",
            "--policy",
            policy,
            "--phase",
            "release",
            "--input",
            "input.json",
        ]);
        assert!(ran.code == 0 || ran.code == 2, "{}{}", ran.out, ran.err);
        ran.code == 0
    };
    assert!(eval("simple_kbs.policy_1", &good));
    let with = |member: &str, value: Value| {
        let mut input = good.clone();
        input["attested"][member] = value;
        input
    };
    for (member, value) in [
        ("build_id", Value::from(9)),
        ("policy", 1.into()),
        ("launch_digest", "00".repeat(32).into()),
        ("api_minor", 39.into()),
        ("api_major", 0.into()),
    ] {
        assert!(
            !eval("simple_kbs.policy_1", &with(member, value.clone())),
            "{member} {value}"
        );
    }
    assert!(eval("simple_kbs.policy_2", &with("build_id", 9.into())));
    assert!(eval("simple_kbs.policy_2", &with("policy", 1.into())));
    assert!(!eval("simple_kbs.withdrawn", &good));
}

#[test]
fn a_policy_that_allowed_any_digest_is_not_applied_as_it_is() {
    let mut shell = Shell::initialised();
    database(
        &shell.path("kbs.db"),
        "INSERT INTO policy VALUES (1, '[]', '[]', 0, 0, '[]', NULL, NULL, 1);
         INSERT INTO secrets VALUES (1, 'k', 'AAAA', 1);",
    );
    let told = shell.run(IMPORT).done();
    assert!(
        told.contains("policy 1 names no launch digests, which simple-kbs took for «any»"),
        "{told}"
    );
    let _server = shell.served();
    let refused = shell.run(&["apply", "-f", "taken/manifests.yaml"]).failed();
    assert!(refused.contains("names no launch digests or images"), "{refused}");
}

#[test]
fn the_default_policy_holds_for_every_secret() {
    let shell = Shell::new();
    database(&shell.path("kbs.db"), &rows());
    let digest = base64(&sha256(IMAGE));
    shell.write(
        "default.json",
        format!(
            "{{\"allowed_digests\": [\"{digest}\"], \"allowed_policies\": [7], \"min_fw_api_major\": 0, \"min_fw_api_minor\": 0, \"allowed_build_ids\": []}}"
        ),
    );
    let told = shell
        .run(&[FROM, &["--default-policy", "default.json"]].concat())
        .done();
    assert!(!told.contains("keyward.workload"), "{told}");
    assert!(told.contains("simple-kbs-es"), "{told}");
    let manifests = shell.read("taken/manifests.yaml");
    assert!(
        manifests.matches("- simple_kbs.default_policy").count() >= 5,
        "{manifests}"
    );
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let shell = Shell::new();
    database(&shell.path("kbs.db"), "");
    shell.write("other.db", "no database");
    std::fs::create_dir(shell.path("there")).unwrap();
    let import = |db: &str, out: &str| {
        shell
            .run(&[
                "import",
                "simple-kbs",
                "--no-default-policy",
                "--db",
                db,
                "--out",
                out,
            ])
            .failed()
    };
    assert!(import("mysql://kbs:word@host/db", "taken").contains("expected a SQLite file or postgres://"));
    assert!(
        !import("mysql://kbs:word@host/db", "taken").contains("word"),
        "a URL may hold a password"
    );
    assert_eq!(import("none.db", "taken"), "error: there is no file none.db\n");
    assert!(import("other.db", "taken").contains("is no simple-kbs database that can be read"));
    assert!(import("kbs.db", "there").contains("exists already"));
    // A link that leads nowhere is there, too.
    std::os::unix::fs::symlink("elsewhere", shell.path("link")).unwrap();
    assert!(import("kbs.db", "link").contains("exists already"));
    assert_eq!(shell.list(""), ["kbs.db", "link", "other.db", "there"]);
}

#[test]
fn whether_there_was_a_default_policy_has_to_be_said() {
    let shell = Shell::new();
    database(&shell.path("kbs.db"), &rows());
    shell.write("default.json", "{}");
    let ran = shell.run(FROM);
    assert_eq!(ran.code, 64, "{}", ran.err);
    assert!(
        ran.err.contains("<--default-policy <FILE>|--no-default-policy>"),
        "{}",
        ran.err
    );
    let both = shell.run(&[IMPORT, &["--default-policy", "default.json"]].concat());
    assert_eq!(both.code, 64, "{}", both.err);
    assert_eq!(shell.list(""), ["default.json", "kbs.db"]);
}
