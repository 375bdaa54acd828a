//! The launch session: fresh keys for one launch, wrapped for one platform (55766, LAUNCH_START and the
//! section on key derivation).
//!
//! 128 bytes: `nonce[16]` ‖ `wrap_tk[32]` ‖ `wrap_iv[16]` ‖ `wrap_mac[32]` ‖ `policy_mac[32]`.

use openssl::error::ErrorStack;
use openssl::memcmp;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::SevPolicy;
use super::certificate::{Certificate, CertificateError, OwnerCertificate};
use super::crypto::{aes_128_ctr, hmac_sha256, kdf};
use super::encoding::array_at;
use super::p384::EphemeralKey;
use super::random::{self, Random, RandomError};
use super::usage::Usage;

/// The transport keys of one launch: TEK encrypts what is sent to the guest's PSP, TIK authenticates it and the
/// measurement. Cleared on drop and not printable.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LaunchKeys {
    pub(crate) tek: [u8; 16],
    pub(crate) tik: [u8; 16],
}

impl LaunchKeys {
    /// TEK ‖ TIK.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        let keys = self.tek.iter().chain(&self.tik);
        bytes.iter_mut().zip(keys).for_each(|(byte, key)| *byte = *key);
        bytes
    }

    /// From TEK ‖ TIK.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut keys = Self {
            tek: [0; 16],
            tik: [0; 16],
        };
        let Self { tek, tik } = &mut keys;
        tek.iter_mut()
            .chain(tik)
            .zip(bytes)
            .for_each(|(key, byte)| *key = *byte);
        keys
    }

    fn fresh(random: &dyn Random) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }
}

/// What a launch starts with. `blob` and `owner_certificate` go to the host; `keys` stay.
pub struct Session {
    /// The session, 128 bytes: QEMU's `session-file`, libvirt's `session`.
    pub blob: [u8; SessionBlob::SIZE],
    /// The guest owner's Diffie-Hellman certificate: QEMU's `dh-cert-file`, libvirt's `dhCert`.
    pub owner_certificate: OwnerCertificate,
    /// The launch's keys, known to this side and to the platform's PSP.
    pub keys: LaunchKeys,
}

/// Makes a session for the platform with this PDH and binds it to the policy.
///
/// The caller must have verified the PDH. From `random` are taken, in this order: 48 bytes for the ephemeral
/// P-384 scalar (big-endian; again, if it is not in 1..n), TEK ‖ TIK, the nonce and the wrapping IV.
pub fn start(pdh: &Certificate, policy: SevPolicy, random: &dyn Random) -> Result<Session, SessionError> {
    let key = EphemeralKey::fresh(random)?;
    let keys = LaunchKeys::fresh(random)?;
    let nonce = random::bytes(random)?;
    let wrap_iv = random::bytes(random)?;

    let owner_certificate = key.certificate()?;
    let z = key.agree(pdh)?;
    let wrapping = derive(&z, &nonce);
    let blob = wrap(&keys, &wrapping, &nonce, &wrap_iv, policy)?;
    Ok(Session {
        blob: blob.to_bytes(),
        owner_certificate,
        keys,
    })
}

/// The keys that wrap a session's keys: KEK encrypts, KIK authenticates. Cleared on drop and not printable.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct WrappingKeys {
    kek: [u8; 16],
    kik: [u8; 16],
}

/// KEK and KIK from the shared secret: M = KDF(z, "sev-master-secret", nonce), KEK = KDF(M, "sev-kek"),
/// KIK = KDF(M, "sev-kik"). `z` is the X coordinate, 48 bytes big-endian.
pub fn derive(z: &[u8], nonce: &[u8; 16]) -> WrappingKeys {
    let master = kdf(z, "sev-master-secret", nonce);
    let kek = kdf(master.as_slice(), "sev-kek", &[]);
    let kik = kdf(master.as_slice(), "sev-kik", &[]);
    WrappingKeys { kek: *kek, kik: *kik }
}

