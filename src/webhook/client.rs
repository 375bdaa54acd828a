//! One call, over HTTPS, without following redirects; what is answered besides the status is not read.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use crate::outward::agent;

/// Where a webhook is called. Its URL may be a secret, so that it has no `Debug` and is in no error.
pub struct Endpoint {
    agent: Agent,
    url: String,
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// They are no PEM.
    #[error("expected certificates in PEM form: {0}")]
    Pem(String),
    /// There is none.
    #[error("it holds no certificate in PEM form")]
    Empty,
}

impl Endpoint {
    /// At a URL, each call within `timeout`. With `authorities` (PEM) the server's certificate must lead to one of
    /// these, otherwise to one that the system trusts.
    ///
    /// # Errors
    /// When the authorities can't be read.
    pub fn new(url: &str, timeout: Duration, authorities: Option<&[u8]>) -> Result<Self, EndpointError> {
        let roots = match authorities {
            None => RootCerts::PlatformVerifier,
            Some(pem) => RootCerts::new_with_certs(&certificates(pem)?),
        };
        Ok(Self {
            agent: agent(url, timeout, roots),
            url: url.to_owned(),
        })
    }

    /// Sends a body; taken is what is answered with a status from 200 to 299. Otherwise why not.
    pub(super) fn post(&self, headers: &[(&str, String)], body: &str) -> Result<(), String> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send(body).map_err(|error| error.to_string())?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(format!(
                "it answered with a redirect (status {}), which is not followed",
                status.as_u16()
            )),
            status => Err(format!("it answered with status {}", status.as_u16())),
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, EndpointError> {
    let mut all = Vec::new();
    for item in parse_pem(pem) {
        // A key beside them is passed over.
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| EndpointError::Pem(error.to_string()))?
        {
            all.push(certificate);
        }
    }
    if all.is_empty() {
        return Err(EndpointError::Empty);
    }
    Ok(all)
}
