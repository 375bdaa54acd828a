//! The listener of simple-kbs's clients, as `serve` runs it.

use std::net::TcpStream;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::support::Shell;
use crate::support::certificates::{Pair, Says};

/// What `serve` says with this under `simple_kbs`.
#[track_caller]
fn refused(rest: &str) -> String {
    let shell = Shell::initialised();
    let configuration = format!("listen: 127.0.0.1:0\nkds: {{url: ''}}\n{rest}");
    shell.write("data/keyward.yaml", configuration);
    let error = shell.run(&["serve", "--data-dir", "data"]).failed();
    let mut told = error.lines().filter(|line| line.starts_with("error: "));
    let first = told.next().expect(&error).to_owned();
    assert_eq!(told.next(), None, "{error}");
    first
}

#[test]
fn what_can_not_be_served_is_told_at_the_start() {
    for (configuration, expected) in [
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: nobody, workloads: [web]}",
            "simple_kbs: there is no owner nobody in this data folder",
        ),
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: []}",
            "configuration key `simple_kbs.workloads`: must name at least one workload of the owner",
        ),
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web, web]}",
            "configuration key `simple_kbs.workloads`: names web twice",
        ),
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web], connection_requests: 0}",
            "configuration key `simple_kbs.connection_requests`: must be 1 to 1000000",
        ),
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web], policy: 3}",
            "unknown key `policy`",
        ),
        (
            "simple_kbs: {listen: '0.0.0.0:0', owner: acme, workloads: [web]}",
            "simple_kbs: 0.0.0.0:0 is not a loopback address and there is no TLS",
        ),
        (
            "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web], tls: {certificate: none, key: none}}",
            "TLS certificate",
        ),
    ] {
        let error = refused(configuration);
        assert!(error.contains(expected), "{error}");
    }
}

fn frame(mut stream: impl std::io::Read + std::io::Write) -> u8 {
    // The preface and empty settings; the answer begins with settings, whose type is 4.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    head[3]
}

#[test]
fn it_serves_over_tls_and_ends_with_the_server() {
    let shell = Shell::initialised();
    let authority = Pair::authority("the test's authority");
    let pair = authority.issue(&Says {
        dns: Some("localhost"),
        server: true,
        ..Says::client("localhost")
    });
    let (certificate, key) = pair.write(&shell.path(""), "kbs");
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\nsimple_kbs: {{listen: '127.0.0.1:0', owner: acme, workloads: [web], tls: {{certificate: {}, key: {}}}}}\n",
            certificate.display(),
            key.display()
        ),
    );
    let server = shell.serve(&[]);
    let address = server
        .before
        .trim_end()
        .strip_prefix("simple-kbs clients of acme are served on https://")
        .unwrap()
        .to_owned();
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_alpn_protos(b"\x02h2").unwrap();
    let connector = connector.build();
    let tls = connector
        .connect("localhost", TcpStream::connect(&address).unwrap())
        .unwrap();
    assert_eq!(tls.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(frame(tls), 4);
    // One that stays open does not hold up the end.
    let _idle = TcpStream::connect(&address).unwrap();
    let (code, text) = server.stop();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("simple_kbs: acme has no workload web yet"),
        "{text}"
    );
}

#[test]
fn without_tls_it_speaks_http_2_in_the_clear() {
    let shell = Shell::initialised();
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\nsimple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web]}\n",
    );
    let server = shell.serve(&[]);
    let address = server
        .before
        .trim_end()
        .strip_prefix("simple-kbs clients of acme are served on http://")
        .unwrap();
    assert_eq!(frame(TcpStream::connect(address).unwrap()), 4);
    assert_eq!(server.stop().0, 0);
}

#[test]
fn plaintext_beyond_loopback_is_warned_of() {
    let shell = Shell::initialised();
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_plaintext_http: true\nsimple_kbs: {listen: '0.0.0.0:0', owner: acme, workloads: [web]}\n",
    );
    let (code, text) = shell.serve(&[]).stop();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("simple_kbs: 0.0.0.0:0 is served without TLS"),
        "{text}"
    );
}
