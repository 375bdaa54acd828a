//! Keys sealed to an RSA public key, by RSAES-OAEP (RFC 8017, section 7.1) with SHA-256 and MGF1 with SHA-256.
//!
//! RSA, as nearly every smart card and HSM holds such a key and decrypts with it; and OAEP of the key file's text itself,
//! without another cipher around it, so that a card's own tool or `openssl pkeyutl` opens it where there is no Keyward:
//! what comes out is the key file.
//!
//! The text: `keyward-escrow-v1`, then `keys`, `made`, `sealed-to` (SHA-256 of the public key as SubjectPublicKeyInfo in
//! DER) and `check` (SHA-256 of the lines above it and the ciphertext), a blank line, and the ciphertext in base64. The
//! check tells what was cut or damaged without the private key; what somebody changed on purpose only the key tells.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::encrypt::{Decrypter, Encrypter};
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::rsa::Padding;
use openssl::sha::sha256;
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::super::key_file::{self, FileKeyBytes};
use super::super::key_id;
use super::{Carried, EscrowError, Lines, key_ids, nothing};
use crate::domain::{Hex, HexDigest, Time};

/// The first line.
pub const HEAD: &str = "keyward-escrow-v1";
/// The least bits of a key: what is sealed to it may lie around for many years.
const LEAST: u32 = 3072;
/// What OAEP with SHA-256 takes of the key's length, in bytes.
const OVERHEAD: usize = 2 * 32 + 2;
const WIDTH: usize = 64;

/// A public key that keys can be sealed to.
pub struct RecoveryKey {
    key: PKey<Public>,
    fingerprint: HexDigest,
}

impl RecoveryKey {
    /// From PEM: a public key or a certificate.
    ///
    /// # Errors
    /// When it is neither, a private key, no RSA key, or too short.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EscrowError> {
        let refused = |why: &str| Err(EscrowError::PublicKey(why.to_owned()));
        if pem.windows(12).any(|bytes| bytes == b"PRIVATE KEY-") {
            return refused(
                "it is a private key, which belongs offline: take its public one with `openssl pkey -pubout`",
            );
        }
        // Of such the library would ask for a passphrase, on the terminal.
        if pem.windows(9).any(|bytes| bytes == b"ENCRYPTED") {
            return refused("it is encrypted: expected a public key or a certificate in PEM, in clear");
        }
        let certified = || X509::from_pem(pem).and_then(|certificate| certificate.public_key());
        let Ok(key) = PKey::public_key_from_pem(pem).or_else(|_| certified()) else {
            return refused("expected a public key or a certificate in PEM");
        };
        if key.id() != Id::RSA || key.bits() < LEAST {
            return refused(&format!("expected an RSA key of at least {LEAST} bits"));
        }
        let fingerprint = fingerprint(&key)?;
        Ok(Self { key, fingerprint })
    }

    /// SHA-256 of it, as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn fingerprint(&self) -> &HexDigest {
        &self.fingerprint
    }

    /// Bits of its modulus.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.key.bits()
    }
}

fn fingerprint<T: HasPublic>(key: &PKeyRef<T>) -> Result<HexDigest, EscrowError> {
    Ok(Hex(sha256(&key.public_key_to_der()?)))
}

/// A private key from PEM, with its passphrase where it has one.
///
/// # Errors
/// When it is none, the passphrase is missing or wrong, or it is no RSA key.
pub fn private_key(pem: &[u8], passphrase: Option<&[u8]>) -> Result<PKey<Private>, EscrowError> {
    let refused = |why: &str| EscrowError::PrivateKey(why.to_owned());
    let mut asked = false;
    // Without a callback of ours the library would ask on the terminal.
    let key = PKey::private_key_from_pem_callback(pem, |room| {
        asked = true;
        let given = passphrase.unwrap_or_default();
        if let Some(room) = room.get_mut(..given.len()) {
            room.copy_from_slice(given);
            return Ok(given.len());
        }
        Ok(0)
    });
    let key = key.map_err(|_| match (asked, passphrase) {
        (true, None) => refused("it is encrypted: give its passphrase with --passphrase-file"),
        (true, Some(_)) => refused("its passphrase is not the one in --passphrase-file"),
        _ => refused("expected a private key in PEM"),
    })?;
    if key.id() != Id::RSA {
        return Err(refused("expected an RSA key, as escrows are sealed to such"));
    }
    Ok(key)
}

/// An escrow that is sealed to a public key.
pub struct SealedKeys {
    /// What it says it carries.
    pub carried: Carried,
    /// The public key that it is sealed to.
    pub sealed_to: HexDigest,
    ciphertext: Vec<u8>,
}

