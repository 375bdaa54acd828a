//! What a key is for, and what it does: the numbers in certificates.

use std::fmt;

use openssl::hash::MessageDigest;

use super::certificate::CertificateError;

/// What a key is for; the name of its certificate. It also orders the chain, from the root down.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Usage {
    /// AMD's root key, 0x00.
    Ark,
    /// AMD's SEV signing key, 0x13.
    Ask,
    /// The chip's endorsement key, 0x1004.
    Cek,
    /// The platform owner's certificate authority, 0x1001.
    Oca,
    /// The platform's endorsement key, 0x1002.
    Pek,
    /// The platform's Diffie-Hellman key, 0x1003.
    Pdh,
}

impl Usage {
    /// The number that stands for it in certificates.
    pub fn code(self) -> u32 {
        match self {
            Self::Ark => 0x00,
            Self::Ask => 0x13,
            Self::Oca => 0x1001,
            Self::Pek => 0x1002,
            Self::Pdh => 0x1003,
            Self::Cek => 0x1004,
        }
    }

    /// The usage of this number.
    pub(super) fn parse(code: u32) -> Option<Self> {
        [Self::Ark, Self::Ask, Self::Cek, Self::Oca, Self::Pek, Self::Pdh]
            .into_iter()
            .find(|usage| usage.code() == code)
    }

    /// ARK and ASK have a format of their own, so a SEV certificate cannot be one.
    pub(super) fn of_certificate(code: u32) -> Result<Self, CertificateError> {
        Self::parse(code)
            .filter(|usage| !matches!(usage, Self::Ark | Self::Ask))
            .ok_or(CertificateError::Usage(code))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Cek => "CEK",
            Self::Oca => "OCA",
            Self::Pek => "PEK",
            Self::Pdh => "PDH",
        })
    }
}

/// What a key does and the hash it does it with.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// RSA-PSS over SHA-256, 1.
    RsaSha256,
    /// ECDSA over SHA-256, 2.
    EcdsaSha256,
    /// ECDH, SHA-256, 3.
    EcdhSha256,
    /// RSA-PSS over SHA-384, 0x101.
    RsaSha384,
    /// ECDSA over SHA-384, 0x102.
    EcdsaSha384,
    /// ECDH, SHA-384, 0x103.
    EcdhSha384,
}

impl Algorithm {
    /// The number that stands for it in certificates.
    pub fn code(self) -> u32 {
        match self {
            Self::RsaSha256 => 1,
            Self::EcdsaSha256 => 2,
            Self::EcdhSha256 => 3,
            Self::RsaSha384 => 0x101,
            Self::EcdsaSha384 => 0x102,
            Self::EcdhSha384 => 0x103,
        }
    }

    pub(super) fn parse(code: u32) -> Result<Self, CertificateError> {
        use Algorithm::{EcdhSha256, EcdhSha384, EcdsaSha256, EcdsaSha384, RsaSha256, RsaSha384};
        [
            RsaSha256,
            EcdsaSha256,
            EcdhSha256,
            RsaSha384,
            EcdsaSha384,
            EcdhSha384,
        ]
        .into_iter()
        .find(|algorithm| algorithm.code() == code)
        .ok_or(CertificateError::Algorithm(code))
    }

    pub(super) fn is_rsa(self) -> bool {
        matches!(self, Self::RsaSha256 | Self::RsaSha384)
    }

    pub(super) fn is_ecdh(self) -> bool {
        matches!(self, Self::EcdhSha256 | Self::EcdhSha384)
    }

    pub(super) fn digest(self) -> MessageDigest {
        match self {
            Self::RsaSha256 | Self::EcdsaSha256 | Self::EcdhSha256 => MessageDigest::sha256(),
            Self::RsaSha384 | Self::EcdsaSha384 | Self::EcdhSha384 => MessageDigest::sha384(),
        }
    }
}
