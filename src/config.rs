//! Every key of the server's configuration. The struct is the manual.
//!
//! `keyward.yaml` is read first, then the environment, then the command line's flags. A key `a.b` is
//! the variable `KEYWARD_A__B`; its value is read as YAML. Unknown keys are errors. Durations are
//! whole seconds unless a name says otherwise. Paths in the file are relative to the file's folder,
//! those of variables and flags to the working directory.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use crate::domain::launch::LaunchBounds;

/// The server's configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port to listen on. Without `tls` a loopback address only.
    pub listen: SocketAddr,
    /// The key-encryption key's file, where it is not the one that `init` was told.
    pub key_file: Option<PathBuf>,
    /// Certificate and key for HTTPS.
    pub tls: Option<Tls>,
    /// Lets the server listen without TLS on an address that is not loopback.
    pub danger_plaintext_http: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Trust roots besides AMD's. A platform under one proves nothing about hardware.
    pub danger_extra_roots: Vec<ExtraRoot>,
    /// Launches: how long they wait, how many, how often they may fail.
    pub launch: LaunchConfig,
    /// AMD's key distribution service.
    pub kds: KdsConfig,
    /// Evaluation of policies.
    pub policy: PolicyConfig,
    /// What is logged, in `env_logger`'s syntax: `info`, `keyward=debug`, …
    pub log: String,
}

/// Certificate and key for HTTPS, both PEM.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A trust root that is not AMD's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraRoot {
    /// What policies see as `input.platform.root`.
    pub name: String,
    /// Its ARK certificate in AMD's CA format.
    pub file: PathBuf,
    /// Owners for whom it counts; left out: the only owner.
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
    /// Prepared bundles kept in memory.
    pub cached_bundles: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            key_file: None,
            tls: None,
            danger_plaintext_http: false,
            trusted_proxies: Vec::new(),
            danger_extra_roots: Vec::new(),
            launch: LaunchConfig::default(),
            kds: KdsConfig::default(),
            policy: PolicyConfig::default(),
            log: "warn,keyward=info".to_owned(),
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
        }
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

/// A configuration that can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no YAML, or has a key or a value that is not known.
    #[error("configuration {place}: {message}")]
    File {
        /// The file, with line and column where they are known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A variable of the environment names no key or has no fitting value.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A value is outside what makes sense.
    #[error("configuration key `{key}`: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
}

const PREFIX: &str = "KEYWARD_";

impl Config {
    /// Reads `file` where there is one, then `environment` (pairs of name and value).
    ///
    /// Variables of other programs are passed over; `KEYWARD_VECTORS` and `KEYWARD_UPDATE` belong to
    /// the tests.
    ///
    /// # Errors
    /// On anything that is not understood wholly.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            })?;
            if !text
                .lines()
                .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
            {
                config = serde_yaml::from_str(&text).map_err(|error| in_file(path, &error))?;
                config.resolve(path.parent().unwrap_or(Path::new("")));
            }
        }
        let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, text) in variables {
            if !matches!(
                name.as_str(),
                "KEYWARD_VECTORS" | "KEYWARD_UPDATE" | "KEYWARD_TOKEN_FILE" | "KEYWARD_SERVER"
            ) {
                config = config.with_variable(&name, &text)?;
            }
        }
        config.check()?;
        Ok(config)
    }

    fn with_variable(self, name: &str, text: &str) -> Result<Self, ConfigError> {
        let error = |message: String| ConfigError::Variable {
            name: name.to_owned(),
            message,
        };
        let mut whole = serde_yaml::to_value(&self).map_err(|e| error(plain(&e)))?;
        let value: Value = serde_yaml::from_str(text).map_err(|e| error(plain(&e)))?;
        let keys = name.get(PREFIX.len()..).unwrap_or_default().to_ascii_lowercase();
        let mut keys: Vec<&str> = keys.split("__").collect();
        let last = keys.pop().unwrap_or_default();
        let mut place = &mut whole;
        for key in keys {
            let map: &mut Mapping = place
                .as_mapping_mut()
                .ok_or_else(|| error(format!("`{key}` has no keys below it")))?;
            place = map
                .entry(Value::from(key))
                .or_insert_with(|| Value::Mapping(Mapping::new()));
            if place.is_null() {
                *place = Value::Mapping(Mapping::new());
            }
        }
        let map = place
            .as_mapping_mut()
            .ok_or_else(|| error(format!("`{last}` is not below a key that has keys")))?;
        map.insert(Value::from(last), value);
        serde_yaml::from_value(whole).map_err(|e| error(plain(&e)))
    }

    /// Makes relative paths relative to the file that named them.
    fn resolve(&mut self, folder: &Path) {
        let tls = self
            .tls
            .iter_mut()
            .flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let roots = self.danger_extra_roots.iter_mut().map(|root| &mut root.file);
        for path in self.key_file.iter_mut().chain(tls).chain(roots) {
            *path = folder.join(&*path);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let value = |key, message: &str| {
            Err(ConfigError::Value {
                key,
                message: message.to_owned(),
            })
        };
        if self.launch.lifetime_seconds == 0 || self.launch.lifetime_seconds > 86_400 {
            return value("launch.lifetime_seconds", "must be 1 to 86400");
        }
        if self.launch.max_tries == 0 {
            return value("launch.max_tries", "must be at least 1");
        }
        if self.launch.pending_per_pdh == 0
            || self.launch.pending_per_address == 0
            || self.launch.pending_per_workload == 0
        {
            return value("launch.pending_per_*", "must be at least 1");
        }
        if self.kds.wait_seconds > 5 {
            return value("kds.wait_seconds", "must be at most 5");
        }
        if self.kds.chips_per_address == 0 {
            return value("kds.chips_per_address", "must be at least 1");
        }
        if self.kds.timeout_seconds == 0 {
            return value("kds.timeout_seconds", "must be at least 1");
        }
        if !(self.kds.url.is_empty() || crate::kds::is_acceptable_url(&self.kds.url)) {
            return value(
                "kds.url",
                "must be https://…; http:// is for a loopback address only",
            );
        }
        if self.policy.time_limit_ms == 0 || self.policy.time_limit_ms > 10_000 {
            return value("policy.time_limit_ms", "must be 1 to 10000");
        }
        // The logger passes over what it does not understand.
        let levels = self.log.split('/').next().unwrap_or_default().split(',');
        for level in levels
            .filter_map(|directive| directive.split_once('='))
            .map(|(_, level)| level)
        {
            if level.trim().parse::<log::LevelFilter>().is_err() {
                return value(
                    "log",
                    &format!("{level:?} is no level: expected off, error, warn, info, debug or trace"),
                );
            }
        }
        Ok(())
    }
}

fn in_file(path: &Path, error: &serde_yaml::Error) -> ConfigError {
    let file = path.display();
    ConfigError::File {
        place: match error.location() {
            Some(at) => format!("{file}:{}:{}", at.line(), at.column()),
            None => file.to_string(),
        },
        message: plain(error),
    }
}

/// The library's message without its place, and without names of Rust types.
fn plain(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    let mut message = message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("invalid socket address syntax", ADDRESS)
        .replace("invalid IP address syntax", "expected an IP address");
    for (theirs, ours) in [
        ("expected socket address", ADDRESS),
        (
            "expected struct Config",
            "expected keys, such as `listen: 127.0.0.1:8443`",
        ),
        ("expected u32", "expected a whole number"),
    ] {
        if let Some(kept) = message.strip_suffix(theirs) {
            message = format!("{kept}{ours}");
        }
    }
    message
}

const ADDRESS: &str = "expected an IP address and a port, such as 127.0.0.1:8443";
