//! `host validate`: a measurement goes to the server, a packet comes back.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::call::{self, Server};
use super::launch::number;
use super::leave::Leave;
use super::{HostConnection, duration, print, say};
use crate::cli::Ended;
use crate::cli::output::{Format, Misused};
use crate::domain::{Base64, Base64Bytes, HexDigest, Name};
use crate::host::{FileSet, GuestInfo, Qemu, QemuError, Qmp, QmpError};
use crate::http::ValidateReply;

#[derive(Args)]
pub(in crate::cli) struct Validate {
    /// The launch's id, as `host launch` printed it; or the workload's UUID
    #[arg(value_name = "UUID")]
    id: Uuid,
    /// QMP socket of the QEMU that runs the guest: it says what was measured
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["measurement", "api_major", "api_minor", "build_id", "policy"])]
    qmp: Option<PathBuf>,
    /// The measurement, base64; libvirt's sev-measurement
    #[arg(long, value_name = "BASE64", required_unless_present = "qmp")]
    measurement: Option<Base64<48>>,
    /// libvirt's sev-api-major
    #[arg(long, value_name = "N", required_unless_present = "qmp")]
    api_major: Option<u8>,
    /// libvirt's sev-api-minor
    #[arg(long, value_name = "N", required_unless_present = "qmp")]
    api_minor: Option<u8>,
    /// libvirt's sev-build-id
    #[arg(long, value_name = "N", required_unless_present = "qmp")]
    build_id: Option<u8>,
    /// SEV policy that the guest was started with, decimal or 0x…; libvirt's sev-policy
    #[arg(long, value_name = "N", value_parser = number, required_unless_present = "qmp")]
    policy: Option<u32>,
    #[command(flatten)]
    claims: Claims,
    #[command(flatten)]
    connection: HostConnection,
    /// Write the packet's header to this file, base64, as `virsh domsetlaunchsecstate --secrethdr` reads it
    #[arg(long, value_name = "FILE", requires = "secret_payload")]
    secret_header: Option<PathBuf>,
    /// Write the packet's ciphertext to this file, base64, as `virsh domsetlaunchsecstate --secret` reads it
    #[arg(long, value_name = "FILE", requires = "secret_header")]
    secret_payload: Option<PathBuf>,
    /// Inject the packet into the guest over QMP
    #[arg(long, requires = "qmp")]
    inject: bool,
    /// Resume the guest once the packet is in it
    #[arg(long, requires = "inject")]
    resume: bool,
    /// How long QEMU may take to listen, to measure the guest, and to answer
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    qemu_timeout: Duration,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What is asked for, and what the host says that nothing proves.
#[derive(Args)]
pub(super) struct Claims {
    /// A secret to ask for; more than once for more. Left out: all of the workload's
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<Name>,
    /// Number of virtual CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpu_count: Option<u32>,
    /// What this guest is, for the owner's records; at most 1 KiB
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A launch digest that the server is to try
    #[arg(long, value_name = "HEX")]
    launch_digest: Option<HexDigest>,
    /// SHA-256 of a part: firmware-hash, kernel-hash, initrd-hash or cmdline-hash
    #[arg(long = "claim", value_name = "PART=HEX", value_parser = claim)]
    parts: Vec<(String, HexDigest)>,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Released<'a> {
    decision: Uuid,
    secret_header: &'a Base64Bytes,
    secret_payload: &'a Base64Bytes,
    injected: bool,
    resumed: bool,
}

fn claim(text: &str) -> Result<(String, HexDigest), String> {
    let parts = ["firmware-hash", "kernel-hash", "initrd-hash", "cmdline-hash"];
    let (name, digest) = text.split_once('=').unwrap_or((text, ""));
    if !parts.contains(&name) {
        return Err(format!(
            "expected one of {}, `=` and 64 hexadecimal digits",
            parts.join(", ")
        ));
    }
    Ok((
        name.to_owned(),
        digest.parse::<HexDigest>().map_err(|e| e.to_string())?,
    ))
}

