//! Connections that want nothing but to cost something: the others are served meanwhile, and these end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use keyward::config::Tls;

use crate::support::app::Options;
use crate::support::certificates::{Pair, Says};
use crate::support::host::WORKLOAD;
use crate::support::{App, platform};

fn connected(app: &App) -> TcpStream {
    let address = app.base.split_once("://").unwrap().1;
    let socket = TcpStream::connect(address).unwrap();
    // The server's own bound is 15 s; beyond this it has none.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

fn sent(app: &App, bytes: &[u8]) -> TcpStream {
    let mut socket = connected(app);
    // One that the server has closed already has had its answer.
    let _ = socket.write_all(bytes);
    socket
}

/// All that the server says until it closes the connection.
fn said(mut socket: TcpStream) -> String {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&bytes[..count]),
            // It closes with bytes of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn heads_and_bodies_that_never_end_are_ended_while_others_are_served() {
    let app = App::new();
    app.standard();
    let begun = |bytes: &[u8]| (0..20).map(|_| sent(&app, bytes)).collect::<Vec<_>>();
    let heads = begun(b"GET /livez HTTP/1.1\r\nhost: keyward\r\nx-slow: ");
    let launch = format!(
        "POST /vm/{WORKLOAD}/launch HTTP/1.1\r\nhost: keyward\r\ncontent-length: 9000\r\n\r\n{{\"pdh\":\""
    );
    let bodies = begun(launch.as_bytes());
    let silent = begun(b"");

    // While all of those are open, a whole launch goes through.
    app.run(&platform()).1.ok();
    app.request("GET", "/readyz", &[], b"").ok();

    for socket in heads.into_iter().chain(silent) {
        let answer = said(socket);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer}"
        );
    }
    for socket in bodies {
        let answer = said(socket);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("did not arrive in time"),
            "{answer}"
        );
    }
    app.request("GET", "/readyz", &[], b"").ok();
}

#[test]
fn heads_of_enormous_size_are_refused_and_the_server_goes_on() {
    let app = App::new();
    app.standard();
    let long = "x".repeat(256 << 10);
    let many: String = (0..500).map(|number| format!("x-{number}: y\r\n")).collect();
    for (what, head) in [
        ("a URL", format!("GET /{long} HTTP/1.1\r\nhost: keyward\r\n\r\n")),
        ("a query", format!("GET /v1/secrets?cursor={long} HTTP/1.1\r\nhost: keyward\r\n\r\n")),
        ("a header", format!("GET /livez HTTP/1.1\r\nhost: keyward\r\nx-long: {long}\r\n\r\n")),
        ("a token", format!("GET /v1/secrets HTTP/1.1\r\nhost: keyward\r\nauthorization: Bearer {long}\r\n\r\n")),
        ("many headers", format!("GET /livez HTTP/1.1\r\nhost: keyward\r\n{many}\r\n")),
        ("no HTTP", "\u{16}\u{3}\u{1}hello".repeat(100)),
        ("two lengths", "POST /v1/apply HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef".to_owned()),
        (
            "length and chunks",
            "POST /v1/apply HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
    ] {
        let mut socket = sent(&app, head.as_bytes());
        socket.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        let mut first = [0; 12];
        let answer = match socket.read(&mut first) {
            Ok(count) => String::from_utf8_lossy(&first[..count]).into_owned(),
            Err(_) => String::new(),
        };
        // Turned away with a client's error, or without a word.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        app.request("GET", "/livez", &[], b"").ok();
    }
}

#[test]
fn json_without_an_end_to_its_depth_is_malformed() {
    let app = App::new();
    app.standard();
    let (owner, depth) = (format!("Bearer {}", app.token), 30_000);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for whole in [false, true] {
            let mut body = open.repeat(depth / open.len());
            if whole {
                body.push('1');
                body.push_str(&close.repeat(depth / open.len()));
            }
            for (path, headers) in [
                (format!("/vm/{WORKLOAD}/launch"), &[][..]),
                (format!("/vm/{WORKLOAD}/validate"), &[]),
                ("/v1/apply".to_owned(), &[("authorization", owner.as_str())]),
            ] {
                app.request("POST", &path, headers, body.as_bytes())
                    .expect(400, "malformed");
            }
        }
    }
    app.run(&platform()).1.ok();
}

#[test]
fn a_client_may_not_have_the_handshake_again_and_again() {
    let authority = Pair::authority("Test CA");
    let server = authority.issue(&Says {
        common_name: "keyward",
        ip: Some("127.0.0.1"),
        days: 1,
        server: true,
        ..Says::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = server.write(folder.path(), "server");
    let tls = serde_json::json!({"certificate": certificate, "key": key});
    let tls: Tls = serde_json::from_value(tls).unwrap();
    let app = App::with(Options {
        tls: Some(tls),
        ..Options::default()
    });
    let address = app.base.strip_prefix("https://").unwrap();
    let mut client = std::process::Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            address,
            "-tls1_2",
            "-quiet",
            "-no_ign_eof",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // `R` is s_client's word for: renegotiate.
    client.stdin.take().unwrap().write_all(b"R\n").unwrap();
    let ended = client.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        told.contains("RENEGOTIATING") && told.contains("no renegotiation"),
        "{told}"
    );
}
