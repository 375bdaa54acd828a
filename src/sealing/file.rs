//! A key-encryption key that was read from a key file: AES-256-GCM in this process.

use std::path::Path;
use std::sync::Arc;

use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::aead;
use super::key_file;
use super::provider::{DataKey, KeyError, KeyProvider, Wrapped};
use crate::domain::sealed::KeyId;
use crate::sev::Random;

/// A key of a key file. No `Debug`; wiped when dropped.
pub struct FileKey(DataKey);

impl FileKey {
    /// With this key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

/// The id of a key: the first bytes of a hash of it.
#[must_use]
pub fn key_id(key: &Zeroizing<[u8; 32]>) -> KeyId {
    let mut text = Zeroizing::new(b"keyward/key-id/v1".to_vec());
    text.extend_from_slice(key.as_slice());
    let mut id = [0; 8];
    for (to, from) in id.iter_mut().zip(sha256(&text)) {
        *to = from;
    }
    KeyId(id)
}

/// Every key of a key file.
pub(super) fn keys(path: &Path) -> Result<Vec<Arc<dyn KeyProvider>>, KeyError> {
    let keys = key_file::read(path)?.into_iter();
    Ok(keys
        .map(|key| Arc::new(FileKey::new(key)) as Arc<dyn KeyProvider>)
        .collect())
}

impl KeyProvider for FileKey {
    fn id(&self) -> KeyId {
        key_id(&self.0)
    }

    fn wrap(&self, key: &DataKey, additional: &[u8], random: &dyn Random) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; aead::NONCE];
        random.fill(&mut nonce)?;
        Ok(aead::seal(&self.0, nonce, additional, key.as_slice())?)
    }

    fn unwrap(&self, wrapped: Wrapped<'_>) -> Result<DataKey, KeyError> {
        let key = aead::open(&self.0, wrapped.additional, wrapped.wrapped).ok_or(KeyError::Damaged)?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| KeyError::Damaged)?;
        Ok(Zeroizing::new(key))
    }
}
