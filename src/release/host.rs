//! What a host asks and is told: parsed, bounded, and believed only as far as it is proved.

use std::net::IpAddr;

use openssl::sha::sha256;
use uuid::Uuid;

use crate::domain::connection::{ConnectionBounds, Wanted};
use crate::domain::token::Identity;
use crate::domain::{Hex, HexDigest, Name, Time};
use crate::sev::OwnerCertificate;
use crate::sev::SessionBlob;
use crate::sev::measurement::{Build, Measurement};
use crate::sev::policy::{Scheme, SevPolicy};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Host {
    /// The peer's address.
    pub address: IpAddr,
    /// Who it proved to be, with role `host`; none: it did not say.
    pub identity: Option<Identity>,
}

impl Host {
    /// What an owner, its policies and its records are told of who it is: nothing, where another owner vouches for it.
    #[must_use]
    pub fn identity_for(&self, owner: &Name) -> Option<String> {
        let identity = self.identity.as_ref()?;
        let counts = identity.owner.as_ref().is_none_or(|whose| whose == owner);
        counts.then(|| identity.as_host())
    }

    /// Hash of a request, and of the host that sent it where that proved who it is: an answer is given again to nobody
    /// but the host that got it.
    #[must_use]
    pub fn request_hash(&self, body: &[u8]) -> HexDigest {
        match &self.identity {
            None => Hex(sha256(body)),
            Some(identity) => Hex(sha256(&[&sha256(identity.as_host().as_bytes()), body].concat())),
        }
    }

    /// What bounds are kept for: the address, and for IPv6 its /64, as one host has a whole one.
    #[must_use]
    pub fn bucket(&self) -> String {
        match self.address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

/// `POST /vm/{uuid}/launch`.
#[derive(Clone, Debug)]
pub struct LaunchRequest {
    /// The platform Diffie-Hellman certificate, 2084 bytes.
    pub pdh: Vec<u8>,
    /// The chain in any of its forms.
    pub cert_chain: Vec<u8>,
    /// The chip's id, as the host says.
    pub cpu_id: Option<Hex<64>>,
    /// The technology; must be the workload's.
    pub scheme: Option<Scheme>,
    /// The SEV policy; must be the workload's where that has one.
    pub policy: Option<SevPolicy>,
}

/// What a launch is answered.
pub struct LaunchAnswer {
    /// The launch's own UUID.
    pub id: Uuid,
    /// The session blob, as LAUNCH_START takes it.
    pub session: [u8; SessionBlob::SIZE],
    /// The guest owner's ephemeral Diffie-Hellman certificate.
    pub owner_cert: OwnerCertificate,
    /// The SEV policy that the session is for.
    pub policy: SevPolicy,
    /// Until when it may be validated.
    pub expires_at: Time,
}

/// `POST /vm/{uuid}/validate`.
#[derive(Clone, Debug)]
pub struct ValidateRequest {
    /// API version and build of the PSP's firmware, as the host says; the MAC proves them.
    pub build: Build,
    /// The SEV policy, as the host says; must be the launch's.
    pub policy: SevPolicy,
    /// The measurement, 48 bytes.
    pub measurement: Measurement,
    /// What nothing proves.
    pub claimed: Claimed,
    /// A launch digest to try.
    pub launch_digest: Option<HexDigest>,
    /// The secrets asked for.
    pub secrets: Asked,
    /// Hash of the `Idempotency-Key`, and of the request it came with.
    pub idempotency: Option<(HexDigest, HexDigest)>,
}

/// Which secrets are asked for. Names are looked up only once the guest is measured.
#[derive(Clone, Debug)]
pub enum Asked {
    /// All of the workload's, in its order.
    All,
    /// These, each at its own GUID.
    Names(Vec<Name>),
    /// Entries at GUIDs of the asker's choosing, as simple-kbs's clients want them.
    Entries {
        /// The entries.
        wanted: Vec<Wanted>,
        /// What a connection is bounded by that is asked for; none: none is given.
        connection: Option<ConnectionBounds>,
    },
}

impl Asked {
    /// What a connection is bounded by, where one may be asked for.
    pub(super) fn connection(&self) -> Option<ConnectionBounds> {
        match self {
            Self::Entries { connection, .. } => *connection,
            Self::All | Self::Names(_) => None,
        }
    }
}

/// What a host says of its guest and nothing proves.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Number of virtual CPUs.
    pub cpu_count: Option<u32>,
    /// SHA-256 of the firmware.
    pub firmware_hash: Option<HexDigest>,
    /// SHA-256 of the kernel.
    pub kernel_hash: Option<HexDigest>,
    /// SHA-256 of the initial RAM disk.
    pub initrd_hash: Option<HexDigest>,
    /// SHA-256 of the command line.
    pub cmdline_hash: Option<HexDigest>,
    /// Free text, at most 1 KiB.
    pub description: Option<String>,
}

/// What a release is answered: what `sev-inject-launch-secret` takes, and the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseAnswer {
    /// The packet's header, 52 bytes.
    pub header: Vec<u8>,
    /// The packet's ciphertext.
    pub payload: Vec<u8>,
    /// The recorded decision.
    pub decision: Uuid,
}

impl ReleaseAnswer {
    /// As it is kept, sealed, for a host that lost it: decision, header length, header, payload.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.header.len()).unwrap_or(u32::MAX).to_le_bytes();
        [
            self.decision.as_bytes().as_slice(),
            &length,
            &self.header,
            &self.payload,
        ]
        .concat()
    }

    /// Back from [`Self::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (decision, rest) = bytes.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (header, payload) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let decision = Uuid::from_bytes(*decision);
        Some(Self {
            header: header.to_vec(),
            payload: payload.to_vec(),
            decision,
        })
    }
}
