//! The bytes of a sealed value.
//!
//! Format 2: format (1 byte), id of the key-encryption key (8), length of the wrapped data key (2, little endian), the
//! wrapped data key, then nonce (12), ciphertext and tag (16) of the value. Format 1, which is read still, has no
//! length: its wrapped data key has 60 bytes. The key's id is at the same place in both; the database relies on it.

use super::aead::{NONCE, TAG};
use crate::domain::sealed::KeyId;

const FORMAT_1: u8 = 1;
const FORMAT: u8 = 2;
/// Length of the wrapped data key in format 1.
const WRAPPED_1: usize = NONCE + 32 + TAG;

/// A sealed value's parts.
pub(super) struct Envelope<'a> {
    pub(super) key: KeyId,
    pub(super) wrapped: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.wrapped.len()).ok()?.to_le_bytes();
        Some(
            [
                &[FORMAT],
                self.key.0.as_slice(),
                &length,
                self.wrapped,
                self.value,
            ]
            .concat(),
        )
    }

    pub(super) fn parse(sealed: &'a [u8]) -> Option<Self> {
        let (format, rest) = sealed.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (length, rest) = match *format {
            FORMAT_1 => (WRAPPED_1, rest),
            FORMAT => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            _ => return None,
        };
        let (wrapped, value) = rest.split_at_checked(length)?;
        Some(Self {
            key: KeyId(*key),
            wrapped,
            value,
        })
    }
}

/// The id of the key that a value is sealed under, where it is a sealed value.
#[must_use]
pub fn sealed_under(sealed: &[u8]) -> Option<KeyId> {
    Envelope::parse(sealed).map(|envelope| envelope.key)
}
