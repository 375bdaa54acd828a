//! The launch digest: SHA-256 over all that is loaded into a guest before it starts.
//!
//! SHA-256(firmware ‖ hash table ‖ VMSAs): the hash table where a kernel is measured, the VMSAs under SEV-ES.
//! The formula is the same for SEV and SEV-ES and on every product.

mod cpu;
mod hash_table;
mod ovmf;
mod save_area;
mod vmsa;

use openssl::sha::Sha256;

use super::Digest;
pub use cpu::{CpuModel, CpuSignature, InvalidCpuSignature, UnknownCpuModel};
pub use hash_table::KernelHashes;
pub(in crate::sev) use hash_table::cmdline_hash;
pub use ovmf::{Firmware, FirmwareError};
pub use save_area::{SEV_FEATURES_DEBUG_SWAP, SaveArea, SaveAreaLength, Segment};
pub use vmsa::{UnknownVmsaVariant, VmsaVariant};

/// The most vCPUs for which a digest is computed; QEMU's machines have fewer.
pub const MAX_VCPUS: u32 = 512;

/// The launch digest of a plain SEV guest.
pub fn sev(firmware: &Firmware, kernel: Option<&KernelHashes>) -> Result<Digest, LaunchDigestError> {
    Ok(Measurer::new(firmware, kernel)?.sev())
}

/// The launch digest of a SEV-ES guest.
pub fn sev_es(
    firmware: &Firmware,
    kernel: Option<&KernelHashes>,
    vcpus: u32,
    cpu: CpuSignature,
    variant: VmsaVariant,
) -> Result<Digest, LaunchDigestError> {
    Measurer::new(firmware, kernel)?.sev_es(vcpus, cpu, variant)
}

/// Firmware and kernel, hashed once and finished for as many vCPU counts and models as are asked for.
#[derive(Clone)]
pub struct Measurer {
    hash: Sha256,
    has_hash_table: bool,
    ap_reset_eip: Option<u32>,
}

impl Measurer {
    /// Hashes the firmware, and the hash table of the kernel. A kernel with firmware that has no place for the
    /// table is an error: such firmware would start the kernel unmeasured.
    pub fn new(firmware: &Firmware, kernel: Option<&KernelHashes>) -> Result<Self, LaunchDigestError> {
        let mut hash = Sha256::new();
        hash.update(firmware.bytes());
        let measurer = Self {
            hash,
            has_hash_table: firmware.has_hash_table(),
            ap_reset_eip: firmware.ap_reset_eip(),
        };
        match kernel {
            Some(kernel) => measurer.with_kernel(kernel),
            None => Ok(measurer),
        }
    }

    /// The same firmware, with the hash table of a kernel behind it.
    pub(in crate::sev) fn with_kernel(&self, kernel: &KernelHashes) -> Result<Self, LaunchDigestError> {
        if !self.has_hash_table {
            return Err(LaunchDigestError::NoHashTable);
        }
        let mut measurer = self.clone();
        measurer.hash.update(&kernel.to_table());
        Ok(measurer)
    }

    /// The digest under plain SEV, where vCPUs are not measured.
    pub fn sev(&self) -> Digest {
        self.hash.clone().finish()
    }

    /// The digest under SEV-ES, where each vCPU's first state is measured.
    pub fn sev_es(
        &self,
        vcpus: u32,
        cpu: CpuSignature,
        variant: VmsaVariant,
    ) -> Result<Digest, LaunchDigestError> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return Err(LaunchDigestError::Vcpus(vcpus));
        }
        let mut hash = self.hash.clone();
        hash.update(&vmsa::page(vmsa::BOOT_EIP, cpu, variant));
        if vcpus > 1 {
            let eip = self.ap_reset_eip.ok_or(LaunchDigestError::NoApResetVector)?;
            let page = vmsa::page(eip, cpu, variant);
            (1..vcpus).for_each(|_| hash.update(&page));
        }
        Ok(hash.finish())
    }

    /// The digest under SEV-ES with these first states, such as were dumped from a guest; the boot vCPU's first.
    pub fn with_areas(&self, areas: &[SaveArea]) -> Digest {
        let mut hash = self.hash.clone();
        areas.iter().for_each(|area| hash.update(area.bytes()));
        hash.finish()
    }

    /// The digests for one vCPU, two, and so on up to [`MAX_VCPUS`]; only for one without a further vCPU's state.
    pub(in crate::sev) fn counts(&self, boot: &SaveArea, further: Option<&SaveArea>) -> Vec<Digest> {
        let mut hash = self.hash.clone();
        hash.update(boot.bytes());
        let mut digests = vec![hash.clone().finish()];
        if let Some(area) = further {
            digests.extend((1..MAX_VCPUS).map(|_| {
                hash.update(area.bytes());
                hash.clone().finish()
            }));
        }
        digests
    }
}

/// The save areas of `vcpus` vCPUs as QEMU and KVM load them, 4096 bytes each, the boot vCPU's first.
///
/// # Errors
/// As for [`Measurer::sev_es`].
pub fn save_areas(
    firmware: &Firmware,
    vcpus: u32,
    cpu: CpuSignature,
    variant: VmsaVariant,
) -> Result<Vec<[u8; 4096]>, LaunchDigestError> {
    if vcpus == 0 || vcpus > MAX_VCPUS {
        return Err(LaunchDigestError::Vcpus(vcpus));
    }
    let mut areas = vec![vmsa::page(vmsa::BOOT_EIP, cpu, variant)];
    if vcpus > 1 {
        let eip = firmware
            .ap_reset_eip()
            .ok_or(LaunchDigestError::NoApResetVector)?;
        areas.extend((1..vcpus).map(|_| vmsa::page(eip, cpu, variant)));
    }
    Ok(areas)
}

/// Why no launch digest can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaunchDigestError {
    /// No vCPU, or more than are supported.
    #[error("a guest has 1 to {MAX_VCPUS} vCPUs, not {0}")]
    Vcpus(u32),
    /// The firmware has no place for kernel hashes.
    #[error(
        "the firmware has no place for kernel hashes (footer entry 7255371f-3a3b-4b04-927b-1da6efa8d454): \
         it would not measure the kernel, use an OVMF built for AmdSev"
    )]
    NoHashTable,
    /// The firmware does not say where further vCPUs start.
    #[error(
        "the firmware does not say where further vCPUs start (footer entry \
         00f771de-1a7e-4fcb-890e-68c77e2fb44e): it does not support SEV-ES"
    )]
    NoApResetVector,
}
