//! How the server asks others over HTTP: HTTPS, plain only on loopback, no redirects, within a time.
//!
//! What leads out is configured by who runs the server. A redirect would lead where nobody said, and over plain HTTP
//! anybody on the way could answer.

use std::net::IpAddr;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Headers that are read of an answer, in bytes.
const HEADERS: usize = 16 * 1024;

/// An agent for one URL, each request within `timeout`. The server's certificate must lead to one of `roots`. A status
/// is no error, a redirect is an answer like any other; a proxy of the environment is not asked for plain HTTP.
#[must_use]
pub fn agent(url: &str, timeout: Duration, roots: RootCerts) -> Agent {
    let plain = url.starts_with("http://");
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots)
        .build();
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(HEADERS)
        .https_only(!plain)
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls);
    if plain {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Whether a service may be asked at this URL: HTTPS anywhere, plain HTTP on a loopback address.
#[must_use]
pub fn is_acceptable_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority() else {
        return false;
    };
    if authority.as_str().contains('@') || uri.query().is_some() {
        return false;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in [
            "https://kdsintf.amd.com",
            "http://127.0.0.1:8080",
            "http://[::1]:80/x",
            "http://localhost:1",
        ] {
            assert!(is_acceptable_url(good), "{good}");
        }
        for bad in [
            "http://kdsintf.amd.com",
            "http://127.0.0.1@example.com/",
            "http://127.0.0.1.example.com",
            "ftp://127.0.0.1",
            "https://",
            "kdsintf.amd.com",
            "",
        ] {
            assert!(!is_acceptable_url(bad), "{bad}");
        }
    }
}
