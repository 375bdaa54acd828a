//! What would have matched, in the words of the command line.

use super::check::Check;
use crate::sev::SevPolicy;
use crate::sev::mismatch::{Change, Found};

/// Says what the search found; each item completes «it would match with».
pub(super) fn hints(found: &Found, check: &Check) -> Vec<String> {
    found.changes.iter().map(|change| hint(change, check)).collect()
}

/// What is left to think of where nothing was found.
pub(super) fn nothing_found(found: &Found, check: &Check) -> String {
    let left = if check.names_digest() {
        "the digest, the keys or the session are of another guest; with --firmware and what else is measured instead of --launch-digest more can be tried"
    } else {
        "the firmware's, the kernel's or the initrd's file, or the keys, are not those that the guest was started with"
    };
    format!("none of {} likely combinations matches: {left}", found.tried)
}

fn hint(change: &Change, check: &Check) -> String {
    match change {
        Change::Vcpus(count) => format!("--vcpus {count}"),
        Change::Cpu(model) => format!("--vcpu-type {model}"),
        Change::Vmsa(variant) => format!("--vmsa {variant}"),
        Change::DebugSwap => {
            "DebugSwap in the vCPUs' SEV_FEATURES, as some kernels before 6.10 set it (--vmsa-file with what `keyward sev vmsa build --sev-features 0x20` makes)".to_owned()
        }
        Change::AreasReversed => "the VMSA files in the opposite order".to_owned(),
        Change::KernelUnmeasured => {
            "no --kernel: it was not measured (kernel-hashes=off), so that any kernel may run there".to_owned()
        }
        Change::NoInitrd => "no --initrd".to_owned(),
        Change::KernelAndInitrdSwapped => "--kernel and --initrd in each other's place".to_owned(),
        Change::Cmdline(line) => cmdline(line, check.cmdline().unwrap_or_default()),
        Change::CmdlineWithoutNul => {
            "the command line hashed without the NUL that QEMU puts behind it".to_owned()
        }
        Change::BuildId(build) => {
            let said = check.build().build_id;
            format!("--build-id {build}{}", reading(u32::from(said), u32::from(*build)))
        }
        Change::Api(major, minor) => {
            let said = check.build();
            let swapped = (said.api_minor, said.api_major) == (*major, *minor);
            let why = if swapped { " (major and minor in each other's place)" } else { "" };
            format!("--api-major {major} --api-minor {minor}{why}")
        }
        Change::Policy(policy) => {
            let said = check.policy.policy;
            format!(
                "--policy {:#x}{}",
                policy.bits(),
                reading_of_policy(said, *policy)
            )
        }
        Change::KeysSwapped => "TIK and TEK in each other's place".to_owned(),
        Change::MeasurementSwapped => {
            "the measurement's two parts in the other order: 32 bytes of MAC, then 16 of nonce".to_owned()
        }
    }
}

fn cmdline(line: &str, said: &str) -> String {
    if line.is_empty() {
        return "no --cmdline".to_owned();
    }
    let why =
        if line.trim_end_matches([' ', '\n', '\r', '\0']) == said.trim_end_matches([' ', '\n', '\r', '\0']) {
            " (only what is behind it differs)"
        } else if line.trim() == said.trim() {
            " (only white space around it differs)"
        } else {
            ""
        };
    format!("--cmdline {line:?}{why}")
}

/// How a number was misread, if that explains it.
fn reading(said: u32, meant: u32) -> String {
    let digits = |number: u32| (number.to_string(), format!("{number:x}"));
    let ((said_decimal, said_hexadecimal), (meant_decimal, meant_hexadecimal)) =
        (digits(said), digits(meant));
    if said_decimal == meant_hexadecimal {
        format!(" ({said_decimal} was hexadecimal: {meant:#x})")
    } else if said_hexadecimal == meant_decimal {
        format!(" ({said:#x} was decimal: {meant})")
    } else {
        String::new()
    }
}

fn reading_of_policy(said: SevPolicy, meant: SevPolicy) -> String {
    let misread = reading(said.bits(), meant.bits());
    if misread.is_empty() && said.es() != meant.es() {
        let meant = if meant.es() { "with" } else { "without" };
        return format!(" ({meant} ES)");
    }
    misread
}
