//! A key distribution service on loopback that answers what a test says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::kds::{Bounds, CekSource, HttpService, Queue};

/// What the service does with a request.
pub(crate) enum Answer {
    /// These bytes as they are: status line, headers, body.
    Raw(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Silence,
}

impl Answer {
    /// A status with headers and a body.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"connection: close\r\n\r\n");
        bytes.extend(body);
        Self::Raw(bytes)
    }

    /// A certificate.
    pub(crate) fn certificate(bytes: &[u8]) -> Self {
        Self::new(200, &[], bytes)
    }
}

/// The service, and what it was asked.
pub(crate) struct Kds {
    pub(crate) base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Kds {
    /// Starts one; `answer` is called with each request's path, on a thread of its own.
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (paths, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, paths, answer) = (stream.unwrap(), paths.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &paths, answer.as_ref()));
            }
        });
        Self { base, asked }
    }

    /// Paths of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A queue before it, as a server has one: a launch waits this long, and each request may take twice that.
    pub(crate) fn queue(&self, wait: Duration, total: usize, per_address: usize) -> Arc<dyn CekSource> {
        let service = Box::new(HttpService::new(&self.base, 2 * wait));
        Arc::new(Queue::start(service, bounds(wait, total, per_address)).unwrap())
    }
}

/// Bounds of a queue that asks for a thousand chips for an address.
pub(crate) fn bounds(wait: Duration, total: usize, per_address: usize) -> Bounds {
    Bounds {
        wait,
        total,
        per_address,
        chips_per_address: 1000,
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    asked.lock().unwrap().push(path.clone());
    match answer(&path) {
        // Whoever asked may have gone, or may read no further.
        Answer::Raw(bytes) => drop(stream.write_all(&bytes)),
        Answer::Silence => drop(stream.read(&mut byte)),
    }
}
