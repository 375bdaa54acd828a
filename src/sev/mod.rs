//! What AMD specifies for SEV and SEV-ES: bytes in, facts out.
//!
//! Inside are the formats and formulas of the launch: certificates and their chain to AMD's root, the launch
//! session, the measurement, the launch digest, the secret table and the packet it is wrapped in. Nothing here
//! does I/O, reads a clock or knows a store; randomness is passed in. What comes in is bytes from a host and is
//! never trusted; what leaves are types that only verification can make ([`VerifiedPlatform`],
//! [`AttestedLaunch`]), so that a value which hardware did not prove cannot stand where a proven one belongs.
//!
//! Source throughout: the AMD SEV API specification (publication 55766), and Linux, QEMU and OVMF where they
//! define what the specification leaves open. Integers are little-endian unless said otherwise.

pub mod authority;
pub mod certificate;
pub mod chain;
pub(crate) mod crypto;
pub(crate) mod encoding;
pub mod launch_digest;
pub mod measurement;
pub mod mismatch;
pub mod p384;
pub mod packet;
pub mod platform;
pub mod policy;
mod product;
mod public_key;
mod random;
pub mod secret_table;
pub mod session;
mod usage;
pub mod verified;

pub use authority::{AuthorityError, CaCertificate, TrustedRoots};
pub use certificate::{Certificate, CertificateError, OwnerCertificate};
pub use chain::{ChainError, PresentedChain, verify_cek};
pub use measurement::{AttestedLaunch, Build, Measurement, MeasurementError};
pub use packet::{Packet, PacketError};
pub use platform::{Fingerprints, StoredPlatform, VerifiedPlatform};
pub use policy::{Scheme, SevPolicy, UnknownScheme};
pub use product::{Product, UnknownProduct};
pub use random::{Random, RandomError, SystemRandom};
pub use secret_table::SecretTableError;
pub use session::{LaunchKeys, Session, SessionBlob, SessionError, UnwrapError};
pub use usage::{Algorithm, Usage};

/// A SHA-256 digest: a launch digest, a file's hash or a fingerprint.
pub type Digest = [u8; 32];
