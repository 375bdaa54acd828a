//! From a file and the environment to a configuration; anything that is not understood wholly is an error.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::Config;

/// A configuration that can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {path}: {source}; name another with --config", path = .path.display())]
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
                // What is no YAML at all is told as that, before any key is looked at.
                serde_yaml::from_str::<Value>(&text).map_err(|error| in_file(path, &error))?;
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
        let tls = self.tls.iter_mut().flat_map(|tls| {
            let asked = [&mut tls.client_ca, &mut tls.client_crl].into_iter().flatten();
            [&mut tls.certificate, &mut tls.key].into_iter().chain(asked)
        });
        let keys = self.identity_providers.iter_mut();
        let keys = keys.filter_map(|provider| provider.jwks.file.as_mut());
        let roots = self.danger_extra_roots.iter_mut().map(|root| &mut root.file);
        if let Some(location) = &mut self.key_provider {
            *location = location.below(folder);
        }
        let log = self.audit.checkpoint_file.iter_mut();
        let webhooks = self
            .webhooks
            .iter_mut()
            .flat_map(|webhook| webhook.ca_file.iter_mut().chain([&mut webhook.secret_file]));
        let simple_kbs = self
            .simple_kbs
            .iter_mut()
            .filter_map(|service| service.tls.as_mut());
        let simple_kbs = simple_kbs.flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let all = self.key_file.iter_mut().chain(tls).chain(roots);
        let rest = log.chain(webhooks).chain(simple_kbs).chain(self.store.paths());
        for path in all.chain(keys).chain(rest) {
            *path = folder.join(&*path);
        }
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
