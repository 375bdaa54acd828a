//! A measurement, held against what is expected to run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use openssl::sha::sha256;

use super::files::{decoded, small};
use super::image::{self, Boot, Vmsa};
use super::keys::KeyFiles;
use super::number;
use super::policy::GuestPolicy;
use crate::cli::output::Misused;
use crate::sev::launch_digest::{Firmware, KernelHashes, Measurer, SaveArea, VmsaVariant};
use crate::sev::mismatch::{self, Cpus, Expected, Found, Kernel, Mismatch};
use crate::sev::policy::Scheme;
use crate::sev::{AttestedLaunch, Build, Digest, LaunchKeys, Measurement, measurement};

#[derive(Args)]
pub(super) struct Check {
    /// The measurement, base64 as QEMU and libvirt give it, or a file with it
    #[arg(long, value_name = "B64|FILE")]
    measurement: String,
    /// API version of the PSP's firmware, as the host says; the measurement proves it
    #[arg(long, value_name = "N", value_parser = number::byte)]
    api_major: u8,
    /// The same, minor
    #[arg(long, value_name = "N", value_parser = number::byte)]
    api_minor: u8,
    /// Build of the PSP's firmware, decimal or 0x…
    #[arg(long, value_name = "N", value_parser = number::byte)]
    build_id: u8,
    #[command(flatten)]
    pub(super) policy: GuestPolicy,
    #[command(flatten)]
    keys: KeyFiles,
    /// The expected launch digest, hexadecimal or base64
    #[arg(long, value_name = "DIGEST", value_parser = digest,
          conflicts_with_all = ["firmware", "kernel", "vmsa_files", "vcpus", "vcpu_type", "vcpu_signature"])]
    launch_digest: Option<Digest>,
    /// Or the firmware that it is computed from, such as OVMF's AmdSev build
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The technology; what the policy's ES bit says if not given
    #[arg(long, value_parser = number::scheme, value_name = "amd-sev|amd-sev-es")]
    scheme: Option<Scheme>,
    #[command(flatten)]
    boot: Boot,
    /// Form of the vCPUs' first state (SEV-ES): init2 for kernels from 6.10 on, legacy before
    #[arg(long, value_enum, default_value = "both", conflicts_with_all = ["launch_digest", "vmsa_files"])]
    vmsa: Vmsa,
    /// Instead of a CPU model: dumped VMSAs, the boot vCPU's first. With --vcpus the last one is every further vCPU's
    #[arg(long = "vmsa-file", value_name = "FILE", num_args = 1.., conflicts_with_all = ["vcpu_type", "vcpu_signature"])]
    vmsa_files: Vec<PathBuf>,
}

/// How a check ended.
pub(super) enum Checked {
    /// The measurement holds.
    Holds(Box<Held>),
    /// It does not, and this is what was found to explain it.
    Fails(Found),
}

/// A measurement that holds.
pub(super) struct Held {
    pub(super) keys: LaunchKeys,
    pub(super) attested: AttestedLaunch,
    /// With which form of the vCPUs' first state; none under plain SEV, and where the digest or VMSAs were given.
    pub(super) variant: Option<VmsaVariant>,
    /// The size of the firmware's area for secrets, where the firmware is known and has one.
    pub(super) secret_area: Option<usize>,
}

/// What was given to compute digests from, read.
struct Image {
    firmware: Firmware,
    kernel: Option<Kernel>,
    cpus: Option<Cpus>,
}

impl Check {
    pub(super) fn build(&self) -> Build {
        Build {
            api_major: self.api_major,
            api_minor: self.api_minor,
            build_id: self.build_id,
        }
    }

    /// The command line as it was given.
    pub(super) fn cmdline(&self) -> Option<&str> {
        self.boot.cmdline.as_deref()
    }

    pub(super) fn names_digest(&self) -> bool {
        self.launch_digest.is_some()
    }

    pub(super) fn run(&self) -> anyhow::Result<Checked> {
        let measurement = measurement_of(&self.measurement)?;
        self.check_usage()?;
        let keys = self.keys.read()?;
        let (build, policy) = (self.build(), self.policy.policy);
        let image = self.image()?;
        let candidates = match (&image, self.launch_digest) {
            (Some(image), _) => image.candidates(policy.es())?,
            (None, Some(digest)) => vec![(digest, None)],
            (None, None) => bail!("give --launch-digest or --firmware"),
        };
        if let Some((attested, variant)) = measurement::verify(&keys, &measurement, build, policy, candidates)
        {
            let area = image.as_ref().and_then(|image| image.firmware.secret_area());
            return Ok(Checked::Holds(Box::new(Held {
                keys,
                attested,
                variant,
                secret_area: area.and_then(|(_, size)| usize::try_from(size).ok()),
            })));
        }
        let expected = match (&image, self.launch_digest) {
            (Some(image), _) => Expected::Image {
                firmware: &image.firmware,
                kernel: image.kernel.clone(),
                cpus: image.cpus.clone(),
            },
            (None, digest) => Expected::Digest(digest.unwrap_or_default()),
        };
        Ok(Checked::Fails(mismatch::search(&Mismatch {
            keys: &keys,
            measurement,
            build,
            policy,
            expected,
        })))
    }

