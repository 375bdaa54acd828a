//! What AMD's service, or an import, said of chips' CEKs.

use crate::store::engine::{Connection, Optional as _, params};

use super::rows;
use super::{CekOfKey, KnownCek, RowError};
use crate::domain::Time;

pub(super) fn of_chip(c: &Connection, chip: &[u8; 64]) -> Result<Option<KnownCek>, RowError> {
    let certificate = c
        .prepare_cached("SELECT certificate FROM ceks WHERE chip = ?1")?
        .query_row([chip.as_slice()], |row| row.get(0))
        .optional()?;
    if let Some(certificate) = certificate {
        return Ok(Some(KnownCek::Certificate(certificate)));
    }
    let until = c
        .prepare_cached("SELECT until FROM unknown_chips WHERE chip = ?1")?
        .query_row([chip.as_slice()], |row| row.get(0))
        .optional()?;
    Ok(until.map(|until| KnownCek::Unknown {
        until: Time::from_millis(until),
    }))
}

pub(super) fn of_key(c: &Connection, key: &[u8; 32]) -> Result<Option<CekOfKey>, RowError> {
    let found = c
        .prepare_cached("SELECT chip, certificate FROM ceks WHERE key = ?1")?
        .query_row([key.as_slice()], |row| {
            Ok((rows::optional_bytes("a chip's id", row, 0), row.get(1)?))
        })
        .optional()?;
    found
        .map(|(chip, certificate)| {
            Ok(CekOfKey {
                chip: chip?.map(|chip| chip.0),
                certificate,
            })
        })
        .transpose()
}

pub(super) fn remember(
    c: &Connection,
    chip: Option<&[u8; 64]>,
    key: &[u8; 32],
    certificate: &[u8],
) -> Result<(), RowError> {
    let chip = chip.map(|chip| chip.as_slice());
    if let Some(chip) = chip {
        c.execute("DELETE FROM unknown_chips WHERE chip = ?1", [chip])?;
        c.execute(
            "DELETE FROM ceks WHERE chip = ?1 AND key <> ?2",
            params![chip, key.as_slice()],
        )?;
    }
    c.execute(
        "INSERT INTO ceks (key, chip, certificate) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET chip = coalesce(?2, ceks.chip), certificate = ?3",
        params![key.as_slice(), chip, certificate],
    )?;
    Ok(())
}

pub(super) fn remember_unknown(c: &Connection, chip: &[u8; 64], until: Time) -> Result<(), RowError> {
    // Past misses go with the next one, and no more than these many are kept: whoever asks for
    // chips that do not exist must not fill the disk.
    c.execute(
        "DELETE FROM unknown_chips WHERE chip IN
           (SELECT chip FROM unknown_chips ORDER BY until DESC LIMIT 1000000 OFFSET 9999)",
        params![],
    )?;
    c.execute(
        "INSERT INTO unknown_chips VALUES (?1, ?2) ON CONFLICT (chip) DO UPDATE SET until = ?2",
        params![chip.as_slice(), until.millis()],
    )?;
    Ok(())
}
