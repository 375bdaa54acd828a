//! What one record of the audit log says: who did what to whose objects, and when. Never a secret's value.
//!
//! A record is written once, as one line of JSON, and **those bytes are the leaf**: they are what is stored, hashed
//! and exported. Nothing is ever serialised again to be hashed, so there is no canonical form to disagree on, and a
//! record that a later version writes with members unknown here is verified all the same.
//!
//! A decision's record has the SHA-256 of the decision's document, not the document. The document is kept with the
//! decisions already, is ten times as long, and holds what hosts claimed; it can be forgotten on its own schedule,
//! while whoever still has it can show that it is the one that was taken. A record may be forgotten too: its leaf
//! hash stays, and the tree with it.

use openssl::sha::sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::actor::Actor;
use super::object::is_nobody;
use super::tree::leaf_hash;
use crate::domain::decision::{Decision, SecretVersion, WorkloadRef};
use crate::domain::hold::Guest;
use crate::domain::launch::Binding;
use crate::domain::once::Once;
use crate::domain::platform::Accepted;
use crate::domain::revision::By;
use crate::domain::{Hex, HexDigest, Name, Outcome, Time};

pub use super::object::{KeyPurpose, ObjectKind, ObjectRef, Target};

/// Version of the record's shape.
pub const RECORD_VERSION: u32 = 1;

/// The longest record, in bytes.
pub const MAX_RECORD: usize = 64 * 1024;

/// One record of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// The shape's version: 1.
    pub version: u32,
    /// Its id, by which its place in the tree is asked for.
    pub id: Uuid,
    /// When it happened, by the server's clock.
    pub time: Time,
    /// Whose objects it is about; null for the server itself.
    pub owner: Option<Name>,
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub event: Event,
    /// What is done once, written beside the record and no part of it.
    #[serde(skip)]
    pub once: Option<Once>,
}

/// What was done. Later versions add kinds; those that there are keep their meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A host asked, and got its answer.
    Decision {
        /// The decision.
        id: Uuid,
        /// What came of it.
        outcome: Outcome,
        /// The workload.
        workload: WorkloadRef,
        /// What was released, with versions.
        released: Vec<SecretVersion>,
        /// SHA-256 of the decision's document, as it is stored.
        document: HexDigest,
    },
    /// An object came to be.
    ObjectCreated {
        /// The object as it is now.
        object: ObjectRef,
    },
    /// An object was replaced, or got a new version.
    ObjectUpdated {
        /// The object as it is now.
        object: ObjectRef,
    },
    /// An object was deleted.
    ObjectDeleted {
        /// The object as it was.
        object: ObjectRef,
    },
    /// The value of one version of a secret was destroyed.
    SecretPurged {
        /// The secret.
        secret: Name,
        /// The version.
        version: u64,
    },
    /// A policy bundle became the active one.
    BundleActivated {
        /// Its revision.
        revision: HexDigest,
        /// The one that was active before.
        replaced: Option<HexDigest>,
    },
    /// A person wanted to register what decides over releases, and another must want the same.
    RegistrationProposed {
        /// Of what is to be registered, the same of whoever registers it.
        digest: HexDigest,
        /// What the person gave as the reason.
        reason: String,
    },
    /// What was proposed is registered, with this record: another person wanted the same.
    RegistrationAgreed {
        /// Of what is registered.
        digest: HexDigest,
        /// Who wanted it, the first of them first.
        words: Vec<By>,
        /// What the last one gave as the reason.
        reason: String,
    },
    /// A key of a chip was imported by whoever has the data folder.
    CekImported {
        /// Fingerprint of the CEK.
        fingerprint: HexDigest,
        /// The chip, where it was named or the file's name says it.
        chip: Option<String>,
    },
    /// The log was begun, on a data folder that is older than it.
    LogBegun {
        /// The log's public key.
        key: String,
    },
    /// A token was made.
    TokenCreated {
        /// Its id.
        id: Uuid,
        /// What it is called.
        name: String,
        /// Its role.
        role: String,
        /// When it expires; null for never.
        expires: Option<Time>,
    },
    /// A token was revoked.
    TokenRevoked {
        /// Its id.
        id: Uuid,
        /// What it was called.
        name: String,
    },
    /// A hold was confirmed by a person, wholly or as one of several.
    HoldConfirmed {
        /// The hold.
        hold: Uuid,
        /// How many more releases it allows.
        additional: u64,
        /// For which guest; null: for any of the workload.
        guest: Option<Guest>,
        /// How many confirmations are still needed.
        missing: u32,
        /// What the person gave as the reason.
        reason: String,
    },
    /// A hold was rejected.
    HoldRejected {
        /// The hold.
        hold: Uuid,
        /// What the person gave as the reason.
        reason: String,
    },
    /// A hold closed by itself: there was room again.
    HoldClosed {
        /// The hold.
        hold: Uuid,
    },
    /// What was left of a hold's confirmation was taken back.
    HoldWithdrawn {
        /// The hold.
        hold: Uuid,
        /// What the person gave as the reason.
        reason: String,
    },
    /// A person wanted a count of releases lowered.
    LimitReset {
        /// What the count counts in.
        binding: Binding,
        /// The secret.
        secret: Name,
        /// What the count was.
        from: u64,
        /// What it is now, or is to be.
        to: u64,
        /// How many other people must want the same; 0: it is done.
        missing: u32,
        /// What the person gave as the reason.
        reason: String,
    },
    /// A person wanted another number of people asked for.
    ApprovalsRequired {
        /// How many.
        people: u8,
        /// Whether also for registering what decides over releases.
        policies: bool,
        /// How many other people must want the same; 0: it is done.
        missing: u32,
        /// What the person gave as the reason.
        reason: String,
    },
    /// Releases to or of something were stopped.
    Frozen {
        /// What.
        target: Target,
        /// Why.
        reason: String,
    },
    /// A person wanted them to go on.
    Unfrozen {
        /// What.
        target: Target,
        /// How many other people must want the same; 0: it is done.
        missing: u32,
        /// Why.
        reason: String,
    },
    /// An owner wanted a platform to get releases where only enrolled ones do.
    PlatformEnrolled {
        /// Fingerprint of its CEK.
        fingerprint: HexDigest,
        /// How many other people must want the same; 0: it is done.
        #[serde(default, skip_serializing_if = "is_nobody")]
        missing: u32,
        /// Why.
        reason: String,
    },
    /// An owner wanted a platform to get no releases.
    PlatformRefused {
        /// Fingerprint of its CEK.
        fingerprint: HexDigest,
        /// Why.
        reason: String,
    },
    /// What an owner had said of a platform was taken back.
    PlatformWithdrawn {
        /// Fingerprint of its CEK.
        fingerprint: HexDigest,
        /// Why.
        reason: String,
    },
    /// An owner said which platforms get releases.
    PlatformsAccepted {
        /// Which.
        accepted: Accepted,
        /// How many other people must want the same; 0: it is done.
        #[serde(default, skip_serializing_if = "is_nobody")]
        missing: u32,
        /// Why.
        reason: String,
    },
    /// A key of the server's was replaced.
    KeyRotated {
        /// What the key is for.
        purpose: KeyPurpose,
        /// Public id of the old one.
        from: String,
        /// Public id of the new one.
        to: String,
    },
    /// A key of the server's that was replaced opens nothing any more: nothing is left under it.
    KeyRetired {
        /// What the key was for.
        purpose: KeyPurpose,
        /// Its public id.
        id: String,
    },
    /// Records were forgotten by the rule of retention: their leaf hashes stay.
    RecordsDropped {
        /// Index of the first one.
        first: u64,
        /// Index of the last one.
        last: u64,
    },
    /// Decisions were forgotten by the rule of retention: their records stay, with the digests of their documents.
    DecisionsDropped {
        /// How many.
        count: u64,
        /// All of them are from before that.
        before: Time,
    },
    /// A store that is older than what was seen outside was accepted.
    RollbackAccepted {
        /// Size of the tree that was seen outside; 0: none was.
        seen: u64,
        /// Size of the tree that is served.
        accepted: u64,
    },
    /// The server began to serve.
    ServerStarted {
        /// Its version.
        release: String,
        /// What it is told to do that is dangerous: keys of the configuration.
        dangers: Vec<String>,
    },
    /// The server ended in order.
    ServerStopped,
}

