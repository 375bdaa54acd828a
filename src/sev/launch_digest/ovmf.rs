//! OVMF's footer table: what the firmware says about itself.
//!
//! The table ends 32 bytes before the end of the file. Its last entry is its own: u16 length of the whole table ‖
//! GUID, so that the GUID starts at length − 48. Before it stand the others, each data ‖ u16 length ‖ GUID, and
//! are read backwards (edk2, `OvmfPkg/ResetVector`).

use openssl::sha::sha256;
use uuid::{Uuid, uuid};

use crate::sev::Digest;
use crate::sev::encoding::{array_at, u32_at};

use super::hash_table::TABLE_SIZE;

const FOOTER: Uuid = uuid!("96b582de-1fb2-45f7-baea-a366c55a082d");
const AP_RESET: Uuid = uuid!("00f771de-1a7e-4fcb-890e-68c77e2fb44e");
const SECRET_AREA: Uuid = uuid!("4c2eb361-7d9b-4cc3-8081-127c90d3d294");
const HASH_TABLE: Uuid = uuid!("7255371f-3a3b-4b04-927b-1da6efa8d454");

const BEHIND_TABLE: usize = 32;
const ENTRY_HEADER: usize = 18;

/// A firmware image and what its footer table says.
#[derive(Clone)]
pub struct Firmware {
    bytes: Vec<u8>,
    ap_reset_eip: Option<u32>,
    secret_area: Option<(u32, u32)>,
    hash_table: Option<(u32, u32)>,
}

impl Firmware {
    /// Reads an image. One without a footer table, or without the parts of it that SEV-SNP needs, is valid: it
    /// can be measured under plain SEV without a kernel. A file too short for one, and a table that does not
    /// add up, are errors.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, FirmwareError> {
        let bytes = bytes.into();
        let mut firmware = Self {
            ap_reset_eip: None,
            secret_area: None,
            hash_table: None,
            bytes: Vec::new(),
        };
        for entry in footer(&bytes)? {
            let (guid, data) = entry?;
            // The first from the end counts, as in QEMU.
            match guid {
                AP_RESET if firmware.ap_reset_eip.is_none() => firmware.ap_reset_eip = u32_at(data, 0),
                SECRET_AREA if firmware.secret_area.is_none() => firmware.secret_area = area(data),
                HASH_TABLE if firmware.hash_table.is_none() => firmware.hash_table = area(data),
                _ => {}
            }
        }
        firmware.bytes = bytes;
        Ok(firmware)
    }

    /// Where vCPUs other than the first start; none if the firmware does not support SEV-ES.
    pub fn ap_reset_eip(&self) -> Option<u32> {
        self.ap_reset_eip
    }

    /// Guest address and size in bytes of the area for secrets; none if the firmware has none.
    pub fn secret_area(&self) -> Option<(u32, u32)> {
        self.secret_area
    }

    /// Whether there is a place for kernel hashes, with an address and room enough, as QEMU requires.
    pub fn has_hash_table(&self) -> bool {
        let needed = u32::try_from(TABLE_SIZE).unwrap_or(u32::MAX);
        self.hash_table
            .is_some_and(|(base, size)| base != 0 && size >= needed)
    }

    /// The image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the image.
    pub fn hash(&self) -> Digest {
        sha256(&self.bytes)
    }
}

/// The entries of the footer table, last first; none if the image has no table.
fn footer(bytes: &[u8]) -> Result<Entries<'_>, FirmwareError> {
    let short = FirmwareError::TooShort(bytes.len());
    let end = bytes
        .len()
        .checked_sub(BEHIND_TABLE)
        .and_then(|end| bytes.get(..end))
        .ok_or(short)?;
    let (guid, length, _) = last_header(end).ok_or(short)?;
    if guid != FOOTER {
        return Ok(Entries { rest: &[] });
    }
    let table = end.len().checked_sub(length).and_then(|start| end.get(start..));
    let table = table.ok_or(FirmwareError::FooterTooLong {
        length,
        file: bytes.len(),
    })?;
    let entries = table
        .len()
        .checked_sub(ENTRY_HEADER)
        .and_then(|size| table.get(..size));
    Ok(Entries {
        rest: entries.ok_or(FirmwareError::Footer)?,
    })
}

struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Uuid, &'a [u8]), FirmwareError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.take_last();
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry.ok_or(FirmwareError::Footer))
    }
}

impl<'a> Entries<'a> {
    fn take_last(&mut self) -> Option<(Uuid, &'a [u8])> {
        let (guid, length, header) = last_header(self.rest)?;
        let start = self.rest.len().checked_sub(length)?;
        let data = self.rest.get(start..header)?;
        self.rest = self.rest.get(..start)?;
        Some((guid, data))
    }
}

/// GUID and length at the end of `bytes`, and where this header starts.
fn last_header(bytes: &[u8]) -> Option<(Uuid, usize, usize)> {
    let start = bytes.len().checked_sub(ENTRY_HEADER)?;
    let length = u16::from_le_bytes(array_at(bytes, start)?);
    Some((
        Uuid::from_bytes_le(array_at(bytes, start + 2)?),
        usize::from(length),
        start,
    ))
}

/// u32 base ‖ u32 size.
fn area(data: &[u8]) -> Option<(u32, u32)> {
    Some((u32_at(data, 0)?, u32_at(data, 4)?))
}

/// Why a file is not firmware that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// Too short for any firmware.
    #[error("a firmware image of {0} bytes is too short to be one")]
    TooShort(usize),
    /// The footer table claims to be longer than the file.
    #[error("the firmware's footer table claims {length} bytes in a file of {file}")]
    FooterTooLong {
        /// What the table claims, in bytes.
        length: usize,
        /// The file's length in bytes.
        file: usize,
    },
    /// An entry's length does not add up.
    #[error("the firmware's footer table is damaged: an entry's length does not add up")]
    Footer,
}
