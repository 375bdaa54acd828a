//! The real binary: commands in a folder of their own, and servers that end with the test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;
use ureq::Agent;

/// A folder to run commands in, and the environment that they see besides `PATH`.
pub(crate) struct Shell {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its standard output, given that it did what it was told.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Its error, given that it failed and printed nothing else.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        self.err
    }
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    /// A folder with `data`, `token` and a configuration that takes any free port and asks nobody.
    pub(crate) fn initialised() -> Self {
        let shell = Self::new();
        shell
            .run(&[
                "init",
                "--data-dir",
                "data",
                "--owner",
                "acme",
                "--token-file",
                "token",
            ])
            .done();
        shell.write("data/keyward.yaml", "listen: 127.0.0.1:0\nkds: {url: ''}\n");
        shell
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Names in a folder, sorted.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Any program, in this folder and environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(KEYWARD).args(arguments))
    }

    /// Starts `keyward serve --data-dir data` and waits until it serves.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_by(self.command(KEYWARD), arguments)
    }

    fn serve_by(&self, mut command: Command, arguments: &[&str]) -> Server {
        let log = self.path("serve.log");
        command.args(["serve", "--data-dir", "data"]).args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut before, mut line) = (String::new(), String::new());
        out.read_line(&mut line).unwrap();
        // Listeners besides the main one are told of first.
        while line.contains(" served on http") {
            before.push_str(&std::mem::take(&mut line));
            out.read_line(&mut line).unwrap();
        }
        let url = line.trim_end().strip_prefix("keyward is serving on ");
        let url = url.unwrap_or_else(|| panic!("{line}{}", std::fs::read_to_string(&log).unwrap()));
        Server {
            url: url.to_owned(),
            before,
            child,
            out,
            log,
        }
    }

    /// Serves, and points the verbs that talk to a server there, with the owner's token.
    pub(crate) fn served(&mut self) -> Server {
        let server = self.serve(&[]);
        self.towards(server)
    }

    /// The same for a server that is not ended by a write beyond a limit on the size of files, but told of it.
    pub(crate) fn served_ignoring_file_sizes(&mut self) -> Server {
        let mut command = self.command("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", KEYWARD]);
        let server = self.serve_by(command, &[]);
        self.towards(server)
    }

    fn towards(&mut self, server: Server) -> Server {
        self.set("KEYWARD_SERVER", &server.url);
        self.set("KEYWARD_TOKEN_FILE", "token");
        server
    }
}

pub(crate) const KEYWARD: &str = env!("CARGO_BIN_EXE_keyward");

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) url: String,
    /// What it told before that it serves.
    pub(crate) before: String,
    child: Child,
    out: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Server {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A host's POST: status and body.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String) {
        self.send("POST", path, &[("content-type", "application/json")], body)
    }

    /// A request with a body: status and body of the answer.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = agent.run(request.body(body).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), text)
    }

    /// Asks it to stop, as a service manager does; its exit code and all it wrote.
    pub(crate) fn stop(self) -> (i32, String) {
        self.signal("TERM");
        self.ended()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(sent.unwrap().success());
    }

    /// What it logged until now.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.split("://").nth(1).unwrap()
    }

    /// Waits for its end; its exit code and all it wrote.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        text.push_str(&std::fs::read_to_string(&self.log).unwrap());
        (code, text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares with a file under `tests/cli`, or writes it with `KEYWARD_UPDATE=1`.
#[track_caller]
pub(crate) fn transcript(name: &str, text: &str) {
    golden(&format!("tests/cli/{name}"), text);
}

/// Compares with a file of the repository, or writes it with `KEYWARD_UPDATE=1`.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("KEYWARD_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "{name} differs: run the tests with KEYWARD_UPDATE=1 and review the change. It is now:\n{text}"
    );
}

/// A text with what differs from run to run replaced: UUIDs, digests and times.
pub(crate) fn masked(text: &str) -> String {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(inside) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !inside(c)).unwrap_or(from.len()));
        let bare = word.trim_end_matches([':', '.']);
        let kind = match bare.len() {
            36 if bare.parse::<uuid::Uuid>().is_ok() => "<uuid>",
            64 if hex::decode(bare).is_ok() => "<digest>",
            24 if bare.ends_with('Z') && bare.contains('T') => "<time>",
            _ => bare,
        };
        out.extend([before, kind, &word[bare.len()..]]);
        rest = after;
    }
    out + rest
}
