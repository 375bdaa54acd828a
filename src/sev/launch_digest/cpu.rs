//! CPU models and their CPUID signatures: a SEV-ES vCPU starts with the signature in RDX.

use std::fmt;
use std::str::FromStr;

/// EAX of CPUID leaf 1: family, model and stepping.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct CpuSignature(u32);

impl CpuSignature {
    /// The signature of a family (up to 270), model and stepping (up to 15). Families from 15 on are written as
    /// 15 plus an extension (AMD APM volume 3, CPUID Fn0000_0001).
    pub fn new(family: u16, model: u8, stepping: u8) -> Result<Self, InvalidCpuSignature> {
        let base = family.min(15);
        let extension = family - base;
        if extension > 255 || stepping > 15 {
            return Err(InvalidCpuSignature);
        }
        let (base, extension, model) = (u32::from(base), u32::from(extension), u32::from(model));
        let signature = extension << 20 | (model >> 4) << 16 | base << 8 | (model & 0xf) << 4;
        Ok(Self(signature | u32::from(stepping)))
    }

    /// A signature as CPUID gives it.
    pub fn from_eax(eax: u32) -> Self {
        Self(eax)
    }

    /// The value of EAX.
    pub fn eax(self) -> u32 {
        self.0
    }

    /// Family, model and stepping, as [`new`](Self::new) takes them.
    pub fn parts(self) -> (u32, u32, u32) {
        let bits = |from: u32, mask: u32| (self.0 >> from) & mask;
        let base = bits(8, 0xf);
        let family = if base == 15 { base + bits(20, 0xff) } else { base };
        (family, bits(16, 0xf) << 4 | bits(4, 0xf), bits(0, 0xf))
    }
}

/// `FAMILY,MODEL,STEPPING` in decimal, as the command line takes it.
impl FromStr for CpuSignature {
    type Err = InvalidCpuSignature;

    fn from_str(text: &str) -> Result<Self, InvalidCpuSignature> {
        let mut parts = text.split(',').map(str::trim);
        let mut next = || {
            parts
                .next()
                .and_then(|part| part.parse::<u16>().ok())
                .ok_or(InvalidCpuSignature)
        };
        let (family, model, stepping) = (next()?, next()?, next()?);
        let byte = |number| u8::try_from(number).map_err(|_| InvalidCpuSignature);
        if parts.next().is_some() {
            return Err(InvalidCpuSignature);
        }
        Self::new(family, byte(model)?, byte(stepping)?)
    }
}

/// Numbers that CPUID cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a CPU signature is family (0 to 270), model (0 to 255) and stepping (0 to 15)")]
pub struct InvalidCpuSignature;

/// A CPU model by QEMU's name.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum CpuModel {
    /// `EPYC`: 23, 1, 2.
    Epyc,
    /// `EPYC-Rome`: 23, 49, 0.
    Rome,
    /// `EPYC-Milan`: 25, 1, 1.
    Milan,
    /// `EPYC-Genoa`: 25, 17, 0.
    Genoa,
    /// `EPYC-Turin`: 26, 0, 0.
    Turin,
}

impl CpuModel {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [Self::Epyc, Self::Rome, Self::Milan, Self::Genoa, Self::Turin];

    /// QEMU's name, without a version.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epyc => "EPYC",
            Self::Rome => "EPYC-Rome",
            Self::Milan => "EPYC-Milan",
            Self::Genoa => "EPYC-Genoa",
            Self::Turin => "EPYC-Turin",
        }
    }

    /// The signature that QEMU gives a vCPU of this model. It is the same for every version of the model.
    pub fn signature(self) -> CpuSignature {
        CpuSignature(match self {
            Self::Epyc => 0x0080_0f12,
            Self::Rome => 0x0083_0f10,
            Self::Milan => 0x00a0_0f11,
            Self::Genoa => 0x00a1_0f10,
            Self::Turin => 0x00b0_0f00,
        })
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// QEMU's names, also with a version behind (`EPYC-Milan-v2`), and its old name `EPYC-IBPB`.
impl FromStr for CpuModel {
    type Err = UnknownCpuModel;

    fn from_str(text: &str) -> Result<Self, UnknownCpuModel> {
        let is_version = |version: &&str| {
            version.parse::<u8>().is_ok_and(|number| number > 0) && !version.starts_with(['0', '+'])
        };
        let name = match text.rsplit_once("-v") {
            Some((name, version)) if is_version(&version) => name,
            _ => text,
        };
        let name = if text == "EPYC-IBPB" { "EPYC" } else { name };
        Self::ALL
            .into_iter()
            .find(|model| model.as_str() == name)
            .ok_or(UnknownCpuModel)
    }
}

/// A text that names no CPU model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown CPU model: expected EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa or EPYC-Turin, or give the signature"
)]
pub struct UnknownCpuModel;
