//! Keys and signatures, as certificates carry them: little-endian.

use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};

use crate::sev::certificate::SIGNED_SIZE;
use crate::sev::encoding::{
    array_at, assemble, empty_signature_area, little_endian, p384_body, signature_area,
};
use crate::sev::{Algorithm, Build, Certificate, CertificateError, Usage};

use super::PspError;

/// A signature to stand in a certificate: whose, how, and its bytes.
pub(super) struct Signature {
    pub(super) by: Usage,
    pub(super) algorithm: Algorithm,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn p384_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::SECP384R1)?)?)
}

/// The signed part of a certificate for this key.
pub(super) fn body(usage: Usage, build: Build, key: &PKey<Private>) -> Result<[u8; SIGNED_SIZE], ErrorStack> {
    let algorithm = if usage == Usage::Pdh {
        Algorithm::EcdhSha256
    } else {
        Algorithm::EcdsaSha256
    };
    p384_body(
        usage,
        algorithm,
        (build.api_major, build.api_minor),
        &*key.ec_key()?,
    )
}

/// The signed part of a certificate that there is.
pub(super) fn body_of(certificate: &Certificate) -> Result<[u8; SIGNED_SIZE], CertificateError> {
    array_at(certificate.as_bytes(), 0).ok_or(CertificateError::Length(Certificate::SIZE))
}

/// ECDSA over SHA-256, in the name of a signer of this usage.
pub(super) fn ecdsa(by: Usage, key: &PKey<Private>, message: &[u8]) -> Result<Signature, ErrorStack> {
    let digest = hash(MessageDigest::sha256(), message)?;
    let signature = EcdsaSig::sign(&digest, &*key.ec_key()?)?;
    let bytes = [little_endian(signature.r(), 72), little_endian(signature.s(), 72)].concat();
    Ok(Signature {
        by,
        algorithm: Algorithm::EcdsaSha256,
        bytes,
    })
}

/// RSA-PSS with a salt as long as the digest, little-endian.
pub(super) fn pss(key: &PKey<Private>, digest: MessageDigest, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let mut signer = Signer::new(digest, key)?;
    signer.set_rsa_padding(Padding::PKCS1_PSS)?;
    signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
    signer.set_rsa_mgf1_md(digest)?;
    let mut bytes = signer.sign_oneshot_to_vec(message)?;
    bytes.reverse();
    Ok(bytes)
}

/// The certificate of this body with up to two signatures.
pub(super) fn certificate(
    body: &[u8; SIGNED_SIZE],
    first: Option<Signature>,
    second: Option<Signature>,
) -> Result<Certificate, PspError> {
    let [first, second] = [first, second].map(|slot| match slot {
        Some(Signature { by, algorithm, bytes }) => signature_area(by, algorithm, &bytes),
        None => empty_signature_area(),
    });
    Ok(Certificate::parse(&assemble(body, &first, &second))?)
}
