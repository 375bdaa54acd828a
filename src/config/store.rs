//! Where everything is stored.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;

/// Where everything is stored. Left out: in a SQLite database in the data folder, which is for one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A PostgreSQL database, which any number of servers may share.
    pub postgres: Option<PostgresConfig>,
}

/// A PostgreSQL database, of version 14 or later.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Which database: `postgres://USER@HOST:PORT/DATABASE`, without a password. Several hosts, separated by commas, are
    /// tried in their order: the first that can be written is used.
    pub url: String,
    /// File with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// TLS, with which the database's certificate is verified. Without it the database must be on this machine.
    #[serde(default)]
    pub tls: Option<PostgresTls>,
    /// Lets the server speak to a database on another machine without TLS.
    #[serde(default)]
    pub danger_plaintext: bool,
    /// Connections of one server, at most: a request that finds none free waits for one.
    #[serde(default = "connections")]
    pub connections: u32,
    /// How long a request waits for a free connection before it is refused with 503.
    #[serde(default = "wait")]
    pub wait_seconds: u32,
}

/// How the database is known, and this server to it; all files PEM.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresTls {
    /// The authorities of the database's certificate. Left out: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// This server's certificate, where the database asks for one.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key.
    pub key: Option<PathBuf>,
}

fn connections() -> u32 {
    16
}

fn wait() -> u32 {
    5
}

pub(super) fn check(store: &StoreConfig) -> Result<(), ConfigError> {
    let Some(postgres) = &store.postgres else {
        return Ok(());
    };
    for (key, value, least, most) in [
        ("store.postgres.connections", postgres.connections, 2, 1000),
        ("store.postgres.wait_seconds", postgres.wait_seconds, 1, 60),
    ] {
        if !(least..=most).contains(&value) {
            return Err(ConfigError::Value {
                key,
                message: format!("must be {least} to {most}"),
            });
        }
    }
    if let Some(tls) = &postgres.tls
        && tls.certificate.is_some() != tls.key.is_some()
    {
        return Err(ConfigError::Value {
            key: "store.postgres.tls",
            message: "`certificate` and `key` go together".to_owned(),
        });
    }
    Ok(())
}

impl StoreConfig {
    /// Every path in it.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.postgres.iter_mut().flat_map(|postgres| {
            let tls = postgres.tls.iter_mut();
            let tls = tls.flat_map(|tls| [&mut tls.ca_file, &mut tls.certificate, &mut tls.key]);
            tls.chain([&mut postgres.password_file]).flatten()
        })
    }
}
