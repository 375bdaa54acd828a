//! A client of the owner API, for the verbs that talk to a server.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::credential::Credential;
use super::output::Misused;
use crate::domain::token::Token;
use crate::http::{Cursor, Page};
use crate::manifest::Manifests;
use crate::policy::{Diagnostic, Severity};

/// The longest answer that is read.
const LONGEST: u64 = 256 << 20;

/// Where a server is that nobody configured otherwise.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:8443";

/// Which server, and with whose token.
#[derive(Args)]
pub(super) struct Connection {
    /// The server's URL
    #[arg(
        long,
        value_name = "URL",
        env = "KEYWARD_SERVER",
        default_value = DEFAULT_SERVER
    )]
    server: String,
    /// File that holds the token: the server's, or one of an identity provider
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_TOKEN_FILE",
        required_unless_present = "cert_file"
    )]
    token_file: Option<PathBuf>,
    /// Client certificate and its key in one file, PEM, in place of a token
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Certificate authority of the server, PEM, where the system does not know it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A server that is used where one is named.
#[derive(Args)]
pub(super) struct OptionalConnection {
    /// The server's URL; where it is needed and not given, KEYWARD_SERVER or http://127.0.0.1:8443
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File that holds the token: the server's, or one of an identity provider
    #[arg(long, value_name = "FILE", env = "KEYWARD_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Client certificate and its key in one file, PEM, in place of a token
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Certificate authority of the server, PEM, where the system does not know it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl OptionalConnection {
    /// Whether a server was named where the command was called.
    pub(super) fn is_named(&self) -> bool {
        self.server.is_some()
    }

    /// Whether there is a token, or a certificate, to talk to a server with.
    pub(super) fn has_token(&self) -> bool {
        self.token_file.is_some() || self.cert_file.is_some()
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        if !self.has_token() {
            bail!(Misused(
                "a server is asked with a token: name its file with --token-file".to_owned()
            ));
        }
        let named = self
            .server
            .clone()
            .or_else(|| std::env::var("KEYWARD_SERVER").ok());
        let server = named.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let connection = Connection {
            server,
            token_file: self.token_file.clone(),
            cert_file: self.cert_file.clone(),
            ca_file: self.ca_file.clone(),
        };
        connection.client()
    }
}

/// A client.
pub(super) struct Client {
    agent: Agent,
    server: String,
    credential: Credential,
}

/// A problem document, as far as people are told of it.
#[derive(Deserialize)]
pub(super) struct Problem {
    pub(super) title: String,
    #[serde(default)]
    pub(super) detail: String,
    #[serde(default)]
    errors: Vec<Place>,
}

/// What is wrong with an object that was to be registered.
#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    object: String,
    member: Option<String>,
    file: String,
    line: u32,
    column: u32,
    message: String,
    hint: Option<String>,
    source_line: Option<String>,
}

/// Objects were not registered: what is wrong with them.
#[derive(Debug, thiserror::Error)]
#[error("{title}\n\n{}", self.text(&Manifests::default()))]
pub(super) struct NotRegistered {
    title: String,
    places: Vec<Place>,
}

impl NotRegistered {
    /// The same, with what is wrong shown in the manifests that say it.
    pub(super) fn shown_in(&self, manifests: &Manifests) -> anyhow::Error {
        anyhow!("{}\n\n{}", self.title, self.text(manifests))
    }

    fn text(&self, manifests: &Manifests) -> String {
        let places = self.places.iter().map(|place| {
            let complaint = place.diagnostic();
            manifests
                .shown(&place.object, place.member.as_deref(), &complaint)
                .unwrap_or_else(|| match complaint.file.is_empty() {
                    true => Diagnostic {
                        file: place.object.clone(),
                        ..complaint
                    },
                    false => complaint,
                })
                .to_string()
        });
        places.collect::<Vec<_>>().join("\n\n")
    }
}

impl Connection {
    /// A client with another token.
    pub(super) fn client_of(&self, token: &str) -> anyhow::Result<Client> {
        let token: Token = token.parse().context("the answer")?;
        let credential = Credential::of(&token);
        Client::new(&self.server, credential, self.ca_file.as_ref())
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        // Where one was named, the environment's token is for other servers.
        let credential = match (&self.cert_file, &self.token_file) {
            (Some(path), _) => Credential::certificate(path)?,
            (None, Some(path)) => Credential::token(path)?,
            (None, None) => bail!(Misused("name a token's file with --token-file".to_owned())),
        };
        Client::new(&self.server, credential, self.ca_file.as_ref())
    }
}

