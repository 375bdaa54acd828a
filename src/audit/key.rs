//! Keys of signed notes as text: the verifier key that is handed out, the signer key that is kept.
//!
//! Both are those of Go's `golang.org/x/mod/sumdb/note`, so that its tools read them:
//! `NAME+HASH+BASE64` and `PRIVATE+KEY+NAME+HASH+BASE64`. The hash is the key ID of C2SP signed-note, 8 hexadecimal
//! digits; the base64 is of one byte, 1 for Ed25519, and the 32 bytes of the public key or of the seed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::Sha256;
use openssl::sign::{Signer, Verifier};
use zeroize::Zeroizing;

/// Ed25519, in the table of signature types.
const ED25519: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";
const KEY: usize = 32;
const SIGNATURE: usize = 64;

/// Name of a key: not empty, without spaces, `+` and control characters. At most 255 bytes here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

/// Why a text is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name of a key is not one.
    #[error(
        "a key's name has 1 to 255 bytes and neither spaces nor `+`; a log is called like `example.com/keyward`"
    )]
    Name,
    /// The text is not laid out as a verifier key.
    #[error(
        "not a verifier key: expected NAME+HASH+KEY, with 8 lower-case hexadecimal digits and the base64 of 33 bytes"
    )]
    Verifier,
    /// The text is not laid out as a signer key.
    #[error(
        "not a signer key: expected PRIVATE+KEY+NAME+HASH+KEY, with 8 lower-case hexadecimal digits and the base64 of 33 bytes"
    )]
    Signer,
    /// The key is for another signature algorithm.
    #[error("expected an Ed25519 key (type 1), got type {0}")]
    Algorithm(u8),
    /// The hash is that of another name or key: the text was changed.
    #[error("the key's hash is {expected}, the text says {got}: it was changed or mistyped")]
    Hash {
        /// What name and key give.
        expected: String,
        /// What the text says.
        got: String,
    },
    /// The library refused the key.
    #[error("the key can't be used: {0}")]
    Crypto(#[from] ErrorStack),
}

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let inside = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        if (1..=255).contains(&text.len()) && text.chars().all(inside) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyError::Name)
        }
    }
}

/// By which signatures of one signer are checked.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: [u8; 4],
    key: [u8; KEY],
}

impl VerifierKey {
    fn new(name: KeyName, key: [u8; KEY]) -> Self {
        let mut sha = Sha256::new();
        sha.update(name.0.as_bytes());
        sha.update(&[b'\n', ED25519]);
        sha.update(&key);
        let [a, b, c, d, ..] = sha.finish();
        Self {
            name,
            id: [a, b, c, d],
            key,
        }
    }

    /// The signer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The first four bytes of SHA-256 over name, newline, type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether this is the signer's signature of `text`.
    #[must_use]
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        let verified = PKey::public_key_from_raw_bytes(&self.key, Id::ED25519)
            .and_then(|key| Verifier::new_without_digest(&key)?.verify_oneshot(signature, text.as_bytes()));
        // An error is a signature of another length or a key that is no point: either way it does not verify.
        verified.unwrap_or(false)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Verifier);
        };
        let material = Material::parse(hash, key).ok_or(KeyError::Verifier)?;
        let parsed = Self::new(name.parse()?, material.ed25519()?);
        parsed.has_hash(hash)?;
        Ok(parsed)
    }
}

impl VerifierKey {
    fn has_hash(&self, got: &str) -> Result<(), KeyError> {
        let expected = hex::encode(self.id);
        if expected == got {
            return Ok(());
        }
        Err(KeyError::Hash {
            expected,
            got: got.to_owned(),
        })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name.0, hex::encode(self.id))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What signs. No `Debug`; wiped when dropped.
pub struct SignerKey {
    seed: Zeroizing<[u8; KEY]>,
    verifier: VerifierKey,
}

impl SignerKey {
    /// The key of this seed: 32 random bytes that nobody else has.
    ///
    /// # Errors
    /// When the library fails.
    pub fn from_seed(name: KeyName, seed: Zeroizing<[u8; KEY]>) -> Result<Self, KeyError> {
        let raw = private(&seed)?.raw_public_key()?;
        let key = raw.try_into().map_err(|_| KeyError::Signer)?;
        Ok(Self {
            seed,
            verifier: VerifierKey::new(name, key),
        })
    }

    /// A key as [`SignerKey::to_text`] writes it.
    ///
    /// # Errors
    /// When it is anything else. The error says nothing of the key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE).ok_or(KeyError::Signer)?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Signer);
        };
        let material = Material::parse(hash, key).ok_or(KeyError::Signer)?;
        let parsed = Self::from_seed(name.parse()?, Zeroizing::new(material.ed25519()?))?;
        parsed.verifier.has_hash(hash)?;
        Ok(parsed)
    }

    /// The key as text, for a file that only the server reads.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut material = Zeroizing::new(vec![ED25519]);
        material.extend_from_slice(self.seed.as_slice());
        let key = Zeroizing::new(STANDARD.encode(&*material));
        let head = [
            PRIVATE,
            self.verifier.name(),
            "+",
            &hex::encode(self.verifier.id),
            "+",
        ]
        .concat();
        let mut text = Zeroizing::new(String::with_capacity(head.len() + key.len()));
        text.push_str(&head);
        text.push_str(&key);
        text
    }

    /// By which its signatures are checked.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs `text`. Ed25519 needs no randomness: the same text gets the same 64 bytes again.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, text: &str) -> Result<[u8; SIGNATURE], KeyError> {
        let key = private(&self.seed)?;
        let mut signature = [0; SIGNATURE];
        Signer::new_without_digest(&key)?.sign_oneshot(&mut signature, text.as_bytes())?;
        Ok(signature)
    }
}

fn private(seed: &Zeroizing<[u8; KEY]>) -> Result<PKey<Private>, ErrorStack> {
    PKey::private_key_from_raw_bytes(seed.as_slice(), Id::ED25519)
}

/// The bytes behind the base64 of either key: its type, and the key.
struct Material(Zeroizing<Vec<u8>>);

impl Material {
    /// None unless the hash has its eight digits and the base64 is canonical and of the right length.
    fn parse(hash: &str, key: &str) -> Option<Self> {
        let digits = hash.len() == 8 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // 33 bytes are 44 characters without padding.
        if !digits || key.len() != 44 {
            return None;
        }
        let bytes = Zeroizing::new(STANDARD.decode(key).ok()?);
        (bytes.len() == 1 + KEY).then_some(Self(bytes))
    }

    fn ed25519(&self) -> Result<[u8; KEY], KeyError> {
        match self.0.split_first() {
            Some((&ED25519, key)) => key.try_into().map_err(|_| KeyError::Verifier),
            Some((&other, _)) => Err(KeyError::Algorithm(other)),
            None => Err(KeyError::Verifier),
        }
    }
}
