//! A platform whose chain was verified: the facts that leave, and their form at rest.

use serde::{Deserialize, Serialize};

use super::Digest;
use super::authority::Root;
use super::certificate::Certificate;
use super::product::Product;

/// A platform whose chain verified up to a trusted root. Only [`PresentedChain::verify`] makes one.
///
/// [`PresentedChain::verify`]: super::chain::PresentedChain::verify
#[derive(Clone, Debug)]
pub struct VerifiedPlatform {
    facts: StoredPlatform,
    pdh: Certificate,
    cek: Certificate,
}

impl VerifiedPlatform {
    pub(super) fn new(root: &Root, fingerprints: Fingerprints, pdh: Certificate, cek: Certificate) -> Self {
        let facts = StoredPlatform {
            root: root.name.clone(),
            product: root.product,
            api_major: pdh.api_major(),
            api_minor: pdh.api_minor(),
            fingerprints,
        };
        Self { facts, pdh, cek }
    }

    /// `amd`, or the name of the extra root that the chain ended in.
    pub fn root(&self) -> &str {
        self.facts.root()
    }

    /// The product, by whose ASK signed the CEK; none under an extra root.
    pub fn product(&self) -> Option<Product> {
        self.facts.product()
    }

    /// The fingerprints of the whole chain.
    pub fn fingerprints(&self) -> &Fingerprints {
        self.facts.fingerprints()
    }

    /// The major API version in the PDH, which is that of the firmware when it made the PDH. The version that
    /// runs now is attested by the measurement.
    pub fn api_major(&self) -> u8 {
        self.facts.api_major()
    }

    /// The minor API version in the PDH.
    pub fn api_minor(&self) -> u8 {
        self.facts.api_minor()
    }

    /// The key that a launch session is agreed with.
    pub fn pdh(&self) -> &Certificate {
        &self.pdh
    }

    /// The chip's certificate, signed by an ASK.
    pub fn cek(&self) -> &Certificate {
        &self.cek
    }

    /// What is kept of the platform between launch and release.
    pub fn to_stored(&self) -> StoredPlatform {
        self.facts.clone()
    }
}

/// What is kept of a verified platform between launch and release. It comes from a [`VerifiedPlatform`], or is
/// read back from where such a one was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPlatform {
    root: String,
    product: Option<Product>,
    api_major: u8,
    api_minor: u8,
    fingerprints: Fingerprints,
}

impl StoredPlatform {
    /// `amd`, or the name of the extra root that the chain ended in.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The product; none under an extra root.
    pub fn product(&self) -> Option<Product> {
        self.product
    }

    /// The fingerprints of the whole chain.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// The major API version in the PDH.
    pub fn api_major(&self) -> u8 {
        self.api_major
    }

    /// The minor API version in the PDH.
    pub fn api_minor(&self) -> u8 {
        self.api_minor
    }
}

/// The SHA-256 fingerprints of a chain: of bytes 8..1044 of a SEV certificate, and of the signed part of a CA
/// certificate. As text they are lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprints {
    /// AMD's root key, or the extra root.
    #[serde(with = "hex_digest")]
    pub ark: Digest,
    /// AMD's SEV signing key.
    #[serde(with = "hex_digest")]
    pub ask: Digest,
    /// The chip.
    #[serde(with = "hex_digest")]
    pub cek: Digest,
    /// The platform's owner.
    #[serde(with = "hex_digest")]
    pub oca: Digest,
    /// The platform's endorsement key.
    #[serde(with = "hex_digest")]
    pub pek: Digest,
    /// The platform's Diffie-Hellman key.
    #[serde(with = "hex_digest")]
    pub pdh: Digest,
}

mod hex_digest {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::sev::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digest = Digest::default();
        hex::decode_to_slice(text, &mut digest).map_err(|_| D::Error::custom("expected 64 hex digits"))?;
        Ok(digest)
    }
}
