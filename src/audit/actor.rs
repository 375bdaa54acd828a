//! Who did what the audit log tells of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{AuditRecord, Event, RECORD_VERSION};
use crate::domain::once::Once;
use crate::domain::token::{Caller, Identity, Proof};
use crate::domain::{HexDigest, Name, Role, Time};

/// Who does something, and when: with what is done, a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// Who.
    pub actor: Actor,
    /// When, by the server's clock.
    pub time: Time,
    /// What is to be done once; it is written with the records.
    pub once: Option<Once>,
}

impl Act {
    /// By whoever can read and write the data folder.
    #[must_use]
    pub fn of_data_folder(time: Time) -> Self {
        let actor = Actor::DataFolder;
        Self {
            actor,
            time,
            once: None,
        }
    }

    /// By the server of its own accord.
    #[must_use]
    pub fn of_server(time: Time) -> Self {
        let actor = Actor::Server;
        Self {
            actor,
            time,
            once: None,
        }
    }

    /// What the log says of it.
    #[must_use]
    pub fn record(&self, id: Uuid, owner: Option<Name>, event: Event) -> AuditRecord {
        AuditRecord {
            version: RECORD_VERSION,
            id,
            time: self.time,
            owner,
            actor: self.actor.clone(),
            event,
            once: self.once.clone(),
        }
    }
}

/// One who does something.
pub trait Acting {
    /// Who.
    fn actor(&self) -> Actor;
    /// What is to be done once.
    fn once(&self) -> Option<Once>;
}

impl Acting for Caller {
    fn actor(&self) -> Actor {
        self.into()
    }

    fn once(&self) -> Option<Once> {
        self.once.clone()
    }
}

impl Acting for Identity {
    fn actor(&self) -> Actor {
        self.into()
    }

    fn once(&self) -> Option<Once> {
        self.once.clone()
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Actor {
    /// Whoever holds a token.
    Token {
        /// The token's id.
        id: Uuid,
        /// What it is called.
        name: String,
        /// Its role.
        role: String,
    },
    /// Whoever holds the key of a client certificate.
    Certificate {
        /// What the caller is known as: `certificate/NAME`.
        name: String,
        /// SHA-256 of the certificate.
        fingerprint: HexDigest,
        /// Its subject.
        subject: String,
        /// The role that the server's configuration gives to it.
        role: String,
    },
    /// Somebody for whom an identity provider spoke.
    Identity {
        /// What the caller is known as: `PROVIDER/SUBJECT`.
        name: String,
        /// The provider, by its own name.
        issuer: String,
        /// Whom it named.
        subject: String,
        /// The role that the server's configuration gives to it.
        role: String,
    },
    /// A host, by its address.
    Host {
        /// The socket's peer, or what a trusted proxy said.
        address: String,
        /// Who it proved to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
    /// The server, of its own accord.
    Server,
    /// Whoever can read and write the data folder, by a command there.
    DataFolder,
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        known(caller.token, &caller.name, caller.role, &caller.proof)
    }
}

impl From<&Identity> for Actor {
    fn from(identity: &Identity) -> Self {
        known(identity.token, &identity.name, identity.role, &identity.proof)
    }
}

fn known(id: Uuid, name: &str, role: Role, proof: &Proof) -> Actor {
    let (name, role) = (name.to_owned(), role.to_string());
    match proof.clone() {
        Proof::Token => Actor::Token { id, name, role },
        Proof::Jwt { issuer, subject } => Actor::Identity {
            name,
            issuer,
            subject,
            role,
        },
        Proof::Certificate { fingerprint, subject } => Actor::Certificate {
            name,
            fingerprint,
            subject,
            role,
        },
    }
}
