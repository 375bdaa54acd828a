//! `sev measure|chain`: the guest owner's toolbox, offline.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::Ended;
use super::output::{self, Format, Misused};
use crate::sev::chain::{ChainError, PresentedChain, verify_cek};
use crate::sev::launch_digest::{CpuModel, CpuSignature, Firmware, KernelHashes, Measurer, VmsaVariant};
use crate::sev::policy::Scheme;
use crate::sev::{CaCertificate, Certificate, TrustedRoots};

#[derive(Subcommand)]
pub(super) enum SevVerb {
    /// Compute launch digests from firmware, kernel, initrd, command line and vCPUs
    Measure(Measure),
    /// Verify a certificate chain up to AMD's root and print it
    Chain(Chain),
}

impl SevVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Measure(measure) => measure.run(),
            Self::Chain(chain) => chain.run(),
        }
    }
}

/// What a guest is started from; also what the software PSP measures.
#[derive(Args)]
pub(super) struct Image {
    /// The firmware, such as OVMF's AmdSev build
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// The kernel, where it is measured (`kernel-hashes=on`)
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line, exactly as QEMU gets it
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    cmdline: Option<String>,
    /// The technology
    #[arg(long, value_parser = scheme, value_name = "amd-sev|amd-sev-es")]
    pub(super) scheme: Scheme,
    /// Number of vCPUs (SEV-ES)
    #[arg(long, value_name = "N")]
    pub(super) vcpus: Option<u32>,
    /// QEMU's name of the CPU model (SEV-ES), such as EPYC-Milan
    #[arg(long, value_name = "MODEL", conflicts_with = "vcpu_signature")]
    vcpu_type: Option<CpuModel>,
    /// Or its CPUID, decimal
    #[arg(long, value_name = "FAMILY,MODEL,STEPPING", value_parser = signature)]
    vcpu_signature: Option<CpuSignature>,
}

fn scheme(text: &str) -> Result<Scheme, String> {
    text.parse()
        .map_err(|_| "expected amd-sev or amd-sev-es".to_owned())
}

fn signature(text: &str) -> Result<CpuSignature, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [family, model, stepping] = parts.as_slice() else {
        return Err("expected FAMILY,MODEL,STEPPING, such as 25,1,1".to_owned());
    };
    let parsed = (family.parse(), model.parse(), stepping.parse());
    match parsed {
        (Ok(family), Ok(model), Ok(stepping)) => {
            CpuSignature::new(family, model, stepping).map_err(|e| e.to_string())
        }
        _ => Err("expected three decimal numbers, such as 25,1,1".to_owned()),
    }
}

impl Image {
    pub(super) fn firmware(&self) -> anyhow::Result<Firmware> {
        let what = || self.firmware.display().to_string();
        Firmware::parse(fs::read(&self.firmware).with_context(what)?).with_context(what)
    }

    pub(super) fn kernel(&self) -> anyhow::Result<Option<KernelHashes>> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        let initrd = self.initrd.as_ref().map(read).transpose()?;
        Ok(Some(KernelHashes::from_files(
            &read(kernel)?,
            initrd.as_deref(),
            self.cmdline.as_deref(),
        )))
    }

    /// Number of vCPUs and their model, which SEV-ES measures.
    pub(super) fn cpus(&self) -> anyhow::Result<(u32, CpuSignature)> {
        let missing = |what: &str| Misused(what.to_owned());
        let vcpus = self
            .vcpus
            .ok_or_else(|| missing("SEV-ES measures each vCPU: say how many with --vcpus"))?;
        let cpu = self.vcpu_signature.or(self.vcpu_type.map(CpuModel::signature));
        Ok((
            vcpus,
            cpu.ok_or_else(|| {
                missing("SEV-ES measures the CPU model: name it with --vcpu-type or --vcpu-signature")
            })?,
        ))
    }
}

