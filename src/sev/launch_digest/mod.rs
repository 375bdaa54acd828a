//! The launch digest: SHA-256 over all that is loaded into a guest before it starts.
//!
//! SHA-256(firmware ‖ hash table ‖ VMSAs): the hash table where a kernel is measured, the VMSAs under SEV-ES.
//! The formula is the same for SEV and SEV-ES and on every product.

mod cpu;
mod hash_table;
mod ovmf;
mod vmsa;

use openssl::sha::Sha256;

use super::Digest;
pub use cpu::{CpuModel, CpuSignature, InvalidCpuSignature, UnknownCpuModel};
pub use hash_table::KernelHashes;
pub use ovmf::{Firmware, FirmwareError};
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
    ap_reset_eip: Option<u32>,
}

impl Measurer {
    /// Hashes the firmware, and the hash table of the kernel. A kernel with firmware that has no place for the
    /// table is an error: such firmware would start the kernel unmeasured.
    pub fn new(firmware: &Firmware, kernel: Option<&KernelHashes>) -> Result<Self, LaunchDigestError> {
        let mut hash = Sha256::new();
        hash.update(firmware.bytes());
        if let Some(kernel) = kernel {
            if !firmware.has_hash_table() {
                return Err(LaunchDigestError::NoHashTable);
            }
            hash.update(&kernel.to_table());
        }
        Ok(Self {
            hash,
            ap_reset_eip: firmware.ap_reset_eip(),
        })
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
