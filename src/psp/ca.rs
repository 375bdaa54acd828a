//! The authority over software platforms: the part that AMD plays for real ones.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;

use crate::sev::encoding::little_endian;
use crate::sev::{Algorithm, CaCertificate, Certificate, Random, SystemRandom, Usage};

use super::PspError;
use super::signing::{self, Signature};

/// A root and a signing key (ARK and ASK) under which any number of platforms can be made.
#[derive(Clone)]
pub struct Ca {
    pub(super) ark_key: PKey<Private>,
    pub(super) ask_key: PKey<Private>,
    pub(super) ark: CaCertificate,
    pub(super) ask: CaCertificate,
}

impl Ca {
    /// Makes a CA with keys of 4096 bits (as for Rome and later) or 2048 (as for Naples). Keys of 4096 bits take
    /// a second or more, so make one CA for many platforms.
    pub fn generate(bits: u32) -> Result<Self, PspError> {
        if !matches!(bits, 2048 | 4096) {
            return Err(PspError::Bits(bits));
        }
        let (ark_key, ask_key) = (
            PKey::from_rsa(Rsa::generate(bits)?)?,
            PKey::from_rsa(Rsa::generate(bits)?)?,
        );
        let (ark_id, ask_id) = (key_id()?, key_id()?);
        let ark = issue(Usage::Ark, &ark_key, ark_id, &ark_key, ark_id)?;
        let ask = issue(Usage::Ask, &ask_key, ask_id, &ark_key, ark_id)?;
        Ok(Self {
            ark_key,
            ask_key,
            ark,
            ask,
        })
    }

    /// The root's certificate, in the format that extra roots are configured in.
    pub fn ark(&self) -> &CaCertificate {
        &self.ark
    }

    /// The signing key's certificate.
    pub fn ask(&self) -> &CaCertificate {
        &self.ask
    }

    /// The CEK, signed by the ASK; what AMD's service does at each fetch, so that no two are the same bytes.
    pub fn sign_cek(&self, cek: &Certificate) -> Result<Certificate, PspError> {
        let body = signing::body_of(cek)?;
        let (algorithm, digest) = shape(self.ask_key.size());
        let bytes = signing::pss(&self.ask_key, digest, &body)?;
        signing::certificate(
            &body,
            Some(Signature {
                by: Usage::Ask,
                algorithm,
                bytes,
            }),
            None,
        )
    }

    /// The size of the keys in bits.
    pub fn bits(&self) -> u32 {
        self.ark_key.bits()
    }
}

/// How keys of this size in bytes sign.
fn shape(key_bytes: usize) -> (Algorithm, MessageDigest) {
    match key_bytes {
        256 => (Algorithm::RsaSha256, MessageDigest::sha256()),
        _ => (Algorithm::RsaSha384, MessageDigest::sha384()),
    }
}

fn issue(
    usage: Usage,
    key: &PKey<Private>,
    id: [u8; 16],
    issuer: &PKey<Private>,
    issuer_id: [u8; 16],
) -> Result<CaCertificate, PspError> {
    let mut bytes = signed_part(usage, key, id, issuer_id)?;
    let (_, digest) = shape(issuer.size());
    let signature = signing::pss(issuer, digest, &bytes)?;
    bytes.extend(signature);
    Ok(CaCertificate::parse(&bytes)?)
}

fn signed_part(
    usage: Usage,
    key: &PKey<Private>,
    id: [u8; 16],
    issuer_id: [u8; 16],
) -> Result<Vec<u8>, ErrorStack> {
    let (rsa, bits) = (key.rsa()?, key.bits().to_le_bytes());
    let fields: [&[u8]; 9] = [
        &1u32.to_le_bytes(),
        &id,
        &issuer_id,
        &usage.code().to_le_bytes(),
        &[0; 16],
        &bits,
        &bits,
        &little_endian(rsa.e(), key.size()),
        &little_endian(rsa.n(), key.size()),
    ];
    Ok(fields.concat())
}

fn key_id() -> Result<[u8; 16], PspError> {
    let mut id = [0; 16];
    SystemRandom.fill(&mut id)?;
    Ok(id)
}
