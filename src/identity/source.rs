//! Where a provider's keys come from: a file, or a URL that is asked over HTTPS without following redirects.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ureq::Agent;
use ureq::tls::RootCerts;

use super::jwk::KeySet;
use crate::config::Jwks;
use crate::outward::agent;

/// The longest set that is read, in bytes.
const LONGEST: u64 = 256 << 10;
/// How long one request for a set may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why keys were not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file can't be read.
    #[error("JWKS file {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The URL gave no set.
    #[error("JWKS {url}: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What came instead.
        why: String,
    },
    /// What was read is no set of keys.
    #[error("JWKS {place}: {why}")]
    Keys {
        /// The file or URL.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A file or a URL.
pub(super) enum Source {
    File(PathBuf),
    Url { url: String, agent: Box<Agent> },
}

/// By what a file is seen to have changed.
pub(super) type Stamp = Option<(SystemTime, u64)>;

impl Source {
    pub(super) fn new(config: &Jwks) -> Self {
        match (&config.file, &config.url) {
            (Some(file), _) => Self::File(file.clone()),
            (None, url) => {
                let url = url.clone().unwrap_or_default();
                let agent = Box::new(agent(&url, TIMEOUT, RootCerts::PlatformVerifier));
                Self::Url { url, agent }
            }
        }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// When the file was last written, and how long it is; none for a URL, and where there is no file.
    pub(super) fn stamp(&self) -> Stamp {
        let Self::File(path) = self else { return None };
        let facts = std::fs::metadata(path).ok()?;
        Some((facts.modified().ok()?, facts.len()))
    }

    /// The keys, as they are now.
    pub(super) fn load(&self) -> Result<KeySet, SourceError> {
        let (place, bytes) = match self {
            Self::File(path) => (path.display().to_string(), read(path)?),
            Self::Url { url, agent } => {
                let bytes = ask(agent, url).map_err(|why| SourceError::Url {
                    url: url.clone(),
                    why,
                })?;
                (url.clone(), bytes)
            }
        };
        let too_long = u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST;
        let set = if too_long {
            Err(format!("longer than {} KiB", LONGEST >> 10))
        } else {
            KeySet::parse(&bytes)
        };
        set.map_err(|why| SourceError::Keys { place, why })
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, SourceError> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| SourceError::File {
        path: path.clone(),
        source,
    })
}

fn ask(agent: &Agent, url: &str) -> Result<Vec<u8>, String> {
    let mut response = agent.get(url).call().map_err(|e| e.to_string())?;
    match response.status().as_u16() {
        200 => {}
        300..400 => return Err("it redirects, which is not followed: configure where it leads to".to_owned()),
        status => return Err(format!("it answered with status {status}")),
    }
    let mut bytes = Vec::new();
    let body = response.body_mut().as_reader().take(LONGEST + 1);
    let read = { body }.read_to_end(&mut bytes);
    read.map_err(|e| e.to_string())?;
    Ok(bytes)
}
