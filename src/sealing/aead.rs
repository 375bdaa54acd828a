//! AES-256-GCM with a nonce before and a tag behind the ciphertext.

use openssl::error::ErrorStack;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use super::provider::DataKey;

/// Length of a nonce in bytes.
pub(super) const NONCE: usize = 12;
/// Length of a tag in bytes.
pub(super) const TAG: usize = 16;

/// Nonce, ciphertext, tag.
pub(super) fn seal(
    key: &DataKey,
    nonce: [u8; NONCE],
    additional: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, ErrorStack> {
    let mut tag = [0; TAG];
    let ciphertext = encrypt_aead(
        Cipher::aes_256_gcm(),
        key.as_slice(),
        Some(&nonce),
        additional,
        value,
        &mut tag,
    )?;
    Ok([nonce.as_slice(), &ciphertext, &tag].concat())
}

/// The value; none: it was changed, or sealed with another key or other additional data.
pub(super) fn open(key: &DataKey, additional: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>()?;
    let opened = decrypt_aead(
        Cipher::aes_256_gcm(),
        key.as_slice(),
        Some(nonce),
        additional,
        ciphertext,
        tag,
    );
    opened.ok().map(Zeroizing::new)
}
