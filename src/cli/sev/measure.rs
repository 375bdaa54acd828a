//! `sev measure`: launch digests.

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::image::{Image, Vmsa};
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::sev::launch_digest::{MAX_VCPUS, Measurer, VmsaVariant};
use crate::sev::policy::Scheme;

#[derive(Args)]
pub(in crate::cli) struct Measure {
    #[command(flatten)]
    image: Image,
    /// Form of the vCPUs' first state (SEV-ES): init2 for kernels from 6.10 on, legacy before
    #[arg(long, value_enum, default_value = "both")]
    vmsa: Vmsa,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
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
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let (firmware, kernel) = (self.image.firmware()?, self.image.kernel()?);
        let measurer = Measurer::new(&firmware, kernel.as_ref())?;
        let mut digests = Vec::new();
        if self.image.scheme == Scheme::AmdSev {
            // Not measured, but printed: a number that no guest has is a slip.
            if let Some(vcpus) = self
                .image
                .vcpus()
                .filter(|vcpus| !(1..=MAX_VCPUS).contains(vcpus))
            {
                bail!("a guest has 1 to {MAX_VCPUS} vCPUs, not {vcpus}");
            }
            let launch_digest = hex::encode(measurer.sev());
            digests.push(MeasuredDigest {
                vmsa: None,
                vcpus: self.image.vcpus(),
                launch_digest,
            });
        } else {
            let (vcpus, cpu) = self.image.cpus()?;
            for variant in self.vmsa.variants() {
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