/// Seals keys.
///
/// # Errors
/// When they are too many for the key, or the library fails.
pub fn seal(keys: &[FileKeyBytes], to: &RecoveryKey, made: Time) -> Result<SealedKeys, EscrowError> {
    let text = key_file::text(keys);
    if text.len() + OVERHEAD > to.key.size() {
        return Err(EscrowError::PublicKey(format!(
            "{} keys are too many for an RSA key of {} bits: seal them to a longer one",
            keys.len(),
            to.bits()
        )));
    }
    let mut encrypter = Encrypter::new(&to.key)?;
    encrypter.set_rsa_padding(Padding::PKCS1_OAEP)?;
    encrypter.set_rsa_oaep_md(MessageDigest::sha256())?;
    encrypter.set_rsa_mgf1_md(MessageDigest::sha256())?;
    let mut ciphertext = vec![0; encrypter.encrypt_len(text.as_bytes())?];
    let length = encrypter.encrypt(text.as_bytes(), &mut ciphertext)?;
    ciphertext.truncate(length);
    Ok(SealedKeys {
        carried: Carried {
            keys: keys.iter().map(key_id).collect(),
            made,
        },
        sealed_to: to.fingerprint,
        ciphertext,
    })
}

impl SealedKeys {
    fn head(&self) -> String {
        let (ids, made, sealed_to) = (self.carried.ids(), self.carried.made, self.sealed_to);
        format!("{HEAD}\nkeys       {ids}\nmade       {made}\nsealed-to  {sealed_to}\n")
    }

    /// SHA-256 of the lines above `check` and the ciphertext.
    fn check(&self) -> HexDigest {
        Hex(sha256(&[self.head().as_bytes(), &self.ciphertext].concat()))
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}check      {}\n\n", self.head(), self.check());
        let encoded = STANDARD.encode(&self.ciphertext);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(WIDTH));
            let _ = writeln!(text, "{line}");
            rest = after;
        }
        text
    }

    /// The escrow of a text.
    ///
    /// # Errors
    /// When it is none; says in which line.
    pub fn parse(text: &str) -> Result<Self, EscrowError> {
        let mut lines = Lines::of(text);
        lines.member(HEAD, "`keyward-escrow-v1` and nothing more", nothing)?;
        let keys = lines.member("keys", "`keys` and the keys' ids", key_ids)?;
        let made = lines.member("made", "`made` and when it was", |text| text.parse().ok())?;
        let expected = "`sealed-to` and a SHA-256 in hexadecimal digits";
        let sealed_to = lines.member("sealed-to", expected, |text| text.parse().ok())?;
        let expected = "`check` and a SHA-256 in hexadecimal digits";
        let check: HexDigest = lines.member("check", expected, |text| text.parse().ok())?;
        let first = lines.take();
        let (mut at, mut encoded) = (first, String::new());
        while let Some((_, word, rest)) = at {
            if nothing(rest).is_none() {
                return Err(lines.malformed(at, "base64 and nothing more"));
            }
            encoded.push_str(word);
            at = lines.take();
        }
        let ciphertext = STANDARD.decode(&encoded).ok().filter(|bytes| !bytes.is_empty());
        let ciphertext = ciphertext.ok_or_else(|| lines.malformed(first, "the sealed keys in base64"))?;
        let sealed = Self {
            carried: Carried { keys, made },
            sealed_to,
            ciphertext,
        };
        if sealed.check() != check {
            let what = "the text does not fit its `check`, so that it is not whole";
            return Err(EscrowError::Checksum(what.to_owned()));
        }
        Ok(sealed)
    }

    /// The keys.
    ///
    /// # Errors
    /// When it is sealed to another key, was changed, or does not carry what it says.
    pub fn open(&self, key: &PKey<Private>) -> Result<Vec<FileKeyBytes>, EscrowError> {
        let ours = fingerprint(key)?;
        if ours != self.sealed_to {
            return Err(EscrowError::PrivateKey(format!(
                "it is another key than the one that the escrow is sealed to: its public key has the SHA-256 {ours}, the \
                 escrow's {}",
                self.sealed_to
            )));
        }
        let mut decrypter = Decrypter::new(key)?;
        decrypter.set_rsa_padding(Padding::PKCS1_OAEP)?;
        decrypter.set_rsa_oaep_md(MessageDigest::sha256())?;
        decrypter.set_rsa_mgf1_md(MessageDigest::sha256())?;
        let changed = |_| EscrowError::Changed;
        let length = decrypter.decrypt_len(&self.ciphertext).map_err(changed)?;
        let mut text = Zeroizing::new(vec![0; length]);
        let length = decrypter.decrypt(&self.ciphertext, &mut text).map_err(changed)?;
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        let keys = text.and_then(key_file::parse).ok_or(EscrowError::Changed)?;
        if !self.carried.fits(&keys) {
            return Err(EscrowError::Changed);
        }
        Ok(keys)
    }
}
