//! Keys that sign bundles, and the algorithms they are good for.
//!
//! An algorithm belongs to a key from the day it is registered. What a token says of its algorithm is compared
//! with that and never believed, so neither `none` nor an HMAC with the public key as its secret gets through.

use std::fmt;
use std::str::FromStr;

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, Private, Public};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A signature algorithm of JSON Web Signature (RFC 7518, section 3): those with a public key that OPA knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are RFC 7518's")]
pub enum SignatureAlgorithm {
    Es256,
    Es384,
    Es512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

/// The fewest bits of an RSA key.
const RSA_BITS: u32 = 2048;

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// Its name, such as `ES256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    pub(super) fn digest(self) -> MessageDigest {
        match self {
            Self::Es256 | Self::Rs256 | Self::Ps256 => MessageDigest::sha256(),
            Self::Es384 | Self::Rs384 | Self::Ps384 => MessageDigest::sha384(),
            Self::Es512 | Self::Rs512 | Self::Ps512 => MessageDigest::sha512(),
        }
    }

    /// The curve, and the length of a coordinate in bytes; none: it is RSA.
    pub(super) fn curve(self) -> Option<(Nid, i32)> {
        match self {
            Self::Es256 => Some((Nid::X9_62_PRIME256V1, 32)),
            Self::Es384 => Some((Nid::SECP384R1, 48)),
            Self::Es512 => Some((Nid::SECP521R1, 66)),
            _ => None,
        }
    }

    /// Whether RSA is padded by PSS.
    pub(super) fn is_pss(self) -> bool {
        matches!(self, Self::Ps256 | Self::Ps384 | Self::Ps512)
    }

    /// Refuses a key of another kind than the algorithm's.
    fn fits<T: HasPublic>(self, key: &PKey<T>) -> Result<(), KeyError> {
        let expected = match self.curve() {
            Some((curve, _)) => {
                let found = key.ec_key().ok().and_then(|key| key.group().curve_name());
                if found == Some(curve) {
                    return Ok(());
                }
                format!("an EC key on the curve {}", curve.short_name().unwrap_or("named"))
            }
            None => {
                if key.id() == Id::RSA && key.bits() >= RSA_BITS {
                    return Ok(());
                }
                format!("an RSA key of at least {RSA_BITS} bits")
            }
        };
        Err(KeyError::Other(format!("{self} needs {expected}")))
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SignatureAlgorithm {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| {
            KeyError::Other(
                "expected ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384 or PS512".to_owned(),
            )
        })
    }
}

/// A key that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is a private key, where a public one belongs.
    #[error(
        "this is a private key; give its public half, as `openssl pkey -pubout` writes it, and keep this one to yourself"
    )]
    Private,
    /// It is not a key in PEM.
    #[error("not a {0} key in PEM")]
    NotPem(&'static str),
    /// It is another one than the algorithm's.
    #[error("{0}")]
    Other(String),
}

/// A private key that signs bundles. No `Debug`.
pub struct SigningKey {
    pub(super) key: PKey<Private>,
    pub(super) algorithm: SignatureAlgorithm,
}

impl SigningKey {
    /// Takes a private key in PEM, without a passphrase.
    ///
    /// # Errors
    /// It is none, or none that the algorithm is for.
    pub fn from_pem(pem: &Zeroizing<Vec<u8>>, algorithm: SignatureAlgorithm) -> Result<Self, KeyError> {
        // A callback that knows no passphrase keeps OpenSSL from asking the terminal.
        let key = PKey::private_key_from_pem_callback(pem, |_| Ok(0));
        let key = key.map_err(|_| KeyError::NotPem("private"))?;
        algorithm.fits(&key)?;
        Ok(Self { key, algorithm })
    }
}

/// A key by which an owner's bundles may be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerificationKey {
    /// The only algorithm that it is used with.
    pub algorithm: SignatureAlgorithm,
    /// The public key, PEM.
    pub public_key: String,
    /// The scope that a signature must have been made for; left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl VerificationKey {
    /// Takes a public key in PEM.
    ///
    /// # Errors
    /// It is none, or none that the algorithm is for.
    pub fn new(pem: &str, algorithm: SignatureAlgorithm, scope: Option<String>) -> Result<Self, KeyError> {
        let key = parsed(pem)?;
        algorithm.fits(&key)?;
        let pem = key.public_key_to_pem().map_err(|_| KeyError::NotPem("public"))?;
        Ok(Self {
            algorithm,
            public_key: String::from_utf8(pem).map_err(|_| KeyError::NotPem("public"))?,
            scope: scope.filter(|scope| !scope.is_empty()),
        })
    }

    /// The algorithm that a public key is usually used with: by its curve, or RS256.
    ///
    /// # Errors
    /// It is not a public key, or of a kind that no algorithm is for.
    pub fn usual_algorithm(pem: &str) -> Result<SignatureAlgorithm, KeyError> {
        let key = parsed(pem)?;
        [
            SignatureAlgorithm::Es256,
            SignatureAlgorithm::Es384,
            SignatureAlgorithm::Es512,
            SignatureAlgorithm::Rs256,
        ]
        .into_iter()
        .find(|algorithm| algorithm.fits(&key).is_ok())
        .ok_or_else(|| {
            KeyError::Other(format!(
                "no algorithm is for this key: expected EC on P-256, P-384 or P-521, or RSA of at least {RSA_BITS} bits"
            ))
        })
    }

    pub(super) fn key(&self) -> Result<PKey<Public>, KeyError> {
        let key = parsed(&self.public_key)?;
        self.algorithm.fits(&key)?;
        Ok(key)
    }
}

fn parsed(pem: &str) -> Result<PKey<Public>, KeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    PKey::public_key_from_pem(pem.as_bytes()).map_err(|_| KeyError::NotPem("public"))
}
