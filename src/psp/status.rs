//! The PSP's status codes.

/// How a command failed. The numbers are the specification's and are what QEMU prints.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Status {
    /// The platform is not in the state that the command needs.
    #[error("invalid platform state (1)")]
    PlatformState,
    /// The guest is not in the state that the command needs.
    #[error("invalid guest state (2)")]
    GuestState,
    /// The platform's configuration rules the command out.
    #[error("invalid configuration (3)")]
    Configuration,
    /// A buffer has a length that the command does not take.
    #[error("invalid length (4)")]
    Length,
    /// A certificate is malformed or of the wrong kind.
    #[error("invalid certificate (6)")]
    Certificate,
    /// The guest's policy rules the command out.
    #[error("policy failure (7)")]
    Policy,
    /// The guest has no address space identifier: it was deactivated.
    #[error("inactive (8)")]
    Inactive,
    /// An address is not one the command takes.
    #[error("invalid address (9)")]
    Address,
    /// A signature does not hold.
    #[error("bad signature (10)")]
    Signature,
    /// A MAC does not hold.
    #[error("bad measurement (11)")]
    Measurement,
    /// The hardware failed; here, the random source or OpenSSL.
    #[error("hardware error (19)")]
    Hardware,
    /// The command asks for what this firmware cannot do.
    #[error("unsupported (21)")]
    Unsupported,
    /// A parameter is out of its range.
    #[error("invalid parameter (22)")]
    Parameter,
}

impl Status {
    /// The specification's number.
    pub fn code(self) -> u32 {
        match self {
            Self::PlatformState => 1,
            Self::GuestState => 2,
            Self::Configuration => 3,
            Self::Length => 4,
            Self::Certificate => 6,
            Self::Policy => 7,
            Self::Inactive => 8,
            Self::Address => 9,
            Self::Signature => 10,
            Self::Measurement => 11,
            Self::Hardware => 19,
            Self::Unsupported => 21,
            Self::Parameter => 22,
        }
    }
}
