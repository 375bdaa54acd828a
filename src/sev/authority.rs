//! AMD's certificate authorities: ARK and ASK certificates, and the roots that are trusted.
//!
//! CA certificate (55766, appendix "ASK and ARK certificate format"): version u32, key `id[16]`, certifying
//! `id[16]`, usage u32, `reserved[16]`, exponent bits u32, modulus bits u32, `exponent[n]`, `modulus[n]`,
//! `signature[n]`.
//! n = 256 makes 832 bytes, signed with SHA-256 (Naples); n = 512 makes 1600 bytes, SHA-384 (Rome and later).
//! The signature covers all that is before it, 64 + 2n bytes.

use std::fmt;
use std::sync::{Arc, LazyLock};

use openssl::pkey::{PKey, Public};
use openssl::sha::{Sha256, sha256};

use super::Digest;
use super::certificate::Signer;
use super::encoding::{array_at, u32_at};
pub use super::product::{Product, UnknownProduct};
use super::public_key;
use super::usage::{Algorithm, Usage};

/// The name of the roots that are AMD's.
pub const AMD: &str = "amd";

const EXPONENT: usize = 64;

/// The authorities that a chain may end in: AMD's five, which are compiled in, and those an operator added by
/// name. A chain whose ARK is none of them is refused however well it verifies against itself: without this any
/// host could make a root of its own and forge a platform.
#[derive(Clone)]
pub struct TrustedRoots {
    roots: Vec<Arc<Root>>,
    digest: Digest,
}

impl TrustedRoots {
    /// AMD's roots for Naples, Rome, Milan, Genoa and Turin, each with its ASK.
    pub fn amd() -> Self {
        static ROOTS: LazyLock<Vec<Arc<Root>>> = LazyLock::new(|| {
            // INVARIANT: each pair parses and verifies (a test reads all five). Were one not to, it would be
            // missing here and its platforms refused: closed, not open.
            PINNED
                .iter()
                .filter_map(|(product, ark, ask)| Root::pinned(*product, ark, ask))
                .map(Arc::new)
                .collect()
        });
        Self::of(ROOTS.clone())
    }

