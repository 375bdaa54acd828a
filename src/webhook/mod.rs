//! Webhooks: others are told of new holds and checkpoints, signed as Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>) has it.
//!
//! What is told waits in the store's outbox, written in the transaction of what it tells of, so that a server that is
//! killed tells it later. It is delivered at least once, and a receiver knows a second time by `webhook-id`. A call
//! that fails is tried again, at growing distances and so often; nothing that is decided ever waits for one.

mod backoff;
mod client;
mod secret;

pub use client::{Endpoint, EndpointError};
pub use secret::{Secret, SecretError};

use uuid::Uuid;

use crate::domain::Time;
use crate::sev::Random;
use crate::store::{Outbox, StoreError};

/// A webhook that is told.
pub struct Webhook {
    /// Its name, by which its messages are found.
    pub name: String,
    /// Where it is called.
    pub endpoint: Endpoint,
    /// What calls are signed with: with each, so that the receiver can change from one to the other.
    pub secrets: Vec<Secret>,
    /// How often one message is tried.
    pub max_tries: u32,
}

/// What one step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due.
    Idle,
    /// A message was delivered.
    Delivered,
    /// A message was not delivered, and waits.
    Failed {
        /// Why not.
        why: String,
    },
    /// A message was not delivered, and will not be.
    GivenUp {
        /// Why not.
        why: String,
    },
}

/// Why a call did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The other side did not take it.
    #[error("{0}")]
    Refused(String),
    /// It could not be signed.
    #[error("it could not be signed: {0}")]
    Unsigned(#[from] openssl::error::ErrorStack),
}

impl Webhook {
    /// Delivers the oldest message that is due, or puts it off.
    ///
    /// # Errors
    /// When the store fails.
    pub fn step(&self, outbox: &dyn Outbox, random: &dyn Random, now: Time) -> Result<Step, StoreError> {
        let Some(message) = outbox.next_message(&self.name, now)? else {
            return Ok(Step::Idle);
        };
        let Err(error) = self.call(message.id, &message.body, now) else {
            outbox.forget_message(message.id)?;
            return Ok(Step::Delivered);
        };
        let why = error.to_string();
        if message.tries.saturating_add(1) >= self.max_tries {
            outbox.forget_message(message.id)?;
            return Ok(Step::GivenUp { why });
        }
        let due = now.after(backoff::delay(message.tries, random));
        outbox.delay_message(message.id, due)?;
        Ok(Step::Failed { why })
    }

    /// Calls once.
    ///
    /// # Errors
    /// When the call did not arrive.
    pub fn call(&self, id: Uuid, body: &str, now: Time) -> Result<(), CallError> {
        let id = format!("msg_{}", id.simple());
        let timestamp = now.millis().div_euclid(1000);
        let signed = format!("{id}.{timestamp}.{body}");
        let signatures: Vec<String> = self
            .secrets
            .iter()
            .map(|secret| secret.sign(signed.as_bytes()))
            .collect::<Result<_, _>>()?;
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ];
        self.endpoint.post(&headers, body).map_err(CallError::Refused)
    }
}
