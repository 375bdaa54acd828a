//! `psp launch-start` and `psp secret`: what reaches the PSP from the guest's owner, as a server's answers or as
//! the files that `sev session` and `sev secret wrap` write.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::{guest, platform, write_private};
use crate::cli::client::Problem;
use crate::cli::{Ended, output, sev};
use crate::domain::Base64Bytes;
use crate::http::{LaunchReply, ValidateReply};
use crate::sev::{SevPolicy, secret_table};

#[derive(Args)]
pub(in crate::cli) struct LaunchStart {
    /// The platform's file
    platform: PathBuf,
    /// The guest's file, to be made; holds private keys
    guest: PathBuf,
    /// The server's answer, JSON; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "session_file")]
    reply: Option<PathBuf>,
    /// Or the session of `sev session`, base64
    #[arg(long, value_name = "FILE", conflicts_with = "reply", requires_all = ["dh_cert_file", "policy"])]
    session_file: Option<PathBuf>,
    /// With it the owner's certificate, base64
    #[arg(long, value_name = "FILE", requires = "session_file")]
    dh_cert_file: Option<PathBuf>,
    /// And the SEV policy, decimal or 0x…
    #[arg(long, value_name = "N", value_parser = sev::sev_policy, requires = "session_file")]
    policy: Option<SevPolicy>,
}

#[derive(Args)]
pub(in crate::cli) struct Secret {
    /// The guest's file
    guest: PathBuf,
    /// The server's answer, JSON; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "secret_header")]
    reply: Option<PathBuf>,
    /// Or the packet's header as `sev validate` writes it, base64
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "reply",
        requires = "secret_payload"
    )]
    secret_header: Option<PathBuf>,
    /// And its payload
    #[arg(long, value_name = "FILE", requires = "secret_header")]
    secret_payload: Option<PathBuf>,
    /// Write the secret table to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the secrets themselves, base64
    #[arg(long)]
    show: bool,
}

impl LaunchStart {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let platform = platform(&self.platform)?;
        let files = (&self.session_file, &self.dh_cert_file, self.policy);
        let (policy, certificate, session, until) = match (files, &self.reply) {
            ((Some(session), Some(certificate), Some(policy)), _) => {
                let certificate = sev::read_text_or_bytes(certificate)?;
                let session = sev::read_text_or_bytes(session)?;
                (
                    policy.bits(),
                    certificate.to_vec(),
                    session.to_vec(),
                    String::new(),
                )
            }
            (_, Some(path)) => {
                let reply: LaunchReply = read_reply(path)?;
                let until = format!(
                    " for launch {}, to be validated until {}",
                    reply.id, reply.expires_at
                );
                (
                    reply.policy,
                    reply.owner_cert.0.to_vec(),
                    reply.session.0.to_vec(),
                    until,
                )
            }
            _ => bail!("give --reply, or --session-file, --dh-cert-file and --policy"),
        };
        let guest = match platform.launch_start(policy, &certificate, &session) {
            Ok(guest) => guest,
            Err(status) => bail!("LAUNCH_START: {status}"),
        };
        write_private(&self.guest, &guest.to_bytes()?, true)?;
        output::line(&format!("{}: started{until}", self.guest.display()))?;
        Ok(Ended::Done)
    }
}

impl Secret {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let guest = guest(&self.guest)?;
        let (header, payload) = match (&self.secret_header, &self.secret_payload, &self.reply) {
            (Some(header), Some(payload), _) => {
                let header = sev::read_text_or_bytes(header)?;
                (header.to_vec(), sev::read_text_or_bytes(payload)?.to_vec())
            }
            (_, _, Some(path)) => {
                let reply: ValidateReply = read_reply(path)?;
                (reply.secret_header.0.to_vec(), reply.secret_payload.0)
            }
            _ => bail!("give --reply, or --secret-header and --secret-payload"),
        };
        let table = match guest.launch_secret(&header, &payload, payload.len()) {
            Ok(table) => table,
            Err(status) => bail!("LAUNCH_SECRET: {status}"),
        };
        // What no guest could read is not left behind as if it were one's secrets.
        let entries = secret_table::parse(&table).context("what the PSP unwrapped")?;
        if let Some(path) = &self.out {
            write_private(path, &table, true)?;
        }
        for entry in entries {
            let shown = if self.show {
                format!("  {}", Base64Bytes(entry.data.to_vec()))
            } else {
                String::new()
            };
            output::line(&format!("{}  {} bytes{shown}", entry.guid, entry.data.len()))?;
        }
        Ok(Ended::Done)
    }
}

fn read_reply<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let mut text = Zeroizing::new(Vec::new());
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_end(&mut text)
            .context("standard input")?;
    } else {
        *text = fs::read(path).with_context(|| path.display().to_string())?;
    }
    let what = path.display();
    if let Ok(problem) = serde_json::from_slice::<Problem>(&text) {
        bail!(
            "{what}: the server refused: {}: {}",
            problem.title,
            problem.detail
        );
    }
    serde_json::from_slice(&text).with_context(|| format!("{what}: not the server's answer"))
}
