//! A network between a host and a real server, that fails as a test says.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
pub(crate) enum Fate {
    /// It arrives, and so does its answer.
    Passes,
    /// The connection is closed before the server hears of it.
    Lost,
    /// The server does it, and its answer does not arrive.
    AnswerLost,
    /// Somebody in between answers: a status and headers.
    Answered(u16, &'static [(&'static str, &'static str)]),
}

/// The network, and what was asked over it.
pub(crate) struct Network {
    pub(crate) base: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Network {
    /// To this server; each request takes the next fate, and later ones pass.
    pub(crate) fn to(server: &str, fates: impl IntoIterator<Item = Fate>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let mut fates: VecDeque<_> = fates.into_iter().collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let fate = fates.pop_front().unwrap_or(Fate::Passes);
                carry(stream.unwrap(), &server, &fate, &seen);
            }
        });
        Self { base, asked }
    }

    /// Path and idempotency key of each request.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request on a connection of its own.
fn carry(mut client: TcpStream, server: &str, fate: &Fate, seen: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (mut head, mut length, mut key) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim_end().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "idempotency-key" => value.trim().clone_into(&mut key),
            "connection" => continue,
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push((path, key));
    let answer = match fate {
        Fate::Lost => return,
        Fate::Answered(status, headers) => {
            let mut answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n");
            for (name, value) in *headers {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            format!("{answer}\r\n").into_bytes()
        }
        Fate::Passes | Fate::AnswerLost => {
            let mut onwards = TcpStream::connect(server).unwrap();
            onwards
                .write_all(format!("{head}connection: close\r\n\r\n").as_bytes())
                .unwrap();
            onwards.write_all(&body).unwrap();
            let mut answer = Vec::new();
            onwards.read_to_end(&mut answer).unwrap();
            answer
        }
    };
    if !matches!(fate, Fate::AnswerLost) {
        let _ = client.write_all(&answer);
    }
}
