//! The certificate chain: who is this platform?
//!
//! ARK→ARK, ARK→ASK, ASK→CEK, OCA→OCA, OCA→PEK **and** CEK→PEK, PEK→PDH. The chip's key vouches for the platform,
//! the owner's for who runs it. A signature may stand in either slot; its usage and algorithm are its signer's.
//!
//! What verification proves: that a chip of AMD's made these certificates. It does **not** prove that whoever
//! sent them holds the PDH's private key, as chains are public; that follows only when a measurement holds whose
//! keys were wrapped for the PDH.

use super::authority::{CaCertificate, Root, TrustedRoots};
use super::certificate::{Certificate, CertificateError, SIZE, SignatureFault};
use super::platform::{Fingerprints, VerifiedPlatform};
use super::product::Product;
use super::usage::Usage;
use super::{AuthorityError, authority};

/// A chain as a host presented it: well-formed, each certificate in its place, and nothing verified.
#[derive(Clone, Debug)]
pub struct PresentedChain {
    pdh: Certificate,
    pek: Certificate,
    oca: Certificate,
    cek: Certificate,
    authority: Option<(CaCertificate, CaCertificate)>,
}

impl PresentedChain {
    /// Reads a chain in any of the forms that tools write: PEK‖OCA‖CEK as QEMU gives it, with the PDH apart or
    /// in front, with or without ASK‖ARK behind, in both of AMD's sizes and with the short form of the Naples
    /// ARK. The length tells which; if the PDH comes twice, both must be the same bytes.
    pub fn parse(pdh: Option<&[u8]>, chain: &[u8]) -> Result<Self, ChainError> {
        let forms = ChainError::Length(chain.len());
        let (with_pdh, ask_size) = form_of(chain.len()).ok_or(forms)?;
        let separate = pdh.map(|bytes| read(bytes, Usage::Pdh)).transpose()?;

        let mut rest = chain;
        let mut take = |usage| {
            let (bytes, behind) = rest
                .split_at_checked(SIZE)
                .ok_or(ChainError::Length(chain.len()))?;
            rest = behind;
            read(bytes, usage)
        };
        let inside = if with_pdh { Some(take(Usage::Pdh)?) } else { None };
        let (pek, oca, cek) = (take(Usage::Pek)?, take(Usage::Oca)?, take(Usage::Cek)?);
        let pdh = match (separate, inside) {
            (Some(one), Some(other)) if one.as_bytes() != other.as_bytes() => {
                return Err(ChainError::TwoPdhs);
            }
            (Some(pdh), _) | (None, Some(pdh)) => pdh,
            (None, None) => return Err(ChainError::NoPdh),
        };
        let authority = match rest.split_at_checked(ask_size) {
            Some((ask, ark)) if ask_size > 0 => Some((read_ca(ask, Usage::Ask)?, read_ca(ark, Usage::Ark)?)),
            _ => None,
        };
        Ok(Self {
            pdh,
            pek,
            oca,
            cek,
            authority,
        })
    }

