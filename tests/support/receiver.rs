//! A receiver of webhooks on loopback, which answers what a test says and remembers what it was sent.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::time::Duration;

use base64::Engine as _;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::Value;

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Whether one of the signatures is that of this secret over id, time and body.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let standard = base64::engine::general_purpose::STANDARD;
        let key = standard.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = PKey::hmac(&key).unwrap();
        let content = format!(
            "{}.{}.{}",
            self.id(),
            self.headers["webhook-timestamp"],
            self.body
        );
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let signature = standard.encode(signer.sign_oneshot_to_vec(content.as_bytes()).unwrap());
        let all = &self.headers["webhook-signature"];
        all.split(' ').any(|one| one == format!("v1,{signature}"))
    }
}

/// The receiver.
pub(crate) struct Receiver {
    pub(crate) url: String,
    calls: Channel<Call>,
}

impl Receiver {
    /// Starts one; `answer` is called with the number of each call, from 0 on, and says what is sent back as it is.
    pub(crate) fn start(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
        Self::listen("http", Some, answer)
    }

    /// The same over TLS, with a certificate and its key, both PEM files. Who does not trust it is not heard.
    pub(crate) fn start_tls(
        certificate: &Path,
        key: &Path,
        answer: impl Fn(usize) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor
            .set_certificate_file(certificate, SslFiletype::PEM)
            .unwrap();
        acceptor.set_private_key_file(key, SslFiletype::PEM).unwrap();
        let acceptor = acceptor.build();
        Self::listen("https", move |stream| acceptor.accept(stream).ok(), answer)
    }

    fn listen<T: Read + Write>(
        scheme: &str,
        open: impl Fn(TcpStream) -> Option<T> + Send + 'static,
        answer: impl Fn(usize) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("{scheme}://{}/hooks/secret-path", listener.local_addr().unwrap());
        let (sender, calls) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Some(stream) = open(stream.unwrap()) else {
                    continue;
                };
                if serve(stream, &answer(number), &sender).is_none() {
                    return;
                }
            }
        });
        Self { url, calls }
    }

    /// The next call; waits for it, and fails where none will come.
    pub(crate) fn call(&self) -> Call {
        self.calls.recv_timeout(Duration::from_secs(120)).unwrap()
    }

    /// Calls that came and were not looked at.
    pub(crate) fn rest(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }
}

/// A whole answer with this status.
pub(crate) fn status(status: u16, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

/// None: nobody listens to the test any more.
fn serve(mut stream: impl Read + Write, answer: &[u8], calls: &Sender<Call>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return Some(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    // Told before it is answered: whoever was answered finds it here.
    let call = Call {
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
    };
    calls.send(call).ok()?;
    // Whoever called may read no further.
    let _ = stream.write_all(answer);
    Some(())
}