impl Claims {
    /// Adds them to what is sent.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        let mut add = |name: &str, value: Value| {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        };
        add("cpu-count", serde_json::to_value(self.cpu_count)?);
        add("description", serde_json::to_value(&self.description)?);
        add("launch-digest", serde_json::to_value(self.launch_digest)?);
        for (name, digest) in &self.parts {
            add(name, serde_json::to_value(digest)?);
        }
        if !self.secrets.is_empty() {
            add("secrets", serde_json::to_value(&self.secrets)?);
        }
        Ok(())
    }
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        if self.output == Format::Table && self.secret_header.is_none() && !self.inject {
            bail!(Misused(
                "say what becomes of the packet: --inject, --secret-header and --secret-payload, or -o json"
                    .to_owned()
            ));
        }
        let leave = Leave::at_signals()?;
        let server = Server::new(&self.connection)?;
        let mut qemu = match &self.qmp {
            None => None,
            Some(socket) => {
                let qmp = Qmp::connect::<anyhow::Error>(socket, self.qemu_timeout, || Ok(()))?;
                Some(Qemu::new(qmp, self.qemu_timeout))
            }
        };
        let (info, measurement) = match &mut qemu {
            Some(qemu) => (qemu.measured(None)?, qemu.measurement()?),
            None => self.said()?,
        };
        let request = call::request(&info, measurement, &self.claims)?;
        let reply = server.validate(self.id, &request, &mut |pause| match &mut qemu {
            Some(qemu) => Ok(qemu.pause(pause)?),
            None => {
                std::thread::sleep(pause);
                Ok(())
            }
        })?;
        let (header, payload) = call::packet(&reply);
        // Half a packet is of no use to anybody.
        let files = match (&self.secret_header, &self.secret_payload) {
            (Some(to_header), Some(to_payload)) => Some(leave.during(|behind| {
                let parts = [
                    (to_header.as_path(), &*header.0),
                    (to_payload.as_path(), &*payload.0),
                ];
                let files = FileSet::write(&parts, 0o600)
                    .map_err(|(path, error)| anyhow!("{}: {error}", path.display()))?;
                behind.files(files.written());
                anyhow::Ok(files)
            })?),
            _ => None,
        };
        if let (true, Some(qemu)) = (self.inject, &mut qemu) {
            inject(qemu, &reply)?;
            if self.resume {
                resume(qemu, &reply)?;
            }
        }
        let released = Released {
            decision: reply.decision,
            secret_header: header,
            secret_payload: payload,
            injected: self.inject,
            resumed: self.resume,
        };
        let what = match (self.inject, self.resume) {
            (false, _) => "released",
            (true, false) => "released and injected; the guest is paused",
            (true, true) => "released and injected; the guest runs",
        };
        let printed = print(
            self.output,
            &released,
            &format!("decision {}: {what}", reply.decision),
        );
        match printed {
            // The packet is where it belongs, whoever reads it.
            Err(error) if self.inject => say(&format!("{error:#}")),
            other => other?,
        }
        if let Some(files) = &files {
            files.written().keep();
        }
        Ok(Ended::Done)
    }

    /// What the caller was told by others.
    fn said(&self) -> anyhow::Result<(GuestInfo, [u8; 48])> {
        // clap asks for all of them where there is no QEMU to ask.
        let missing = || Misused("give --qmp, or all of --measurement, --api-major, …".to_owned());
        let info = GuestInfo {
            enabled: true,
            api_major: self.api_major.ok_or_else(missing)?,
            api_minor: self.api_minor.ok_or_else(missing)?,
            build_id: self.build_id.ok_or_else(missing)?,
            policy: self.policy.ok_or_else(missing)?,
            state: String::new(),
            sev_type: None,
        };
        Ok((info, self.measurement.as_ref().ok_or_else(missing)?.0))
    }
}

/// Injects a packet; the error says whether it may be in the guest.
pub(super) fn inject(qemu: &mut Qemu, reply: &ValidateReply) -> anyhow::Result<()> {
    let (header, payload) = call::packet(reply);
    qemu.inject(&header.0, &payload.0).map_err(|error| {
        let but = match error {
            QemuError::Qmp(QmpError::Refused { .. }) => "but are not in the guest, and it was not resumed",
            QemuError::Qmp(_) => "and whether they are in the guest is not known, so it was not resumed",
            _ => "but not injected",
        };
        let text = format!(
            "{error}; the secrets were released (decision {}), {but}",
            reply.decision
        );
        anyhow::Error::new(error).context(text)
    })
}

/// Resumes a guest that has its secrets.
pub(super) fn resume(qemu: &mut Qemu, reply: &ValidateReply) -> anyhow::Result<()> {
    qemu.resume().map_err(|error| {
        let text = format!(
            "{error}; the guest has all its secrets (decision {}), and whether it runs is not known",
            reply.decision
        );
        anyhow::Error::new(error).context(text)
    })?;
    say(&format!(
        "the guest has its secrets (decision {}) and runs",
        reply.decision
    ));
    Ok(())
}
