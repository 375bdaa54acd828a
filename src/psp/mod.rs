//! A software PSP: what AMD's secure processor does at a guest's launch, without the hardware.
//!
//! It stands in for the hardware in tests, in the demo and on the command line, and is no security boundary: its
//! keys lie in memory and its root is its own. A [`Ca`] plays AMD, a [`Platform`] one machine, a [`Guest`] one
//! guest on it. Bytes come in as the driver gives them to the PSP, and leave as QEMU shows them; this module
//! touches no file. [`Faults`] make a platform lie in the ways that an attestation server must notice.
//!
//! Source: 55766, the commands LAUNCH_START to LAUNCH_FINISH, and appendix "Status codes".

mod ca;
mod guest;
mod platform;
mod signing;
mod status;
mod stored;

use openssl::error::ErrorStack;

pub use ca::Ca;
pub use guest::{Guest, GuestState};
pub use platform::{Faults, Platform, PlatformOptions};
pub use status::Status;

/// Why a platform or its authority could not be made, written or read back.
#[derive(Debug, thiserror::Error)]
pub enum PspError {
    /// A CA's keys have 2048 bits (as for Naples) or 4096.
    #[error("a CA has keys of 2048 or 4096 bits, not {0}")]
    Bits(u32),
    /// A certificate made or read back is malformed.
    #[error("certificate: {0}")]
    Certificate(#[from] crate::sev::CertificateError),
    /// A CA certificate made or read back is malformed.
    #[error("CA certificate: {0}")]
    Authority(#[from] crate::sev::AuthorityError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] crate::sev::RandomError),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    Crypto(#[from] ErrorStack),
    /// The state cannot be written or read back.
    #[error("stored state: {0}")]
    Stored(String),
}
