//! A VMSA by itself, as tools dump and read it: `sevctl vmsa`, `sev-snp-measure --dump-vmsa`.
//!
//! Offsets are those of AMD APM volume 2, table B-4, names of registers those that `sevctl vmsa show` prints.

use super::cpu::{CpuModel, CpuSignature};
use super::ovmf::Firmware;
use super::vmsa::{BOOT_EIP, PAGE, VmsaVariant, page};
use super::{LaunchDigestError, Measurer};
use crate::sev::encoding::array_at;

/// `SEV_FEATURES` with DebugSwap, which some kernels before 6.10 set for every SEV-ES guest.
pub const SEV_FEATURES_DEBUG_SWAP: u64 = 0x20;

const SEV_FEATURES: usize = 0x3b0;
const MXCSR: usize = 0x408;
const FCW: usize = 0x410;

/// Name and offset; 16 bytes each.
const SEGMENTS: [(&str, usize); 10] = [
    ("es", 0x00),
    ("cs", 0x10),
    ("ss", 0x20),
    ("ds", 0x30),
    ("fs", 0x40),
    ("gs", 0x50),
    ("gdtr", 0x60),
    ("ldtr", 0x70),
    ("idtr", 0x80),
    ("tr", 0x90),
];

/// Name, offset and size in bytes.
const REGISTERS: [(&str, usize, usize); 59] = [
    ("cpl", 0xcb, 1),
    ("efer", 0xd0, 8),
    ("xss", 0x140, 8),
    ("cr4", 0x148, 8),
    ("cr3", 0x150, 8),
    ("cr0", 0x158, 8),
    ("dr7", 0x160, 8),
    ("dr6", 0x168, 8),
    ("rflags", 0x170, 8),
    ("rip", 0x178, 8),
    ("rsp", 0x1d8, 8),
    ("rax", 0x1f8, 8),
    ("star", 0x200, 8),
    ("lstar", 0x208, 8),
    ("cstar", 0x210, 8),
    ("sfmask", 0x218, 8),
    ("kernel_gs_base", 0x220, 8),
    ("sysenter_cs", 0x228, 8),
    ("sysenter_esp", 0x230, 8),
    ("sysenter_eip", 0x238, 8),
    ("cr2", 0x240, 8),
    ("g_pat", 0x268, 8),
    ("dbgctl", 0x270, 8),
    ("br_from", 0x278, 8),
    ("br_to", 0x280, 8),
    ("last_excp_from", 0x288, 8),
    ("last_excp_to", 0x290, 8),
    ("spec_ctrl", 0x2e0, 4),
    ("pkru", 0x2e8, 4),
    ("rcx", 0x308, 8),
    ("rdx", 0x310, 8),
    ("rbx", 0x318, 8),
    ("rbp", 0x328, 8),
    ("rsi", 0x330, 8),
    ("rdi", 0x338, 8),
    ("r8", 0x340, 8),
    ("r9", 0x348, 8),
    ("r10", 0x350, 8),
    ("r11", 0x358, 8),
    ("r12", 0x360, 8),
    ("r13", 0x368, 8),
    ("r14", 0x370, 8),
    ("r15", 0x378, 8),
    ("sw_exit_code", 0x390, 8),
    ("sw_exit_info_1", 0x398, 8),
    ("sw_exit_info_2", 0x3a0, 8),
    ("sw_scratch", 0x3a8, 8),
    ("sev_features", SEV_FEATURES, 8),
    ("vintr_ctrl", 0x3b8, 8),
    ("guest_error_code", 0x3c0, 8),
    ("virtual_tom", 0x3c8, 8),
    ("tlb_id", 0x3d0, 8),
    ("pcpu_id", 0x3d8, 8),
    ("event_inj", 0x3e0, 8),
    ("xcr0", 0x3e8, 8),
    ("mxcsr", MXCSR, 4),
    ("x87_ftw", 0x40c, 2),
    ("x87_fsw", 0x40e, 2),
    ("x87_fcw", FCW, 2),
];

/// The state in which one vCPU starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaveArea(Box<[u8; PAGE]>);

/// A segment register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Attributes, in the VMSA's packed form.
    pub attributes: u16,
    /// The limit.
    pub limit: u32,
    /// The base.
    pub base: u64,
}

impl SaveArea {
    /// The size of a VMSA in bytes.
    pub const SIZE: usize = PAGE;

    /// Reads a dump. Any 4096 bytes are one: what is in them is for the measurement to prove.
    pub fn parse(bytes: &[u8]) -> Result<Self, SaveAreaLength> {
        let area = <&[u8; PAGE]>::try_from(bytes).map_err(|_| SaveAreaLength(bytes.len()))?;
        Ok(Self(Box::new(*area)))
    }

