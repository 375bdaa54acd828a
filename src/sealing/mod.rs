//! Secrets at rest: envelope encryption under a key-encryption key that lives outside the database.
//!
//! Each sealed value has a data key of its own (AES-256-GCM), which a key-encryption key wraps, wherever that is
//! ([`provider`]). Both seals are bound to what the value is and where it belongs, so a value moved to another row,
//! owner, name or version does not open.
//!
//! Another key takes over by wrapping the data key anew; the value's own bytes stay (`envelope`).

mod aead;
mod envelope;
pub mod escrow;
mod file;
pub mod key_file;
pub mod pkcs11;
mod place;
pub mod provider;
mod ring;

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

use crate::domain::sealed::{KeyId, KeyLocation};
use crate::sev::{Random, RandomError};
use envelope::Envelope;
use provider::{DataKey, KeyError, KeyProvider, KeySource, Wrapped};
use ring::Ring;

pub use envelope::sealed_under;
pub use file::{FileKey, key_id};
pub use place::Place;

const KEY: usize = 32;

/// Why a value could not be sealed or opened. Never says anything of the value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The value was sealed under a key that is not known here.
    #[error("sealed under another key (id {sealed}, this server's is {ours})")]
    OtherKey {
        /// Id of the key it was sealed under.
        sealed: KeyId,
        /// Id of the active key.
        ours: KeyId,
    },
    /// The value was sealed under a key that was retired when everything was re-wrapped: it comes from before that.
    #[error(
        "sealed under the key {0}, which was retired: it is refused, and what is stored is sealed under its successor"
    )]
    Retired(KeyId),
    /// The bytes are not a sealed value, were changed, or belong elsewhere.
    #[error("the sealed value was changed or belongs elsewhere")]
    Damaged,
    /// The key can't be used now; the value may be good.
    #[error(transparent)]
    Key(KeyError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library refused to encrypt.
    #[error("encryption failed: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
}

impl From<KeyError> for SealError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Damaged => Self::Damaged,
            KeyError::Random(error) => Self::Random(error),
            KeyError::Crypto(error) => Self::Crypto(error),
            error => Self::Key(error),
        }
    }
}

impl SealError {
    /// Whether it is the stored value that is at fault, and not what was needed to open it.
    #[must_use]
    pub fn is_of_the_value(&self) -> bool {
        matches!(self, Self::OtherKey { .. } | Self::Retired(_) | Self::Damaged)
    }
}

/// Seals and opens under the keys of its source.
pub struct Sealer {
    ring: Ring,
}

