//! The launch measurement: what runs in this guest? (55766, LAUNCH_MEASURE.)
//!
//! 48 bytes: `measure[32]` ‖ `mnonce[16]`, where measure = HMAC-SHA256(TIK, 04 ‖ api_major ‖ api_minor ‖
//! build_id ‖ LE32 policy ‖ `launch_digest[32]` ‖ mnonce).
//!
//! API version, build, policy and launch digest are attested once the MAC holds, and by nothing else.

use openssl::memcmp;

use super::crypto::hmac_sha256;
use super::encoding::array_at;
use super::{Digest, LaunchKeys, SevPolicy};

/// Looks for the candidate with which the measurement holds. The first that does is attested, and returned with
/// what came with it; none if none does.
///
/// `build` and `policy` are what a host says or what was stored: either way the MAC proves them. The caller must
/// still decide whether that build, policy and digest **may** run.
pub fn verify<T>(
    keys: &LaunchKeys,
    measurement: &Measurement,
    build: Build,
    policy: SevPolicy,
    candidates: impl IntoIterator<Item = (Digest, T)>,
) -> Option<(AttestedLaunch, T)> {
    candidates.into_iter().find_map(|(launch_digest, found)| {
        let expected = compute(keys, build, policy, &launch_digest, &measurement.mnonce);
        memcmp::eq(&expected, &measurement.measure).then_some((
            AttestedLaunch {
                build,
                policy,
                launch_digest,
                measure: measurement.measure,
            },
            found,
        ))
    })
}

/// The measure that a PSP gives for these.
pub fn compute(
    keys: &LaunchKeys,
    build: Build,
    policy: SevPolicy,
    launch_digest: &Digest,
    mnonce: &[u8; 16],
) -> [u8; 32] {
    let head = [4, build.api_major, build.api_minor, build.build_id];
    hmac_sha256(
        &keys.tik,
        &[&head, &policy.bits().to_le_bytes(), launch_digest, mnonce],
    )
}

/// A measurement as a host presents it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Measurement {
    /// The MAC.
    pub measure: [u8; 32],
    /// The PSP's nonce in it.
    pub mnonce: [u8; 16],
}

impl Measurement {
    /// The size of a measurement in bytes.
    pub const SIZE: usize = 48;

    /// Reads the 48 bytes that QEMU's `query-sev-launch-measure` gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, MeasurementError> {
        let length = MeasurementError(bytes.len());
        if bytes.len() != Self::SIZE {
            return Err(length);
        }
        Ok(Self {
            measure: array_at(bytes, 0).ok_or(length)?,
            mnonce: array_at(bytes, 32).ok_or(length)?,
        })
    }

    /// The 48 bytes.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes
            .iter_mut()
            .zip(self.measure.iter().chain(&self.mnonce))
            .for_each(|(byte, field)| *byte = *field);
        bytes
    }
}

/// The measurement has a length other than 48 bytes; the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a launch measurement has 48 bytes, not {0}")]
pub struct MeasurementError(pub usize);

/// The PSP firmware: API version and build.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Build {
    /// The API's major version.
    pub api_major: u8,
    /// The API's minor version.
    pub api_minor: u8,
    /// The firmware's build.
    pub build_id: u8,
}

/// What the PSP measured of one launch. Only [`verify`] makes one; it may be written down and read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttestedLaunch {
    build: Build,
    policy: SevPolicy,
    launch_digest: Digest,
    measure: [u8; 32],
}

impl AttestedLaunch {
    /// What [`verify`] made earlier, read back from where it was written.
    ///
    /// The caller must have kept it where nobody else writes: nothing is verified here.
    pub(crate) fn stored(build: Build, policy: SevPolicy, launch_digest: Digest, measure: [u8; 32]) -> Self {
        Self {
            build,
            policy,
            launch_digest,
            measure,
        }
    }

    /// The firmware that measured.
    pub fn build(&self) -> Build {
        self.build
    }

    /// The policy that the guest runs under.
    pub fn policy(&self) -> SevPolicy {
        self.policy
    }

    /// What was loaded into the guest before it started.
    pub fn launch_digest(&self) -> &Digest {
        &self.launch_digest
    }

    /// The measure itself. It binds a packet to this one guest.
    pub fn measure(&self) -> &[u8; 32] {
        &self.measure
    }
}
