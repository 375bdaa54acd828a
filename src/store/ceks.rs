//! What is remembered of chips' CEKs.

use crate::domain::Time;

/// What is known of a chip's CEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownCek {
    /// The service, or an import, gave this certificate (2084 bytes).
    Certificate(Vec<u8>),
    /// The service knew no such chip; not to be asked again before then.
    Unknown {
        /// When it may be asked again.
        until: Time,
    },
}

/// A remembered CEK that was found by its public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CekOfKey {
    /// The chip, where one was named when it was remembered.
    pub chip: Option<[u8; 64]>,
    /// The certificate, 2084 bytes.
    pub certificate: Vec<u8>,
}