#[derive(Args)]
pub(super) struct Measure {
    #[command(flatten)]
    image: Image,
    /// Form of the vCPUs' first state (SEV-ES): init2 for kernels from 6.10 on, legacy before
    #[arg(long, value_enum, default_value = "both")]
    vmsa: Vmsa,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Vmsa {
    Legacy,
    Init2,
    Both,
}

#[derive(Serialize)]
struct Measured {
    digests: Vec<MeasuredDigest>,
}

#[derive(Serialize)]
struct MeasuredDigest {
    vmsa: Option<VmsaVariant>,
    vcpus: Option<u32>,
    launch_digest: String,
}

impl Measure {
    fn run(self) -> anyhow::Result<Ended> {
        let (firmware, kernel) = (self.image.firmware()?, self.image.kernel()?);
        let measurer = Measurer::new(&firmware, kernel.as_ref())?;
        let mut digests = Vec::new();
        if self.image.scheme == Scheme::AmdSev {
            let launch_digest = hex::encode(measurer.sev());
            digests.push(MeasuredDigest {
                vmsa: None,
                vcpus: self.image.vcpus,
                launch_digest,
            });
        } else {
            let (vcpus, cpu) = self.image.cpus()?;
            let variants: &[_] = match self.vmsa {
                Vmsa::Legacy => &[VmsaVariant::Legacy],
                Vmsa::Init2 => &[VmsaVariant::Init2],
                Vmsa::Both => &[VmsaVariant::Legacy, VmsaVariant::Init2],
            };
            for variant in variants {
                let launch_digest = hex::encode(measurer.sev_es(vcpus, cpu, *variant)?);
                digests.push(MeasuredDigest {
                    vmsa: Some(*variant),
                    vcpus: Some(vcpus),
                    launch_digest,
                });
            }
        }
        let measured = Measured { digests };
        if !output::structured(self.output, &measured)? {
            for digest in &measured.digests {
                let vmsa = digest.vmsa.map(|vmsa| format!("  {vmsa}")).unwrap_or_default();
                output::line(&format!("{}{vmsa}", digest.launch_digest))?;
            }
        }
        Ok(Ended::Done)
    }
}

#[derive(Args)]
pub(super) struct Chain {
    /// The chain: PEK, OCA and CEK, with or without the PDH before and ASK and ARK behind
    chain: PathBuf,
    /// The PDH, where it is not in the chain
    #[arg(long, value_name = "FILE")]
    pdh: Option<PathBuf>,
    /// The CEK as AMD's service signed it, where the one in the chain is not signed
    #[arg(long, value_name = "FILE")]
    cek: Option<PathBuf>,
    /// Trust this ARK besides AMD's. What it signs proves nothing about hardware
    #[arg(long, value_name = "FILE")]
    danger_extra_root: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Verified {
    verified: bool,
    root: String,
    product: Option<String>,
    api_major: u8,
    api_minor: u8,
    fingerprints: crate::sev::Fingerprints,
}

#[derive(Serialize)]
struct Refused {
    verified: bool,
    reason: String,
}

impl Chain {
    fn refused(&self, error: &ChainError) -> anyhow::Result<Ended> {
        let refused = Refused {
            verified: false,
            reason: error.to_string(),
        };
        if !output::structured(self.output, &refused)? {
            output::line(&format!("refused    {}", refused.reason))?;
        }
        Ok(Ended::Denied)
    }

    fn run(self) -> anyhow::Result<Ended> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let pdh = self.pdh.as_ref().map(read).transpose()?;
        let bytes = read(&self.chain)?;
        let mut chain = match PresentedChain::parse(pdh.as_deref(), &bytes) {
            Ok(chain) => chain,
            // No chain at all, or a part not given, is a mistake; a chain with a bad part is refused.
            Err(error @ (ChainError::Length(_) | ChainError::NoPdh)) => {
                return Err(anyhow::Error::new(error).context(self.chain.display().to_string()));
            }
            Err(error) => return self.refused(&error),
        };
        let mut roots = TrustedRoots::amd();
        if let Some(path) = &self.danger_extra_root {
            let ark = CaCertificate::parse(&read(path)?).with_context(|| path.display().to_string())?;
            roots = roots.with_extra("extra", ark)?;
        }
        if let Some(path) = &self.cek {
            let cek = Certificate::parse(&read(path)?).with_context(|| path.display().to_string())?;
            if self.danger_extra_root.is_none() {
                verify_cek(&cek, &roots).with_context(|| path.display().to_string())?;
            }
            chain = chain.with_signed_cek(&cek)?;
        } else if !chain.cek_is_signed() {
            if let Err(error) = chain.verify_without_authority() {
                return self.refused(&error);
            }
            bail!(
                "the chain holds together, but its CEK is not signed: get it from AMD's service by the cpu-id and give it with --cek"
            );
        }
        let platform = match chain.verify(&roots) {
            Ok(platform) => platform,
            Err(error) => return self.refused(&error),
        };
        let verified = Verified {
            verified: true,
            root: platform.root().to_owned(),
            product: platform.product().map(|product| product.to_string()),
            api_major: platform.api_major(),
            api_minor: platform.api_minor(),
            fingerprints: *platform.fingerprints(),
        };
        if output::structured(self.output, &verified)? {
            return Ok(Ended::Done);
        }
        let prints = &verified.fingerprints;
        output::line(&format!(
            "verified   root {}, product {}",
            verified.root,
            verified.product.as_deref().unwrap_or("not known")
        ))?;
        output::line(&format!(
            "API        {}.{} when the PDH was made",
            verified.api_major, verified.api_minor
        ))?;
        let all = [
            ("ARK", prints.ark),
            ("ASK", prints.ask),
            ("CEK", prints.cek),
            ("OCA", prints.oca),
            ("PEK", prints.pek),
            ("PDH", prints.pdh),
        ];
        for (name, print) in all {
            output::line(&format!("{name}        {}", hex::encode(print)))?;
        }
        Ok(Ended::Done)
    }
}