    fn of(roots: Vec<Arc<Root>>) -> Self {
        let mut hash = Sha256::new();
        for root in &roots {
            let ask = root.ask.as_ref().map_or(&[][..], CaCertificate::as_bytes);
            for part in [root.name.as_bytes(), root.ark.as_bytes(), ask] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        let digest = hash.finish();
        Self { roots, digest }
    }

    /// SHA-256 of every root: two sets that differ in a name or a byte have two digests.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Adds a root that is not AMD's. Chains under it must carry their ASK and ARK.
    ///
    /// The ARK must be signed by itself, and neither the name nor the certificate may be there already.
    pub fn with_extra(self, name: &str, ark: CaCertificate) -> Result<Self, AuthorityError> {
        self.with(Root {
            name: name.to_owned(),
            product: None,
            ark,
            ask: None,
        })
    }

    /// Adds a root that is not AMD's together with its ASK, so that chains under it may leave both out.
    pub fn with_extra_pair(
        self,
        name: &str,
        ark: CaCertificate,
        ask: CaCertificate,
    ) -> Result<Self, AuthorityError> {
        if ask.usage() != Usage::Ask {
            return Err(AuthorityError::NotAnAsk);
        }
        if !ask.is_signed_by(&ark) {
            return Err(AuthorityError::ForeignAsk);
        }
        self.with(Root {
            name: name.to_owned(),
            product: None,
            ark,
            ask: Some(ask),
        })
    }

    /// The names of the roots that are not AMD's, in the order in which they were added.
    pub fn extra_names(&self) -> impl Iterator<Item = &str> {
        self.roots
            .iter()
            .filter(|root| root.product.is_none())
            .map(|root| root.name.as_str())
    }

    fn with(mut self, root: Root) -> Result<Self, AuthorityError> {
        if root.ark.usage() != Usage::Ark {
            return Err(AuthorityError::NotAnArk);
        }
        if !root.ark.is_signed_by(&root.ark) {
            return Err(AuthorityError::NotSelfSigned);
        }
        if root.name.trim().is_empty() || self.roots.iter().any(|known| known.name == root.name) {
            return Err(AuthorityError::Name(root.name));
        }
        if let Some(known) = self.of_ark(&root.ark) {
            return Err(AuthorityError::Duplicate(known.name.clone()));
        }
        self.roots.push(Arc::new(root));
        Ok(Self::of(self.roots))
    }

    /// The root with this ARK. The comparison is of everything that an ARK's signature covers.
    pub(super) fn of_ark(&self, ark: &CaCertificate) -> Option<&Root> {
        self.roots
            .iter()
            .map(Arc::as_ref)
            .find(|root| root.ark.signed_part() == ark.signed_part())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().map(Arc::as_ref)
    }
}

/// A trusted root.
pub(super) struct Root {
    pub(super) name: String,
    pub(super) product: Option<Product>,
    pub(super) ark: CaCertificate,
    pub(super) ask: Option<CaCertificate>,
}

impl Root {
    fn pinned(product: Product, ark: &[u8], ask: &[u8]) -> Option<Self> {
        let (ark, ask) = (CaCertificate::parse(ark).ok()?, CaCertificate::parse(ask).ok()?);
        let holds = ark.usage() == Usage::Ark
            && ask.usage() == Usage::Ask
            && ark.is_signed_by(&ark)
            && ask.is_signed_by(&ark);
        holds.then(|| Self {
            name: AMD.to_owned(),
            product: Some(product),
            ark,
            ask: Some(ask),
        })
    }
}

/// AMD's pairs, as AMD publishes them. See NOTICE for where they were taken from.
const PINNED: [(Product, &[u8], &[u8]); 5] = [
    (
        Product::Naples,
        include_bytes!("authority/naples-ark.bin"),
        include_bytes!("authority/naples-ask.bin"),
    ),
    (
        Product::Rome,
        include_bytes!("authority/rome-ark.bin"),
        include_bytes!("authority/rome-ask.bin"),
    ),
    (
        Product::Milan,
        include_bytes!("authority/milan-ark.bin"),
        include_bytes!("authority/milan-ask.bin"),
    ),
    (
        Product::Genoa,
        include_bytes!("authority/genoa-ark.bin"),
        include_bytes!("authority/genoa-ask.bin"),
    ),
    (
        Product::Turin,
        include_bytes!("authority/turin-ark.bin"),
        include_bytes!("authority/turin-ask.bin"),
    ),
];

/// A well-formed ARK or ASK certificate. That it is well-formed says nothing about who signed it.
#[derive(Clone)]
pub struct CaCertificate {
    bytes: Vec<u8>,
    usage: Usage,
    key_bytes: usize,
    key: PKey<Public>,
}

impl CaCertificate {
    /// The size with 2048-bit keys, in bytes.
    pub const SIZE_2048: usize = 832;
    /// The size with 4096-bit keys, in bytes.
    pub const SIZE_4096: usize = 1600;
    /// The size of the Naples ARK in the form that carries no signature, in bytes.
    pub const SIZE_2048_UNSIGNED: usize = 576;

    /// Reads a CA certificate of either size, or an ARK of 2048 bits without its signature. Refused are other
    /// lengths, versions and usages, reserved bytes that are not zero, and keys of another size than the form's.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let key_bytes = match bytes.len() {
            Self::SIZE_2048 | Self::SIZE_2048_UNSIGNED => 256,
            Self::SIZE_4096 => 512,
            length => return Err(AuthorityError::Length(length)),
        };
        let length = || AuthorityError::Length(bytes.len());
        let word = |offset| u32_at(bytes, offset).ok_or_else(length);

