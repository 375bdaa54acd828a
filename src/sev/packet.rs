//! The packet in which a secret table reaches the PSP of one guest (55766, LAUNCH_SECRET).
//!
//! Header, 52 bytes: flags u32 ‖ `iv[16]` ‖ `mac[32]`. Payload: AES-128-CTR(TEK, iv, table). mac =
//! HMAC-SHA256(TIK, 01 ‖ flags ‖ iv ‖ LE32 guest_len ‖ LE32 trans_len ‖ payload ‖ `measure[32]`).
//!
//! `measure` is what binds a packet to one guest: a host may start several guests on one session, with the same
//! keys, and each has a measure of its own. API 0.16 and older leave it out, so for these no packet is made.

use openssl::error::ErrorStack;

use super::crypto::{aes_128_ctr, hmac_sha256};
use super::random::{self, Random, RandomError};
use super::secret_table::MAX;
use super::{AttestedLaunch, LaunchKeys};

/// The first API version, major and minor, whose packets are bound to one guest.
pub const FIRST_BOUND_API: (u8, u8) = (0, 17);

/// A table, wrapped for one guest: QEMU's `sev-inject-launch-secret` takes both parts, base64-encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// flags ‖ iv ‖ mac.
    pub header: [u8; HEADER_SIZE],
    /// The encrypted table, as long as the table.
    pub payload: Vec<u8>,
}

/// The size of a packet's header in bytes.
pub const HEADER_SIZE: usize = 52;

/// Wraps a table for the guest that was attested. The IV is fresh and the table is not compressed (flags 0).
pub fn seal(
    keys: &LaunchKeys,
    attested: &AttestedLaunch,
    table: &[u8],
    random: &dyn Random,
) -> Result<Packet, PacketError> {
    let build = attested.build();
    if (build.api_major, build.api_minor) < FIRST_BOUND_API {
        return Err(PacketError::Unbound {
            api_major: build.api_major,
            api_minor: build.api_minor,
        });
    }
    if table.is_empty() || !table.len().is_multiple_of(16) || table.len() > MAX {
        return Err(PacketError::Length(table.len()));
    }
    let iv = random::bytes(random)?;
    let payload = aes_128_ctr(&keys.tek, &iv, table)?.to_vec();
    let mac = mac(keys, FLAGS, &iv, &payload, Some(attested.measure()))?;
    let mut header = [0; HEADER_SIZE];
    let fields = FLAGS.to_le_bytes().into_iter().chain(iv).chain(mac);
    header
        .iter_mut()
        .zip(fields)
        .for_each(|(byte, field)| *byte = field);
    Ok(Packet { header, payload })
}

const FLAGS: u32 = 0;

/// The header's MAC, over as many guest bytes as are sent. `measure` is none on API 0.16 and older only.
pub(crate) fn mac(
    keys: &LaunchKeys,
    flags: u32,
    iv: &[u8; 16],
    payload: &[u8],
    measure: Option<&[u8; 32]>,
) -> Result<[u8; 32], PacketError> {
    let length = u32::try_from(payload.len())
        .map_err(|_| PacketError::Length(payload.len()))?
        .to_le_bytes();
    let measure: &[u8] = measure.map_or(&[], |measure| measure);
    Ok(hmac_sha256(
        &keys.tik,
        &[&[1], &flags.to_le_bytes(), iv, &length, &length, payload, measure],
    ))
}

/// Why no packet is made.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// On this API version one packet would open every guest that was started on the session.
    #[error("API {api_major}.{api_minor} does not bind a packet to one guest, it takes 0.17 or later")]
    Unbound {
        /// The attested major version.
        api_major: u8,
        /// The attested minor version.
        api_minor: u8,
    },
    /// The PSP would refuse a table of this length.
    #[error("a packet holds 16 to {MAX} bytes in multiples of 16, not {0}")]
    Length(usize),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    Crypto(#[from] ErrorStack),
}
