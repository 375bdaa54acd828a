//! AMD's key distribution service: who signs a chip's CEK when the host's chain comes without.
//!
//! The service limits rates, has outages, and many hosts have no route to it. So there is one request
//! in flight for a chip whoever asks, a bounded queue in all and for each address, its `Retry-After`
//! is honoured for every chip, and a caller waits a few seconds at most. What comes back is raw: the
//! caller verifies it against the chain it is for, and remembers it for ever.

mod allowance;
mod client;
mod queue;

pub use client::HttpService;
pub use queue::{Bounds, Queue};

use std::time::Duration;

/// Where signed CEKs come from.
pub trait CekSource: Send + Sync {
    /// The CEK certificate (2084 bytes, not verified) of the chip with this id, asked for by `bucket`.
    ///
    /// # Errors
    /// When there is none, or not now.
    fn cek(&self, chip: &[u8; 64], bucket: &str) -> Result<Vec<u8>, CekError>;
}

/// Why there is no CEK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CekError {
    /// The service knows no such chip.
    #[error("the key distribution service knows no chip with this id")]
    UnknownChip,
    /// The service, or its queue, has no time; it may after this long.
    #[error("the key distribution service can't be asked now: {why}")]
    Unavailable {
        /// When to come back.
        retry_after: Duration,
        /// What is wrong.
        why: String,
    },
    /// No service is configured.
    #[error("no key distribution service is configured; import the certificate with `keyward kds import`")]
    NotConfigured,
}

/// One request to a service, without any queueing.
pub trait Service: Send + Sync {
    /// Asks for the CEK of a chip.
    ///
    /// # Errors
    /// When there is none, or the service does not answer as it should.
    fn fetch(&self, chip: &[u8; 64]) -> Result<Vec<u8>, FetchError>;
}

/// What one request to the service may come to besides a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// It knows no such chip.
    UnknownChip,
    /// It asks everybody to wait this long.
    Wait(Duration),
    /// It did not answer as it should.
    Failed(String),
}

/// The source of a server that has none.
#[derive(Debug, Clone, Copy)]
pub struct NoService;

impl CekSource for NoService {
    fn cek(&self, _: &[u8; 64], _: &str) -> Result<Vec<u8>, CekError> {
        Err(CekError::NotConfigured)
    }
}
