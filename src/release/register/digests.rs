//! Launch digests, computed once when a workload is registered: firmware is big, requests are many.

use super::RegisterError;
use super::draft::Draft;
use crate::domain::HexDigest;
use crate::domain::state::Kind;
use crate::domain::workload::{Candidate, Image, ImageFacts, Workload};
use crate::sev::launch_digest::{CpuModel, Firmware, KernelHashes, Measurer, VmsaVariant};
use crate::sev::policy::Scheme;

/// Digests that a release may have to try. A search by workload UUID computes 4096 MACs at most, so
/// that it can try four launches of the largest workload.
const MAX_CANDIDATES: usize = 1024;

/// Every launch digest that the workload accepts.
pub(super) fn compute(
    draft: &Draft<'_>,
    label: &str,
    workload: &Workload,
) -> Result<Vec<Candidate>, RegisterError> {
    let registered = workload.launch_digests.iter();
    let mut candidates: Vec<Candidate> = registered
        .map(|digest| Candidate {
            digest: *digest,
            image: None,
            secret_area: None,
        })
        .collect();
    let expected = workload.images.iter().fold(candidates.len(), |sum, image| {
        let models = if image.vcpu_type.is_some() {
            1
        } else {
            CpuModel::ALL.len()
        };
        let each = if workload.scheme == Scheme::AmdSev {
            1
        } else {
            image.vcpus.len() * models * 2
        };
        sum.saturating_add(each)
    });
    if expected > MAX_CANDIDATES {
        let why = format!(
            "its launch digests, images, vCPU counts and CPU models make {expected} launch digests, more than {MAX_CANDIDATES}: name `vcpu_type`, or fewer `vcpus`"
        );
        return Err(RegisterError::invalid(label, why).at("images"));
    }
    for (number, image) in workload.images.iter().enumerate() {
        of_image(draft, label, workload.scheme, (number, image), &mut candidates)?;
    }
    Ok(candidates)
}

fn of_image(
    draft: &Draft<'_>,
    label: &str,
    scheme: Scheme,
    (number, image): (usize, &Image),
    candidates: &mut Vec<Candidate>,
) -> Result<(), RegisterError> {
    let invalid = |why: String| {
        let at = format!("images[{number}]");
        RegisterError::invalid(label, format!("image {}: {why}", image.name)).at(&at)
    };
    let bytes = draft
        .firmware_bytes(&image.firmware)?
        .filter(|_| draft.firmware.contains_key(&image.firmware))
        .ok_or_else(|| {
            let name = image.firmware.as_str();
            let mut removed = draft.removed.iter();
            invalid(
                match removed.any(|(kind, gone)| *kind == Kind::Firmware && gone == name) {
                    true => format!("needs Firmware {name}, which would be removed"),
                    false => format!("there is no firmware {name}; register it first"),
                },
            )
            .because_of(&format!("images[{number}].firmware"), &image.firmware, None)
        })?;
    let firmware = Firmware::parse(bytes).map_err(|e| invalid(e.to_string()))?;
    let hash = HexDigest::from(firmware.hash());
    if let Some(pinned) = image.firmware_hash.filter(|pinned| *pinned != hash) {
        let why = format!(
            "firmware {} has SHA-256 {hash}, the workload names {pinned}",
            image.firmware
        );
        return Err(invalid(why).at(&format!("images[{number}].firmware_hash")));
    }
    let kernel = image.kernel_hash.map(|kernel| {
        KernelHashes::from_digests(
            kernel.0,
            image.initrd_hash.map(|h| h.0),
            image.cmdline_hash.map(|h| h.0),
        )
    });
    let measurer = Measurer::new(&firmware, kernel.as_ref()).map_err(|e| invalid(e.to_string()))?;
    let secret_area = firmware.secret_area().map(|(_, size)| size);
    let facts = ImageFacts {
        name: image.name.clone(),
        vcpus: None,
        vcpu_type: None,
        vmsa: None,
    };
    if scheme == Scheme::AmdSev {
        let digest = HexDigest::from(measurer.sev());
        candidates.push(Candidate {
            digest,
            image: Some(facts),
            secret_area,
        });
        return Ok(());
    }
    let named: Option<CpuModel> = image.vcpu_type.as_ref().and_then(|name| name.parse().ok());
    let models: Vec<CpuModel> = named.map_or_else(|| CpuModel::ALL.to_vec(), |model| vec![model]);
    for vcpus in &image.vcpus {
        for model in &models {
            for vmsa in [VmsaVariant::Legacy, VmsaVariant::Init2] {
                let digest = measurer
                    .sev_es(*vcpus, model.signature(), vmsa)
                    .map_err(|e| invalid(e.to_string()))?;
                let facts = ImageFacts {
                    vcpus: Some(*vcpus),
                    vcpu_type: Some(model.as_str().to_owned()),
                    vmsa: Some(vmsa),
                    ..facts.clone()
                };
                candidates.push(Candidate {
                    digest: HexDigest::from(digest),
                    image: Some(facts),
                    secret_area,
                });
            }
        }
    }
    Ok(())
}
