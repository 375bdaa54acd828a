//! Where a platform's certificates come from: a QEMU that is asked, or files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;

use super::leave::Leave;
use super::machine::{Child, RunFolder};
use crate::cli::output::Misused;
use crate::domain::bytes::Flex;
use crate::domain::{Base64, Base64Bytes};
use crate::host::{Capabilities, Qemu, Qmp};
use crate::sev::PresentedChain;

/// Who says what platform this is.
#[derive(Args)]
pub(super) struct Source {
    /// QEMU to start without a machine and ask (query-sev-capabilities); needs /dev/kvm and /dev/sev
    #[arg(long, value_name = "QEMU", group = "source")]
    probe: Option<PathBuf>,
    /// QMP socket of a QEMU that is asked
    #[arg(long, value_name = "SOCKET", group = "source")]
    probe_qmp: Option<PathBuf>,
    /// What query-sev-capabilities or libvirt's getSEVInfo returned, JSON; `-` is standard input
    #[arg(long, value_name = "FILE", group = "source")]
    capabilities: Option<PathBuf>,
    /// The platform's chain in any form, binary or base64, such as of `sevctl export`
    #[arg(long, value_name = "FILE", group = "source")]
    cert_chain: Option<PathBuf>,
    /// The PDH, where the chain does not begin with it
    #[arg(long, value_name = "FILE", requires = "cert_chain")]
    pdh: Option<PathBuf>,
    /// The chip's id, 64 bytes as hexadecimal or base64, where the chain has no signed CEK
    #[arg(long, value_name = "ID", requires = "cert_chain", value_parser = cpu_id)]
    cpu_id: Option<Flex<64>>,
}

fn cpu_id(text: &str) -> Result<Flex<64>, String> {
    text.parse::<Flex<64>>().map_err(|e| e.to_string())
}

impl Source {
    /// The platform, as the options say; or as the QEMU that is to be started says.
    pub(super) fn platform(
        &self,
        to_start: Option<&str>,
        within: Duration,
        leave: &Leave,
    ) -> anyhow::Result<Capabilities> {
        if let Some(socket) = &self.probe_qmp {
            let qmp = Qmp::connect::<anyhow::Error>(socket, within, || Ok(()))?;
            return Ok(Qemu::new(qmp, within).capabilities()?);
        }
        if let Some(file) = &self.capabilities {
            return from_json(file);
        }
        if let Some(file) = &self.cert_chain {
            return self.in_files(file);
        }
        match (&self.probe, to_start) {
            (Some(program), _) => probe(program, within, leave),
            (None, Some(program)) => probe(Path::new(program), within, leave),
            (None, None) => bail!(Misused(
                "say what platform this is, with --probe QEMU, --probe-qmp, --capabilities or --cert-chain"
                    .to_owned()
            )),
        }
    }

    fn in_files(&self, chain: &Path) -> anyhow::Result<Capabilities> {
        let bytes = binary(chain)?;
        let pdh = self.pdh.as_deref().map(binary).transpose()?;
        let presented = PresentedChain::parse(pdh.as_deref(), &bytes)
            .with_context(|| format!("certificate chain {}", chain.display()))?;
        Ok(Capabilities {
            pdh: Base64(*presented.pdh().as_bytes()),
            cert_chain: Base64Bytes(bytes),
            cpu_id: self.cpu_id,
            cbitpos: None,
            reduced_phys_bits: None,
        })
    }
}

/// Tools write certificates in binary, QEMU and libvirt print them in base64.
fn binary(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let text: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    Ok(BASE64_STANDARD.decode(text).unwrap_or(bytes))
}

/// The answer as it is, or in QMP's `return`.
fn from_json(path: &Path) -> anyhow::Result<Capabilities> {
    let file = || format!("capabilities {}", path.display());
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).with_context(file)?
    } else {
        fs::read_to_string(path).with_context(file)?
    };
    let mut value: serde_json::Value = serde_json::from_str(&text).with_context(file)?;
    if let Some(returned) = value.get_mut("return") {
        value = returned.take();
    }
    serde_json::from_value(value)
        .with_context(|| format!("{}: expected what query-sev-capabilities returns", file()))
}

/// Starts a QEMU without a machine, as libvirt does, asks it and ends it.
fn probe(program: &Path, within: Duration, leave: &Leave) -> anyhow::Result<Capabilities> {
    let folder = RunFolder::new(None, "probe", leave)?;
    let socket = folder.socket();
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .args([
            "-machine",
            "none,accel=kvm",
            "-S",
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-qmp",
        ])
        .arg(format!("unix:{},server=on,wait=off", socket.display()));
    let mut child = Child::start(command, leave)?;
    let asked = Qmp::connect(socket, within, || child.lives()).and_then(|qmp| {
        let mut qemu = Qemu::new(qmp, within);
        let answer = qemu.capabilities();
        // It has nothing to lose.
        let _ = qemu.quit();
        answer.map_err(anyhow::Error::new)
    });
    child.end(Duration::from_secs(5));
    let _ = fs::remove_file(socket);
    asked.map_err(|error| anyhow!("{}: {error}", program.display()))
}
