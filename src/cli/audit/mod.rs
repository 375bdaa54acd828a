//! `audit …`: the audit log, from a server or a data folder, and offline.

pub(super) mod export;
mod keys;
pub(super) mod log_key;
mod opa;
mod proof;
pub(super) mod source;
pub(super) mod verify;

use clap::Subcommand;

use super::Ended;

#[derive(Subcommand)]
pub(super) enum AuditVerb {
    /// Write the log as JSON Lines, which `audit verify` verifies on another machine
    Export(export::Export),
    /// Verify an export offline: is it what the log signed, and all of it?
    Verify(verify::Verify),
    /// Prove that a record is in the log
    Proof(proof::Proof),
    /// Print the newest checkpoint, to be kept elsewhere
    Checkpoint(keys::Checkpoint),
    /// Print the public key of the log
    Key(keys::Key),
    /// Make the key that signs the log, for a data folder older than the log
    Init(keys::Init),
}

impl AuditVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Export(verb) => verb.run(),
            Self::Verify(verb) => verb.run(),
            Self::Proof(verb) => verb.run(),
            Self::Checkpoint(verb) => verb.run(),
            Self::Key(verb) => verb.run(),
            Self::Init(verb) => verb.run(),
        }
    }
}
