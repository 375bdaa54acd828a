//! A server that answers by a script: how long it holds each answer back, and with which status.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// One answer.
#[derive(Clone, Copy)]
pub(crate) struct Scripted {
    pub(crate) after: Duration,
    pub(crate) status: u16,
}

/// Answers one connection's requests by the script, and then with 200 at once.
pub(crate) struct ScriptedServer {
    pub(crate) url: String,
    thread: JoinHandle<usize>,
}

impl ScriptedServer {
    pub(crate) fn start(script: Vec<Scripted>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut script = script.into_iter();
            let mut answered = 0;
            while request(&mut stream) {
                let now = Scripted {
                    after: Duration::ZERO,
                    status: 200,
                };
                let answer = script.next().unwrap_or(now);
                // Nobody ever sends: it is the time that is waited for.
                let (_sender, receiver) = channel::<()>();
                let waited = receiver.recv_timeout(answer.after);
                assert_eq!(waited, Err(RecvTimeoutError::Timeout));
                let text = format!(
                    "HTTP/1.1 {} X\r\ncontent-length: 2\r\nretry-after: 0\r\n\r\n{{}}",
                    answer.status
                );
                stream.write_all(text.as_bytes()).unwrap();
                answered += 1;
            }
            answered
        });
        Self { url, thread }
    }

    /// How many it answered until its client went.
    pub(crate) fn answered(self) -> usize {
        self.thread.join().unwrap()
    }
}

/// Reads one request; whether there was one.
fn request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    let mut some = [0; 4096];
    loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            while text.len() < end + 4 + length {
                let count = stream.read(&mut some).unwrap();
                text.extend_from_slice(&some[..count]);
            }
            return true;
        }
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return false,
            Ok(count) => text.extend_from_slice(&some[..count]),
        }
    }
}
