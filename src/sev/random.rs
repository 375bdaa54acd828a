//! Where random bytes come from.

/// A source of random bytes fit for keys. It is passed in wherever a key, nonce or IV is made, so that a known
/// answer can be computed with known bytes.
pub trait Random: Send + Sync {
    /// Fills all of `out`. On an error `out` must not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError>;
}

/// The random source failed, or gave bytes that no honest source gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no usable random bytes: {0}")]
pub struct RandomError(pub String);

/// OpenSSL's generator, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        openssl::rand::rand_bytes(out).map_err(|error| RandomError(error.to_string()))
    }
}

/// `N` fresh bytes; for what is not secret.
pub(crate) fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    random.fill(&mut out)?;
    Ok(out)
}
