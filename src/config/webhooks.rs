//! Webhooks in the configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;

/// Somebody who is told of what happens, signed as Standard Webhooks has it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// What it is called in logs; letters, digits and `-`.
    pub name: String,
    /// Where it is called: HTTPS, without a query. Plain HTTP on loopback only.
    pub url: String,
    /// What it is told of.
    pub events: Vec<WebhookEvent>,
    /// File with the shared secret, `whsec_…`, readable by the server's user only. With several lines calls are signed
    /// with each.
    pub secret_file: PathBuf,
    /// Authorities that the receiver's certificate must lead to, PEM. Left out: those that the system trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Owners whose holds it is told of. Left out: all.
    #[serde(default)]
    pub owners: Vec<String>,
    /// How long one call may take.
    #[serde(default = "timeout")]
    pub timeout_seconds: u32,
    /// How often a call is tried. After the tenth try once an hour.
    #[serde(default = "tries")]
    pub max_tries: u32,
}

/// What a webhook is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookEvent {
    /// A hold was opened.
    Hold,
    /// A checkpoint of the audit log was signed; of several that wait only the newest is told.
    Checkpoint,
}

fn timeout() -> u32 {
    10
}

fn tries() -> u32 {
    30
}

pub(super) fn check(webhooks: &[WebhookConfig]) -> Result<(), ConfigError> {
    let wrong = |message: String| {
        Err(ConfigError::Value {
            key: "webhooks",
            message,
        })
    };
    for (at, webhook) in webhooks.iter().enumerate() {
        let name = &webhook.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            return wrong(format!(
                "the name {name:?} has other characters than letters, digits and `-`, or not from 1 to 63"
            ));
        }
        if webhooks.iter().skip(at + 1).any(|other| other.name == *name) {
            return wrong(format!("two have the name {name}"));
        }
        // The URL is not repeated: it may be a secret.
        if !crate::outward::is_acceptable_url(&webhook.url) {
            return wrong(format!(
                "the url of {name} must be https://… without a user and a query; http:// is for a loopback address only"
            ));
        }
        if webhook.events.is_empty() {
            return wrong(format!(
                "{name} is told of no events: name `hold` or `checkpoint`"
            ));
        }
        if !(1..=60).contains(&webhook.timeout_seconds) || !(1..=1000).contains(&webhook.max_tries) {
            return wrong(format!(
                "{name}: timeout_seconds must be 1 to 60, max_tries 1 to 1000"
            ));
        }
    }
    Ok(())
}
