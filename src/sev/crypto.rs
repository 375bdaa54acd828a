//! The three primitives of the launch: HMAC-SHA256, the KDF and AES-128-CTR.

use openssl::error::ErrorStack;
use openssl::sha::{Sha256, sha256};
use openssl::symm::{Cipher, encrypt};
use zeroize::Zeroizing;

/// HMAC-SHA256 over the parts, one after the other.
///
/// It stands on OpenSSL's SHA-256 rather than on its HMAC because that one can fail for want of memory: a MAC
/// that cannot fail leaves no error path on which a check might be skipped.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let hashed = Zeroizing::new(if key.len() > BLOCK {
        sha256(key).to_vec()
    } else {
        key.to_vec()
    });
    let padded = |pad: u8| {
        let mut block = Zeroizing::new([pad; BLOCK]);
        block
            .iter_mut()
            .zip(hashed.iter())
            .for_each(|(byte, key)| *byte ^= key);
        block
    };

    let mut inner = Sha256::new();
    inner.update(padded(0x36).as_slice());
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new();
    outer.update(padded(0x5c).as_slice());
    outer.update(&inner.finish());
    outer.finish()
}

/// The specification's key derivation (NIST SP 800-108 in counter mode, one block): the first 16 bytes of
/// HMAC-SHA256(key, LE32 1 ‖ label ‖ 00 ‖ context ‖ LE32 128).
pub(crate) fn kdf(key: &[u8], label: &str, context: &[u8]) -> Zeroizing<[u8; 16]> {
    let parts: [&[u8]; 5] = [
        &1u32.to_le_bytes(),
        label.as_bytes(),
        &[0],
        context,
        &128u32.to_le_bytes(),
    ];
    let block = Zeroizing::new(hmac_sha256(key, &parts));
    let mut out = Zeroizing::new([0; 16]);
    out.iter_mut()
        .zip(block.iter())
        .for_each(|(out, byte)| *out = *byte);
    out
}

/// AES-128 in counter mode, which encrypts and decrypts alike. The output is as long as the input.
pub(crate) fn aes_128_ctr(
    key: &[u8; 16],
    iv: &[u8; 16],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    encrypt(Cipher::aes_128_ctr(), key, Some(iv), data).map(Zeroizing::new)
}
