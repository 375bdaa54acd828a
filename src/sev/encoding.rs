//! Writing SEV certificates of elliptic-curve keys, and reading fixed-size fields.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcKeyRef, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::pkey::HasPublic;

use super::certificate::{KEY, SIGNED_SIZE, SIZE};
use super::usage::{Algorithm, Usage};

const COORDINATE: usize = 72;
const SIGNATURE_AREA: usize = 520;
const INVALID_USAGE: u32 = 0x1000;
const P384: u32 = 2;
const P384_COORDINATE: usize = 48;

/// `N` bytes at `offset`, if there are as many.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The u32 at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// `bytes` followed by zeros up to `size`; longer input is cut, which the callers' sizes exclude.
pub(crate) fn zero_padded(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(size, 0);
    out
}

/// The signed part of a certificate for a P-384 key: bytes 0..1044.
pub(crate) fn p384_body(
    usage: Usage,
    algorithm: Algorithm,
    (api_major, api_minor): (u8, u8),
    key: &EcKeyRef<impl HasPublic>,
) -> Result<[u8; SIGNED_SIZE], ErrorStack> {
    let mut context = BigNumContext::new()?;
    let form = PointConversionForm::UNCOMPRESSED;
    let point = key.public_key().to_bytes(key.group(), form, &mut context)?;
    p384_point_body(usage, algorithm, (api_major, api_minor), &point).ok_or_else(ErrorStack::get)
}

/// The same for a point as SEC 1 writes it uncompressed: 4, X and Y big-endian.
pub(crate) fn p384_point_body(
    usage: Usage,
    algorithm: Algorithm,
    (api_major, api_minor): (u8, u8),
    point: &[u8],
) -> Option<[u8; SIGNED_SIZE]> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(P384_COORDINATE)?;
    let reversed = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().rev().copied().collect();
        zero_padded(&bytes, COORDINATE)
    };
    let head: [&[u8]; 7] = [
        &1u32.to_le_bytes(),
        &[api_major, api_minor, 0, 0],
        &usage.code().to_le_bytes(),
        &algorithm.code().to_le_bytes(),
        &P384.to_le_bytes(),
        &reversed(x),
        &reversed(y),
    ];
    (y.len() == P384_COORDINATE).then(|| exactly(&head.concat()))
}

/// The point of a certificate for a P-384 key, in that form. The certificate was parsed, so that what is above the
/// coordinates is zero.
pub(crate) fn p384_point_at(certificate: &[u8]) -> Option<[u8; 1 + 2 * P384_COORDINATE]> {
    let coordinate = |offset: usize| -> Option<[u8; P384_COORDINATE]> {
        let mut bytes: [u8; P384_COORDINATE] = array_at(certificate, offset)?;
        bytes.reverse();
        Some(bytes)
    };
    let (x, y) = (coordinate(KEY + 4)?, coordinate(KEY + 4 + COORDINATE)?);
    Some(exactly(&[&[4], x.as_slice(), &y].concat()))
}

/// A signature as it stands in a certificate: usage of the signer, algorithm, 512 bytes.
pub(crate) fn signature_area(usage: Usage, algorithm: Algorithm, signature: &[u8]) -> [u8; SIGNATURE_AREA] {
    let parts: [&[u8]; 3] = [
        &usage.code().to_le_bytes(),
        &algorithm.code().to_le_bytes(),
        signature,
    ];
    exactly(&parts.concat())
}

/// The area of a signature that is not there.
pub(crate) fn empty_signature_area() -> [u8; SIGNATURE_AREA] {
    exactly(&INVALID_USAGE.to_le_bytes())
}

/// The body and its two signature areas as one certificate.
pub(crate) fn assemble(
    body: &[u8; SIGNED_SIZE],
    first: &[u8; SIGNATURE_AREA],
    second: &[u8; SIGNATURE_AREA],
) -> [u8; SIZE] {
    let parts: [&[u8]; 3] = [body, first, second];
    exactly(&parts.concat())
}

/// A number's bytes, least significant first, zero-padded to `size`.
pub(crate) fn little_endian(number: &openssl::bn::BigNumRef, size: usize) -> Vec<u8> {
    let mut bytes = number.to_vec();
    bytes.reverse();
    zero_padded(&bytes, size)
}

/// The number that little-endian bytes stand for.
pub(crate) fn number(bytes: &[u8]) -> Result<BigNum, ErrorStack> {
    let big_endian: Vec<u8> = bytes.iter().rev().copied().collect();
    BigNum::from_slice(&big_endian)
}

/// The bytes as an array of `N`, zero-padded.
fn exactly<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
    out
}
