//! The database that belongs to a data folder: the file in it, or a PostgreSQL that the configuration names.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::serve::configuration;
use crate::config::{Config, PostgresConfig};
use crate::store::sqlite::{self, OpenError};
use crate::store::{SqlStore, postgres};

/// The configuration in the data folder.
pub(super) const CONFIG: &str = "keyward.yaml";
/// What the variables of the environment begin with that say where everything is stored.
const VARIABLES: &str = "KEYWARD_STORE__";

/// The database of a data folder that `init` made, as the configuration in the folder and the environment say.
pub(super) fn open(folder: &Path) -> anyhow::Result<SqlStore> {
    match &postgres_of(folder)? {
        Some(postgres) => connect(postgres, false),
        None => open_file(folder),
    }
}

/// The database of a data folder, as the configuration that is named says, or else the one in the folder.
pub(super) fn open_named(folder: &Path, config: Option<&Path>) -> anyhow::Result<SqlStore> {
    match config {
        Some(named) => open_configured(folder, &configuration(folder, Some(named))?),
        None => open(folder),
    }
}

/// The PostgreSQL database that a data folder's configuration names.
pub(super) fn postgres_of(folder: &Path) -> anyhow::Result<Option<PostgresConfig>> {
    let named = folder.join(CONFIG).exists()
        || std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with(VARIABLES));
    if !named {
        return Ok(None);
    }
    // `init` asks before there is a folder.
    let file = Some(folder.join(CONFIG)).filter(|file| file.exists());
    Ok(Config::load(file.as_deref(), std::env::vars())?.store.postgres)
}

/// The database that a configuration names.
pub(super) fn open_configured(folder: &Path, config: &Config) -> anyhow::Result<SqlStore> {
    match &config.store.postgres {
        Some(postgres) => connect(postgres, false),
        None => open_file(folder),
    }
}

fn open_file(folder: &Path) -> anyhow::Result<SqlStore> {
    let store = SqlStore::open(folder, false).map_err(|error| match error {
        OpenError::Missing(_) => error.into(),
        other => anyhow::Error::new(other).context(folder.join(sqlite::FILE).display().to_string()),
    })?;
    if let Some(time) = store.moved()? {
        bail!(
            "{} was moved to PostgreSQL at {time} and is no longer served: name that database with store.postgres in the configuration",
            folder.join(sqlite::FILE).display()
        );
    }
    Ok(store)
}

/// Opens a PostgreSQL database, or makes it Keyward's where it is empty and `create` is said.
pub(super) fn connect(config: &PostgresConfig, create: bool) -> anyhow::Result<SqlStore> {
    Ok(SqlStore::connect(&options(config)?, create)?)
}

pub(super) fn options(config: &PostgresConfig) -> anyhow::Result<postgres::Options> {
    let password = config.password_file.as_deref().map(|path| {
        let bytes = Zeroizing::new(
            std::fs::read(path)
                .with_context(|| format!("store.postgres.password_file {}", path.display()))?,
        );
        let text = std::str::from_utf8(&bytes)
            .with_context(|| format!("store.postgres.password_file {}", path.display()))?;
        anyhow::Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    });
    let tls = config.tls.as_ref().map(|tls| postgres::Tls {
        ca: tls.ca_file.clone(),
        identity: tls.certificate.clone().zip(tls.key.clone()),
    });
    Ok(postgres::Options {
        url: config.url.clone(),
        password: password.transpose()?,
        tls,
        plaintext: config.danger_plaintext,
        connections: usize::try_from(config.connections).unwrap_or(usize::MAX),
        wait: Duration::from_secs(config.wait_seconds.into()),
    })
}
