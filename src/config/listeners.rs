//! Listeners besides the main one.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::load::ConfigError;

/// A listener of its own for one of the two APIs, with the `tls` of the main one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// Address and port. With it the API is served there and nowhere else. Without `tls` a loopback address only.
    pub listen: Option<SocketAddr>,
}

/// The listener for Prometheus.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port at which `GET /metrics` answers, without TLS. A loopback address only, unless
    /// `danger_plaintext_http` is said here. Left out: nothing is measured.
    pub listen: Option<SocketAddr>,
    /// Lets it listen on an address that is not loopback. Whoever reaches it reads how much is asked and decided, never
    /// by whom or what for.
    pub danger_plaintext_http: bool,
}

impl Config {
    /// Every listener, by the key that says where it is.
    fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let simple_kbs = self.simple_kbs.as_ref().map(|service| service.listen);
        [
            ("listen", Some(self.listen)),
            ("hosts.listen", self.hosts.listen),
            ("owners.listen", self.owners.listen),
            ("metrics.listen", self.metrics.listen),
            ("simple_kbs.listen", simple_kbs),
        ]
        .into_iter()
        .filter_map(|(key, address)| Some((key, address?)))
    }

    /// Whether each listener can have its place beside the others.
    ///
    /// # Errors
    /// Names the first that can't.
    pub fn check_listeners(&self) -> Result<(), ConfigError> {
        for (number, (key, address)) in self.listeners().enumerate() {
            let mut before = self.listeners().take(number);
            if let Some((other, taken)) = before.find(|(_, other)| clash(*other, address)) {
                return Err(ConfigError::Value {
                    key,
                    message: format!(
                        "{address} is taken by `{other}` ({taken}): give each a port of its own"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Whether two listeners can't be at once. Port 0 is any that is free; an unspecified address is every one.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}
