//! Bodies: how much of one is read, and how what is wrong in one is named. Spoken on a bare socket where a
//! client library would send what a test leaves out.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::{WORKLOAD, launch_request};
use crate::support::{App, platform};

/// A connection on which a request's head was sent; no answer within ten seconds is a failure.
fn head(app: &App, head: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(head).unwrap();
    socket.write_all(b"\r\nhost: keyward\r\n\r\n").unwrap();
    socket
}

/// Status and problem of the answer.
fn answer(mut socket: TcpStream) -> (u16, String) {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut buffer).expect("an answer");
        text.extend_from_slice(&buffer[..read]);
        let all = String::from_utf8_lossy(&text);
        if read == 0 || (all.contains("\r\n\r\n") && all.ends_with('}')) {
            let status = all.split(' ').nth(1).unwrap().parse().unwrap();
            let body: Value = serde_json::from_str(all.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            return (status, body["type"].as_str().unwrap().to_owned());
        }
    }
}

fn problem(status: u16, name: &str) -> (u16, String) {
    (status, format!("/problems/{name}"))
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_any_of_it_is_sent() {
    let app = App::new();
    let owner = format!("authorization: Bearer {}\r\n", app.token);
    for (path, token, length) in [
        (format!("/vm/{WORKLOAD}/launch"), "", (64 << 10) + 1),
        (format!("/vm/{WORKLOAD}/validate"), "", u64::MAX / 2),
        (format!("/vm/{WORKLOAD}"), &owner, (64 << 10) + 1),
        ("/v1/apply".to_owned(), &owner, (96 << 20) + 1),
    ] {
        let asked = format!("POST {path} HTTP/1.1\r\n{token}content-length: {length}");
        let answered = answer(head(&app, asked.as_bytes()));
        assert_eq!(answered, problem(413, "too-large"), "{path}");
    }
}

#[test]
fn a_body_that_does_not_say_how_long_it_is_is_read_up_to_the_limit() {
    let app = App::new();
    let asked = format!(
        "POST /v1/apply HTTP/1.1\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked",
        app.token
    );
    let mut socket = head(&app, asked.as_bytes());
    let chunk = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
    // The server ends it; whether the last writes still arrive depends on when.
    let sent = (0..100).take_while(|_| socket.write_all(&chunk).is_ok()).count();
    assert!(sent >= 96, "only {sent} MiB were read");
    assert_eq!(answer(socket), problem(413, "too-large"));
}

#[test]
fn without_a_token_no_body_is_waited_for() {
    let app = App::new();
    for path in ["/v1/apply", &format!("/vm/{WORKLOAD}")] {
        let asked = format!("POST {path} HTTP/1.1\r\ncontent-length: 60000");
        let answered = answer(head(&app, asked.as_bytes()));
        assert_eq!(answered, problem(401, "unauthorized"), "{path}");
    }
}

#[test]
fn what_is_wrong_in_an_object_is_named_with_its_member_and_shows_no_value() {
    let app = App::new();
    let secret = |name: &str, value: Value| {
        let mut secret = json!({
            "kind": "Secret", "name": "disk", "type": "opaque", "value": {"base64": "aHVudGVyMg=="},
        });
        secret[name] = value;
        secret
    };
    let workload = json!({
        "kind": "Workload", "name": "web", "scheme": "amd-sev", "secrets": [],
        "images": [{"name": "one", "firmware": "ovmf", "vcpus": ["hunter2"]}],
    });
    for (objects, path) in [
        (json!([secret("value", json!("hunter2"))]), "objects[0].value"),
        (
            json!([secret("value", json!({"base64": "hunter2!"}))]),
            "objects[0].value",
        ),
        (
            json!([secret("value", json!({"text": "hunter2"}))]),
            "objects[0].value",
        ),
        (json!([secret("guid", json!("hunter2"))]), "objects[0].guid"),
        (json!([secret("name", json!("hunter2 "))]), "objects[0].name"),
        (json!([secret("type", json!("hunter2"))]), "objects[0].type"),
        (
            json!([secret("policies", json!([["hunter2"]]))]),
            "objects[0].policies[0]",
        ),
        (
            json!([secret("passphrase", json!("hunter2"))]),
            "objects[0]`: unknown field `passphrase`",
        ),
        (
            json!([secret("a", json!(1)), {"kind": "hunter2"}]),
            "objects[1].kind",
        ),
        (json!([{"name": "hunter2"}]), "objects[0]"),
        (json!([{"kind": "KeySet", "name": "all"}, workload]), "objects[0]"),
        (json!([workload]), "objects[0].images[0].vcpus[0]"),
        (json!({"objects": "hunter2"}), "objects"),
        (json!("hunter2"), "objects"),
    ] {
        let reply = app.try_apply(objects.clone()).expect(400, "malformed");
        let told = reply.detail();
        assert!(told.starts_with(&format!("`{path}")), "{objects}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    for body in [
        json!([]),
        json!({}),
        json!({"objects": [], "dry_run": "hunter2"}),
        json!({"objects": [], "hunter": 2}),
    ] {
        app.owner("POST", "/v1/apply", &body).expect(400, "malformed");
    }
}

#[test]
fn an_object_may_have_its_kind_anywhere_but_once() {
    let app = App::new();
    let with = |members: &str| format!("{{\"dry_run\": true, \"objects\": [{{{members}}}]}}");
    let rest = r#""name": "all", "secrets": []"#;
    for (members, status) in [
        (format!(r#""kind": "KeySet", {rest}"#), 200),
        (format!(r#"{rest}, "kind": "KeySet""#), 200),
        (format!(r#"{rest}, "kind": "KeySet", "kind": "Secret""#), 400),
    ] {
        let bearer = format!("Bearer {}", app.token);
        let reply = app.request(
            "POST",
            "/v1/apply",
            &[("authorization", &bearer)],
            with(&members).as_bytes(),
        );
        assert_eq!(reply.status, status, "{members}: {}", reply.body);
    }
}

#[test]
fn a_host_behind_a_proxy_can_t_spoil_its_address() {
    let app = App::new();
    app.standard();
    let body = launch_request(&platform()).to_string();
    let ask = |forwarded: &[u8]| {
        let length = body.len();
        let asked =
            format!("POST /vm/{WORKLOAD}/launch HTTP/1.1\r\ncontent-length: {length}\r\nx-forwarded-for: ");
        let mut socket = head(&app, &[asked.as_bytes(), forwarded].concat());
        socket.write_all(body.as_bytes()).unwrap();
        socket
    };
    // What the client wrote is in front, and whatever it is, the proxy's part counts.
    let mut text = [0; 12];
    ask(b"\xff\xfe, 192.0.2.7").read_exact(&mut text).unwrap();
    assert_eq!(&text, b"HTTP/1.1 200");
    assert_eq!(app.decisions().len(), 0);
    for forwarded in [&b"unknown"[..], b"192.0.2.7, \xff", b"192.0.2.7,"] {
        assert_eq!(answer(ask(forwarded)), problem(400, "malformed"), "{forwarded:?}");
    }
}

#[test]
fn pages_that_are_only_read_have_a_head_and_no_other_methods() {
    let app = App::new();
    for path in ["/livez", "/readyz", "/problems/denied"] {
        let reply = app.request("HEAD", path, &[], b"");
        assert_eq!((reply.status, &reply.body), (200, &json!("")), "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let reply = app.request(method, path, &[], b"");
            reply.expect(405, "method-not-allowed");
        }
    }
}

#[test]
fn every_kind_of_problem_has_a_page_that_says_what_it_is() {
    let app = App::new();
    let kinds = "malformed unauthorized forbidden denied confirmation-required approval-required not-found method-not-allowed launch-used \
                 conflict wrong-state launch-expired too-large chain-invalid measurement-mismatch invalid too-many-requests \
                 unavailable";
    for kind in kinds.split_whitespace() {
        let page = app.request("GET", &format!("/problems/{kind}"), &[], b"");
        assert_eq!(
            (page.status, page.headers["content-type"].as_str()),
            (200, "text/html; charset=utf-8")
        );
        let text = page.body.as_str().unwrap();
        assert!(
            text.contains(&format!("<title>{kind} · Keyward</title>")),
            "{text}"
        );
        assert_eq!(text.matches("<h1>").count(), 1);
        assert!(!text.contains('`'), "a code span is open: {text}");
    }
    app.request("GET", "/problems/nothing", &[], b"")
        .expect(404, "not-found");
}