        match word(0)? {
            1 => {}
            version => return Err(AuthorityError::Version(version)),
        }
        let usage = word(36)?;
        let usage = Usage::parse(usage)
            .filter(|usage| matches!(usage, Usage::Ark | Usage::Ask))
            .ok_or(AuthorityError::Usage(usage))?;
        if bytes.len() == Self::SIZE_2048_UNSIGNED && usage != Usage::Ark {
            return Err(AuthorityError::Length(bytes.len()));
        }
        if array_at(bytes, 40) != Some([0; 16]) {
            return Err(AuthorityError::Reserved);
        }
        let (exponent_bits, modulus_bits) = (word(56)?, word(60)?);
        let parts = bytes
            .get(EXPONENT..)
            .and_then(|rest| rest.split_at_checked(key_bytes));
        let (exponent, rest) = parts.ok_or_else(length)?;
        let modulus = rest.get(..key_bytes).ok_or_else(length)?;
        let form = u32::try_from(key_bytes * 8).unwrap_or_default();
        if exponent_bits != form || modulus_bits != form {
            return Err(AuthorityError::Key);
        }
        let key = public_key::rsa(modulus_bits, exponent, modulus).ok_or(AuthorityError::Key)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            usage,
            key_bytes,
            key,
        })
    }

    /// The certificate as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// ARK or ASK.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The key's name.
    pub fn key_id(&self) -> [u8; 16] {
        array_at(&self.bytes, 4).unwrap_or_default()
    }

    /// The name of the key that signed it.
    pub fn certifying_id(&self) -> [u8; 16] {
        array_at(&self.bytes, 20).unwrap_or_default()
    }

    /// SHA-256 of the signed part, so that an ARK has one fingerprint with and without its signature.
    pub fn fingerprint(&self) -> Digest {
        sha256(self.signed_part())
    }

    /// Whether it carries a signature; only the short form of an ARK has none.
    pub fn is_signed(&self) -> bool {
        !self.signature().is_empty()
    }

    /// Whether `signer` signed it, and it names that signer.
    pub fn is_signed_by(&self, signer: &Self) -> bool {
        self.certifying_id() == signer.key_id()
            && self.key_bytes == signer.key_bytes
            && public_key::verifies(
                &signer.key,
                signer.algorithm(),
                self.signature(),
                self.signed_part(),
            )
    }

    /// The key as one that signs.
    pub(super) fn signer(&self) -> Signer<'_> {
        Signer {
            usage: self.usage,
            algorithm: self.algorithm(),
            key: &self.key,
        }
    }

    fn algorithm(&self) -> Algorithm {
        if self.key_bytes == 256 {
            Algorithm::RsaSha256
        } else {
            Algorithm::RsaSha384
        }
    }

    fn signed_part(&self) -> &[u8] {
        self.bytes
            .get(..EXPONENT + 2 * self.key_bytes)
            .unwrap_or_default()
    }

    fn signature(&self) -> &[u8] {
        self.bytes
            .get(EXPONENT + 2 * self.key_bytes..)
            .unwrap_or_default()
    }
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CaCertificate({} {})",
            self.usage,
            hex::encode(self.fingerprint())
        )
    }
}

/// Why bytes are not a CA certificate, or why a root was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// None of the lengths that a CA certificate has.
    #[error("a CA certificate has 832 or 1600 bytes (an unsigned Naples ARK 576), not {0}")]
    Length(usize),
    /// Not version 1.
    #[error("CA certificate version {0} is unknown, expected 1")]
    Version(u32),
    /// Neither ARK nor ASK.
    #[error("usage {0:#x} is neither ARK (0x0) nor ASK (0x13)")]
    Usage(u32),
    /// Bytes 40..56 are not zero.
    #[error("the reserved bytes 40 to 55 are not zero")]
    Reserved,
    /// The key is not an RSA key of the size that the certificate's length calls for.
    #[error("the key is not an RSA key of the size that the certificate's length calls for")]
    Key,
    /// The root that was to be added is not an ARK.
    #[error("a root must be an ARK certificate")]
    NotAnArk,
    /// The second of a pair is not an ASK.
    #[error("the second certificate of a pair must be an ASK")]
    NotAnAsk,
    /// The ARK does not verify with its own key.
    #[error("ARK: its own signature does not verify")]
    NotSelfSigned,
    /// The ASK does not verify with the ARK's key.
    #[error("ASK: signature by the ARK does not verify")]
    ForeignAsk,
    /// The name is empty or taken.
    #[error("the root's name {0:?} is empty or taken")]
    Name(String),
    /// The ARK is trusted already.
    #[error("this ARK is already trusted under the name {0:?}")]
    Duplicate(String),
}
