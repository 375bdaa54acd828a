//! What a guest is started from, as options.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::number;
use crate::cli::output::Misused;
use crate::sev::launch_digest::{CpuModel, CpuSignature, Firmware, KernelHashes, VmsaVariant};
use crate::sev::policy::Scheme;

/// What a guest is started from; also what the software PSP measures.
#[derive(Args)]
pub(in crate::cli) struct Image {
    /// The firmware, such as OVMF's AmdSev build
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// The technology
    #[arg(long, value_parser = number::scheme, value_name = "amd-sev|amd-sev-es")]
    pub(in crate::cli) scheme: Scheme,
    #[command(flatten)]
    boot: Boot,
}

/// What stands beside the firmware.
#[derive(Args)]
pub(super) struct Boot {
    /// The kernel, where it is measured (`kernel-hashes=on`)
    #[arg(long, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,
    /// The initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub(super) initrd: Option<PathBuf>,
    /// The kernel's command line, exactly as QEMU gets it
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    pub(super) cmdline: Option<String>,
    /// Number of vCPUs (SEV-ES)
    #[arg(long, value_name = "N")]
    pub(super) vcpus: Option<u32>,
    /// QEMU's name of the CPU model (SEV-ES), such as EPYC-Milan
    #[arg(long, value_name = "MODEL", conflicts_with = "vcpu_signature")]
    vcpu_type: Option<CpuModel>,
    /// Or its CPUID, decimal
    #[arg(long, value_name = "FAMILY,MODEL,STEPPING", value_parser = number::signature)]
    vcpu_signature: Option<CpuSignature>,
}

/// What is booted directly.
pub(super) struct Files {
    pub(super) kernel: Vec<u8>,
    pub(super) initrd: Option<Vec<u8>>,
}

/// Which forms of the vCPUs' first state.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Vmsa {
    Legacy,
    Init2,
    Both,
}

impl Vmsa {
    pub(super) fn variants(self) -> &'static [VmsaVariant] {
        match self {
            Self::Legacy => &[VmsaVariant::Legacy],
            Self::Init2 => &[VmsaVariant::Init2],
            Self::Both => &VmsaVariant::ALL,
        }
    }
}

impl Image {
    pub(in crate::cli) fn firmware(&self) -> anyhow::Result<Firmware> {
        firmware(&self.firmware)
    }

    pub(in crate::cli) fn kernel(&self) -> anyhow::Result<Option<KernelHashes>> {
        self.boot.kernel()
    }

    /// Number of vCPUs and their model, which SEV-ES measures.
    pub(in crate::cli) fn cpus(&self) -> anyhow::Result<(u32, CpuSignature)> {
        self.boot.cpus()
    }

    /// Number of vCPUs, where one was said.
    pub(in crate::cli) fn vcpus(&self) -> Option<u32> {
        self.boot.vcpus
    }
}

impl Boot {
    /// Kernel and initrd, read.
    pub(super) fn files(&self) -> anyhow::Result<Option<Files>> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        Ok(Some(Files {
            initrd: self.initrd.as_ref().map(read).transpose()?,
            kernel: read(kernel)?,
        }))
    }

    fn kernel(&self) -> anyhow::Result<Option<KernelHashes>> {
        let hashes = |files: Files| {
            KernelHashes::from_files(&files.kernel, files.initrd.as_deref(), self.cmdline.as_deref())
        };
        Ok(self.files()?.map(hashes))
    }

    pub(super) fn cpus(&self) -> anyhow::Result<(u32, CpuSignature)> {
        let missing = |what: &str| Misused(what.to_owned());
        let vcpus = self
            .vcpus
            .ok_or_else(|| missing("SEV-ES measures each vCPU: say how many with --vcpus"))?;
        Ok((vcpus, self.signature()?))
    }

    pub(super) fn signature(&self) -> anyhow::Result<CpuSignature> {
        let missing = "SEV-ES measures the CPU model: name it with --vcpu-type or --vcpu-signature";
        let cpu = self.vcpu_signature.or(self.vcpu_type.map(CpuModel::signature));
        Ok(cpu.ok_or_else(|| Misused(missing.to_owned()))?)
    }

    /// Whether anything about the vCPUs' model was said.
    pub(super) fn names_model(&self) -> bool {
        self.vcpu_signature.is_some() || self.vcpu_type.is_some()
    }
}

pub(super) fn firmware(path: &Path) -> anyhow::Result<Firmware> {
    let what = || path.display().to_string();
    Firmware::parse(fs::read(path).with_context(what)?).with_context(what)
}
