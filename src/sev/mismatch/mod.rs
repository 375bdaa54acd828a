//! A measurement that does not hold: which input would have made it hold?
//!
//! What most often differs is not what runs but what was said about it: one vCPU more, another CPU model, a build
//! number in hexadecimal, a newline behind the command line. So after a mismatch the neighbourhood is searched:
//! every input changed by itself, then sensible pairs. A MAC of 256 bits does not hold by chance, so what is found
//! **is** what was measured; whether it is what its owner means to run is for the owner to say. Nothing here makes
//! an [`AttestedLaunch`](super::AttestedLaunch).
//!
//! The work is bounded: some hundred thousand digests and MACs, whatever the input.

mod digests;
mod macs;

use openssl::memcmp;

use super::launch_digest::{CpuModel, CpuSignature, Firmware, SaveArea, VmsaVariant};
use super::measurement::{Build, Measurement, compute};
use super::{Digest, LaunchKeys, SevPolicy};
use digests::{Digests, Guess};
use macs::MacInputs;

/// With how many vCPUs other changes are tried together. By itself, and with what else is in the digest, every
/// count up to [`MAX_VCPUS`](super::launch_digest::MAX_VCPUS) is.
pub const PAIRED_VCPUS: u32 = 64;

/// What was checked and did not hold.
pub struct Mismatch<'a> {
    /// The launch's keys.
    pub keys: &'a LaunchKeys,
    /// What the host presented.
    pub measurement: Measurement,
    /// The firmware that it named.
    pub build: Build,
    /// The policy that the launch was made with.
    pub policy: SevPolicy,
    /// What was expected to run.
    pub expected: Expected<'a>,
}

/// What was expected to run.
pub enum Expected<'a> {
    /// A launch digest, from which nothing can be varied.
    Digest(Digest),
    /// What the digest was computed from.
    Image {
        /// The firmware.
        firmware: &'a Firmware,
        /// The kernel, where it is measured.
        kernel: Option<Kernel>,
        /// The vCPUs, where they were said.
        cpus: Option<Cpus>,
    },
}

/// What is booted directly.
#[derive(Clone)]
pub struct Kernel {
    /// SHA-256 of the kernel.
    pub kernel: Digest,
    /// SHA-256 of the initrd.
    pub initrd: Option<Digest>,
    /// The command line.
    pub cmdline: Option<String>,
}

/// The vCPUs of a SEV-ES guest.
#[derive(Clone)]
pub enum Cpus {
    /// As QEMU and KVM set them.
    Modelled {
        /// How many.
        count: u32,
        /// Which.
        cpu: CpuSignature,
        /// In which forms they were tried.
        variants: Vec<VmsaVariant>,
    },
    /// As they were dumped, the boot vCPU's first.
    Areas(Vec<SaveArea>),
}

/// One input that was another when the guest was measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Another number of vCPUs.
    Vcpus(u32),
    /// Another CPU model.
    Cpu(CpuModel),
    /// The other form of the vCPUs' first state.
    Vmsa(VmsaVariant),
    /// DebugSwap in the vCPUs' `SEV_FEATURES`.
    DebugSwap,
    /// The dumped states in the opposite order.
    AreasReversed,
    /// The kernel was not measured (`kernel-hashes=off`).
    KernelUnmeasured,
    /// No initrd.
    NoInitrd,
    /// The initrd's file in the place of the kernel's, and the other way round.
    KernelAndInitrdSwapped,
    /// Another command line; none is the empty one.
    Cmdline(String),
    /// The command line hashed without the NUL behind it, which QEMU does not do, but some table builders did.
    CmdlineWithoutNul,
    /// Another build of the PSP's firmware.
    BuildId(u8),
    /// Another API version, major and minor.
    Api(u8, u8),
    /// Another policy.
    Policy(SevPolicy),
    /// TIK and TEK in each other's place.
    KeysSwapped,
    /// The PSP's nonce before the MAC.
    MeasurementSwapped,
}

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What must be changed for the measurement to hold: one or two inputs; none if nothing was found.
    pub changes: Vec<Change>,
    /// How many combinations were tried.
    pub tried: u64,
}

/// Searches for the fewest changes with which the measurement holds.
pub fn search(mismatch: &Mismatch<'_>) -> Found {
    let macs = macs::around(mismatch);
    let digests = Digests::around(&mismatch.expected);
    let mut tried = 0;
    for total in 1..=2 {
        for in_mac in 0..=total {
            let in_digest = total - in_mac;
            for inputs in macs.iter().filter(|inputs| inputs.changes.len() == in_mac) {
                let guesses = digests.with(inputs.policy.es(), in_digest);
                let guesses = guesses.filter(|guess| in_mac == 0 || !guess.has_many_vcpus());
                for guess in guesses {
                    tried += 1;
                    if holds(mismatch, inputs, guess) {
                        let changes = guess.changes.iter().chain(&inputs.changes);
                        return Found {
                            changes: changes.cloned().collect(),
                            tried,
                        };
                    }
                }
            }
        }
    }
    Found {
        changes: Vec::new(),
        tried,
    }
}

fn holds(mismatch: &Mismatch<'_>, mac: &MacInputs, guess: &Guess) -> bool {
    let measurement = if mac.measurement_swapped {
        swapped(&mismatch.measurement)
    } else {
        mismatch.measurement
    };
    let other_keys;
    let keys = if mac.keys_swapped {
        other_keys = LaunchKeys {
            tek: mismatch.keys.tik,
            tik: mismatch.keys.tek,
        };
        &other_keys
    } else {
        mismatch.keys
    };
    let expected = compute(keys, mac.build, mac.policy, &guess.digest, &measurement.mnonce);
    memcmp::eq(&expected, &measurement.measure)
}

/// Read as nonce ‖ MAC.
fn swapped(measurement: &Measurement) -> Measurement {
    let mut turned = measurement.to_bytes();
    turned.rotate_left(16);
    Measurement::parse(&turned).unwrap_or(*measurement)
}
