//! Secrets at rest: envelope encryption under a key-encryption key that lives outside the database.
//!
//! Each sealed value has a data key of its own (AES-256-GCM), which the key-encryption key wraps
//! (AES-256-GCM too). Both seals are bound to what the value is and where it belongs, so a value
//! moved to another row, owner, name or version does not open.

pub mod key_file;

use openssl::sha::sha256;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::Name;
use crate::sev::{Random, RandomError};

const FORMAT: u8 = 1;
const ID: usize = 8;
const NONCE: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;

/// What a sealed value is and where it belongs: the additional data of both seals.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The value of a secret's version.
    Secret {
        /// The owner.
        owner: &'a Name,
        /// The secret.
        name: &'a Name,
        /// Its version.
        version: u64,
    },
    /// TEK and TIK of a launch.
    LaunchKeys {
        /// The workload's owner.
        owner: &'a Name,
        /// The launch.
        launch: Uuid,
    },
    /// The answer that a launch was given, kept for a host that lost it.
    Answer {
        /// The workload's owner.
        owner: &'a Name,
        /// The launch.
        launch: Uuid,
    },
    /// The key that signs the audit log's checkpoints.
    AuditLogKey,
}

/// Why a value could not be sealed or opened. Never says anything of the value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The value was sealed under another key-encryption key.
    #[error("sealed under another key (id {sealed}, this server's is {ours})")]
    OtherKey {
        /// Id of the key it was sealed under.
        sealed: String,
        /// Id of the key at hand.
        ours: String,
    },
    /// The bytes are not a sealed value, were changed, or belong elsewhere.
    #[error("the sealed value was changed or belongs elsewhere")]
    Damaged,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library refused to encrypt.
    #[error("encryption failed: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
}

/// The key-encryption key. No `Debug`; wiped when dropped.
pub struct Sealer {
    key: Zeroizing<[u8; KEY]>,
}

impl Sealer {
    /// With this key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; KEY]>) -> Self {
        Self { key }
    }

    /// A short public name of the key, by which a wrong one is told apart.
    #[must_use]
    pub fn key_id(&self) -> [u8; ID] {
        let mut text = Zeroizing::new(b"keyward/key-id/v1".to_vec());
        text.extend_from_slice(self.key.as_slice());
        let mut id = [0; ID];
        for (to, from) in id.iter_mut().zip(sha256(&text)) {
            *to = from;
        }
        id
    }

    /// Seals `value` for `place`: format, key id, nonce and wrapped data key, nonce and ciphertext.
    ///
    /// # Errors
    /// When there are no random bytes, or the library fails.
    pub fn seal(&self, place: Place<'_>, value: &[u8], random: &dyn Random) -> Result<Vec<u8>, SealError> {
        let aad = place.encode();
        let mut data_key = Zeroizing::new([0; KEY]);
        random.fill(data_key.as_mut_slice())?;
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.key_id());
        put(
            &mut out,
            &self.key,
            b"data-key",
            &aad,
            data_key.as_slice(),
            random,
        )?;
        put(&mut out, &data_key, b"value", &aad, value, random)?;
        Ok(out)
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// When it was sealed under another key, for another place, or changed since.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let aad = place.encode();
        let (format, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or(SealError::Damaged)?;
        if *format != FORMAT {
            return Err(SealError::Damaged);
        }
        if *id != self.key_id() {
            return Err(SealError::OtherKey {
                sealed: hex::encode(id),
                ours: hex::encode(self.key_id()),
            });
        }
        let (wrapped, value) = rest
            .split_at_checked(NONCE + KEY + TAG)
            .ok_or(SealError::Damaged)?;
        let data_key = take(&self.key, b"data-key", &aad, wrapped)?;
        let data_key =
            Zeroizing::new(<[u8; KEY]>::try_from(data_key.as_slice()).map_err(|_| SealError::Damaged)?);
        take(&data_key, b"value", &aad, value)
    }
}