impl Client {
    pub(super) fn new(
        server: &str,
        credential: Credential,
        ca_file: Option<&PathBuf>,
    ) -> anyhow::Result<Self> {
        let roots = match ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => {
                let pem = std::fs::read(path).with_context(|| format!("CA file {}", path.display()))?;
                let certificates: Vec<_> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    bail!("CA file {} holds no certificate", path.display());
                }
                RootCerts::from(certificates)
            }
        };
        let plain = server.starts_with("http://");
        if plain && matches!(credential, Credential::Certificate(_)) {
            bail!("{server}: a client certificate is shown over https:// only");
        }
        if plain && matches!(credential, Credential::Nobody) && !crate::outward::is_acceptable_url(server) {
            bail!("{server}: a host asks over https:// only; http:// is for a loopback address");
        }
        if plain && !crate::outward::is_acceptable_url(server) {
            bail!("{server}: a token is sent over https:// only; http:// is for a loopback address");
        }
        let mut config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(300)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(
                TlsConfig::builder()
                    .provider(TlsProvider::NativeTls)
                    .root_certs(roots)
                    .client_cert(credential.at_connection())
                    .build(),
            );
        if plain {
            config = config.proxy(None);
        }
        let server = server.trim_end_matches('/').to_owned();
        Ok(Self {
            agent: config.build().new_agent(),
            server,
            credential,
        })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.server);
        let request = self.credential.in_request(self.agent.get(&url));
        self.read(request.call().map_err(|e| self.unreachable(&e))?)
    }

    /// Every item of a list, page by page.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let first = self.get(path)?;
        self.rest(path, first)
    }

    /// The same; none where the token's role does not allow it.
    pub(super) fn list_allowed<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<Vec<T>>> {
        let request = self
            .credential
            .in_request(self.agent.get(&format!("{}{path}", self.server)));
        let response = request.call().map_err(|e| self.unreachable(&e))?;
        if response.status().as_u16() == 403 {
            return Ok(None);
        }
        self.rest(path, self.read(response)?).map(Some)
    }

    /// The items of a page and of those after it.
    fn rest<T: DeserializeOwned>(&self, path: &str, mut page: Page<T>) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        loop {
            items.append(&mut page.items);
            if page.next.is_none() {
                return Ok(items);
            }
            page = self.get(&from(path, page.next.as_ref()))?;
        }
    }

    pub(super) fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.server);
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(body)?);
        let request = self.credential.in_request(self.agent.post(&url));
        let request = request.header("content-type", "application/json");
        self.read(request.send(bytes.as_slice()).map_err(|e| self.unreachable(&e))?)
    }

    /// A POST whose answer the caller reads, whatever its status.
    pub(super) fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        within: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let url = format!("{}{path}", self.server);
        let mut request = self.credential.in_request(self.agent.post(&url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.config().timeout_global(Some(within)).build().send(body)
    }

    pub(super) fn put<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.server);
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(body)?);
        let request = self.credential.in_request(self.agent.put(&url));
        let request = request.header("content-type", "application/json");
        self.read(request.send(bytes.as_slice()).map_err(|e| self.unreachable(&e))?)
    }

    pub(super) fn delete(&self, path: &str) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.server);
        let request = self.credential.in_request(self.agent.delete(&url));
        self.bytes(request.call().map_err(|e| self.unreachable(&e))?)?;
        Ok(())
    }

    /// What is not JSON.
    pub(super) fn download(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}{path}", self.server);
        let request = self.credential.in_request(self.agent.get(&url));
        self.bytes(request.call().map_err(|e| self.unreachable(&e))?)
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!(
            "{} can't be reached: {error}; is the server running there? Name another with --server",
            self.server
        )
    }

    fn read<T: DeserializeOwned>(&self, response: ureq::http::Response<ureq::Body>) -> anyhow::Result<T> {
        let body = self.bytes(response)?;
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "{} answered what is not Keyward's; is it another version?",
                self.server
            )
        })
    }

    fn bytes(&self, mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Vec<u8>> {
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(LONGEST)
            .read_to_vec()
            .context("the answer")?;
        if status.is_success() {
            return Ok(body);
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            bail!("{} answered with status {status}", self.server);
        };
        if problem.errors.is_empty() {
            bail!(match status.as_u16() {
                401 if matches!(self.credential, Credential::Certificate(_)) => format!(
                    "{} gives no role to this certificate: name another with --cert-file, or a token's file with --token-file",
                    self.server
                ),
                401 => format!(
                    "{} does not know this token, or it has expired or was revoked: name the file of a valid one with --token-file",
                    self.server
                ),
                404 => problem.detail,
                _ => format!("{}: {}", problem.title, problem.detail),
            });
        }
        bail!(NotRegistered {
            title: problem.title,
            places: problem.errors,
        })
    }
}

/// The path of a list from a cursor on.
pub(super) fn from(path: &str, cursor: Option<&Cursor>) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    match cursor {
        None => path.to_owned(),
        Some(cursor) => format!("{path}{separator}cursor={cursor}"),
    }
}

impl Place {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: self.message.clone(),
            hint: self.hint.clone(),
            source_line: self.source_line.clone(),
        }
    }
}
