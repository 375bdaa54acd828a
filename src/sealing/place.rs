//! What a sealed value is and where it belongs: the additional data of both seals.

use uuid::Uuid;

use crate::domain::Name;
use crate::domain::sealed::SealedAt;

/// What a sealed value is and where it belongs: the additional data of both seals.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The value of a secret's version.
    Secret {
        /// The owner.
        owner: &'a Name,
        /// The secret.
        name: &'a Name,
        /// Its version.
        version: u64,
    },
    /// TEK and TIK of a launch.
    LaunchKeys {
        /// The workload's owner.
        owner: &'a Name,
        /// The launch.
        launch: Uuid,
    },
    /// The answer that a launch was given, kept for a host that lost it.
    Answer {
        /// The workload's owner.
        owner: &'a Name,
        /// The launch.
        launch: Uuid,
    },
    /// The key of a connection.
    ConnectionKey {
        /// The workload's owner.
        owner: &'a Name,
        /// The connection.
        connection: Uuid,
    },
    /// The key that signs the audit log's checkpoints.
    AuditLogKey,
}

impl<'a> From<&'a SealedAt> for Place<'a> {
    fn from(at: &'a SealedAt) -> Self {
        match at {
            SealedAt::Secret { owner, name, version } => Self::Secret {
                owner,
                name,
                version: *version,
            },
            SealedAt::LaunchKeys { owner, launch } => Self::LaunchKeys {
                owner,
                launch: *launch,
            },
            SealedAt::Answer { owner, launch } => Self::Answer {
                owner,
                launch: *launch,
            },
            SealedAt::ConnectionKey { owner, connection } => Self::ConnectionKey {
                owner,
                connection: *connection,
            },
            SealedAt::AuditLogKey => Self::AuditLogKey,
        }
    }
}

impl Place<'_> {
    /// Each part with its length before it, so that no two places read the same.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = b"keyward/v1".to_vec();
        let mut part = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Secret { owner, name, version } => {
                part(b"secret");
                part(owner.as_str().as_bytes());
                part(name.as_str().as_bytes());
                part(&version.to_le_bytes());
            }
            Self::LaunchKeys { owner, launch } => {
                part(b"launch-keys");
                part(owner.as_str().as_bytes());
                part(launch.as_bytes());
            }
            Self::Answer { owner, launch } => {
                part(b"answer");
                part(owner.as_str().as_bytes());
                part(launch.as_bytes());
            }
            Self::ConnectionKey { owner, connection } => {
                part(b"connection-key");
                part(owner.as_str().as_bytes());
                part(connection.as_bytes());
            }
            Self::AuditLogKey => part(b"audit-log-key"),
        }
        out
    }
}
