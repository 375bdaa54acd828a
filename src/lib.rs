//! Keyward: an attestation server for AMD SEV and SEV-ES guests.

pub mod policy;
pub mod psp;
pub mod sev;
