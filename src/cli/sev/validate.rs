//! `sev validate`: does this measurement hold, and if not, with what would it?

use clap::Args;
use serde::Serialize;

use super::check::{Check, Checked, Held};
use super::hints;
use super::wrap::Wrapping;
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::domain::{Base64, Base64Bytes};
use crate::sev::Packet;
use crate::sev::launch_digest::VmsaVariant;
use crate::sev::mismatch::Found;

#[derive(Args)]
pub(in crate::cli) struct Validate {
    #[command(flatten)]
    check: Check,
    #[command(flatten)]
    wrapping: Wrapping,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Matches {
    matches: bool,
    launch_digest: String,
    vmsa: Option<VmsaVariant>,
    api_major: u8,
    api_minor: u8,
    build_id: u8,
    policy: u32,
    #[serde(flatten)]
    wrapped: Option<Wrapped>,
}

/// The packet, with the names of the host API.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Wrapped {
    secret_header: Base64<52>,
    secret_payload: Base64Bytes,
}

#[derive(Serialize)]
struct Mismatched {
    matches: bool,
    /// What must be changed together for the measurement to hold; empty where nothing was found.
    hints: Vec<String>,
    tried: u64,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        check_and_wrap(&self.check, &self.wrapping, self.output)
    }
}

/// Checks, and only where the measurement holds wraps what is to be wrapped.
pub(super) fn check_and_wrap(check: &Check, wrapping: &Wrapping, format: Format) -> anyhow::Result<Ended> {
    if wrapping.is_wanted() {
        check.policy.check()?;
        wrapping.check()?;
    }
    let held = match check.run()? {
        Checked::Holds(held) => held,
        Checked::Fails(found) => return mismatched(check, &found, format),
    };
    let packet = if wrapping.is_wanted() {
        let table = wrapping.table(held.secret_area)?;
        Some(wrapping.write(&held, &table)?)
    } else {
        None
    };
    holds(&held, packet, wrapping, format)
}

fn holds(held: &Held, packet: Option<Packet>, wrapping: &Wrapping, format: Format) -> anyhow::Result<Ended> {
    let (build, policy) = (held.attested.build(), held.attested.policy());
    let matches = Matches {
        matches: true,
        launch_digest: hex::encode(held.attested.launch_digest()),
        vmsa: held.variant,
        api_major: build.api_major,
        api_minor: build.api_minor,
        build_id: build.build_id,
        policy: policy.bits(),
        wrapped: packet.map(|packet| Wrapped {
            secret_header: Base64(packet.header),
            secret_payload: Base64Bytes(packet.payload),
        }),
    };
    if output::structured(format, &matches)? {
        return Ok(Ended::Done);
    }
    let vmsa = held
        .variant
        .map(|vmsa| format!(", VMSA {vmsa}"))
        .unwrap_or_default();
    output::line(&format!(
        "matches    launch digest {}{vmsa}",
        matches.launch_digest
    ))?;
    output::line(&format!(
        "attested   API {}.{} build {}, SEV policy {:#x}, {}",
        build.api_major,
        build.api_minor,
        build.build_id,
        policy.bits(),
        policy.scheme()
    ))?;
    if matches.wrapped.is_some() {
        wrapping.tell()?;
    }
    Ok(Ended::Done)
}

fn mismatched(check: &Check, found: &Found, format: Format) -> anyhow::Result<Ended> {
    let mismatched = Mismatched {
        matches: false,
        hints: hints::hints(found, check),
        tried: found.tried,
    };
    if output::structured(format, &mismatched)? {
        return Ok(Ended::Denied);
    }
    output::line("mismatch   the measurement does not hold for what was given")?;
    let hint = match mismatched.hints.as_slice() {
        [] => hints::nothing_found(found, check),
        hints => format!("it would match with {}", hints.join(", and ")),
    };
    output::line(&format!("hint       {hint}"))?;
    Ok(Ended::Denied)
}
