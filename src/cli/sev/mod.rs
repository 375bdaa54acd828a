//! `sev`: the guest owner's toolbox. Offline: files in, files out, no server and no hardware.
//!
//! One file for each verb. What verbs share: [`image`] is what a guest is started from, [`platform`] a chain in
//! any of its forms, verified, [`keys`] a launch's keys in files, [`check`] a measurement held against both.

mod chain;
mod check;
mod files;
mod hints;
mod image;
mod keys;
mod measure;
mod number;
mod platform;
mod policy;
mod secret;
mod session;
mod validate;
mod vmsa;
mod wrap;

use clap::Subcommand;

use super::Ended;
pub(super) use files::read_text_or_bytes;
pub(super) use image::Image;
pub(super) use number::sev_policy;

#[derive(Subcommand)]
pub(super) enum SevVerb {
    /// Compute launch digests from firmware, kernel, initrd, command line and vCPUs
    Measure(measure::Measure),
    /// Verify a certificate chain up to AMD's root and print it
    Chain(chain::Chain),
    /// Make a launch session for a platform: fresh keys, and the two files that QEMU and libvirt take
    Session(session::MakeSession),
    /// Check a measurement; on a mismatch say which input would have matched. Exit code 2: it does not hold
    Validate(Box<validate::Validate>),
    /// Wrap secrets for a guest whose measurement holds; build and show secret tables
    #[command(subcommand)]
    Secret(Box<secret::SecretVerb>),
    /// Build and show VMSAs, the state in which SEV-ES vCPUs start
    #[command(subcommand)]
    Vmsa(vmsa::VmsaVerb),
}

impl SevVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Measure(verb) => verb.run(),
            Self::Chain(verb) => verb.run(),
            Self::Session(verb) => verb.run(),
            Self::Validate(verb) => verb.run(),
            Self::Secret(verb) => verb.run(),
            Self::Vmsa(verb) => verb.run(),
        }
    }
}