    fn check_usage(&self) -> anyhow::Result<()> {
        if self.launch_digest.is_none() && self.firmware.is_none() {
            let why = "say what is expected to run: --launch-digest, or --firmware and what else is measured";
            return Err(Misused(why.to_owned()).into());
        }
        let policy = self.policy.policy;
        match self.scheme {
            Some(scheme) if scheme != policy.scheme() => {
                let wanted = if policy.es() { "sets" } else { "does not set" };
                let why = format!(
                    "--scheme {scheme}: the policy {:#x} {wanted} bit 2 (ES), which asks for {}",
                    policy.bits(),
                    policy.scheme()
                );
                Err(Misused(why).into())
            }
            _ => Ok(()),
        }
    }

    fn image(&self) -> anyhow::Result<Option<Image>> {
        let Some(path) = &self.firmware else {
            return Ok(None);
        };
        let firmware = image::firmware(path)?;
        let kernel = self.boot.files()?.map(|files| Kernel {
            kernel: sha256(&files.kernel),
            initrd: files.initrd.map(|initrd| sha256(&initrd)),
            cmdline: self.boot.cmdline.clone(),
        });
        let cpus = self.cpus()?;
        Ok(Some(Image {
            firmware,
            kernel,
            cpus,
        }))
    }

    /// The vCPUs. Under plain SEV they need not be said; where they are, they are for the search.
    fn cpus(&self) -> anyhow::Result<Option<Cpus>> {
        if !self.vmsa_files.is_empty() {
            return Ok(Some(Cpus::Areas(self.areas()?)));
        }
        let said = self.boot.vcpus.is_some() && self.boot.names_model();
        if !self.policy.policy.es() && !said {
            return Ok(None);
        }
        let (count, cpu) = self.boot.cpus()?;
        Ok(Some(Cpus::Modelled {
            count,
            cpu,
            variants: self.vmsa.variants().to_vec(),
        }))
    }

    fn areas(&self) -> anyhow::Result<Vec<SaveArea>> {
        let mut areas = Vec::new();
        for path in &self.vmsa_files {
            let what = || path.display().to_string();
            areas.push(SaveArea::parse(&small(path)?).with_context(what)?);
        }
        let given = areas.len();
        let wanted = match self.boot.vcpus {
            None => given,
            Some(vcpus) => usize::try_from(vcpus).unwrap_or(usize::MAX),
        };
        let most = usize::try_from(crate::sev::launch_digest::MAX_VCPUS).unwrap_or(usize::MAX);
        if wanted > most || given > most {
            return Err(Misused(format!(
                "a guest has at most {most} vCPUs, not {}",
                wanted.max(given)
            ))
            .into());
        }
        if wanted < given || (given == 1 && wanted > 1) {
            let why = format!(
                "--vmsa-file: {given} VMSAs for {wanted} vCPUs: give one for each, or the boot vCPU's and one that all others have"
            );
            return Err(Misused(why).into());
        }
        if let Some(last) = areas.last().cloned() {
            areas.resize(wanted, last);
        }
        Ok(areas)
    }
}

impl Image {
    /// The digests that were meant.
    fn candidates(&self, es: bool) -> anyhow::Result<Vec<(Digest, Option<VmsaVariant>)>> {
        let hashes = self.kernel.as_ref().map(|kernel| {
            let files = KernelHashes::from_digests(kernel.kernel, kernel.initrd, None);
            KernelHashes {
                cmdline: KernelHashes::from_files(&[], None, kernel.cmdline.as_deref()).cmdline,
                ..files
            }
        });
        let measurer = Measurer::new(&self.firmware, hashes.as_ref())?;
        match &self.cpus {
            Some(Cpus::Areas(areas)) if es => Ok(vec![(measurer.with_areas(areas), None)]),
            Some(Cpus::Modelled { count, cpu, variants }) if es => {
                let digest =
                    |variant: &VmsaVariant| Ok((measurer.sev_es(*count, *cpu, *variant)?, Some(*variant)));
                variants.iter().map(digest).collect()
            }
            _ => Ok(vec![(measurer.sev(), None)]),
        }
    }
}

/// A measurement as text, or the file that has it. The text has 64 characters, which no file is called by chance.
fn measurement_of(given: &str) -> anyhow::Result<Measurement> {
    let of_text = decoded(given.as_bytes()).filter(|bytes| bytes.len() == Measurement::SIZE);
    if let Some(bytes) = of_text {
        return Ok(Measurement::parse(&bytes)?);
    }
    let bytes = small(Path::new(given)).with_context(|| {
        format!("--measurement {given}: neither 64 characters of base64, which are 48 bytes, nor a file that can be read")
    })?;
    let bytes = match bytes.len() {
        Measurement::SIZE => bytes,
        _ => decoded(&bytes).unwrap_or(bytes),
    };
    Measurement::parse(&bytes).with_context(|| given.to_owned())
}

fn digest(text: &str) -> Result<Digest, String> {
    let bytes = hex::decode(text)
        .ok()
        .or_else(|| decoded(text.as_bytes()).map(|bytes| bytes.to_vec()));
    bytes
        .and_then(|bytes| Digest::try_from(bytes).ok())
        .ok_or_else(|| "expected 64 hexadecimal digits, or base64 of 32 bytes".to_owned())
}
