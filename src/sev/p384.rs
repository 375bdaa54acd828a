//! P-384: one key of the guest owner's for each launch, its agreement with a PDH, and the signatures of platforms.
//!
//! It stands on AWS-LC, whose P-384 is formally verified, constant in time, and several times as fast as that of
//! OpenSSL 3.0 (`cargo bench --bench pieces`); everything else in `sev` stands on OpenSSL.

use aws_lc_rs::agreement::{ECDH_P384, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::signature::{self, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKeyRef, Private};
use zeroize::Zeroizing;

use super::certificate::{Certificate, OwnerCertificate, Usage};
use super::encoding::{p384_point_at, p384_point_body};
use super::random::{Random, RandomError};
use super::session::SessionError;
use super::usage::Algorithm;

/// A scalar, and a coordinate, in bytes.
const SIZE: usize = 48;
/// A scalar is refused with probability 2^-190, so a second refusal says that the source is broken.
const TRIES: usize = 2;

/// A key pair for one agreement, which uses it up. Not printable, not copyable; AWS-LC clears it when it is dropped.
pub struct EphemeralKey(PrivateKey);

impl EphemeralKey {
    /// A key pair of 48 random bytes: the scalar, big-endian; 48 others, if it is not in 1..n.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn fresh(random: &dyn Random) -> Result<Self, RandomError> {
        for _ in 0..TRIES {
            let mut scalar = Zeroizing::new([0; SIZE]);
            random.fill(scalar.as_mut_slice())?;
            if let Some(key) = Self::of(&scalar) {
                return Ok(key);
            }
        }
        Err(RandomError("the source repeats itself".to_owned()))
    }

    /// The key pair of this scalar; none: it is not in 1..n.
    fn of(scalar: &[u8; SIZE]) -> Option<Self> {
        // AWS-LC refuses what is not below n; that zero is no key is said here.
        if scalar.iter().all(|byte| *byte == 0) {
            return None;
        }
        PrivateKey::from_private_key(&ECDH_P384, scalar).ok().map(Self)
    }

    /// The guest owner's certificate: usage PDH, ECDH with SHA-256 on P-384, API version 0.0, no signature.
    pub(super) fn certificate(&self) -> Result<OwnerCertificate, SessionError> {
        let public = self.0.compute_public_key().map_err(|_| SessionError::P384)?;
        let body = p384_point_body(Usage::Pdh, Algorithm::EcdhSha256, (0, 0), public.as_ref());
        Ok(OwnerCertificate::of(&body.ok_or(SessionError::P384)?))
    }

    /// Z, the X coordinate of the Diffie-Hellman point: 48 bytes big-endian. The key is used up.
    ///
    /// # Errors
    /// When the certificate is no PDH, or not on P-384.
    pub fn agree(self, pdh: &Certificate) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        shared(&self.0, pdh)
    }
}

/// Whether an ECDSA signature, in DER, is by the key at this point (SEC 1, uncompressed) over `message`; none: with this
/// hash OpenSSL has to say.
pub(super) fn verifies(
    point: &[u8],
    digest: MessageDigest,
    signature: &[u8],
    message: &[u8],
) -> Option<bool> {
    let algorithm = match digest.type_() {
        Nid::SHA256 => &ECDSA_P384_SHA256_ASN1,
        Nid::SHA384 => &ECDSA_P384_SHA384_ASN1,
        _ => return None,
    };
    let key = signature::UnparsedPublicKey::new(algorithm, point);
    Some(key.verify(message, signature).is_ok())
}

/// Z with a key that is kept: a platform's own.
pub(crate) fn shared_secret(
    private: &PKeyRef<Private>,
    peer: &Certificate,
) -> Result<Zeroizing<Vec<u8>>, SessionError> {
    let scalar = private.ec_key()?.private_key().to_vec_padded(48)?;
    let scalar = Zeroizing::new(scalar);
    let scalar = scalar.first_chunk().ok_or(SessionError::P384)?;
    let key = EphemeralKey::of(scalar).ok_or(SessionError::P384)?;
    key.agree(peer)
}

fn shared(private: &PrivateKey, peer: &Certificate) -> Result<Zeroizing<Vec<u8>>, SessionError> {
    if peer.usage() != Usage::Pdh {
        return Err(SessionError::NotAPdh(peer.usage()));
    }
    if !peer.is_p384() {
        return Err(SessionError::Curve);
    }
    let point = p384_point_at(peer.as_bytes()).ok_or(SessionError::P384)?;
    let peer = UnparsedPublicKey::new(&ECDH_P384, point);
    agree(private, peer, SessionError::P384, |z| {
        Ok(Zeroizing::new(z.to_vec()))
    })
}