impl Sealer {
    /// With this one key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; KEY]>) -> Self {
        Self::with_provider(Arc::new(FileKey::new(key)))
    }

    /// With this one provider.
    #[must_use]
    pub fn with_provider(provider: Arc<dyn KeyProvider>) -> Self {
        Self {
            ring: Ring::new(Box::new(ring::Only(provider))),
        }
    }

    /// With the keys of `source`.
    ///
    /// # Errors
    /// When the active key is not to be had.
    pub fn with_source(source: Box<dyn KeySource>) -> Result<Self, KeyError> {
        let ring = Ring::new(source);
        ring.active()?;
        Ok(Self { ring })
    }

    /// The id of the active key.
    ///
    /// # Errors
    /// When it can't be told now.
    pub fn key_id(&self) -> Result<KeyId, KeyError> {
        Ok(self.ring.active()?.id())
    }

    /// Lets go of keys that were retired, and takes up the active one.
    ///
    /// # Errors
    /// When the source does not answer, or the active key is not to be had.
    pub fn refresh(&self) -> Result<(), KeyError> {
        self.ring.active().map(drop)
    }

    /// Seals `value` for `place` under the key that is active now.
    ///
    /// # Errors
    /// When the key is not to be had, there are no random bytes, or the library fails.
    pub fn seal(&self, place: Place<'_>, value: &[u8], random: &dyn Random) -> Result<Vec<u8>, SealError> {
        let place = place.encode();
        let mut data_key = Zeroizing::new([0; KEY]);
        random.fill(data_key.as_mut_slice())?;
        let mut nonce = [0; aead::NONCE];
        random.fill(&mut nonce)?;
        let value = aead::seal(&data_key, nonce, &[b"value", place.as_slice()].concat(), value)?;
        self.envelope(&place, &data_key, &value, random)
    }

    fn envelope(
        &self,
        place: &[u8],
        data_key: &DataKey,
        value: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let provider = self.ring.active()?;
        let wrapped = provider.wrap(data_key, &[b"data-key", place].concat(), random)?;
        let too_long =
            || KeyError::Unusable("the key provider's wrapped keys are too long to be stored".to_owned());
        let envelope = Envelope {
            key: provider.id(),
            wrapped: &wrapped,
            value,
        };
        Ok(envelope.to_bytes().ok_or_else(too_long)?)
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// When it was sealed under another key, for another place, or changed since; or the key is not to be had.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut opened = self.open_all(&[(place, sealed)]);
        opened.pop().unwrap_or(Err(SealError::Damaged))
    }

    /// Opens several, in the same order, with one call to each key's provider.
    #[must_use]
    pub fn open_all(&self, sealed: &[(Place<'_>, &[u8])]) -> Vec<Result<Zeroizing<Vec<u8>>, SealError>> {
        let openings: Vec<_> = sealed
            .iter()
            .map(|(place, sealed)| self.opening(*place, sealed))
            .collect();
        let mut ids: Vec<_> = openings
            .iter()
            .flatten()
            .map(|opening| opening.envelope.key)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let mut keys = BTreeMap::new();
        for id in ids {
            let all = openings.iter().enumerate();
            let under = all.filter_map(|(at, opening)| Some((at, opening.as_ref().ok()?)));
            let under: Vec<_> = under.filter(|(_, opening)| opening.envelope.key == id).collect();
            let wrapped: Vec<_> = under.iter().map(|(_, opening)| opening.wrapped()).collect();
            if let Some((_, first)) = under.first() {
                let unwrapped = first.provider.unwrap_all(&wrapped);
                keys.extend(under.iter().map(|(at, _)| *at).zip(unwrapped));
            }
        }
        let opened = openings.into_iter().enumerate().map(|(at, opening)| {
            let opening = opening?;
            let key = keys.remove(&at).ok_or(SealError::Damaged)??;
            let additional = [b"value", opening.place.as_slice()].concat();
            aead::open(&key, &additional, opening.envelope.value).ok_or(SealError::Damaged)
        });
        opened.collect()
    }

    fn opening<'a>(&self, place: Place<'_>, sealed: &'a [u8]) -> Result<Opening<'a>, SealError> {
        let envelope = Envelope::parse(sealed).ok_or(SealError::Damaged)?;
        let place = place.encode();
        Ok(Opening {
            provider: self.ring.find(envelope.key)?,
            additional: [b"data-key", place.as_slice()].concat(),
            envelope,
            place,
        })
    }

    /// The same sealed value with its data key wrapped under the active key; none: it is that already.
    ///
    /// # Errors
    /// As [`Sealer::open`], though the value itself is not looked at.
    pub fn rewrap(
        &self,
        place: Place<'_>,
        sealed: &[u8],
        random: &dyn Random,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let envelope = Envelope::parse(sealed).ok_or(SealError::Damaged)?;
        if envelope.key == self.key_id()? {
            return Ok(None);
        }
        let opening = self.opening(place, sealed)?;
        let data_key = opening.provider.unwrap(opening.wrapped())?;
        self.envelope(&opening.place, &data_key, opening.envelope.value, random)
            .map(Some)
    }
}

/// A sealed value on its way to be opened.
struct Opening<'a> {
    envelope: Envelope<'a>,
    provider: Arc<dyn KeyProvider>,
    additional: Vec<u8>,
    place: Vec<u8>,
}

impl Opening<'_> {
    fn wrapped(&self) -> Wrapped<'_> {
        Wrapped {
            wrapped: self.envelope.wrapped,
            additional: &self.additional,
        }
    }
}

/// Every key that is kept at a location.
///
/// # Errors
/// When it can't be used, or is not to be had now.
pub fn keys_at(location: &KeyLocation) -> Result<Vec<Arc<dyn KeyProvider>>, KeyError> {
    match location {
        KeyLocation::File(path) => file::keys(path),
        KeyLocation::Pkcs11(at) => {
            let keys = pkcs11::keys(at)?.into_iter();
            Ok(keys.map(|key| key as Arc<dyn KeyProvider>).collect())
        }
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
    use uuid::Uuid;

    use super::*;
    use crate::domain::Name;
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

    /// As version 1 of the format was written, by an implementation of its own.
    fn sealed_in_format_1(key: &DataKey, place: &[u8], value: &[u8]) -> Vec<u8> {
        let gcm = |key: &[u8], role: &[u8], value: &[u8]| {
            let mut tag = [0; 16];
            let (cipher, nonce) = (openssl::symm::Cipher::aes_256_gcm(), [9; 12]);
            let additional = [role, place].concat();
            let sealed =
                openssl::symm::encrypt_aead(cipher, key, Some(&nonce), &additional, value, &mut tag).unwrap();
            [nonce.as_slice(), &sealed, &tag].concat()
        };
        let data_key = [5; 32];
        let wrapped = gcm(key.as_slice(), b"data-key", &data_key);
        let value = gcm(&data_key, b"value", value);
        [&[1], key_id(key).0.as_slice(), &wrapped, &value].concat()
    }

    #[test]
    fn what_an_earlier_version_sealed_opens_and_is_rewrapped() {
        let key = new_key(&SystemRandom).unwrap();
        let owner: Name = "acme".parse().unwrap();
        let place = Place::Secret {
            owner: &owner,
            name: &owner,
            version: 7,
        };
        let written = b"keyward/v1\x06\0\0\0\0\0\0\0secret\x04\0\0\0\0\0\0\0acme\x04\0\0\0\0\0\0\0acme\x08\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        let old = sealed_in_format_1(&key, written, b"hunter2");
        let sealer = Sealer::new(key.clone());
        assert_eq!(sealer.open(place, &old).unwrap().as_slice(), b"hunter2");
        assert!(sealer.rewrap(place, &old, &SystemRandom).unwrap().is_none());
    }
}