/// Why a record was not written, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is longer than any record.
    #[error("an audit record has at most {MAX_RECORD} bytes, this one has {0}: shorten its reason")]
    Long(usize),
    /// It is no record of a version that is known here.
    #[error("not an audit record of version {RECORD_VERSION}: {0}")]
    Read(#[from] serde_json::Error),
}

/// A record as it is stored, and its place in no tree yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf(String);

impl AuditRecord {
    /// The record of a decision, given the document as it is stored. The host that asked is the actor.
    #[must_use]
    pub fn of_decision(id: Uuid, decision: &Decision, document: &str) -> Self {
        Self {
            version: RECORD_VERSION,
            id,
            time: decision.time,
            owner: Some(decision.owner.clone()),
            actor: Actor::Host {
                address: decision.address.clone(),
                identity: decision.host_identity.clone(),
            },
            event: Event::Decision {
                id: decision.id,
                outcome: decision.outcome,
                workload: decision.workload.clone(),
                released: decision.released.clone(),
                document: document_digest(document.as_bytes()),
            },
            once: None,
        }
    }

    /// The record of what the server did of its own accord, or somebody who can write its data folder.
    #[must_use]
    pub fn of_server(id: Uuid, time: Time, owner: Option<Name>, event: Event) -> Self {
        Self {
            version: RECORD_VERSION,
            id,
            time,
            owner,
            actor: Actor::Server,
            event,
            once: None,
        }
    }

    /// The bytes that are stored, hashed and exported: one line, without a newline.
    ///
    /// # Errors
    /// When it is too long.
    pub fn to_leaf(&self) -> Result<Leaf, RecordError> {
        let text = serde_json::to_string(self)?;
        if text.len() > MAX_RECORD {
            return Err(RecordError::Long(text.len()));
        }
        Ok(Leaf(text))
    }

    /// Reads a leaf's bytes.
    ///
    /// # Errors
    /// When they are no record, or one that a later version wrote.
    pub fn from_leaf(leaf: &str) -> Result<Self, RecordError> {
        if leaf.len() > MAX_RECORD {
            return Err(RecordError::Long(leaf.len()));
        }
        Ok(serde_json::from_str(leaf)?)
    }
}

impl Leaf {
    /// The bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What goes into the tree.
    #[must_use]
    pub fn hash(&self) -> HexDigest {
        leaf_hash(self.0.as_bytes())
    }
}

/// The digest by which a record names the document of a decision.
#[must_use]
pub fn document_digest(stored: &[u8]) -> HexDigest {
    Hex(sha256(stored))
}
