//! The log of a server that runs: every line of a request says which, and nobody outside can write a line.

use keyward::domain::token::Token;
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use serde_json::Value;

use crate::support::Shell;
use crate::support::kbs::Kbs;

/// A shell whose server logs in this form.
fn shell(format: &str) -> Shell {
    let shell = Shell::initialised();
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\nlog_format: {format}\nsimple_kbs: {{listen: '127.0.0.1:0', owner: acme, workloads: [web]}}\n"
        ),
    );
    shell
}

/// The lines of a log in JSON, each an object with what every line has.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")) };
    let lines: Vec<Value> = text.lines().map(parse).collect();
    for line in &lines {
        assert!(line.is_object(), "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(["error", "warn", "info"].contains(&line["level"].as_str().unwrap()));
        assert!(line["target"].as_str().unwrap().starts_with("keyward"));
        assert!(line["message"].is_string());
    }
    lines
}

/// What was logged with this in its message.
#[track_caller]
fn with<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    let found = lines
        .iter()
        .find(|line| line["message"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("{what}: {lines:#?}"))
}

/// The id that a problem document tells.
fn id(body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body["request_id"].is_string(), "{body}");
    body["request_id"].clone()
}

/// Has the store fail with a text that somebody else chose.
const FORGED: &str = "2026-01-01T00:00:00.000Z ERROR keyward] forged";

fn forge(shell: &Shell) {
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    let sql = format!(
        "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; ALTER TABLE bundles RENAME TO gone; CREATE VIEW bundles AS SELECT * FROM \"x\n[{FORGED}\u{1b}[2J\u{2028}\";"
    );
    database.execute_batch(&sql).unwrap();
}

/// A token of the right form that nobody was given.
fn stranger_s() -> String {
    let token = Token::from_random(&new_key(&SystemRandom).unwrap());
    format!("Bearer {}", token.expose())
}

fn owners_get(shell: &Shell, server: &crate::support::cli::Server, path: &str) -> (u16, String) {
    let bearer = format!("Bearer {}", shell.read("token").trim());
    server.send("GET", path, &[("authorization", &bearer)], b"")
}

#[test]
fn every_line_of_a_request_has_its_id_in_json_wherever_it_is_worked_on() {
    let shell = shell("json");
    let server = shell.serve(&[]);
    let (status, unknown) = server.send("GET", "/v1/secrets", &[("authorization", "Bearer kw_x")], b"");
    assert_eq!(status, 401);
    let bearer = stranger_s();
    let (status, stranger) = server.send("GET", "/v1/secrets", &[("authorization", &bearer)], b"");
    assert_eq!(status, 401);
    forge(&shell);
    let (status, broken) = owners_get(&shell, &server, "/v1/bundles");
    assert_eq!(status, 503, "{broken}");

    let address = server.before.trim_end().rsplit('/').next().unwrap().to_owned();
    assert!(Kbs::at(&address).bundle(b"no chain", 3).is_err());
    let (code, text) = server.stop();
    assert_eq!(code, 0, "{text}");

    let lines = lines(&text);
    let told = |what: &str| &with(&lines, what)["request_id"];
    // In the order in which they came: the first is turned away by its form, of the second it is said why.
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "GET /v1/secrets")
        .collect();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (&requests[0]["request_id"], &requests[0]["status"]),
        (&id(&unknown), &Value::from(401))
    );
    assert_eq!(requests[1]["request_id"], id(&stranger));
    assert_eq!(*told("the caller is unknown"), id(&stranger));
    // The store failed on another thread than the one that answered.
    assert_eq!(*told("no such table"), id(&broken));
    assert_eq!(*told("GET /v1/bundles"), id(&broken));
    let call = told("simple-kbs GetBundle");
    assert!(call.is_string());
    // What is of no request has none.
    assert!(with(&lines, "stopping").get("request_id").is_none());
}

#[test]
fn what_came_from_outside_forges_no_line_in_either_form() {
    for format in ["text", "json"] {
        let shell = shell(format);
        let server = shell.serve(&[]);
        forge(&shell);
        let (status, broken) = owners_get(&shell, &server, "/v1/bundles");
        assert_eq!(status, 503, "{broken}");
        // A path as it came, escaped as URLs are.
        server.send("GET", "/a%0a[forged]%1b", &[], b"");
        let (_, text) = server.stop();
        let about: Vec<_> = text.lines().filter(|line| line.contains("forged")).collect();
        assert!(about.iter().any(|line| line.contains("no such table")), "{text}");
        for line in about {
            assert!(!line.starts_with(&format!("[{FORGED}")), "{text}");
        }
        let printable = |c: char| c == '\n' || !(c.is_control() || c == '\u{2028}');
        assert!(text.chars().all(printable), "{text:?}");
        if format == "json" {
            let lines = lines(&text);
            // Nothing of it is lost.
            let message = with(&lines, "no such table")["message"].as_str().unwrap();
            assert!(
                message.contains(&format!("\n[{FORGED}\u{1b}[2J\u{2028}")),
                "{message:?}"
            );
        }
    }
}

#[test]
fn text_has_the_request_s_id_too() {
    let shell = shell("text");
    let server = shell.serve(&[]);
    let token = stranger_s();
    let (_, stranger) = server.send("GET", "/v1/secrets", &[("authorization", &token)], b"");
    let (_, text) = server.stop();
    let id = format!("request_id={}", id(&stranger).as_str().unwrap());
    let lines: Vec<_> = text.lines().filter(|line| line.contains(&id)).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains(" INFO  keyward::http::auth] the caller is unknown: "),
        "{text}"
    );
    assert!(
        lines[1].contains("] GET /v1/secrets ") && lines[1].contains(" status=401"),
        "{text}"
    );
}

#[test]
fn the_form_is_a_key_of_the_configuration_and_a_variable() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LOG_FORMAT", "json");
    let (_, text) = shell.serve(&[]).stop();
    lines(&text);
    shell.set("KEYWARD_LOG_FORMAT", "xml");
    let error = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert_eq!(
        error,
        "error: environment variable KEYWARD_LOG_FORMAT: unknown variant `xml`, expected `text` or `json`\n"
    );
}

#[test]
fn a_command_that_warns_does_so_on_its_standard_error() {
    let shell = Shell::initialised();
    shell.write("data/keyward.yaml", "kds: {url: ''}\nkey_file: keyward.key\n");
    let to = "{file: elsewhere.key}";
    shell
        .run(&["keys", "rotate", "--data-dir", "data", "--to", to])
        .done();
    let checked = shell.run(&["keys", "check", "--data-dir", "data"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(
        checked
            .err
            .starts_with("warning: the key of this data folder is in ")
            && checked.err.lines().count() == 1,
        "{}",
        checked.err
    );
    assert!(checked.out.contains("active"), "{}", checked.out);
}
