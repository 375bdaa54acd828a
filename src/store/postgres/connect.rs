//! How the database is reached.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVersion};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
use zeroize::Zeroizing;

use super::Shared;
use crate::store::StoreError;

/// How long a connection may take to be made, and an end that says nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every connection is told first. A statement that hangs, and a transaction that nobody goes on with, are ended by
/// the database; what is answered has reached its disk.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '4s';
     SET idle_in_transaction_session_timeout = '30s'; SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'";

/// How the database is reached, and by how many connections.
#[derive(Clone)]
pub struct Options {
    /// `postgres://USER@HOST:PORT/DATABASE`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<Zeroizing<String>>,
    /// How the database is known over the network.
    pub tls: Option<Tls>,
    /// Whether a database on another machine may be spoken to in the clear.
    pub plaintext: bool,
    /// Connections at once.
    pub connections: usize,
    /// How long a request waits for one of them.
    pub wait: Duration,
}

/// How the database is known, and this server to it.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of who vouches for the database (PEM); none: the system's.
    pub ca: Option<PathBuf>,
    /// This server's certificate and key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why a database can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What is configured does not say which database, or how.
    #[error("store.postgres: {0}")]
    Config(String),
    /// It has nothing of Keyward's.
    #[error("the database has no tables of Keyward's: run `keyward init` with this configuration first")]
    Missing,
    /// A newer Keyward wrote it.
    #[error(
        "the database has schema {found}, this keyward knows up to {known}: use the newer keyward that wrote it"
    )]
    Newer {
        /// The database's.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// It is some other program's.
    #[error(
        "the database has tables that are not Keyward's: give Keyward a database, or a schema, of its own"
    )]
    Foreign,
    /// The engine failed.
    #[error("the database can't be used: {0}")]
    Store(#[from] StoreError),
    /// The system gave no thread.
    #[error("the database's threads can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The pool, not connected yet.
pub(super) fn open(options: &Options) -> Result<Shared, ConnectError> {
    let wrong = |why: String| ConnectError::Config(why);
    let mut config = Config::from_str(&options.url)
        .map_err(|e| wrong(format!("url: {e}; expected postgres://USER@HOST:PORT/DATABASE")))?;
    if config.get_password().is_some() {
        return Err(wrong(
            "url has a password, which would be seen where the configuration is: put it into a file of its own and name that as password_file".to_owned(),
        ));
    }
    if let Some(password) = &options.password {
        config.password(password.as_bytes());
    }
    config
        .application_name("keyward")
        // A standby answers what was so a moment ago: a token that is revoked by now.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(PATIENCE)
        .tcp_user_timeout(PATIENCE * 2)
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(PATIENCE)
        .keepalives_retries(3);
    let by_name = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    });
    // These are what is connected to, whatever the names say.
    let local = by_name && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    if !local && options.tls.is_none() && !options.plaintext {
        return Err(wrong(
            "the database is on another machine and there is no TLS: configure `tls`, or say `danger_plaintext: true` if the network between is trusted".to_owned(),
        ));
    }
    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match &options.tls {
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            Manager::from_config(config, MakeTlsConnector::new(connector(tls)?), manager)
        }
        None => {
            config.ssl_mode(SslMode::Disable);
            Manager::from_config(config, NoTls, manager)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("postgres")
        .enable_all()
        .build()?;
    let pool = Pool::builder(manager)
        .max_size(options.connections.max(2))
        .wait_timeout(Some(options.wait))
        .create_timeout(Some(PATIENCE))
        .recycle_timeout(Some(PATIENCE))
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move { client.batch_execute(SETTINGS).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|e| wrong(e.to_string()))?;
    Ok(Shared {
        pool,
        runtime: Some(runtime),
    })
}

/// Certificates are verified, with the database's name.
fn connector(tls: &Tls) -> Result<SslConnector, ConnectError> {
    let failed = |what: String| {
        move |error: openssl::error::ErrorStack| ConnectError::Config(format!("tls: {what}: {error}"))
    };
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed("OpenSSL".to_owned()))?;
    builder
        .set_min_proto_version(Some(SslVersion::TLS1_2))
        .map_err(failed("OpenSSL".to_owned()))?;
    if let Some(ca) = &tls.ca {
        let store = openssl::x509::store::X509StoreBuilder::new().map_err(failed("OpenSSL".to_owned()))?;
        builder.set_cert_store(store.build());
        builder
            .set_ca_file(ca)
            .map_err(failed(format!("ca: {}", ca.display())))?;
    }
    if let Some((certificate, key)) = &tls.identity {
        builder
            .set_certificate_chain_file(certificate)
            .map_err(failed(format!("certificate: {}", certificate.display())))?;
        builder
            .set_private_key_file(key, SslFiletype::PEM)
            .map_err(failed(format!("key: {}", key.display())))?;
        builder
            .check_private_key()
            .map_err(failed("the key is not the certificate's".to_owned()))?;
    }
    Ok(builder.build())
}
