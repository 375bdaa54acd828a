//! The real server as a process of its own, and a host that keeps asking whatever becomes of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use ureq::Agent;

use super::Reply;
use super::command::command;

/// The real server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
        let mut child = command(arguments)
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let base = line
            .trim_end()
            .strip_prefix("keyward is serving on ")
            .expect(&line)
            .to_owned();
        Self { child, base }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed must leave no server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host that talks to whatever server runs now; none: the answer did not arrive.
pub(crate) struct Host {
    agent: Agent,
    token: String,
}

impl Host {
    pub(crate) fn new(token: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).proxy(None);
        Self {
            agent: config.build().new_agent(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn post(&self, url: &str, key: Option<&str>, body: &Value) -> Option<Reply> {
        let mut request = self.agent.post(url);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        read(request.send(body.to_string()))
    }

    /// An owner's request with a body.
    pub(crate) fn say(&self, method: &str, url: &str, body: &Value) -> Option<Reply> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {}", self.token))
            .body(body.to_string())
            .unwrap();
        read(self.agent.run(request))
    }

    /// An owner's GET.
    pub(crate) fn get(&self, url: &str) -> Option<Reply> {
        let bearer = format!("Bearer {}", self.token);
        read(self.agent.get(url).header("authorization", &bearer).call())
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Option<Reply> {
    let mut response = response.ok()?;
    let body = response.body_mut().read_to_string().ok()?;
    Some(Reply {
        status: response.status().as_u16(),
        headers: BTreeMap::new(),
        body: serde_json::from_str(&body).ok()?,
    })
}
