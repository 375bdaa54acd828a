//! Every key of the server's configuration. The struct is the manual.
//!
//! `keyward.yaml` is read first, then the environment, then the command line's flags. A key `a.b` is
//! the variable `KEYWARD_A__B`; its value is read as YAML. Unknown keys are errors. Durations are
//! whole seconds unless a name says otherwise. Paths in the file are relative to the file's folder,
//! those of variables and flags to the working directory.

mod check;
mod identity;
mod listeners;
mod load;
mod simple_kbs;
mod store;
mod webhooks;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::launch::LaunchBounds;
use crate::domain::sealed::KeyLocation;

pub use identity::{ClaimRule, ClientRule, IdentityProvider, Jwks, JwtAlgorithm};
pub use listeners::{ListenerConfig, MetricsConfig};
pub use load::ConfigError;
pub use simple_kbs::{SimpleKbsConfig, SimpleKbsTls};
pub use store::{PostgresConfig, PostgresTls, StoreConfig};
pub use webhooks::{WebhookConfig, WebhookEvent};

/// The server's configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port to listen on. Without `tls` a loopback address only.
    pub listen: SocketAddr,
    /// The host API (`/vm/{uuid}/launch`, `/validate`) on a listener of its own.
    pub hosts: ListenerConfig,
    /// The owner API (`/v1`, and registering at `/vm/{uuid}`) on a listener of its own.
    pub owners: ListenerConfig,
    /// Metrics, for Prometheus.
    pub metrics: MetricsConfig,
    /// The key-encryption key's file, where it is not the one that `init` was told.
    pub key_file: Option<PathBuf>,
    /// Where key-encryption keys are, in place of `key_file`: `file: PATH`, or `pkcs11:` for a token that they never
    /// leave.
    pub key_provider: Option<KeyLocation>,
    /// Certificate and key for HTTPS.
    pub tls: Option<Tls>,
    /// Lets the server listen without TLS on an address that is not loopback.
    pub danger_plaintext_http: bool,
    /// Proxies whose `X-Forwarded-For` is believed. Each must append the address of its peer: a hop that is none is
    /// refused.
    pub trusted_proxies: Vec<IpAddr>,
    /// Trust roots besides AMD's. A platform under one proves nothing about hardware.
    pub danger_extra_roots: Vec<ExtraRoot>,
    /// Identity providers whose tokens (JWT) are as good as tokens of this server.
    pub identity_providers: Vec<IdentityProvider>,
    /// Where everything is stored.
    pub store: StoreConfig,
    /// Launches: how long they wait, how many, how often they may fail.
    pub launch: LaunchConfig,
    /// AMD's key distribution service.
    pub kds: KdsConfig,
    /// Evaluation of policies.
    pub policy: PolicyConfig,
    /// Secrets.
    pub secrets: SecretsConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// Decisions.
    pub decisions: DecisionsConfig,
    /// Who is told of new holds and checkpoints.
    pub webhooks: Vec<WebhookConfig>,
    /// The service that simple-kbs's clients know, on a listener of its own. Left out: there is none.
    pub simple_kbs: Option<SimpleKbsConfig>,
    /// What is logged, in `env_logger`'s syntax: `info`, `keyward=debug`, …
    pub log: String,
    /// How: a line of text, or a line of JSON, for each event.
    pub log_format: LogFormat,
    /// How long requests that are under way may take to end once the server is told to.
    pub shutdown_seconds: u32,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people: `[time level target] message key=value …`.
    Text,
    /// One object a line: `time`, `level`, `target`, `message`, and what else is known, such as `request_id`.
    Json,
}

/// Certificate and key for HTTPS, and whose client certificates count; all files PEM. They are read again at SIGHUP, and
/// once they have changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of client certificates. With it clients are asked for one; who has none comes in without.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// The authorities' revocation lists, which must be there for each. Once a list has expired, no certificate is
    /// accepted.
    #[serde(default)]
    pub client_crl: Option<PathBuf>,
    /// Which certificate has which role. The first that fits counts; who fits none is refused.
    #[serde(default)]
    pub clients: Vec<ClientRule>,
}

/// A trust root that is not AMD's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraRoot {
    /// What policies see as `input.platform.root`.
    pub name: String,
    /// Its ARK certificate in AMD's CA format.
    pub file: PathBuf,
    /// Owners for whom it counts. Left out: the only owner; where there are several, it counts for nobody and the
    /// server does not start.
    #[serde(default)]
    pub owners: Vec<String>,
}

