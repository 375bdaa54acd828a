//! Idempotency keys of the owner API.

use crate::store::engine::{Connection, Optional as _, params};

use super::rows;
use super::{RowError, Scope, SqlStore, StoreError};
use crate::domain::once::{Once, REMEMBERED};
use crate::domain::{HexDigest, Name, Time};
use crate::store::once::{Known, OnceStore};

/// Keys that are remembered for an owner.
const MOST: u32 = 10_000;
/// Keys that one sweep forgets.
const SWEEP: i64 = 500;

impl OnceStore for SqlStore {
    fn known(&self, once: &Once, now: Time) -> Result<Known, StoreError> {
        self.read(|c| known(c, once, now))
    }

    fn keep_answer(&self, once: &Once, status: u16, body: Vec<u8>, now: Time) -> Result<(), StoreError> {
        let once = once.clone();
        self.write(Scope::Free, move |c| {
            write(c, &once, now)?;
            c.execute(
                "UPDATE idempotency_keys SET status = ?2, body = ?3 WHERE key = ?1",
                params![once.key.0.as_slice(), status, body],
            )?;
            Ok(())
        })
    }
}

fn known(c: &Connection, once: &Once, now: Time) -> Result<Known, RowError> {
    let used = c
        .prepare_cached("SELECT request, status, body FROM idempotency_keys WHERE key = ?1 AND expires > ?2")?
        .query_row(params![once.key.0.as_slice(), now.millis()], |row| {
            let request: Result<HexDigest, _> = rows::bytes("a request's hash", row, 0);
            Ok((
                request,
                row.get::<Option<u16>>(1)?,
                row.get::<Option<Vec<u8>>>(2)?,
            ))
        })
        .optional()?;
    if let Some((request, status, body)) = used {
        return Ok(Known::Used {
            request: request?,
            answer: status.zip(body),
        });
    }
    let count: u32 = c
        .prepare_cached(
            "SELECT count(*) FROM idempotency_keys WHERE owner IS NOT DISTINCT FROM ?1 AND expires > ?2",
        )?
        .query_row(
            params![once.owner.as_ref().map(Name::as_str), now.millis()],
            |row| row.get(0),
        )?;
    Ok(if count >= MOST { Known::Full } else { Known::New })
}

/// Writes the key down in the transaction of its act, which fails where another try was quicker.
pub(super) fn write(c: &Connection, once: &Once, now: Time) -> Result<(), RowError> {
    let written = c
        .prepare_cached(
            "INSERT INTO idempotency_keys (key, request, act, owner, expires) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) DO UPDATE SET request = ?2, act = ?3, owner = ?4, expires = ?5, status = NULL, body = NULL
             WHERE idempotency_keys.act = ?3 OR idempotency_keys.expires <= ?6",
        )?
        .execute(params![
            once.key.0.as_slice(),
            once.request.0.as_slice(),
            once.act.as_bytes().as_slice(),
            once.owner.as_ref().map(Name::as_str),
            now.after(REMEMBERED).millis(),
            now.millis(),
        ])?;
    match written {
        1 => Ok(()),
        _ => Err(rows::damaged(
            "an idempotency key",
            "another try of the request was quicker",
        )),
    }
}

/// Forgets keys that have had their time.
pub(super) fn sweep(c: &Connection, now: Time) -> Result<bool, RowError> {
    let forgotten = c.execute(
        "DELETE FROM idempotency_keys WHERE key IN (SELECT key FROM idempotency_keys WHERE expires <= ?1 LIMIT ?2)
           AND expires <= ?1",
        params![now.millis(), SWEEP],
    )?;
    Ok(forgotten >= usize::try_from(SWEEP).unwrap_or(usize::MAX))
}
