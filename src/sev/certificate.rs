//! The SEV certificate, version 1: 2084 bytes (55766, appendix "SEV certificate format").
//!
//! | offset | field |
//! |---|---|
//! | 0 | version u32 = 1 |
//! | 4, 5, 6 | API major u8, minor u8, reserved u16 |
//! | 8, 12 | usage u32, algorithm u32 |
//! | 16 | public key, 1028 bytes |
//! | 1044, 1564 | two signatures: signer's usage u32, algorithm u32, 512 bytes |
//!
//! A signature covers bytes 0..1044.

use std::fmt;

use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Public};
use openssl::sha::sha256;

use super::Digest;
use super::encoding::{array_at, assemble, empty_signature_area, u32_at};
use super::public_key;
pub use super::usage::{Algorithm, Usage};

/// The size of a certificate in bytes.
pub const SIZE: usize = 2084;
/// How much of it the signatures cover.
pub const SIGNED_SIZE: usize = 1044;

/// Where the public key starts.
pub(crate) const KEY: usize = 16;
/// Curve u32, `x[72]`, `y[72]`.
pub(crate) const EC_KEY_SIZE: usize = 148;
/// `r[72]`, `s[72]`.
const EC_SIGNATURE_SIZE: usize = 144;
const SIGNATURES: [usize; 2] = [1044, 1564];
const INVALID_USAGE: u32 = 0x1000;

/// A well-formed SEV certificate. That it is well-formed says nothing about who signed it.
#[derive(Clone)]
pub struct Certificate {
    bytes: Box<[u8; SIZE]>,
    usage: Usage,
    algorithm: Algorithm,
    key: PKey<Public>,
    signatures: [Option<Signature>; 2],
}

/// A certificate that was made here and that nobody signed, as bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnerCertificate(Box<[u8; SIZE]>);

impl OwnerCertificate {
    pub(super) fn of(body: &[u8; SIGNED_SIZE]) -> Self {
        let empty = empty_signature_area();
        Self(Box::new(assemble(body, &empty, &empty)))
    }

    /// The certificate, 2084 bytes.
    pub fn as_bytes(&self) -> &[u8; SIZE] {
        &self.0
    }
}

impl Certificate {
    /// The size of a certificate in bytes.
    pub const SIZE: usize = SIZE;

    /// Reads a certificate. Refused are a wrong length or version, unknown or ill-matched usage, algorithm and
    /// curve, a key that is none (a point off the curve or at infinity), and padding that is not zero; but an
    /// OCA may have anything behind its point.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let length = CertificateError::Length(bytes.len());
        let bytes: Box<[u8; SIZE]> = Box::new(bytes.try_into().map_err(|_| length)?);
        let word = |offset| u32_at(bytes.as_slice(), offset).ok_or(length);

        match word(0)? {
            1 => {}
            version => return Err(CertificateError::Version(version)),
        }
        if array_at(bytes.as_slice(), 6) != Some([0; 2]) {
            return Err(CertificateError::Padding("the reserved bytes 6 and 7"));
        }
        let usage = Usage::of_certificate(word(8)?)?;
        let algorithm = Algorithm::parse(word(12)?)?;
        if algorithm.is_ecdh() != (usage == Usage::Pdh) {
            return Err(CertificateError::AlgorithmOfUsage { usage, algorithm });
        }
        let area = bytes.get(KEY..SIGNED_SIZE).ok_or(length)?;
        let key = public_key::decode(algorithm, area)?;
        // Owners' certificates are made by tools on the owner's side, and those on the crate `sev` (sevctl) leave
        // whatever lay in memory behind the point. It is signed and changes nothing, so such platforms count.
        let behind_point = area.get(EC_KEY_SIZE..).ok_or(length)?;
        if usage != Usage::Oca && !algorithm.is_rsa() && behind_point.iter().any(|byte| *byte != 0) {
            return Err(CertificateError::Padding("the public key's area after the point"));
        }
        let [first, second] = SIGNATURES.map(|offset| Signature::parse(bytes.as_slice(), offset));
        Ok(Self {
            usage,
            algorithm,
            key,
            signatures: [first?, second?],
            bytes,
        })
    }

    /// The certificate as it came.
    pub fn as_bytes(&self) -> &[u8; SIZE] {
        &self.bytes
    }

    /// What the key is for.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The algorithm and hash that the key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The major API version of the firmware that made the certificate. Signed.
    pub fn api_major(&self) -> u8 {
        self.bytes.get(4).copied().unwrap_or_default()
    }

    /// The minor API version of the firmware that made the certificate. Signed.
    pub fn api_minor(&self) -> u8 {
        self.bytes.get(5).copied().unwrap_or_default()
    }

    /// The key.
    pub fn public_key(&self) -> &PKeyRef<Public> {
        &self.key
    }

    /// SHA-256 of bytes 8..1044: usage, algorithm and key. Signatures are outside, as a CEK is signed anew each
    /// time it is fetched.
    pub fn fingerprint(&self) -> Digest {
        sha256(self.bytes.get(8..SIGNED_SIZE).unwrap_or_default())
    }

    /// Whether the other certificate is for the same key. Says nothing about either's signatures.
    pub fn same_public_key(&self, other: &Self) -> bool {
        self.bytes.get(KEY..SIGNED_SIZE) == other.bytes.get(KEY..SIGNED_SIZE)
    }

    /// Whether it carries any signature, valid or not.
    pub fn is_signed(&self) -> bool {
        self.signatures.iter().any(Option::is_some)
    }

    /// Whether it carries a signature by a signer of this usage, valid or not.
    pub fn claims_signature_by(&self, signer: Usage) -> bool {
        self.signatures
            .iter()
            .flatten()
            .any(|signature| signature.usage == signer)
    }

    /// Whether the key is on P-384, the only curve on which a launch session can be agreed.
    pub fn is_p384(&self) -> bool {
        self.key
            .ec_key()
            .is_ok_and(|key| key.group().curve_name() == Some(Nid::SECP384R1))
    }

    /// The key as one that signs.
    pub(super) fn signer(&self) -> Signer<'_> {
        Signer {
            usage: self.usage,
            algorithm: self.algorithm,
            key: &self.key,
        }
    }

    /// Whether `signer` signed this certificate, in either slot.
    pub(super) fn check_signature(&self, signer: &Signer<'_>) -> Result<(), SignatureFault> {
        if !self.claims_signature_by(signer.usage) {
            return Err(SignatureFault::Absent);
        }
        let signed = self.bytes.get(..SIGNED_SIZE).unwrap_or_default();
        let verifies = self.signatures.iter().flatten().any(|signature| {
            signature.usage == signer.usage
                && signature.algorithm == signer.algorithm
                && public_key::verifies(signer.key, signer.algorithm, &signature.bytes, signed)
        });
        if verifies {
            Ok(())
        } else {
            Err(SignatureFault::Invalid)
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificate({} {})",
            self.usage,
            hex::encode(self.fingerprint())
        )
    }
}

