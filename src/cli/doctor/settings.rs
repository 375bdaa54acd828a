//! The configuration: is it understood wholly, and what is dangerous in it?

use std::path::Path;

use super::report::Report;
use crate::cli::{listeners, webhook};
use crate::config::{Config, ConfigError, IdentityProvider};
use crate::domain::{Clock as _, SystemClock};
use crate::identity::Identities;

/// The configuration as the server would have it; none: it would not start.
pub(super) fn check(report: &mut Report, folder: &Path, named: Option<&Path>) -> Option<Config> {
    let default = folder.join("keyward.yaml");
    let file = named.or_else(|| default.exists().then_some(default.as_path()));
    let nothing = std::iter::empty::<(String, String)>;
    let config = match Config::load(file, nothing()) {
        Ok(_) => {
            let place = file.map_or_else(
                || "none: defaults count".to_owned(),
                |file| file.display().to_string(),
            );
            report.ok("configuration", place);
            variables(report, file)
        }
        Err(error) => {
            report.fail("configuration", error.to_string(), advice(&error));
            None
        }
    }?;
    dangers(report, &config);
    others(report, &config);
    Some(config)
}

fn advice(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Unreadable { .. } => "let the server's user read it",
        _ => "schemas/config.schema.json has every key",
    }
}

/// Each variable alone, so that every wrong one is named.
fn variables(report: &mut Report, file: Option<&Path>) -> Option<Config> {
    let all: Vec<(String, String)> = std::env::vars()
        .filter(|(name, _)| name.starts_with("KEYWARD_"))
        .collect();
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|one| Config::load(file, std::iter::once(one.clone())).err())
        .map(|error| error.to_string())
        .collect();
    if !wrong.is_empty() {
        report.fail(
            "environment",
            wrong.join("; "),
            "unset it, or correct it: the server takes every KEYWARD_ variable for a key of its configuration",
        );
        return None;
    }
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    // Each is well alone; together they may still be at odds.
    match Config::load(file, all.clone().into_iter()) {
        Ok(config) => {
            let told = match names.is_empty() {
                true => "no KEYWARD_ variable is set".to_owned(),
                false => names.join(", "),
            };
            report.ok("environment", told);
            Some(config)
        }
        Err(error) => {
            report.fail("environment", error.to_string(), advice(&error));
            None
        }
    }
}

fn dangers(report: &mut Report, config: &Config) {
    if let Err(error) = listeners::check(config) {
        report.error("listeners", &error);
    }
    let listeners = [
        ("listen", Some(config.listen), config.tls.is_some()),
        ("hosts.listen", config.hosts.listen, config.tls.is_some()),
        ("owners.listen", config.owners.listen, config.tls.is_some()),
    ];
    let simple_kbs = config.simple_kbs.as_ref();
    let simple_kbs = simple_kbs.map(|kbs| ("simple_kbs.listen", Some(kbs.listen), kbs.tls.is_some()));
    let mut plain = Vec::new();
    for (key, address, tls) in listeners.into_iter().chain(simple_kbs) {
        if let Some(address) = address
            && !tls
            && !address.ip().is_loopback()
        {
            plain.push(format!("{key} {address}"));
        }
    }
    match (plain.is_empty(), config.danger_plaintext_http) {
        (true, false) => report.ok("plaintext", "nothing is served without TLS beyond this machine"),
        (true, true) => report.warn(
            "plaintext",
            "danger_plaintext_http is said and not needed",
            "take it out of the configuration",
        ),
        (false, true) => report.warn(
            "plaintext",
            format!("served without TLS: {}", plain.join(", ")),
            "anybody on the way reads tokens and secrets' values, unless a proxy on the same machine has the TLS",
        ),
        (false, false) => report.fail(
            "plaintext",
            format!("no TLS: {}", plain.join(", ")),
            "the server does not start so: configure `tls`, or say `danger_plaintext_http: true` if a proxy in front provides it",
        ),
    }
    if config.metrics.danger_plaintext_http {
        report.warn(
            "metrics",
            "metrics.danger_plaintext_http is said: whoever reaches the listener reads them",
            "let nobody else reach it, or take it out of the configuration",
        );
    }
    if config
        .store
        .postgres
        .as_ref()
        .is_some_and(|postgres| postgres.danger_plaintext)
    {
        report.warn(
            "database connection",
            "store.postgres.danger_plaintext is said: what is asked of a database elsewhere may travel in the clear",
            "configure `store.postgres.tls`",
        );
    }
    let roots: Vec<_> = config
        .danger_extra_roots
        .iter()
        .map(|root| {
            let owners = match root.owners.is_empty() {
                true => "the only owner".to_owned(),
                false => root.owners.join(", "),
            };
            format!("{} ({}) for {owners}", root.name, root.file.display())
        })
        .collect();
    match roots.is_empty() {
        true => report.ok("trust roots", "AMD's alone"),
        false => report.warn(
            "trust roots",
            format!("beside AMD's: {}", roots.join("; ")),
            "platforms under them prove nothing about hardware: take them out of `danger_extra_roots` in production",
        ),
    }
}

/// What the configuration names besides, as far as that can be told without the network.
fn others(report: &mut Report, config: &Config) {
    if !config.identity_providers.is_empty() {
        let files = |provider: &&IdentityProvider| provider.jwks.file.is_some();
        let known: Vec<_> = config.identity_providers.iter().filter(files).cloned().collect();
        match Identities::start(&known, &[], SystemClock.now()) {
            Ok(_) => report.ok(
                "identity providers",
                format!(
                    "{} configured, of {} the keys are in files and can be used",
                    config.identity_providers.len(),
                    known.len()
                ),
            ),
            Err(error) => report.error("identity providers", &error.into()),
        }
    }
    if !config.webhooks.is_empty() {
        let wrong = config.webhooks.iter().find_map(|hook| webhook::made(hook).err());
        match wrong {
            None => report.ok("webhooks", format!("{} can be signed", config.webhooks.len())),
            Some(error) => report.error("webhooks", &error),
        }
    }
}
