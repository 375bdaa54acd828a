//! What wraps data keys: one trait for a file, a token and a service on the network.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::key_file::KeyFileError;
use crate::domain::sealed::{KeyId, KeyState};
use crate::sev::{Random, RandomError};

/// The key of one value: AES-256.
pub type DataKey = Zeroizing<[u8; 32]>;

/// Why a key could not be used. Which it is decides what becomes of the request: only [`KeyError::Damaged`] is the
/// value's fault.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The provider does not answer now: gone, busy, timed out. The same may work in a moment.
    #[error("the key provider does not answer: {0}")]
    Unavailable(String),
    /// The provider can't be used as it is set up; says what to do.
    #[error("{0}")]
    Unusable(String),
    /// The key file can't be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The wrapped data key was changed, or belongs elsewhere.
    #[error("the wrapped data key was changed or belongs elsewhere")]
    Damaged,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library refused to encrypt.
    #[error("encryption failed: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
}

/// A wrapped data key with what it is bound to.
#[derive(Clone, Copy)]
pub struct Wrapped<'a> {
    /// What [`KeyProvider::wrap`] returned.
    pub wrapped: &'a [u8],
    /// The additional data that it was wrapped with.
    pub additional: &'a [u8],
}

/// One key-encryption key, wherever it is.
///
/// Contract of every provider:
///
/// - What was wrapped opens with the same key and the same additional data, and with no other. A provider whose
///   mechanism has no additional data puts its digest beside the data key, and compares.
/// - A call returns: a provider that waits for others has a time limit of its own and answers
///   [`KeyError::Unavailable`] past it. Callers do not try again; hosts and owners do.
/// - It comes back by itself: after an outage the next call works, without a restart.
/// - It is called from many threads at once.
pub trait KeyProvider: Send + Sync {
    /// The key's id: the same wherever the same key is opened, and another for another key.
    fn id(&self) -> KeyId;

    /// Wraps a data key, at most 65535 bytes.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn wrap(&self, key: &DataKey, additional: &[u8], random: &dyn Random) -> Result<Vec<u8>, KeyError>;

    /// Unwraps a data key.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] when it was changed or belongs elsewhere; the rest says nothing about it.
    fn unwrap(&self, wrapped: Wrapped<'_>) -> Result<DataKey, KeyError>;

    /// Unwraps several, in the same order. A provider that is far away does it in one go.
    fn unwrap_all(&self, wrapped: &[Wrapped<'_>]) -> Vec<Result<DataKey, KeyError>> {
        wrapped.iter().map(|one| self.unwrap(*one)).collect()
    }
}

/// Which keys there are, and where a key's provider comes from.
pub trait KeySource: Send + Sync {
    /// Every key that ever sealed something, with its state. One is active.
    ///
    /// It is asked before each value that is sealed: a key that was made active elsewhere counts at once.
    ///
    /// # Errors
    /// When it can't be told now.
    fn states(&self) -> Result<Vec<(KeyId, KeyState)>, KeyError>;

    /// The provider of a key that is active or retiring.
    ///
    /// # Errors
    /// When it is not where it should be, or not to be had now.
    fn provider(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError>;
}
