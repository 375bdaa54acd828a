//! The SEV policy of a guest, and the two schemes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A guest's SEV policy (55766, section 2 "Guest policy"): a u32 that the PSP enforces and that the launch
/// measurement covers. Every bit is kept as it came, unknown ones too.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SevPolicy(pub u32);

impl SevPolicy {
    /// Bit 0, NODBG: the host may not decrypt guest memory through the debug commands.
    pub fn no_debug(self) -> bool {
        self.bit(0)
    }

    /// Bit 1, NOKS: the host may not start another guest that shares this one's memory key.
    pub fn no_key_sharing(self) -> bool {
        self.bit(1)
    }

    /// Bit 2, ES: register state is encrypted, and measured at launch.
    pub fn es(self) -> bool {
        self.bit(2)
    }

    /// Bit 3, NOSEND: the guest may not be sent to another platform.
    pub fn no_send(self) -> bool {
        self.bit(3)
    }

    /// Bit 4, DOMAIN: the guest may be sent only to platforms of the same owner.
    pub fn domain(self) -> bool {
        self.bit(4)
    }

    /// Bit 5, SEV: the guest may be sent only to platforms that have SEV.
    pub fn sev(self) -> bool {
        self.bit(5)
    }

    /// Bits 23:16: the lowest major API version on which the PSP starts this guest.
    pub fn min_api_major(self) -> u8 {
        let [_, _, major, _] = self.0.to_le_bytes();
        major
    }

    /// Bits 31:24: the lowest minor API version on which the PSP starts this guest.
    pub fn min_api_minor(self) -> u8 {
        let [_, _, _, minor] = self.0.to_le_bytes();
        minor
    }

    /// Those of bits 15:6 that are set. They are reserved and the PSP refuses them.
    pub fn reserved_bits(self) -> u32 {
        self.0 & 0xffc0
    }

    /// The whole value.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The scheme that the ES bit asks for.
    pub fn scheme(self) -> Scheme {
        if self.es() {
            Scheme::AmdSevEs
        } else {
            Scheme::AmdSev
        }
    }

    fn bit(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }
}

/// How a guest's hardware protects it, as the host API names it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
pub enum Scheme {
    /// SEV: memory is encrypted.
    #[serde(rename = "amd-sev")]
    AmdSev,
    /// SEV-ES: memory and register state are encrypted.
    #[serde(rename = "amd-sev-es")]
    AmdSevEs,
}

impl Scheme {
    /// `amd-sev` or `amd-sev-es`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AmdSev => "amd-sev",
            Self::AmdSevEs => "amd-sev-es",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(text: &str) -> Result<Self, UnknownScheme> {
        [Self::AmdSev, Self::AmdSevEs]
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
            .ok_or(UnknownScheme)
    }
}

/// A text that names no scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown scheme: expected amd-sev or amd-sev-es")]
pub struct UnknownScheme;