/// Launches.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchConfig {
    /// How long a launch may be validated.
    pub lifetime_seconds: u32,
    /// How many failed validations end a launch.
    pub max_tries: u32,
    /// Waiting launches of one address (IPv6: of one /64).
    pub pending_per_address: u32,
    /// Waiting launches of one platform Diffie-Hellman key; its own oldest gives way to a new one.
    pub pending_per_pdh: u32,
    /// Waiting launches of one workload.
    pub pending_per_workload: u32,
    /// Failed searches by workload UUID that one address may make in a minute.
    pub failed_searches_per_minute: u32,
    /// Seconds that a host is told to wait when its release is held.
    pub hold_retry_seconds: u32,
    /// Platforms whose certificate chains are not verified again while they stay the same, each of at most 32 KiB of
    /// memory; 0: every chain is verified at every launch.
    pub cached_chains: u32,
}

/// Secrets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// Versions of a secret whose values are kept, with the current one; values of older versions that nothing holds
    /// fast are destroyed when a new one is registered.
    pub kept_versions: u32,
}

/// AMD's key distribution service, which signs chips' CEKs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KdsConfig {
    /// Base URL; the chip's id is appended as `/cek/id/{hex}`. Plain HTTP on loopback only. Empty: never asked.
    pub url: String,
    /// How long a launch waits for the service before it is told to come back; at most 5.
    pub wait_seconds: u32,
    /// How long one request to the service may take.
    pub timeout_seconds: u32,
    /// Chips asked for at once and waiting to be, in all.
    pub queue: u32,
    /// The same for one address.
    pub queue_per_address: u32,
    /// Chips that one address may ask for in ten minutes; AMD's service answers about as many.
    pub chips_per_address: u32,
    /// How long it is remembered that the service knows no such chip.
    pub miss_seconds: u32,
}

/// Evaluation of policies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// How long the evaluation of one policy may take, in milliseconds. Past it is a deny.
    pub time_limit_ms: u32,
    /// Loaded bundles kept in memory.
    pub cached_bundles: u32,
    /// Processes that policies are evaluated in; 0: one more than processors.
    pub workers: u32,
    /// Address space of each, in MiB, 192 to 65536. A policy that needs more ends its process, which denies.
    pub worker_memory_mib: u32,
}

/// The audit log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// How often a checkpoint is signed, if the log grew.
    pub checkpoint_seconds: u32,
    /// File that every checkpoint is appended to, on another disk: a log that was rolled back and signed again is told by
    /// it, and the server does not start on one, nor where the file is missing though the log has checkpoints.
    pub checkpoint_file: Option<PathBuf>,
    /// For how many days it is kept what records say, at least; 0: for ever. Their hashes stay, so that the log verifies
    /// all the same.
    pub retention_days: u32,
}

/// Decisions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionsConfig {
    /// For how many days decisions are kept, at least; 0: for ever. What the audit log says of them stays.
    pub retention_days: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            checkpoint_seconds: 5,
            checkpoint_file: None,
            retention_days: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            hosts: ListenerConfig::default(),
            owners: ListenerConfig::default(),
            metrics: MetricsConfig::default(),
            key_file: None,
            key_provider: None,
            tls: None,
            danger_plaintext_http: false,
            trusted_proxies: Vec::new(),
            danger_extra_roots: Vec::new(),
            identity_providers: Vec::new(),
            store: StoreConfig::default(),
            launch: LaunchConfig::default(),
            kds: KdsConfig::default(),
            policy: PolicyConfig::default(),
            secrets: SecretsConfig::default(),
            audit: AuditConfig::default(),
            decisions: DecisionsConfig::default(),
            webhooks: Vec::new(),
            simple_kbs: None,
            log: "warn,keyward=info".to_owned(),
            log_format: LogFormat::Text,
            shutdown_seconds: 10,
        }
    }
}

impl Default for LaunchConfig {
    fn default() -> Self {
        Self {
            lifetime_seconds: 600,
            max_tries: 8,
            pending_per_address: 1024,
            pending_per_pdh: 64,
            pending_per_workload: 4096,
            failed_searches_per_minute: 60,
            hold_retry_seconds: 30,
            cached_chains: 1024,
        }
    }
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self { kept_versions: 10 }
    }
}

impl Default for KdsConfig {
    fn default() -> Self {
        Self {
            url: "https://kdsintf.amd.com".to_owned(),
            wait_seconds: 5,
            timeout_seconds: 30,
            queue: 64,
            queue_per_address: 8,
            chips_per_address: 64,
            miss_seconds: 3600,
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            time_limit_ms: 200,
            cached_bundles: 64,
            workers: 0,
            worker_memory_mib: 512,
        }
    }
}

impl LaunchConfig {
    /// The bounds as the store takes them.
    #[must_use]
    pub fn bounds(&self) -> LaunchBounds {
        LaunchBounds {
            per_address: self.pending_per_address,
            per_pdh: self.pending_per_pdh,
            per_workload: self.pending_per_workload,
        }
    }

    /// How long a launch may be validated.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds.into())
    }
}
