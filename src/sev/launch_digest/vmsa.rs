//! The VMSA: the state in which a SEV-ES vCPU starts, 4096 bytes (AMD APM volume 2, table B-4; values as QEMU and
//! KVM set them).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cpu::CpuSignature;

/// The size of a VMSA in bytes.
pub(super) const PAGE: usize = 4096;
/// Where the first vCPU starts: x86's reset vector.
pub(super) const BOOT_EIP: u32 = 0xffff_fff0;

/// Which of the two states KVM makes. Which one a host measures depends on how QEMU set the guest up, so both are
/// in use.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VmsaVariant {
    /// `KVM_SEV_ES_INIT`: the floating-point control registers are zero.
    Legacy,
    /// `KVM_SEV_INIT2` (Linux 6.10 and later): they have their reset values.
    Init2,
}

impl VmsaVariant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Init2];

    /// `legacy` or `init2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Init2 => "init2",
        }
    }
}

impl fmt::Display for VmsaVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VmsaVariant {
    type Err = UnknownVmsaVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVmsaVariant> {
        Self::ALL
            .into_iter()
            .find(|variant| variant.as_str() == text)
            .ok_or(UnknownVmsaVariant)
    }
}

/// A text that names no VMSA variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown VMSA variant: expected legacy or init2")]
pub struct UnknownVmsaVariant;

/// The state of a vCPU that starts at `eip`.
pub(super) fn page(eip: u32, cpu: CpuSignature, variant: VmsaVariant) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let mut put = |offset: usize, bytes: &[u8]| {
        page.iter_mut()
            .skip(offset)
            .zip(bytes)
            .for_each(|(byte, value)| *byte = *value);
    };

    const CS: usize = 0x10;
    const DATA_SEGMENTS: [usize; 5] = [0x00, 0x20, 0x30, 0x40, 0x50];
    const GDTR: usize = 0x60;
    const LDTR: usize = 0x70;
    const IDTR: usize = 0x80;
    const TR: usize = 0x90;
    for offset in DATA_SEGMENTS {
        put(offset, &segment(0, 0x93, 0));
    }
    put(CS, &segment(0xf000, 0x9b, eip & 0xffff_0000));
    put(GDTR, &segment(0, 0, 0));
    put(LDTR, &segment(0, 0x82, 0));
    put(IDTR, &segment(0, 0, 0));
    put(TR, &segment(0, 0x8b, 0));

    let registers: [(usize, u64); 10] = [
        (0xd0, 0x1000),                   // EFER: SVME
        (0x148, 0x40),                    // CR4: MCE
        (0x158, 0x10),                    // CR0: ET
        (0x160, 0x400),                   // DR7
        (0x168, 0xffff_0ff0),             // DR6
        (0x170, 0x2),                     // RFLAGS
        (0x178, u64::from(eip & 0xffff)), // RIP
        (0x268, 0x0007_0406_0007_0406),   // G_PAT
        (0x310, u64::from(cpu.eax())),    // RDX
        (0x3e8, 0x1),                     // XCR0
    ];
    for (offset, value) in registers {
        put(offset, &value.to_le_bytes());
    }
    if variant == VmsaVariant::Init2 {
        put(0x408, &0x1f80u32.to_le_bytes()); // MXCSR
        put(0x410, &0x037fu16.to_le_bytes()); // x87 FCW
    }
    page
}

/// Selector u16 ‖ attributes u16 ‖ limit u32 = 0xffff ‖ base u64.
fn segment(selector: u16, attributes: u16, base: u32) -> [u8; 16] {
    let fields = selector
        .to_le_bytes()
        .into_iter()
        .chain(attributes.to_le_bytes())
        .chain(0xffffu32.to_le_bytes())
        .chain(u64::from(base).to_le_bytes());
    let mut segment = [0; 16];
    segment
        .iter_mut()
        .zip(fields)
        .for_each(|(byte, field)| *byte = field);
    segment
}
