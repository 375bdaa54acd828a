//! The command line: one file for each verb.
//!
//! Exit codes: 0 done or allowed, 1 failed, 2 denied, 64 wrong usage.

mod apply;
mod approvals;
mod audit;
mod backup;
mod changes;
mod checkpoints;
mod client;
mod completions;
mod credential;
mod decision;
mod decision_text;
mod delete;
mod demo;
mod diff;
mod freeze;
mod get;
mod health;
mod hold;
mod host;
mod impact;
mod import;
mod init;
mod kds;
mod keys;
mod kinds;
mod limits;
mod man;
mod output;
mod owner;
mod paint;
mod people;
mod platform;
mod policy;
mod psp;
mod secret;
mod serve;
mod sev;
mod simple_kbs;
mod token;
mod webhook;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// An attestation server for AMD SEV and SEV-ES guests.
#[derive(Parser)]
#[command(name = "keyward", version, about)]
struct Keyward {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the whole story in a temporary folder: a guest released, one denied, a count used up and confirmed
    Demo(demo::Demo),
    /// Make a data folder: database, key file, owner and first token
    Init(init::Init),
    /// Make and list the owners of a data folder
    #[command(subcommand)]
    Owner(owner::OwnerVerb),
    /// Make, list and revoke tokens: who may do what
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// The keys that stored values are sealed under: rotate and check them
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Run the server on a data folder that `init` made
    Serve(serve::Serve),
    /// Copy a data folder into one file while the server serves
    Backup(backup::Backup),
    /// Make a data folder from a backup, or only verify the backup
    Restore(backup::restore::Restore),
    /// Register what manifests say: policies, secrets, firmware, workloads
    Apply(apply::Apply),
    /// Show what `apply` would change. Exit code 2: something would
    Diff(diff::Diff),
    /// Show what is registered, as manifests too
    Get(get::Get),
    /// Remove objects, or all that manifests name
    Delete(delete::Delete),
    /// Versions of a secret: list them, go back to one, destroy one
    #[command(subcommand)]
    Secret(secret::SecretVerb),
    /// List and show what was decided, and why
    #[command(subcommand)]
    Decision(decision::DecisionVerb),
    /// The audit log: export it, prove records, verify an export offline
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Who is told of new holds and checkpoints
    #[command(subcommand)]
    Webhook(webhook::WebhookVerb),
    /// Releases that wait for a person's word: confirm or reject them
    #[command(subcommand)]
    Hold(hold::HoldVerb),
    /// How often secrets were released, and the only way to lower a count
    #[command(subcommand)]
    Limits(limits::LimitsVerb),
    /// Stop releases at once: of a workload, a secret, a platform, a product, an owner, the server
    #[command(subcommand)]
    Freeze(freeze::FreezeVerb),
    /// Let releases go on that a freeze stops
    Unfreeze(freeze::Unfreeze),
    /// Which launches something that went wrong has touched, and which secrets must be replaced
    Impact(impact::Impact),
    /// Platforms on which guests were measured: list, enrol and refuse them
    #[command(subcommand)]
    Platform(platform::PlatformVerb),
    /// The policy author's desk, on a folder and without a server: check policies, ask them
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// The guest owner's toolbox, offline: launch digests, chains, sessions, measurements, secrets
    #[command(subcommand)]
    Sev(sev::SevVerb),
    /// The hypervisor's side: a launch for QEMU, and its guest's secrets over QMP
    #[command(subcommand)]
    Host(host::HostVerb),
    /// A software PSP, for trying things without the hardware. It proves nothing
    #[command(subcommand)]
    Psp(psp::PspVerb),
    /// Certificates of AMD's key distribution service
    #[command(subcommand)]
    Kds(kds::KdsVerb),
    /// Take over what another key broker has
    #[command(subcommand)]
    Import(import::ImportVerb),
    /// Whether the server of a data folder on this machine is alive
    Health(health::Health),
    /// Print what a shell needs to complete these commands
    Completions(completions::Completions),
    /// Write a manual page for each command
    Man(man::ManPages),
}

/// The command line's definition, that others are made from.
fn command() -> clap::Command {
    Keyward::command()
}

/// The exit code for wrong usage, as `sysexits.h` has it.
const MISUSED: u8 = 64;

/// How a verb ended, when it did not fail.
enum Ended {
    /// Done, or allowed.
    Done,
    /// The answer is no.
    Denied,
    /// What was asked about is not as it should be, and that was told.
    Failed,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let keyward = match Keyward::try_parse() {
        Ok(keyward) => keyward,
        Err(error) => {
            let usage = error.use_stderr();
            // Nothing can be told to who closed the terminal.
            let _ = error.print();
            return if usage {
                ExitCode::from(MISUSED)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let ended = match keyward.verb {
        Verb::Demo(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Owner(verb) => verb.run(),
        Verb::Token(verb) => verb.run(),
        Verb::Keys(verb) => verb.run(),
        Verb::Serve(verb) => verb.run(),
        Verb::Backup(verb) => verb.run(),
        Verb::Restore(verb) => verb.run(),
        Verb::Apply(verb) => verb.run(),
        Verb::Diff(verb) => verb.run(),
        Verb::Get(verb) => verb.run(),
        Verb::Delete(verb) => verb.run(),
        Verb::Secret(verb) => verb.run(),
        Verb::Decision(verb) => verb.run(),
        Verb::Audit(verb) => verb.run(),
        Verb::Webhook(verb) => verb.run(),
        Verb::Hold(verb) => verb.run(),
        Verb::Limits(verb) => verb.run(),
        Verb::Freeze(verb) => verb.run(),
        Verb::Unfreeze(verb) => verb.run(),
        Verb::Impact(verb) => verb.run(),
        Verb::Platform(verb) => verb.run(),
        Verb::Policy(verb) => verb.run(),
        Verb::Sev(verb) => verb.run(),
        Verb::Host(verb) => verb.run(),
        Verb::Psp(verb) => verb.run(),
        Verb::Kds(verb) => verb.run(),
        Verb::Import(verb) => verb.run(),
        Verb::Health(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Denied) => ExitCode::from(2),
        Ok(Ended::Failed) => ExitCode::from(1),
        Err(error) => {
            output::fail(&error);
            ExitCode::from(if error.is::<output::Misused>() { MISUSED } else { 1 })
        }
    }
}