/// A key that signs: who it is, and how it signs. A signature's usage and algorithm must equal its signer's.
pub(super) struct Signer<'a> {
    pub(super) usage: Usage,
    pub(super) algorithm: Algorithm,
    pub(super) key: &'a PKeyRef<Public>,
}

/// Why a certificate is not signed by a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureFault {
    Absent,
    Invalid,
}

#[derive(Clone)]
struct Signature {
    usage: Usage,
    algorithm: Algorithm,
    bytes: [u8; 512],
}

impl Signature {
    /// The signature at this offset, or nothing where the slot is marked empty: usage INVALID, or no algorithm.
    fn parse(bytes: &[u8], offset: usize) -> Result<Option<Self>, CertificateError> {
        let length = CertificateError::Length(bytes.len());
        let usage = u32_at(bytes, offset).ok_or(length)?;
        let algorithm = u32_at(bytes, offset + 4).ok_or(length)?;
        if usage == INVALID_USAGE || algorithm == 0 {
            return Ok(None);
        }
        let algorithm = Algorithm::parse(algorithm)?;
        let bytes: [u8; 512] = array_at(bytes, offset + 8).ok_or(length)?;
        if !algorithm.is_rsa() && bytes.iter().skip(EC_SIGNATURE_SIZE).any(|byte| *byte != 0) {
            return Err(CertificateError::Padding("a signature's area after r and s"));
        }
        let usage = Usage::parse(usage).ok_or(CertificateError::SignatureUsage(usage))?;
        Ok(Some(Self {
            usage,
            algorithm,
            bytes,
        }))
    }
}

/// Why bytes are not a SEV certificate. The sender's fault in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not 2084 bytes long.
    #[error("a SEV certificate has {SIZE} bytes, not {0}")]
    Length(usize),
    /// Not version 1.
    #[error("certificate version {0} is unknown, expected 1")]
    Version(u32),
    /// A usage that no SEV certificate has.
    #[error("usage {0:#x} is not one of OCA, PEK, PDH, CEK")]
    Usage(u32),
    /// An algorithm that the specification does not name.
    #[error("algorithm {0:#x} is unknown")]
    Algorithm(u32),
    /// A PDH that is not for key agreement, or another key that is.
    #[error("a {usage} cannot have the algorithm {:#x}", algorithm.code())]
    AlgorithmOfUsage {
        /// What the key is for.
        usage: Usage,
        /// What it claims to do.
        algorithm: Algorithm,
    },
    /// A curve other than P-256 and P-384.
    #[error("curve {0} is unknown, expected 1 (P-256) or 2 (P-384)")]
    Curve(u32),
    /// A public key that is no point of its curve.
    #[error("the public key is not a point on its curve")]
    Point,
    /// A public key that is not an RSA key of 2048 to 4096 bits.
    #[error("the public key is not an RSA key of 2048 to 4096 bits")]
    RsaKey,
    /// A signature by a signer that the specification does not name.
    #[error("a signature's usage {0:#x} is unknown")]
    SignatureUsage(u32),
    /// Bytes that must be zero and are not.
    #[error("not zero: {0}")]
    Padding(&'static str),
}
