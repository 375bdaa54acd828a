//! QEMU's machine protocol: one JSON object a line, a command at a time, events in between.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The longest line that is read. QEMU's longest here is `query-sev-capabilities`, under 16 KiB.
const LONGEST: usize = 1 << 20;
/// How much of a line that makes no sense is shown.
const SHOWN: usize = 80;
/// How often a socket is tried that is not there yet.
const TRIED_EACH: Duration = Duration::from_millis(50);

/// Why a conversation with QEMU failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens, after all the time there was.
    #[error("nobody listens on {socket} ({error})")]
    Nobody {
        /// The socket's path.
        socket: String,
        /// What the last try met.
        error: std::io::Error,
    },
    /// The connection failed.
    #[error("{while_doing}: {error}")]
    Io {
        /// What was under way.
        while_doing: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// QEMU closed the connection: it ended, or was ended.
    #[error("{while_doing}: QEMU closed the connection, so it has ended")]
    Gone {
        /// What was under way.
        while_doing: String,
    },
    /// No answer came in time.
    #[error("{while_doing}: QEMU did not answer within {} s", .after.as_secs())]
    Silent {
        /// What was under way.
        while_doing: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A line is longer than any that QEMU sends.
    #[error("{while_doing}: QEMU sent a line of more than {LONGEST} bytes")]
    TooLong {
        /// What was under way.
        while_doing: String,
    },
    /// A line is not QMP.
    #[error("{while_doing}: expected {expected}, got {line}")]
    Garbage {
        /// What was under way.
        while_doing: String,
        /// What should have come.
        expected: &'static str,
        /// The line, shortened and with control characters spelt out.
        line: String,
    },
    /// QEMU refused the command.
    #[error("{command}: QEMU answered {class}: {desc}")]
    Refused {
        /// The command.
        command: String,
        /// The error's class, such as `GenericError` or `CommandNotFound`.
        class: String,
        /// What it says, for people.
        desc: String,
    },
}

/// A connection in command mode.
pub struct Qmp {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Names of events that nobody has looked at.
    events: VecDeque<String>,
    version: String,
    answer_within: Duration,
    last_id: u64,
}

impl Qmp {
    /// Connects, as soon as somebody listens, and negotiates (no capabilities: what is out of band is not needed).
    /// `answer_within` holds for the socket to appear and for each answer. `still` is asked while nobody listens; an
    /// error of its ends the wait, such as that QEMU has ended.
    ///
    /// # Errors
    /// [`QmpError`], or what `still` says.
    pub fn connect<E: From<QmpError>>(
        socket: &Path,
        answer_within: Duration,
        mut still: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let until = Instant::now() + answer_within;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                // Not made yet, or left behind by a QEMU that has ended.
                // Or not opened to this user's group yet: QEMU binds first.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
                    ) =>
                {
                    still()?;
                    if Instant::now() >= until {
                        return Err(nobody(socket, error).into());
                    }
                    std::thread::sleep(TRIED_EACH);
                }
                Err(error) => return Err(nobody(socket, error).into()),
            }
        };
        Ok(Self::over(stream, answer_within)?)
    }

    /// Negotiates over a connection that is there.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn over(stream: UnixStream, answer_within: Duration) -> Result<Self, QmpError> {
        let mut qmp = Self {
            stream,
            buffer: Vec::new(),
            events: VecDeque::new(),
            version: String::new(),
            answer_within,
            last_id: 0,
        };
        qmp.greeted()?;
        qmp.execute("qmp_capabilities", None)?;
        Ok(qmp)
    }

    /// QEMU's version, such as `8.2.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs a command and returns what it returned. Events that come in between are kept for [`Self::listen`].
    ///
    /// # Errors
    /// [`QmpError::Refused`] where QEMU ran it and says no; any other: whether it ran is not known.
    pub fn execute(&mut self, command: &str, arguments: Option<Value>) -> Result<Value, QmpError> {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = json!({"execute": command, "id": id});
        if let (Some(arguments), Some(map)) = (arguments, request.as_object_mut()) {
            map.insert("arguments".to_owned(), arguments);
        }
        let until = Instant::now() + self.answer_within;
        let sent = self
            .stream
            .set_write_timeout(Some(self.answer_within))
            .and_then(|()| self.stream.write_all(format!("{request}\n").as_bytes()));
        if let Err(error) = sent {
            return Err(failed(command, error));
        }
        loop {
            let Some(message) = self.message(command, until)? else {
                return Err(QmpError::Silent {
                    while_doing: command.to_owned(),
                    after: self.answer_within,
                });
            };
            match message.get("id") {
                Some(of) if *of == json!(id) => {}
                // An answer to what somebody else asked, or that an earlier wait gave up on.
                Some(_) => continue,
                // Some errors come before QEMU has read the id.
                None if message.get("error").is_some() => {}
                None => continue,
            }
            if let Some(error) = message.get("error") {
                let text = |member: &str| error.get(member).and_then(Value::as_str).unwrap_or("?");
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    class: shortened(text("class")),
                    desc: shortened(text("desc")),
                });
            }
            return match message.get("return") {
                Some(value) => Ok(value.clone()),
                None => Err(garbage(command, "`return` or `error`", &message.to_string())),
            };
        }
    }

    /// Lets time pass, with an ear on QEMU, until one of these events comes: the names of all that came, those before
    /// included. However short the time is, what is there is read.
    ///
    /// # Errors
    /// [`QmpError::Gone`] as soon as QEMU ends; others as for [`Self::execute`].
    pub fn listen(&mut self, duration: Duration, awaited: &[&str]) -> Result<Vec<String>, QmpError> {
        let doing = "waiting";
        let until = Instant::now() + duration;
        self.arrived(doing)?;
        let has_come =
            |events: &VecDeque<String>| events.iter().any(|event| awaited.contains(&event.as_str()));
        while !has_come(&self.events) && self.next(doing, until)?.is_some() {}
        Ok(self.events.drain(..).collect())
    }

    /// Takes what has arrived into the buffer, without waiting.
    fn arrived(&mut self, doing: &str) -> Result<(), QmpError> {
        let mut bytes = [0; 1 << 16];
        let read = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.read(&mut bytes));
        self.stream
            .set_nonblocking(false)
            .map_err(|error| failed(doing, error))?;
        match read {
            Ok(0) => Err(QmpError::Gone {
                while_doing: doing.to_owned(),
            }),
            Ok(count) => {
                self.buffer.extend(bytes.iter().take(count));
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(failed(doing, error)),
        }
    }

    fn greeted(&mut self) -> Result<(), QmpError> {
        let until = Instant::now() + self.answer_within;
        let doing = "QMP greeting";
        let Some(greeting) = self.message(doing, until)? else {
            return Err(QmpError::Silent {
                while_doing: doing.to_owned(),
                after: self.answer_within,
            });
        };
        let Some(version) = greeting.pointer("/QMP/version/qemu") else {
            return Err(garbage(doing, "QEMU's greeting", &greeting.to_string()));
        };
        let number = |member: &str| version.get(member).and_then(Value::as_u64).unwrap_or(0);
        self.version = format!("{}.{}.{}", number("major"), number("minor"), number("micro"));
        Ok(())
    }

    /// The next message that is no event; none: the time is up.
    fn message(&mut self, doing: &str, until: Instant) -> Result<Option<Value>, QmpError> {
        while let Some(message) = self.next(doing, until)? {
            if message.get("event").is_none_or(|event| !event.is_string()) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message, of whose events the names are kept; none: the time is up.
    fn next(&mut self, doing: &str, until: Instant) -> Result<Option<Value>, QmpError> {
        while let Some(line) = self.line(doing, until)? {
            if line.is_empty() {
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let message: Value =
                serde_json::from_slice(&line).map_err(|_| garbage(doing, "a JSON object", &text))?;
            if !message.is_object() {
                return Err(garbage(doing, "a JSON object", &text));
            }
            if let Some(event) = message.get("event").and_then(Value::as_str) {
                // Somebody who floods gains nothing: only that the last ones came is of interest.
                if self.events.len() >= 64 {
                    self.events.pop_front();
                }
                self.events.push_back(shortened(event));
            }
            return Ok(Some(message));
        }
        Ok(None)
    }

    /// The next line, without its end; none: the time is up.
    fn line(&mut self, doing: &str, until: Instant) -> Result<Option<Vec<u8>>, QmpError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                while line.last().is_some_and(u8::is_ascii_whitespace) {
                    line.pop();
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > LONGEST {
                return Err(QmpError::TooLong {
                    while_doing: doing.to_owned(),
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut bytes = [0; 8192];
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut bytes));
            match read {
                Ok(0) => {
                    return Err(QmpError::Gone {
                        while_doing: doing.to_owned(),
                    });
                }
                Ok(count) => self.buffer.extend(bytes.iter().take(count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(doing, error)),
            }
        }
    }
}

/// A socket whose other end has gone is QEMU's end too.
fn failed(doing: &str, error: std::io::Error) -> QmpError {
    let while_doing = doing.to_owned();
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => QmpError::Gone { while_doing },
        _ => QmpError::Io { while_doing, error },
    }
}

fn nobody(socket: &Path, error: std::io::Error) -> QmpError {
    QmpError::Nobody {
        socket: socket.display().to_string(),
        error,
    }
}

fn garbage(doing: &str, expected: &'static str, line: &str) -> QmpError {
    QmpError::Garbage {
        while_doing: doing.to_owned(),
        expected,
        line: format!("«{}»", shortened(line)),
    }
}

/// A text of QEMU's, on one line and of bounded length.
fn shortened(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