    /// The bytes of its certificates: PDH, PEK, OCA, CEK, then ASK and ARK where they came.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let authority = self.authority.iter().flat_map(|(ask, ark)| [ask, ark]);
        [&self.pdh, &self.pek, &self.oca, &self.cek]
            .map(|certificate| certificate.as_bytes().as_slice())
            .into_iter()
            .chain(authority.map(CaCertificate::as_bytes))
    }

    /// The chip's certificate, as presented.
    pub fn cek(&self) -> &Certificate {
        &self.cek
    }

    /// The platform's Diffie-Hellman certificate, as presented.
    pub fn pdh(&self) -> &Certificate {
        &self.pdh
    }

    /// The platform owner's certificate, as presented.
    pub fn oca(&self) -> &Certificate {
        &self.oca
    }

    /// Whether the CEK carries a signature by an ASK. The one that QEMU gives does not.
    pub fn cek_is_signed(&self) -> bool {
        self.cek.claims_signature_by(Usage::Ask)
    }

    /// The same chain with the CEK replaced by one for the same key, as AMD's service signed it.
    pub fn with_signed_cek(&self, cek: &Certificate) -> Result<Self, ChainError> {
        expect_usage(cek, Usage::Cek)?;
        if !self.cek.same_public_key(cek) {
            return Err(ChainError::ForeignCek);
        }
        Ok(Self {
            cek: cek.clone(),
            ..self.clone()
        })
    }

    /// Verifies all but the ASK's signature on the CEK: ARK and ASK where they came, and every signature below.
    /// It is the condition for asking AMD's service for a CEK, and proves nothing by itself.
    pub fn verify_but_for_cek(&self, roots: &TrustedRoots) -> Result<(), ChainError> {
        if let Some((ask, ark)) = &self.authority {
            root_of(ask, ark, roots)?;
        }
        self.verify_without_authority()
    }

    /// Verifies every signature but those by ARK and ASK: OCA→OCA, OCA→PEK, CEK→PEK, PEK→PDH. It proves nothing
    /// by itself.
    pub fn verify_without_authority(&self) -> Result<(), ChainError> {
        signed(&self.oca, &self.oca)?;
        signed(&self.pek, &self.oca)?;
        signed(&self.pek, &self.cek)?;
        signed(&self.pdh, &self.pek)
    }

    /// Verifies the whole chain up to a trusted root.
    pub fn verify(&self, roots: &TrustedRoots) -> Result<VerifiedPlatform, ChainError> {
        // The authority comes first because RSA verifies ten times faster than P-384: junk costs little.
        let (root, ask) = self.verify_authority(roots)?;
        self.verify_without_authority()?;
        let fingerprints = Fingerprints {
            ark: root.ark.fingerprint(),
            ask: ask.fingerprint(),
            cek: self.cek.fingerprint(),
            oca: self.oca.fingerprint(),
            pek: self.pek.fingerprint(),
            pdh: self.pdh.fingerprint(),
        };
        Ok(VerifiedPlatform::new(
            root,
            fingerprints,
            self.pdh.clone(),
            self.cek.clone(),
        ))
    }

    fn verify_authority<'a>(
        &'a self,
        roots: &'a TrustedRoots,
    ) -> Result<(&'a Root, &'a CaCertificate), ChainError> {
        let Some((ask, ark)) = &self.authority else {
            return issuer_of(&self.cek, roots.iter());
        };
        let root = root_of(ask, ark, roots)?;
        self.cek
            .check_signature(&ask.signer())
            .map_err(|fault| fault_of(fault, Usage::Cek, Usage::Ask))?;
        Ok((root, ask))
    }
}

/// Verifies a CEK that came alone, imported or from AMD's service, and says which product it is. Only AMD's own
/// roots count here, whatever others `roots` holds.
pub fn verify_cek(cek: &Certificate, roots: &TrustedRoots) -> Result<Product, ChainError> {
    expect_usage(cek, Usage::Cek)?;
    let amd = roots.iter().filter(|root| root.name == authority::AMD);
    let (root, _) = issuer_of(cek, amd)?;
    root.product.ok_or(ChainError::NoIssuer)
}

/// The root that this ARK is, if it vouches for the ASK.
fn root_of<'a>(
    ask: &CaCertificate,
    ark: &CaCertificate,
    roots: &'a TrustedRoots,
) -> Result<&'a Root, ChainError> {
    let root = roots
        .of_ark(ark)
        .ok_or_else(|| ChainError::UntrustedRoot(hex::encode(ark.fingerprint())))?;
    // The root is trusted for being pinned. That its own signature holds, where it came with one, is asked
    // only so that no byte of what was presented goes unchecked.
    if ark.is_signed() && !ark.is_signed_by(ark) {
        return Err(ChainError::Signature {
            of: Usage::Ark,
            by: Usage::Ark,
        });
    }
    if !ask.is_signed_by(&root.ark) {
        return Err(ChainError::Signature {
            of: Usage::Ask,
            by: Usage::Ark,
        });
    }
    Ok(root)
}

/// The root whose ASK signed the CEK.
fn issuer_of<'a>(
    cek: &Certificate,
    roots: impl Iterator<Item = &'a Root>,
) -> Result<(&'a Root, &'a CaCertificate), ChainError> {
    if !cek.claims_signature_by(Usage::Ask) {
        return Err(ChainError::Unsigned {
            of: Usage::Cek,
            by: Usage::Ask,
        });
    }
    roots
        .filter_map(|root| Some((root, root.ask.as_ref()?)))
        .find(|(_, ask)| cek.check_signature(&ask.signer()).is_ok())
        .ok_or(ChainError::NoIssuer)
}

