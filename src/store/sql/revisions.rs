//! Revisions of an owner's policies, and the keys that sign them.

use crate::store::engine::{Connection, Optional as _, params};

use super::RowError;
use super::rows::{self, to_json};
use crate::domain::revision::{Revision, SigningKey, Which};
use crate::domain::state::Activated;
use crate::domain::{HexDigest, Name};
use crate::store::StoredRevision;

/// The number of the newest revision; 0 where there is none.
pub(super) fn last(c: &Connection, owner: &Name) -> Result<u64, RowError> {
    let mut statement =
        c.prepare_cached("SELECT coalesce(max(number), 0) FROM revisions WHERE owner = ?1")?;
    let mut found = statement.query([owner.as_str()])?;
    let row = found.next()?;
    row.map_or(Ok(0), |row| rows::natural("a revision's number", row, 0))
}

/// Makes a bundle the active one.
pub(super) fn activate(c: &Connection, owner: &str, activated: &Activated) -> Result<(), RowError> {
    let Activated {
        revision,
        archive,
        signatures,
    } = activated;
    let digest = revision.digest.0.as_slice();
    c.execute(
        "INSERT INTO bundles (owner, digest, archive, activated) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (owner, digest) DO UPDATE SET activated = ?4",
        params![owner, digest, archive, revision.activated.millis()],
    )?;
    c.execute(
        "UPDATE owners SET bundle = ?2 WHERE name = ?1",
        params![owner, digest],
    )?;
    let number = i64::try_from(revision.number).map_err(|e| rows::damaged("a revision's number", e))?;
    let inserted = c.execute(
        "INSERT INTO revisions (owner, number, digest, document, signatures)
         SELECT name, CAST(?2 AS BIGINT), CAST(?3 AS BLOB), ?4, CAST(?5 AS BLOB) FROM owners
         WHERE name = ?1 AND CAST(?2 AS BIGINT) = 1 + (SELECT coalesce(max(number), 0) FROM revisions WHERE owner = ?1)",
        params![
            owner,
            number,
            digest,
            to_json("a revision", revision)?,
            signatures
        ],
    )?;
    match inserted {
        1 => Ok(()),
        _ => Err(rows::damaged(
            "a revision's number",
            "it does not follow the last",
        )),
    }
}

/// At most `limit` revisions older than `before`, newest first.
pub(super) fn page(
    c: &Connection,
    owner: &Name,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Revision>, RowError> {
    let before = before.map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let mut statement = c.prepare_cached(
        "SELECT document FROM revisions WHERE owner = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
    )?;
    let mut found = statement.query(params![owner.as_str(), before, limit])?;
    let mut revisions = Vec::new();
    while let Some(row) = found.next()? {
        revisions.push(rows::json("a revision", row, 0)?);
    }
    Ok(revisions)
}

pub(super) fn find(c: &Connection, owner: &Name, which: Which) -> Result<Option<StoredRevision>, RowError> {
    let (sql, number, digest): (_, _, Option<HexDigest>) = match which {
        Which::Number(number) => (
            "SELECT document, signatures FROM revisions WHERE owner = ?1 AND number = ?2 AND CAST(?3 AS TEXT) IS NULL",
            i64::try_from(number).unwrap_or(i64::MAX),
            None,
        ),
        Which::Digest(digest) => (
            "SELECT document, signatures FROM revisions WHERE owner = ?1 AND digest = ?3 AND number < ?2
             ORDER BY number DESC LIMIT 1",
            i64::MAX,
            Some(digest),
        ),
    };
    let digest = digest.as_ref().map(|digest| digest.0.as_slice());
    c.prepare_cached(sql)?
        .query_row(params![owner.as_str(), number, digest], |row| {
            Ok((rows::json("a revision", row, 0), row.get(1)?))
        })
        .optional()?
        .map(|(revision, signatures)| {
            Ok(StoredRevision {
                revision: revision?,
                signatures,
            })
        })
        .transpose()
}

pub(super) fn put_key(c: &Connection, owner: &str, key: &SigningKey) -> Result<(), RowError> {
    c.execute(
        "INSERT INTO signing_keys VALUES (?1, ?2, ?3) ON CONFLICT (owner, name) DO UPDATE SET document = ?3",
        [owner, key.name.as_str(), &to_json("a signing key", key)?],
    )?;
    Ok(())
}
