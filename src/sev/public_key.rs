//! The public key inside a SEV certificate: decoding it, and verifying signatures with a key.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Verifier};

use super::certificate::CertificateError;
use super::encoding::{array_at, number, u32_at};
use super::p384;
use super::usage::Algorithm;

/// The largest modulus a certificate has room for, in bytes.
const RSA_ROOM: usize = 512;
const COORDINATE: usize = 72;

/// Decodes the key area (1028 bytes, offset 16 of a certificate) for a key of this algorithm.
pub(super) fn decode(algorithm: Algorithm, area: &[u8]) -> Result<PKey<Public>, CertificateError> {
    if algorithm.is_rsa() {
        decode_rsa(area)
    } else {
        decode_ec(area)
    }
}

/// Curve u32, `x[72]`, `y[72]`. What is behind is for the caller to judge.
fn decode_ec(area: &[u8]) -> Result<PKey<Public>, CertificateError> {
    let nid = match u32_at(area, 0).ok_or(CertificateError::Point)? {
        1 => Nid::X9_62_PRIME256V1,
        2 => Nid::SECP384R1,
        curve => return Err(CertificateError::Curve(curve)),
    };
    let x: [u8; COORDINATE] = array_at(area, 4).ok_or(CertificateError::Point)?;
    let y: [u8; COORDINATE] = array_at(area, 4 + COORDINATE).ok_or(CertificateError::Point)?;
    on_curve(nid, &x, &y).ok_or(CertificateError::Point)
}

/// A key at this point. OpenSSL refuses a point off the curve, but takes coordinates of the field's size and
/// more modulo the prime: two encodings of one point would be two fingerprints of one key, so they are compared.
/// Infinity has no affine coordinates and (0, 0) is on neither curve. Both curves have cofactor 1, so a point
/// on the curve is in the right group.
fn on_curve(nid: Nid, x: &[u8], y: &[u8]) -> Option<PKey<Public>> {
    let group = EcGroup::from_curve_name(nid).ok()?;
    let (x, y) = (number(x).ok()?, number(y).ok()?);
    let mut context = BigNumContext::new().ok()?;
    let mut point = EcPoint::new(&group).ok()?;
    point.set_affine_coordinates(&group, &x, &y, &mut context).ok()?;
    let (mut reduced_x, mut reduced_y) = (BigNum::new().ok()?, BigNum::new().ok()?);
    point
        .affine_coordinates(&group, &mut reduced_x, &mut reduced_y, &mut context)
        .ok()?;
    if reduced_x != x || reduced_y != y {
        return None;
    }
    PKey::from_ec_key(EcKey::from_public_key(&group, &point).ok()?).ok()
}

/// Bits u32, `exponent[512]`, `modulus[512]`.
fn decode_rsa(area: &[u8]) -> Result<PKey<Public>, CertificateError> {
    let bits = u32_at(area, 0).ok_or(CertificateError::RsaKey)?;
    let exponent: [u8; RSA_ROOM] = array_at(area, 4).ok_or(CertificateError::RsaKey)?;
    let modulus: [u8; RSA_ROOM] = array_at(area, 4 + RSA_ROOM).ok_or(CertificateError::RsaKey)?;
    rsa(bits, &exponent, &modulus).ok_or(CertificateError::RsaKey)
}

/// An RSA key of 2048 to 4096 bits from little-endian parts, if the modulus has exactly `bits` bits and the
/// exponent is one that RSA can have.
pub(super) fn rsa(bits: u32, exponent: &[u8], modulus: &[u8]) -> Option<PKey<Public>> {
    let (exponent, modulus) = (number(exponent).ok()?, number(modulus).ok()?);
    let fits = (2048..=4096).contains(&bits)
        && u32::try_from(modulus.num_bits()).ok()? == bits
        && exponent.is_odd()
        && (2..=64).contains(&exponent.num_bits());
    if !fits {
        return None;
    }
    PKey::from_rsa(Rsa::from_public_components(modulus, exponent).ok()?).ok()
}

/// Whether `signature`, zero-padded little-endian bytes as they stand in a certificate, is by this key over
/// `message`. Bytes after an RSA signature that are not zero make it invalid.
pub(super) fn verifies(
    key: &PKeyRef<Public>,
    algorithm: Algorithm,
    signature: &[u8],
    message: &[u8],
) -> bool {
    let checked = if algorithm.is_rsa() {
        verifies_pss(key, algorithm.digest(), signature, message)
    } else {
        verifies_ecdsa(key, algorithm.digest(), signature, message)
    };
    checked.unwrap_or(false)
}

/// RSA-PSS with a salt as long as the digest.
fn verifies_pss(
    key: &PKeyRef<Public>,
    digest: MessageDigest,
    signature: &[u8],
    message: &[u8],
) -> Result<bool, ErrorStack> {
    let Some((signature, rest)) = signature.split_at_checked(key.size()) else {
        return Ok(false);
    };
    if rest.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let big_endian: Vec<u8> = signature.iter().rev().copied().collect();
    let mut verifier = Verifier::new(digest, key)?;
    verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
    verifier.set_rsa_mgf1_md(digest)?;
    verifier.verify_oneshot(&big_endian, message)
}

/// `r[72]` then `s[72]`; parsing has seen to it that zeros follow. Numbers not below the group's order are
/// refused by OpenSSL, and by AWS-LC, which verifies those of P-384.
fn verifies_ecdsa(
    key: &PKeyRef<Public>,
    digest: MessageDigest,
    signature: &[u8],
    message: &[u8],
) -> Result<bool, ErrorStack> {
    let Some((r, rest)) = signature.split_at_checked(COORDINATE) else {
        return Ok(false);
    };
    let Some((s, _)) = rest.split_at_checked(COORDINATE) else {
        return Ok(false);
    };
    let signature = EcdsaSig::from_private_components(number(r)?, number(s)?)?;
    let key = key.ec_key()?;
    if key.group().curve_name() == Some(Nid::SECP384R1) {
        let (form, mut context) = (PointConversionForm::UNCOMPRESSED, BigNumContext::new()?);
        let point = key.public_key().to_bytes(key.group(), form, &mut context)?;
        if let Some(verifies) = p384::verifies(&point, digest, &signature.to_der()?, message) {
            return Ok(verifies);
        }
    }
    signature.verify(&hash(digest, message)?, &key)
}