/// Whether the PDH is in front, and how long the ASK behind is (0 for none), for a chain of this length.
fn form_of(length: usize) -> Option<(bool, usize)> {
    const SHORT: usize = CaCertificate::SIZE_2048;
    const LONG: usize = CaCertificate::SIZE_4096;
    const UNSIGNED_ARK: usize = CaCertificate::SIZE_2048_UNSIGNED;
    let behind = [(0, 0), (SHORT, SHORT), (SHORT, UNSIGNED_ARK), (LONG, LONG)];
    [(false, 3 * SIZE), (true, 4 * SIZE)]
        .into_iter()
        .find_map(|(with_pdh, certificates)| {
            let fits = |(ask, ark)| certificates + ask + ark == length;
            behind
                .into_iter()
                .find(|sizes| fits(*sizes))
                .map(|(ask, _)| (with_pdh, ask))
        })
}

fn read(bytes: &[u8], usage: Usage) -> Result<Certificate, ChainError> {
    let certificate =
        Certificate::parse(bytes).map_err(|source| ChainError::Certificate { of: usage, source })?;
    expect_usage(&certificate, usage)?;
    Ok(certificate)
}

fn expect_usage(certificate: &Certificate, expected: Usage) -> Result<(), ChainError> {
    if certificate.usage() == expected {
        return Ok(());
    }
    Err(ChainError::Misplaced {
        expected,
        found: certificate.usage(),
    })
}

fn read_ca(bytes: &[u8], expected: Usage) -> Result<CaCertificate, ChainError> {
    let certificate =
        CaCertificate::parse(bytes).map_err(|source| ChainError::Authority { of: expected, source })?;
    if certificate.usage() == expected {
        return Ok(certificate);
    }
    Err(ChainError::Misplaced {
        expected,
        found: certificate.usage(),
    })
}

fn signed(of: &Certificate, by: &Certificate) -> Result<(), ChainError> {
    of.check_signature(&by.signer())
        .map_err(|fault| fault_of(fault, of.usage(), by.usage()))
}

fn fault_of(fault: SignatureFault, of: Usage, by: Usage) -> ChainError {
    match fault {
        SignatureFault::Absent => ChainError::Unsigned { of, by },
        SignatureFault::Invalid => ChainError::Signature { of, by },
    }
}

/// Why a chain is refused. The sender's fault in every case; no text quotes a key's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The chain's length fits no form.
    #[error(
        "certificate chain: {0} bytes fit no known form (PEK, OCA and CEK are 6252, with the PDH 8336, each \
         with ASK and ARK of 1664, 1408 or 3200 more)"
    )]
    Length(usize),
    /// The PDH is neither apart nor in the chain.
    #[error("PDH: missing, it is neither given apart nor in the chain")]
    NoPdh,
    /// The PDH apart and the one in the chain are not the same.
    #[error("PDH: the one given apart differs from the one in the chain")]
    TwoPdhs,
    /// A certificate is malformed.
    #[error("{of}: {source}")]
    Certificate {
        /// Which.
        of: Usage,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A CA certificate is malformed.
    #[error("{of}: {source}")]
    Authority {
        /// Which.
        of: Usage,
        /// What is wrong with it.
        source: AuthorityError,
    },
    /// Another certificate stands where this one is expected.
    #[error("{expected}: a {found} stands in its place")]
    Misplaced {
        /// Which is expected.
        expected: Usage,
        /// Which came.
        found: Usage,
    },
    /// A certificate carries no signature by the one that must sign it.
    #[error("{of}: carries no signature by the {by}")]
    Unsigned {
        /// Which.
        of: Usage,
        /// Who should have signed.
        by: Usage,
    },
    /// A signature does not hold.
    #[error("{of}: signature by the {by} does not verify")]
    Signature {
        /// Which certificate.
        of: Usage,
        /// Who should have signed.
        by: Usage,
    },
    /// The ARK is not a trusted one. Its fingerprint is given, in hex.
    #[error("ARK: {0} is neither one of AMD's roots nor one that was configured")]
    UntrustedRoot(String),
    /// No trusted ASK signed the CEK.
    #[error("CEK: signed by no ASK of a trusted root")]
    NoIssuer,
    /// The CEK that is to take the presented one's place is for another key.
    #[error("CEK: the signed certificate is for another key than the one presented")]
    ForeignCek,
}
