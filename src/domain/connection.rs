//! Connections: what a measured guest was given to ask for more later (simple-kbs's `connection`).
//!
//! Whoever knows the client's id may ask; only who has the key, which travelled in the packet for that one guest, can
//! read what comes back. Freshness of an answer is not proved by that protocol.

use std::time::Duration;

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decision::SecretVersion;
use super::launch::LaunchFacts;
use super::{HexDigest, Name, Time};

/// How long connections last and how much may be asked over one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBounds {
    /// How long.
    pub lifetime: Duration,
    /// How many requests it takes, whatever they are answered.
    pub requests: u32,
}

/// One entry that is asked for: in a secret table, or over a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What the guest finds it by.
    pub guid: Uuid,
    /// What it is to hold.
    pub form: Form,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The bytes of a secret.
    Bytes {
        /// The secret.
        id: String,
    },
    /// `{"id", "payload"}`, the bytes in base64.
    Json {
        /// The secret.
        id: String,
    },
    /// A key set as JSON: each secret's name with its bytes in base64.
    Bundle {
        /// The key set.
        id: String,
    },
    /// The facts of the launch, signed with a secret of type `report-key`.
    Report {
        /// The secret.
        id: String,
    },
    /// A new connection: `{"client_id", "key"}`.
    Connection,
}

impl Form {
    /// The id of what is asked for; empty for a connection.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Bytes { id } | Self::Json { id } | Self::Bundle { id } | Self::Report { id } => id,
            Self::Connection => "",
        }
    }
}

/// What was established of a guest when it was given a connection; what is asked over it is decided on this.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestFacts {
    /// Of its launch.
    pub launch: LaunchFacts,
    /// The PSP's API version and build, which were attested.
    pub build: [u8; 3],
    /// The launch digest, which was attested.
    pub launch_digest: HexDigest,
    /// The measure itself.
    pub measure: HexDigest,
    /// What the host said of it, which nothing proves.
    pub description: Option<String>,
}

/// A connection as it is remembered.
#[derive(Clone)]
pub struct Connection {
    /// Its id: [`id_of`] the client's.
    pub id: Uuid,
    /// The workload's owner.
    pub owner: Name,
    /// The workload.
    pub workload: Uuid,
    /// The launch that it was given to.
    pub launch: Uuid,
    /// What was established of the guest.
    pub guest: GuestFacts,
    /// Its AES-256 key, sealed.
    pub sealed_key: Vec<u8>,
    /// When it began.
    pub created: Time,
    /// Until when it may be used.
    pub expires: Time,
    /// How many requests are left.
    pub requests_left: u32,
}

/// The id under which a connection is stored and recorded, from the one that its client has. Whoever reads records or the
/// database can't ask over the connection.
#[must_use]
pub fn id_of(client: Uuid) -> Uuid {
    let digest = sha256(&[b"keyward/connection/".as_slice(), client.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What was answered first for one GUID and id over a connection: which versions in which form, never a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstAnswer {
    /// What was asked for.
    pub wanted: Wanted,
    /// The secrets that it was made of, in their order.
    pub secrets: Vec<SecretVersion>,
}
