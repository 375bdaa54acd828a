//! One kept connection to a server, as cheap as it can be made: a load test shares the machine with what it loads.
//!
//! Only what this server sends is understood: HTTP/1.1 with a `Content-Length`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::ssl::{SslConnector, SslMethod, SslStream};
use zeroize::Zeroizing;

/// How long a connection may take to come about, and an answer to begin.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;
/// The longest head of an answer.
const HEAD: usize = 16 << 10;

/// Where the server is, and how it is reached.
#[derive(Clone)]
pub(super) struct Server {
    url: String,
    authority: String,
    host: String,
    port: u16,
    tls: Option<Arc<SslConnector>>,
}

impl Server {
    /// From a URL such as `https://kbs.example:8443`; TLS trusts the system's authorities, or those of this file.
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let expected = || format!("{url}: expected a URL such as https://kbs.example:8443");
        let url = url.trim_end_matches('/');
        let (tls, authority) = match url.split_once("://") {
            Some(("http", authority)) => (false, authority),
            Some(("https", authority)) => (true, authority),
            _ => bail!(expected()),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().with_context(expected)?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() || authority.contains('/') {
            bail!(expected());
        }
        let tls = if tls {
            Some(Arc::new(connector(ca_file)?))
        } else {
            None
        };
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            tls,
        })
    }

    /// As people write it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A POST, ready to be written; of a host with this address, where a server believes its proxy.
    pub(super) fn post(&self, path: &str, of: Option<Ipv4Addr>, body: &[u8]) -> Vec<u8> {
        let of = of.map_or_else(String::new, |of| format!("x-forwarded-for: {of}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\n{of}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.authority,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn connect(&self) -> io::Result<Stream> {
        let mut failed = io::Error::new(ErrorKind::NotFound, "the server's name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER))?;
                    stream.set_write_timeout(Some(ANSWER))?;
                    return match &self.tls {
                        None => Ok(Stream::Plain(stream)),
                        Some(tls) => tls
                            .connect(&self.host, stream)
                            .map(|stream| Stream::Tls(Box::new(stream)))
                            .map_err(|error| io::Error::other(error.to_string())),
                    };
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

fn connector(ca_file: Option<&Path>) -> anyhow::Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(path) = ca_file {
        builder
            .set_ca_file(path)
            .with_context(|| format!("CA file {}", path.display()))?;
    }
    Ok(builder.build())
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Stream {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

/// What the server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Seconds of `Retry-After`.
    pub(super) retry_after: Option<u64>,
    /// The body; answers to a validation hold wrapped secrets.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// A connection that is made when it is first needed, kept, and made anew after it broke.
pub(super) struct Wire<'a> {
    server: &'a Server,
    stream: Option<Stream>,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        Self {
            server,
            stream: None,
            bytes: Zeroizing::new(Vec::with_capacity(8 << 10)),
        }
    }

    /// Writes a request and reads its answer. After an error the next call makes a new connection.
    pub(super) fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.server.connect()?,
        };
        stream.write_all(request)?;
        let (answer, keeps) = self.answer(&mut stream)?;
        if keeps {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn answer(&mut self, stream: &mut Stream) -> io::Result<(Answer, bool)> {
        self.bytes.clear();
        let head = loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.bytes.len() > HEAD {
                return Err(malformed("a head without end"));
            }
            self.more(stream)?;
        };
        let text = self
            .bytes
            .get(..head)
            .and_then(|head| std::str::from_utf8(head).ok());
        let head_text = text.ok_or_else(|| malformed("a head that is no text"))?;
        let Head {
            status,
            length,
            retry_after,
            closes,
        } = Head::parse(head_text)?;
        while self.bytes.len() < head + length {
            self.more(stream)?;
        }
        let body = self.bytes.get(head..head + length).unwrap_or_default().to_vec();
        let answer = Answer {
            status,
            retry_after,
            body: Zeroizing::new(body),
        };
        Ok((answer, !closes && self.bytes.len() == head + length))
    }

    fn more(&mut self, stream: &mut Stream) -> io::Result<()> {
        let mut some = [0; 8 << 10];
        let count = stream.read(&mut some)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.bytes
            .extend_from_slice(some.get(..count).unwrap_or_default());
        Ok(())
    }
}

struct Head {
    status: u16,
    length: usize,
    retry_after: Option<u64>,
    closes: bool,
}

impl Head {
    fn parse(text: &str) -> io::Result<Self> {
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let mut head = Self {
            status: status.ok_or_else(|| malformed("no HTTP/1.1 status"))?,
            length: 0,
            retry_after: None,
            closes: false,
        };
        let mut sized = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.parse().map_err(|_| malformed("a length that is none"))?;
                sized = true;
            } else if name.eq_ignore_ascii_case("retry-after") {
                head.retry_after = value.parse().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                head.closes = value.eq_ignore_ascii_case("close");
            }
        }
        if !sized || head.length > LONGEST {
            return Err(malformed("an answer without a length, or a too long one"));
        }
        Ok(head)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the server sent {what}"))
}
