//! What webhooks are told, in the shape of Standard Webhooks (<https://www.standardwebhooks.com>).

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::decision::{CountSeen, WorkloadRef};
use super::hold::{Guest, Hold};
use super::{Name, Time};

/// The body of a call. It names secrets and never holds a value.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Notice {
    /// When it happened.
    pub timestamp: Time,
    /// What happened: `type` and `data`.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Later versions add kinds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum What {
    /// A release waits for a person's word.
    #[serde(rename = "hold.opened")]
    HoldOpened(Opened),
    /// A checkpoint of the audit log was signed.
    #[serde(rename = "checkpoint.signed")]
    CheckpointSigned {
        /// Size of its tree.
        size: u64,
        /// The signed note.
        checkpoint: String,
    },
    /// Somebody tries whether calls arrive.
    #[serde(rename = "webhook.test")]
    Test {
        /// The webhook's name.
        webhook: String,
    },
}

/// A hold, as it was opened.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Opened {
    /// Its id.
    pub hold: Uuid,
    /// Whose secrets are asked for.
    pub owner: Name,
    /// The workload.
    pub workload: WorkloadRef,
    /// The secrets.
    pub secrets: Vec<Name>,
    /// The guest that asked first.
    pub guest: Option<Guest>,
    /// The counts that are in the way.
    pub counts: Vec<CountSeen>,
    /// The same in words.
    pub reason: String,
}

impl Opened {
    /// That of a hold.
    #[must_use]
    pub fn of(owner: &Name, hold: &Hold) -> Self {
        Self {
            hold: hold.id,
            owner: owner.clone(),
            workload: hold.workload.clone(),
            secrets: hold.secrets.clone(),
            guest: hold.attested.first().map(|held| held.of),
            counts: hold.counts.clone(),
            reason: hold.reason.clone(),
        }
    }
}
