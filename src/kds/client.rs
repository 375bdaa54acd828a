//! One request to the key distribution service, over HTTPS and without following redirects.

use std::io::Read as _;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::RootCerts;

use super::{FetchError, Service};
use crate::outward::agent;
use crate::sev::certificate::Certificate;

/// Without a usable `Retry-After`, this long. Users report one request per ten seconds and address.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// A service that asks for less is left alone this long all the same.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// A service that asks for longer is asked again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The service at a base URL.
pub struct HttpService {
    agent: Agent,
    base: String,
}

impl HttpService {
    /// The service at `base`, each request within `timeout`.
    #[must_use]
    pub fn new(base: &str, timeout: Duration) -> Self {
        Self {
            agent: agent(base, timeout, RootCerts::PlatformVerifier),
            base: base.trim_end_matches('/').to_owned(),
        }
    }
}

impl Service for HttpService {
    fn fetch(&self, chip: &[u8; 64]) -> Result<Vec<u8>, FetchError> {
        let url = format!("{}/cek/id/{}", self.base, hex::encode(chip));
        let mut response = self
            .agent
            .get(&url)
            .call()
            .map_err(|e| FetchError::Failed(e.to_string()))?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok());
        let wait = retry_after
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        match response.status().as_u16() {
            200 => {}
            404 | 400 => return Err(FetchError::UnknownChip),
            429 | 503 => {
                return Err(FetchError::Wait(
                    wait.unwrap_or(DEFAULT_WAIT).clamp(SHORTEST_WAIT, LONGEST_WAIT),
                ));
            }
            status => return Err(FetchError::Failed(format!("it answered with status {status}"))),
        }
        let mut bytes = Vec::with_capacity(Certificate::SIZE);
        let limit = Certificate::SIZE as u64 + 1;
        let read = response
            .body_mut()
            .as_reader()
            .take(limit)
            .read_to_end(&mut bytes);
        read.map_err(|e| FetchError::Failed(e.to_string()))?;
        if bytes.len() != Certificate::SIZE {
            return Err(FetchError::Failed(format!(
                "its answer is not a certificate of {} bytes",
                Certificate::SIZE
            )));
        }
        Ok(bytes)
    }
}