fn put(
    out: &mut Vec<u8>,
    key: &Zeroizing<[u8; KEY]>,
    role: &[u8],
    aad: &[u8],
    value: &[u8],
    random: &dyn Random,
) -> Result<(), SealError> {
    let mut nonce = [0; NONCE];
    random.fill(&mut nonce)?;
    let mut tag = [0; TAG];
    let aad = [role, aad].concat();
    let ciphertext = encrypt_aead(
        Cipher::aes_256_gcm(),
        key.as_slice(),
        Some(&nonce),
        &aad,
        value,
        &mut tag,
    )?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&ciphertext);
    out.extend_from_slice(&tag);
    Ok(())
}

fn take(
    key: &Zeroizing<[u8; KEY]>,
    role: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(SealError::Damaged)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Damaged)?;
    let aad = [role, aad].concat();
    match decrypt_aead(
        Cipher::aes_256_gcm(),
        key.as_slice(),
        Some(nonce),
        &aad,
        ciphertext,
        tag,
    ) {
        Ok(value) => Ok(Zeroizing::new(value)),
        Err(_) => Err(SealError::Damaged),
    }
}

impl Place<'_> {
    /// Each part with its length before it, so that no two places read the same.
    fn encode(self) -> Vec<u8> {
        let mut out = b"keyward/v1".to_vec();
        let mut part = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Secret { owner, name, version } => {
                part(b"secret");
                part(owner.as_str().as_bytes());
                part(name.as_str().as_bytes());
                part(&version.to_le_bytes());
            }
            Self::LaunchKeys { owner, launch } => {
                part(b"launch-keys");
                part(owner.as_str().as_bytes());
                part(launch.as_bytes());
            }
            Self::Answer { owner, launch } => {
                part(b"answer");
                part(owner.as_str().as_bytes());
                part(launch.as_bytes());
            }
            Self::AuditLogKey => part(b"audit-log-key"),
        }
        out
    }
}

/// A key drawn now.
///
/// # Errors
/// When there are no random bytes.
pub fn new_key(random: &dyn Random) -> Result<Zeroizing<[u8; KEY]>, RandomError> {
    let mut key = Zeroizing::new([0; KEY]);
    if let Err(error) = random.fill(key.as_mut_slice()) {
        key.zeroize();
        return Err(error);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sev::SystemRandom;

    fn sealer() -> Sealer {
        Sealer::new(new_key(&SystemRandom).unwrap())
    }

    #[test]
    fn a_value_opens_only_where_it_belongs() {
        let (sealer, owner, name): (_, Name, Name) =
            (sealer(), "acme".parse().unwrap(), "db/password".parse().unwrap());
        let place = Place::Secret {
            owner: &owner,
            name: &name,
            version: 3,
        };
        let sealed = sealer.seal(place, b"hunter2", &SystemRandom).unwrap();
        assert_eq!(sealer.open(place, &sealed).unwrap().as_slice(), b"hunter2");

        let other: Name = "db/passwore".parse().unwrap();
        for elsewhere in [
            Place::Secret {
                owner: &owner,
                name: &name,
                version: 4,
            },
            Place::Secret {
                owner: &owner,
                name: &other,
                version: 3,
            },
            Place::Secret {
                owner: &other,
                name: &name,
                version: 3,
            },
            Place::LaunchKeys {
                owner: &owner,
                launch: Uuid::nil(),
            },
        ] {
            assert!(matches!(sealer.open(elsewhere, &sealed), Err(SealError::Damaged)));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let (sealer, owner): (_, Name) = (sealer(), "acme".parse().unwrap());
        let place = Place::LaunchKeys {
            owner: &owner,
            launch: Uuid::nil(),
        };
        let sealed = sealer.seal(place, &[7; 32], &SystemRandom).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open(place, &changed).is_err(), "byte {at}");
            assert!(sealer.open(place, &sealed[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn another_key_is_told_apart_from_damage() {
        let owner: Name = "acme".parse().unwrap();
        let place = Place::Answer {
            owner: &owner,
            launch: Uuid::nil(),
        };
        let sealed = sealer().seal(place, b"x", &SystemRandom).unwrap();
        assert!(matches!(
            sealer().open(place, &sealed),
            Err(SealError::OtherKey { .. })
        ));
    }
}
