//! `host launch`: a session for a workload, for whoever starts the guest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::call::{LaunchCall, Server};
use super::leave::Leave;
use super::machine::Words;
use super::platform::Source;
use super::{HostConnection, duration, print};
use crate::cli::Ended;
use crate::cli::output::{Format, Misused};
use crate::domain::{Base64, Time};
use crate::host::{Capabilities, LaunchFiles};
use crate::http::LaunchReply;
use crate::sev::Scheme;

#[derive(Args)]
pub(in crate::cli) struct Launch {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    connection: HostConnection,
    /// Folder for dh-cert.b64 and session.b64; without it they are only printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Let the folder's group read the files, where QEMU runs as another user
    #[arg(long, requires = "out")]
    group_readable: bool,
    /// How long QEMU may take to listen, and to answer
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    qemu_timeout: Duration,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What is to be launched.
#[derive(Args)]
pub(super) struct Asked {
    /// The workload's UUID
    #[arg(long, value_name = "UUID")]
    pub(super) workload: Uuid,
    /// The technology, where the server is to refuse any other than this
    #[arg(long, value_name = "amd-sev|amd-sev-es", value_parser = scheme)]
    scheme: Option<Scheme>,
    /// SEV policy, decimal or 0x…, for a workload that leaves it to the host
    #[arg(long, value_name = "N", value_parser = number)]
    policy: Option<u32>,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    id: Uuid,
    policy: u32,
    expires_at: Time,
    dh_cert: Base64<2084>,
    session: Base64<128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dh_cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cbitpos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reduced_phys_bits: Option<u32>,
}

fn scheme(text: &str) -> Result<Scheme, String> {
    text.parse()
        .map_err(|_| "expected amd-sev or amd-sev-es".to_owned())
}

pub(super) fn number(text: &str) -> Result<u32, &'static str> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number, decimal or 0x…")
}

impl Asked {
    pub(super) fn call<'a>(&self, platform: &'a Capabilities) -> LaunchCall<'a> {
        LaunchCall {
            workload: self.workload,
            platform,
            scheme: self.scheme,
            policy: self.policy,
        }
    }
}

/// Writes a launch's files.
pub(super) fn write(
    folder: &Path,
    reply: &LaunchReply,
    group_readable: bool,
    leave: &Leave,
) -> anyhow::Result<LaunchFiles> {
    let mode = if group_readable { 0o640 } else { 0o600 };
    leave.during(|behind| {
        let files = LaunchFiles::write(folder, &reply.owner_cert.0, &reply.session.0, mode)
            .map_err(|(path, error)| anyhow!("{}: {error}", path.display()))?;
        behind.files(files.written());
        Ok(files)
    })
}

impl Launch {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        if self.out.is_none() && self.output == Format::Table {
            bail!(Misused(
                "say where the files are to be written with --out DIR, or have them printed with -o json"
                    .to_owned()
            ));
        }
        let leave = Leave::at_signals()?;
        let server = Server::new(&self.connection)?;
        let platform = self.source.platform(None, self.qemu_timeout, &leave)?;
        let reply = server.launch(&self.asked.call(&platform), &mut |pause| {
            std::thread::sleep(pause);
            Ok(())
        })?;
        let files = match &self.out {
            None => None,
            Some(folder) => Some(write(folder, &reply, self.group_readable, &leave)?),
        };
        // QEMU may run in another folder than this.
        let whole =
            |path: fn(&LaunchFiles) -> &Path| files.as_ref().map(path).map(std::path::absolute).transpose();
        let made = Made {
            id: reply.id,
            policy: reply.policy,
            expires_at: reply.expires_at,
            dh_cert: reply.owner_cert,
            session: reply.session,
            dh_cert_file: whole(LaunchFiles::dh_cert)?,
            session_file: whole(LaunchFiles::session)?,
            cbitpos: platform.cbitpos,
            reduced_phys_bits: platform.reduced_phys_bits,
        };
        print(self.output, &made, &made.text(&platform))?;
        // Only what was printed can be used.
        if let Some(files) = &files {
            files.written().keep();
        }
        Ok(Ended::Done)
    }
}

impl Made {
    fn text(&self, platform: &Capabilities) -> String {
        let launch = format!(
            "launch   {}\npolicy   {:#x}\nexpires  {}",
            self.id, self.policy, self.expires_at
        );
        let (Some(dh_cert), Some(session)) = (&self.dh_cert_file, &self.session_file) else {
            return launch;
        };
        let words = Words {
            qmp: Path::new(""),
            dh_cert,
            session,
            policy: self.policy,
            cbitpos: platform.cbitpos,
            reduced_phys_bits: platform.reduced_phys_bits,
        };
        match words.sev_guest() {
            Some(object) => format!("{launch}\nqemu     -object {object}"),
            None => format!(
                "{launch}\nfiles    {} (dh-cert-file), {} (session-file)",
                dh_cert.display(),
                session.display()
            ),
        }
    }
}