    /// The boot vCPU's, as QEMU and KVM set it.
    pub fn boot(cpu: CpuSignature, variant: VmsaVariant) -> Self {
        Self(Box::new(page(BOOT_EIP, cpu, variant)))
    }

    /// That of every further vCPU, which starts where the firmware says.
    pub fn further(
        firmware: &Firmware,
        cpu: CpuSignature,
        variant: VmsaVariant,
    ) -> Result<Self, LaunchDigestError> {
        let eip = firmware.ap_reset_eip();
        let eip = eip.ok_or(LaunchDigestError::NoApResetVector)?;
        Ok(Self(Box::new(page(eip, cpu, variant))))
    }

    /// The same state with these `SEV_FEATURES`.
    pub fn with_sev_features(mut self, features: u64) -> Self {
        let field = self.0.iter_mut().skip(SEV_FEATURES);
        field
            .zip(features.to_le_bytes())
            .for_each(|(byte, value)| *byte = value);
        self
    }

    /// The 4096 bytes.
    pub fn bytes(&self) -> &[u8; PAGE] {
        &self.0
    }

    /// The segment registers by name.
    pub fn segments(&self) -> impl Iterator<Item = (&'static str, Segment)> {
        SEGMENTS.iter().map(|(name, offset)| {
            let segment = Segment {
                selector: u16::from_le_bytes(array_at(self.bytes(), *offset).unwrap_or_default()),
                attributes: u16::from_le_bytes(array_at(self.bytes(), offset + 2).unwrap_or_default()),
                limit: u32::from_le_bytes(array_at(self.bytes(), offset + 4).unwrap_or_default()),
                base: self.number(offset + 8, 8),
            };
            (*name, segment)
        })
    }

    /// The other registers by name.
    pub fn registers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REGISTERS
            .iter()
            .map(|(name, offset, size)| (*name, self.number(*offset, *size)))
    }

    /// How many bytes that are not zero lie outside of all registers above.
    pub fn others_set(&self) -> usize {
        let known = |at: usize| {
            let within = |offset: usize, size: usize| (offset..offset + size).contains(&at);
            SEGMENTS.iter().any(|(_, offset)| within(*offset, 16))
                || REGISTERS.iter().any(|(_, offset, size)| within(*offset, *size))
        };
        let set = self.bytes().iter().enumerate();
        set.filter(|(at, byte)| **byte != 0 && !known(*at)).count()
    }

    /// Where the vCPU starts: base of CS, and RIP.
    pub fn start(&self) -> u64 {
        self.number(0x18, 8).wrapping_add(self.number(0x178, 8))
    }

    /// The CPU that the vCPU sees at first, in RDX.
    pub fn cpu(&self) -> CpuSignature {
        CpuSignature::from_eax(u32::from_le_bytes(
            array_at(self.bytes(), 0x310).unwrap_or_default(),
        ))
    }

    /// `SEV_FEATURES`.
    pub fn sev_features(&self) -> u64 {
        self.number(SEV_FEATURES, 8)
    }

    /// Which of KVM's two states it is, but for `SEV_FEATURES`; none if it is neither, as under another hypervisor.
    pub fn variant(&self) -> Option<VmsaVariant> {
        let eip = u32::try_from(self.start()).ok()?;
        VmsaVariant::ALL.into_iter().find(|variant| {
            let ours = Self(Box::new(page(eip, self.cpu(), *variant)));
            ours.with_sev_features(self.sev_features()) == *self
        })
    }

    fn number(&self, offset: usize, size: usize) -> u64 {
        let bytes = self.bytes().get(offset..).unwrap_or_default();
        let bytes = bytes.iter().take(size).rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl CpuSignature {
    /// The model of QEMU's that has this signature.
    pub fn model(self) -> Option<CpuModel> {
        CpuModel::ALL.into_iter().find(|model| model.signature() == self)
    }
}

impl Measurer {
    /// The state of a further vCPU as [`SaveArea::further`]; none where the firmware does not say where it starts.
    pub(in crate::sev) fn further(&self, cpu: CpuSignature, variant: VmsaVariant) -> Option<SaveArea> {
        let eip = self.ap_reset_eip?;
        Some(SaveArea(Box::new(page(eip, cpu, variant))))
    }
}

/// A file that is no VMSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a VMSA has {PAGE} bytes, not {0}")]
pub struct SaveAreaLength(pub usize);
