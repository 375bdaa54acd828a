//! The service that simple-kbs's clients know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;
use crate::domain::Name;
use crate::domain::connection::ConnectionBounds;

/// A listener for simple-kbs's clients (gRPC), and whose workloads they get.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimpleKbsConfig {
    /// Address and port to listen on. Without `tls` a loopback address only, unless `danger_plaintext_http` is said.
    pub listen: SocketAddr,
    /// The owner whose workloads are served.
    pub owner: Name,
    /// The workloads, by name. A launch begins with the first whose SEV policy is the one asked for, else with the first
    /// that has none and is of that technology.
    pub workloads: Vec<Name>,
    /// Certificate and key. Left out: plaintext HTTP/2 (h2c).
    #[serde(default)]
    pub tls: Option<SimpleKbsTls>,
    /// How long a guest's connection lasts, for what it asks later.
    #[serde(default = "a_day")]
    pub connection_seconds: u32,
    /// How many requests a connection takes, whatever they are answered.
    #[serde(default = "some")]
    pub connection_requests: u32,
}

/// Certificate and key of the listener, both PEM. They are read again at SIGHUP, and once they have changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimpleKbsTls {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

fn a_day() -> u32 {
    86_400
}

fn some() -> u32 {
    100
}

impl SimpleKbsConfig {
    /// What connections are bounded by.
    #[must_use]
    pub fn connections(&self) -> ConnectionBounds {
        ConnectionBounds {
            lifetime: Duration::from_secs(self.connection_seconds.into()),
            requests: self.connection_requests,
        }
    }
}

pub(super) fn check(service: Option<&SimpleKbsConfig>) -> Result<(), ConfigError> {
    let Some(service) = service else { return Ok(()) };
    let error = |key, message: String| Err(ConfigError::Value { key, message });
    if service.workloads.is_empty() {
        let message = "must name at least one workload of the owner".to_owned();
        return error("simple_kbs.workloads", message);
    }
    for (number, name) in service.workloads.iter().enumerate() {
        if service.workloads.iter().take(number).any(|other| other == name) {
            return error("simple_kbs.workloads", format!("names {name} twice"));
        }
    }
    if service.workloads.len() > 64 {
        return error("simple_kbs.workloads", "must be at most 64".to_owned());
    }
    if !(1..=2_592_000).contains(&service.connection_seconds) {
        return error("simple_kbs.connection_seconds", "must be 1 to 2592000".to_owned());
    }
    if !(1..=1_000_000).contains(&service.connection_requests) {
        return error(
            "simple_kbs.connection_requests",
            "must be 1 to 1000000".to_owned(),
        );
    }
    Ok(())
}