/// Wraps a launch's keys: wrap_tk = AES-128-CTR(KEK, wrap_iv, TEK ‖ TIK), wrap_mac = HMAC(KIK, wrap_tk),
/// policy_mac = HMAC(TIK, LE32 policy).
pub fn wrap(
    keys: &LaunchKeys,
    wrapping: &WrappingKeys,
    nonce: &[u8; 16],
    wrap_iv: &[u8; 16],
    policy: SevPolicy,
) -> Result<SessionBlob, SessionError> {
    let wrapped = aes_128_ctr(&wrapping.kek, wrap_iv, keys.to_bytes().as_slice())?;
    let wrap_tk = array_at(&wrapped, 0).ok_or_else(ErrorStack::get)?;
    Ok(SessionBlob {
        nonce: *nonce,
        wrap_tk,
        wrap_iv: *wrap_iv,
        wrap_mac: hmac_sha256(&wrapping.kik, &[&wrap_tk]),
        policy_mac: policy_mac(keys, policy),
    })
}

/// A session, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionBlob {
    /// What the wrapping keys are derived with.
    pub nonce: [u8; 16],
    /// TEK ‖ TIK, encrypted.
    pub wrap_tk: [u8; 32],
    /// The IV of that encryption.
    pub wrap_iv: [u8; 16],
    /// The MAC of `wrap_tk`, by KIK.
    pub wrap_mac: [u8; 32],
    /// The MAC of the policy, by TIK.
    pub policy_mac: [u8; 32],
}

impl SessionBlob {
    /// The size of a session in bytes.
    pub const SIZE: usize = 128;

    /// Takes a session apart; none unless it has 128 bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        Some(Self {
            nonce: array_at(bytes, 0)?,
            wrap_tk: array_at(bytes, 16)?,
            wrap_iv: array_at(bytes, 48)?,
            wrap_mac: array_at(bytes, 64)?,
            policy_mac: array_at(bytes, 96)?,
        })
    }

    /// The 128 bytes.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let Self {
            nonce,
            wrap_tk,
            wrap_iv,
            wrap_mac,
            policy_mac,
        } = self;
        let fields = nonce
            .iter()
            .chain(wrap_tk)
            .chain(wrap_iv)
            .chain(wrap_mac)
            .chain(policy_mac);
        let mut bytes = [0; Self::SIZE];
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(byte, field)| *byte = *field);
        bytes
    }

    /// What the PSP does with a session: checks both MACs and unwraps the keys.
    pub fn unwrap(&self, wrapping: &WrappingKeys, policy: SevPolicy) -> Result<LaunchKeys, UnwrapError> {
        if !memcmp::eq(&hmac_sha256(&wrapping.kik, &[&self.wrap_tk]), &self.wrap_mac) {
            return Err(UnwrapError::WrapMac);
        }
        let plain = aes_128_ctr(&wrapping.kek, &self.wrap_iv, &self.wrap_tk)?;
        let bytes = plain.first_chunk().ok_or_else(ErrorStack::get)?;
        let keys = LaunchKeys::from_bytes(bytes);
        if !memcmp::eq(&policy_mac(&keys, policy), &self.policy_mac) {
            return Err(UnwrapError::PolicyMac);
        }
        Ok(keys)
    }
}

fn policy_mac(keys: &LaunchKeys, policy: SevPolicy) -> [u8; 32] {
    hmac_sha256(&keys.tik, &[&policy.bits().to_le_bytes()])
}

/// Why no session could be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A certificate of another usage was given for the PDH.
    #[error("a session is made for a PDH, not for a {0}")]
    NotAPdh(Usage),
    /// The PDH is on another curve.
    #[error("the PDH is not on P-384")]
    Curve,
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The certificate made here does not parse; ours, if it ever happens.
    #[error("the owner's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// AWS-LC failed; it does not say why.
    #[error("AWS-LC: P-384 failed")]
    P384,
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    Crypto(#[from] ErrorStack),
}

/// Why a session does not unwrap.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    /// The wrapped keys are not authentic: another platform's, or altered.
    #[error("the MAC of the wrapped keys does not hold")]
    WrapMac,
    /// The session was made for another policy.
    #[error("the MAC of the policy does not hold")]
    PolicyMac,
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    Crypto(#[from] ErrorStack),
}
