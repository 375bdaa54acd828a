//! The table in which secrets reach the guest, as OVMF and Linux (`efi_secret`) read it.
//!
//! GUID `1e74f542-…` ‖ u32 length, then entries of GUID ‖ u32 length ‖ data. Each length includes its own header
//! of 20 bytes; GUIDs are in their little-endian form. Zeros pad the table to a multiple of 16 and are not
//! counted; a table that is aligned already gets none. libvirt's tool adds sixteen then, which are read but not
//! written: a table that just fits would not.

use uuid::{Uuid, uuid};
use zeroize::Zeroizing;

use super::encoding::{array_at, u32_at};

/// OVMF's usual secret area in bytes, for when the image's own is not known.
pub const DEFAULT_AREA: usize = 3072;
/// The most that the PSP takes at once, in bytes.
pub const MAX: usize = 16384;
/// The most entries that Linux reads.
pub const MAX_ENTRIES: usize = 64;

/// The entry that a disk-unlocking guest looks for.
pub const LUKS_PASSPHRASE: Uuid = uuid!("736869e5-84f0-4973-92ec-06879ce3da0b");
/// Confidential Containers: a bundle of keys that works without a network.
pub const COCO_OFFLINE: Uuid = uuid!("e6f5a162-d67f-4750-a67c-5d065f2a9910");
/// Confidential Containers: the parameters of a connection to a key broker.
pub const COCO_ONLINE: Uuid = uuid!("1ee27366-0c87-43a6-af48-28543eaf7cb0");

/// Names for entries that guests are known to look for: ours first, then that of libvirt's tool.
pub const ALIASES: [(&str, Uuid); 4] = [
    ("luks-passphrase", LUKS_PASSPHRASE),
    ("luks-key", LUKS_PASSPHRASE),
    ("coco-key-bundle", COCO_OFFLINE),
    ("coco-connection", COCO_ONLINE),
];

const TABLE: Uuid = uuid!("1e74f542-71dd-4d66-963e-ef4287ff173b");
const HEADER: usize = 20;
const ALIGNMENT: usize = 16;

/// One secret.
#[derive(Clone)]
pub struct Entry {
    /// What the guest finds it by.
    pub guid: Uuid,
    /// The secret itself.
    pub data: Zeroizing<Vec<u8>>,
}

/// Builds the table, zero-padded to a multiple of 16. It may be as long as the PSP takes; whether it fits the
/// area of a particular firmware is for [`build_for_area`].
pub fn build(entries: &[Entry]) -> Result<Zeroizing<Vec<u8>>, SecretTableError> {
    build_for_area(entries, MAX)
}

/// Builds the table for firmware whose secret area has `area` bytes.
pub fn build_for_area(entries: &[Entry], area: usize) -> Result<Zeroizing<Vec<u8>>, SecretTableError> {
    check(entries)?;
    let sizes = entries
        .iter()
        .map(|entry| entry.data.len().saturating_add(HEADER));
    let length = sizes.fold(HEADER, usize::saturating_add);
    let padded = length.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
    let room = area.min(MAX);
    if padded > room {
        return Err(SecretTableError::TooLong { length: padded, room });
    }

    // The capacity is final: growing would leave copies of secrets behind in freed memory.
    let mut table = Zeroizing::new(Vec::with_capacity(padded));
    put_header(&mut table, &TABLE, length);
    for entry in entries {
        put_header(&mut table, &entry.guid, HEADER + entry.data.len());
        table.extend_from_slice(&entry.data);
    }
    table.resize(padded, 0);
    Ok(table)
}

/// Reads a table as a guest does, with or without padding behind it, of up to 16 bytes as libvirt's tool writes it. Refused
/// are lengths that do not add up, padding that is not zero, and whatever [`build`] refuses.
pub fn parse(table: &[u8]) -> Result<Vec<Entry>, SecretTableError> {
    if table.len() > MAX {
        return Err(SecretTableError::TooLong {
            length: table.len(),
            room: MAX,
        });
    }
    let (guid, length) = header(table).ok_or(SecretTableError::Malformed)?;
    let (counted, padding) = table
        .split_at_checked(length)
        .ok_or(SecretTableError::Malformed)?;
    if guid != TABLE || padding.len() > ALIGNMENT || padding.iter().any(|byte| *byte != 0) {
        return Err(SecretTableError::Malformed);
    }

    let mut rest = counted.get(HEADER..).ok_or(SecretTableError::Malformed)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (guid, length) = header(rest).ok_or(SecretTableError::Malformed)?;
        let (entry, behind) = rest.split_at_checked(length).ok_or(SecretTableError::Malformed)?;
        let data = entry.get(HEADER..).ok_or(SecretTableError::Malformed)?;
        entries.push(Entry {
            guid,
            data: Zeroizing::new(data.to_vec()),
        });
        rest = behind;
    }
    check(&entries)?;
    Ok(entries)
}

/// Whether a guest would find an entry of this GUID.
pub fn check_guid(guid: Uuid) -> Result<(), SecretTableError> {
    if guid.is_nil() {
        return Err(SecretTableError::NullGuid);
    }
    if guid == TABLE {
        return Err(SecretTableError::TableGuid);
    }
    Ok(())
}

fn check(entries: &[Entry]) -> Result<(), SecretTableError> {
    if entries.is_empty() {
        return Err(SecretTableError::Empty);
    }
    if entries.len() > MAX_ENTRIES {
        return Err(SecretTableError::TooMany(entries.len()));
    }
    let mut seen = std::collections::HashSet::new();
    for Entry { guid, .. } in entries {
        check_guid(*guid)?;
        if !seen.insert(guid) {
            return Err(SecretTableError::Duplicate(*guid));
        }
    }
    Ok(())
}

/// GUID and length, which is at least the header's own. Lengths beyond `usize` cannot be met and are refused by
/// whoever splits at them.
fn header(bytes: &[u8]) -> Option<(Uuid, usize)> {
    let guid = Uuid::from_bytes_le(array_at(bytes, 0)?);
    let length = usize::try_from(u32_at(bytes, 16)?).ok()?;
    (length >= HEADER).then_some((guid, length))
}

fn put_header(table: &mut Vec<u8>, guid: &Uuid, length: usize) {
    table.extend_from_slice(&guid.to_bytes_le());
    // INVARIANT: `build_for_area` bounds every length by MAX, which fits.
    table.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// Why a table is not built or read. No text quotes a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretTableError {
    /// There is no entry.
    #[error("a secret table needs at least one entry")]
    Empty,
    /// More entries than Linux reads.
    #[error("a secret table has at most {MAX_ENTRIES} entries, not {0}")]
    TooMany(usize),
    /// Two entries with one GUID: the guest would find only the first.
    #[error("two secrets have the GUID {0}")]
    Duplicate(Uuid),
    /// The null GUID, which Linux skips.
    #[error("a secret cannot have the null GUID, which guests skip")]
    NullGuid,
    /// The GUID that marks the table.
    #[error("a secret cannot have the GUID that marks the table itself")]
    TableGuid,
    /// The table does not fit.
    #[error("the secret table has {length} bytes, and there is room for {room}")]
    TooLong {
        /// The padded table's length in bytes.
        length: usize,
        /// How many bytes the firmware's area or the PSP takes.
        room: usize,
    },
    /// The bytes are not a secret table.
    #[error("the bytes are not a secret table: GUID, lengths and padding do not add up")]
    Malformed,
}
