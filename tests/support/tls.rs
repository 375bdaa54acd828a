//! TLS as a client sees it: whose certificate is shown, which authorities are asked for, and a connection that stays.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use openssl::hash::MessageDigest;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion};

use super::certificates::Pair;

/// A connection of HTTP/1.1 that stays.
pub(crate) struct Held(BufReader<SslStream<TcpStream>>);

/// A client that looks at everything and believes anything.
pub(crate) fn connector() -> SslConnectorBuilder {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector
}

/// With one version alone.
pub(crate) fn only(version: SslVersion) -> SslConnectorBuilder {
    let mut connector = connector();
    connector.set_min_proto_version(Some(version)).unwrap();
    connector.set_max_proto_version(Some(version)).unwrap();
    connector
}

/// Makes a connection; none: there was none.
pub(crate) fn connect(address: &str, connector: SslConnectorBuilder) -> Option<SslStream<TcpStream>> {
    let stream = TcpStream::connect(address).unwrap();
    connector.build().connect("localhost", stream).ok()
}

/// Fingerprint of the certificate that a server shows over this version.
pub(crate) fn shown(address: &str, version: SslVersion) -> String {
    let stream = connect(address, only(version)).expect("no connection");
    fingerprint(&stream)
}

fn fingerprint(stream: &SslStream<TcpStream>) -> String {
    let certificate = stream.ssl().peer_certificate().unwrap();
    hex::encode(certificate.digest(MessageDigest::sha256()).unwrap())
}

impl Held {
    /// One that was made with this client certificate.
    pub(crate) fn new(address: &str, own: Option<&Pair>) -> Self {
        let mut connector = connector();
        if let Some(own) = own {
            connector.set_certificate(&own.certificate).unwrap();
            connector.set_private_key(&own.key).unwrap();
        }
        Self(BufReader::new(
            connect(address, connector).expect("no connection"),
        ))
    }

    /// Whose certificate the server showed.
    pub(crate) fn server(&self) -> String {
        fingerprint(self.0.get_ref())
    }

    /// The status of a GET, and whether the connection stays; none: it is gone.
    pub(crate) fn get(&mut self, path: &str, token: Option<&str>) -> Option<(u16, bool)> {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
            token.unwrap_or_default()
        );
        self.0.get_mut().write_all(head.as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let (mut length, mut stays) = (0, true);
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header).unwrap();
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            stays &= header != "connection: close";
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Some((status, stays))
    }
}
