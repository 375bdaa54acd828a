//! `sev vmsa`: the state in which a SEV-ES vCPU starts, in a file.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::files::small;
use super::image;
use super::number;
use crate::cli::Ended;
use crate::cli::output::{self, Format, Misused};
use crate::sev::launch_digest::{CpuModel, CpuSignature, SaveArea, Segment, VmsaVariant};

#[derive(Subcommand)]
pub(in crate::cli) enum VmsaVerb {
    /// Make the VMSA of one vCPU, as QEMU and KVM set it
    Build(Build),
    /// Show the registers of a VMSA
    Show(Show),
}

impl VmsaVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Build(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
        }
    }
}

#[derive(Args)]
pub(in crate::cli) struct Build {
    /// The file to write, 4096 bytes
    file: PathBuf,
    /// Which vCPU: 0 is the boot vCPU, all others are alike
    #[arg(long, value_name = "N")]
    cpu: u32,
    /// The firmware, which says where vCPUs other than the boot vCPU start
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// QEMU's name of the CPU model, such as EPYC-Milan
    #[arg(
        long,
        value_name = "MODEL",
        required_unless_present = "vcpu_signature",
        conflicts_with = "vcpu_signature"
    )]
    vcpu_type: Option<CpuModel>,
    /// Or its CPUID, decimal
    #[arg(long, value_name = "FAMILY,MODEL,STEPPING", value_parser = number::signature)]
    vcpu_signature: Option<CpuSignature>,
    /// Which form: init2 for kernels from 6.10 on, legacy before
    #[arg(long, value_parser = variant, value_name = "legacy|init2")]
    vmsa: VmsaVariant,
    /// SEV_FEATURES; 0x20 is DebugSwap, which some kernels before 6.10 set
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::word)]
    sev_features: u64,
}

fn variant(text: &str) -> Result<VmsaVariant, String> {
    text.parse().map_err(|_| "expected legacy or init2".to_owned())
}

impl Build {
    fn run(&self) -> anyhow::Result<Ended> {
        let cpu = self.vcpu_signature.or(self.vcpu_type.map(CpuModel::signature));
        let missing = || Misused("name the CPU with --vcpu-type or --vcpu-signature".to_owned());
        let cpu = cpu.ok_or_else(missing)?;
        let area = if self.cpu == 0 {
            SaveArea::boot(cpu, self.vmsa)
        } else {
            let missing = || {
                Misused(
                    "a vCPU other than the boot vCPU starts where the firmware says: give --firmware"
                        .to_owned(),
                )
            };
            let path = self.firmware.as_ref().ok_or_else(missing)?;
            let firmware = image::firmware(path)?;
            SaveArea::further(&firmware, cpu, self.vmsa).with_context(|| path.display().to_string())?
        };
        let area = area.with_sev_features(self.sev_features);
        fs::write(&self.file, area.bytes()).with_context(|| self.file.display().to_string())?;
        output::line(&format!("{}: {}", self.file.display(), summary(&area)))?;
        Ok(Ended::Done)
    }
}

#[derive(Args)]
pub(in crate::cli) struct Show {
    /// The VMSA, 4096 bytes
    file: PathBuf,
    /// Form of the output; the table has only what is not zero
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Show {
    fn run(&self) -> anyhow::Result<Ended> {
        let what = || self.file.display().to_string();
        let area = SaveArea::parse(&small(&self.file)?).with_context(what)?;
        if output::structured(self.output, &Registers(&area))? {
            return Ok(Ended::Done);
        }
        output::line(&summary(&area))?;
        for (name, segment) in area.segments() {
            let Segment {
                selector,
                attributes,
                limit,
                base,
            } = segment;
            output::line(&format!(
                "{name:<15} selector {selector:#x}, attributes {attributes:#x}, limit {limit:#x}, base {base:#x}"
            ))?;
        }
        for (name, value) in area.registers().filter(|(_, value)| *value != 0) {
            output::line(&format!("{name:<15} {value:#x}"))?;
        }
        match area.others_set() {
            0 => Ok(Ended::Done),
            others => {
                output::line(&format!("{others} bytes outside of these registers are not zero"))?;
                Ok(Ended::Done)
            }
        }
    }
}

/// What a VMSA is, in a line.
fn summary(area: &SaveArea) -> String {
    let (family, model, stepping) = area.cpu().parts();
    let name = area
        .cpu()
        .model()
        .map(|model| format!(" ({model})"))
        .unwrap_or_default();
    let form = match area.variant() {
        Some(variant) => format!("as QEMU and KVM set it, {variant}"),
        None => "not as QEMU and KVM set it".to_owned(),
    };
    let features = match area.sev_features() {
        0 => String::new(),
        features => format!(", SEV_FEATURES {features:#x}"),
    };
    format!(
        "starts at {:#x} on CPU {family},{model},{stepping}{name}, {form}{features}",
        area.start()
    )
}

/// The registers under the names that `sevctl vmsa show` has.
struct Registers<'a>(&'a SaveArea);

#[derive(serde::Serialize)]
struct SegmentShown {
    selector: u16,
    attrib: u16,
    limit: u32,
    base: u64,
}

impl Serialize for Registers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, segment) in self.0.segments() {
            let shown = SegmentShown {
                selector: segment.selector,
                attrib: segment.attributes,
                limit: segment.limit,
                base: segment.base,
            };
            map.serialize_entry(name, &shown)?;
        }
        for (name, value) in self.0.registers() {
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("other_bytes_set", &self.0.others_set())?;
        map.end()
    }
}
