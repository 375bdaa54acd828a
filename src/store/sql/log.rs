//! The audit log: leaves, hashes above them, the head, checkpoints.
//!
//! SQLite has one writer, so that the sequencer runs once for each commit, just before it and in the same transaction:
//! what is committed has its place. PostgreSQL has a sequencer of its own (`store::postgres`), and what is committed is
//! pending until it comes; so whoever reads asks it first. Of changes that were undone nothing is left to be sequenced.

use crate::store::engine::{Cell, Connection, Optional as _, Row, params};
use uuid::Uuid;

use super::{RowError, Scope, SqlStore, StoreError};
use super::{once, rows};
use crate::audit::proof::Head;
use crate::audit::record::AuditRecord;
use crate::audit::tree::{Frontier, Hashes, Tree, TreeError};
use crate::domain::{HexDigest, Name, Time};
use crate::store::log::{AuditLog, LogEntry, LogPlace, StoredCheckpoint};

/// Records in a page, at most.
const PAGE: u32 = 1000;
const DIGEST: usize = 32;
/// Records that get their places in one go.
const BATCH: usize = 1000;

/// Writes a record, pending.
pub(super) fn append(c: &Connection, record: &AuditRecord) -> Result<(), RowError> {
    let leaf = record
        .to_leaf()
        .map_err(|e| rows::damaged("an audit record", e))?;
    c.prepare_cached("INSERT INTO audit_leaves (id, owner, hash, record) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            record.id.as_bytes().as_slice(),
            record.owner.as_ref().map(Name::as_str),
            leaf.hash().0.as_slice(),
            leaf.as_str(),
        ])?;
    record
        .once
        .as_ref()
        .map_or(Ok(()), |act| once::write(c, act, record.time))
}

/// Gives pending records their places, in the order in which they were written, and moves the head; whether there may be
/// more. At most [`BATCH`] at once.
pub(in crate::store) fn sequence(c: &Connection) -> Result<bool, RowError> {
    let pending = {
        let mut statement =
            c.prepare_cached("SELECT seq, hash FROM audit_leaves WHERE idx IS NULL ORDER BY seq LIMIT ?1")?;
        let mut found = statement.query([i64::try_from(BATCH).unwrap_or(i64::MAX)])?;
        let mut pending: Vec<(i64, HexDigest)> = Vec::new();
        while let Some(row) = found.next()? {
            pending.push((row.get(0)?, rows::bytes("a leaf hash", row, 1)?));
        }
        pending
    };
    if pending.is_empty() {
        return Ok(false);
    }
    let mut tree = frontier(c)?;
    let before = Head {
        size: tree.size(),
        root: tree.root(),
    };
    let full = pending.len() >= BATCH;
    let mut places = Vec::with_capacity(pending.len());
    for (seq, leaf) in pending {
        let index = number(tree.size())?;
        let complete = tree.push(leaf).map_err(|e| rows::damaged("the audit log", e))?;
        for node in complete {
            c.prepare_cached("INSERT INTO audit_nodes VALUES (?1, ?2, ?3)")?
                .execute(params![node.level, number(node.index)?, node.hash.0.as_slice()])?;
        }
        places.push((seq, index));
    }
    place_all(c, &places)?;
    let moved = c
        .prepare_cached(
            "UPDATE audit_head SET size = ?1, root = ?2, subtrees = ?3 WHERE size = ?4 AND root = ?5",
        )?
        .execute(params![
            number(tree.size())?,
            tree.root().0.as_slice(),
            tree.subtrees().iter().flat_map(|hash| hash.0).collect::<Vec<_>>(),
            number(before.size)?,
            before.root.0.as_slice(),
        ])?;
    if moved == 1 {
        Ok(full)
    } else {
        Err(rows::damaged("the audit log's head", "it moved meanwhile"))
    }
}

/// Writes the places of leaves (`seq` and index); what has one keeps it.
fn place_all(c: &Connection, places: &[(i64, i64)]) -> Result<(), RowError> {
    let sql = "UPDATE audit_leaves SET idx = ?2 WHERE seq = ?1 AND idx IS NULL";
    let mut placed = 0;
    // A statement each is dear where each is a message to another machine.
    let many = "UPDATE audit_leaves SET idx = places.idx
         FROM (SELECT CAST(value ->> 0 AS BIGINT) AS seq, CAST(value ->> 1 AS BIGINT) AS idx
               FROM json_array_elements(CAST(CAST(?1 AS TEXT) AS JSON))) AS places
         WHERE audit_leaves.seq = places.seq AND audit_leaves.idx IS NULL";
    if c.either(sql, many) == many {
        placed = c.execute(many, [rows::to_json("places of records", &places)?])?;
    } else {
        let mut statement = c.prepare_cached(sql)?;
        for (seq, index) in places {
            placed += statement.execute([*seq, *index])?;
        }
    }
    if placed == places.len() {
        Ok(())
    } else {
        Err(rows::damaged("the audit log", "a record got its place meanwhile"))
    }
}

/// The head, given that its parts agree.
pub(in crate::store) fn head(c: &Connection) -> Result<Head, RowError> {
    let tree = frontier(c)?;
    Ok(Head {
        size: tree.size(),
        root: tree.root(),
    })
}

/// What the head says, given that its parts agree.
fn frontier(c: &Connection) -> Result<Frontier, RowError> {
    let what = "the audit log's head";
    let mut statement = c.prepare_cached("SELECT size, root, subtrees FROM audit_head")?;
    let mut found = statement.query(params![])?;
    let row = found
        .next()?
        .ok_or_else(|| rows::damaged(what, "there is none"))?;
    let size = rows::natural(what, row, 0)?;
    let root: HexDigest = rows::bytes(what, row, 1)?;
    let (hashes, rest) = row
        .get_ref(2)?
        .as_blob()
        .map_err(|e| rows::damaged(what, e))?
        .as_chunks::<DIGEST>();
    let subtrees = hashes.iter().map(|hash| HexDigest::from(*hash)).collect();
    let tree = Frontier::restored(size, subtrees).filter(|tree| rest.is_empty() && tree.root() == root);
    tree.ok_or_else(|| rows::damaged(what, "its hashes are not those of its root"))
}

/// SQLite's integers are signed.
fn number(index: u64) -> Result<i64, RowError> {
    i64::try_from(index).map_err(|e| rows::damaged("the audit log", e))
}

/// The stored hashes, read in one transaction.
struct Stored<'a>(&'a Connection);

impl Hashes for Stored<'_> {
    type Error = StoreError;

    fn read(&self, level: u8, first: u64, count: u64) -> Result<Vec<HexDigest>, StoreError> {
        self.range(level, first, count).map_err(StoreError::from)
    }
}

impl Stored<'_> {
    fn range(&self, level: u8, first: u64, count: u64) -> Result<Vec<HexDigest>, RowError> {
        let sql = match level {
            0 => "SELECT hash FROM audit_leaves WHERE ?1 = 0 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
            _ => "SELECT hash FROM audit_nodes WHERE level = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        };
        let end = number(first.saturating_add(count))?;
        let mut statement = self.0.prepare_cached(sql)?;
        let mut found = statement.query(params![level, number(first)?, end])?;
        let mut hashes = Vec::new();
        while let Some(row) = found.next()? {
            hashes.push(rows::bytes("a hash of the audit log", row, 0)?);
        }
        Ok(hashes)
    }
}

/// Computes something from the hashes of the first `size` records.
fn computed<T>(
    c: &Connection,
    size: u64,
    work: impl FnOnce(&Tree<'_, Stored<'_>>) -> Result<T, TreeError<StoreError>>,
) -> Result<T, RowError> {
    work(&Tree::new(&Stored(c), size)).map_err(|error| rows::damaged("the audit log", error))
}

fn entry(row: &Row) -> Result<LogEntry, RowError> {
    Ok(LogEntry {
        index: rows::natural("an index of the audit log", row, 0)?,
        leaf: rows::bytes("a leaf hash", row, 1)?,
        owner: owner(row, 2)?,
        record: row.get(3)?,
    })
}

fn owner(row: &Row, column: usize) -> Result<Option<Name>, RowError> {
    match row.get_ref(column)? {
        Cell::Null => Ok(None),
        _ => rows::name("a record's owner", row, column).map(Some),
    }
}

fn entries(c: &Connection, start: u64, limit: u32) -> Result<Vec<LogEntry>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT idx, hash, owner, record FROM audit_leaves WHERE idx >= ?1 ORDER BY idx LIMIT ?2",
    )?;
    let start = i64::try_from(start).unwrap_or(i64::MAX);
    let mut found = statement.query(params![start, limit.clamp(1, PAGE)])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()? {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

fn place(c: &Connection, id: Uuid) -> Result<Option<LogPlace>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT idx, hash, owner, record FROM audit_leaves WHERE id = ?1")?;
    let mut found = statement.query([id.as_bytes().as_slice()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let pending = row.get::<Option<i64>>(0)?.is_none();
    let index = (!pending).then(|| rows::natural("an index of the audit log", row, 0));
    Ok(Some(LogPlace {
        index: index.transpose()?,
        leaf: rows::bytes("a leaf hash", row, 1)?,
        owner: owner(row, 2)?,
        record: row.get(3)?,
    }))
}

fn checkpoints(c: &Connection, sql: &str, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, RowError> {
    let mut statement = c.prepare_cached(sql)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut found = statement.query(params![after, limit.clamp(1, PAGE)])?;
    let mut checkpoints = Vec::new();
    while let Some(row) = found.next()? {
        checkpoints.push(StoredCheckpoint {
            size: rows::natural("a checkpoint's size", row, 0)?,
            note: row.get(1)?,
        });
    }
    Ok(checkpoints)
}

fn keep(c: &Connection, previous: u64, checkpoint: &StoredCheckpoint, now: Time) -> Result<bool, RowError> {
    let newest: Option<i64> = c
        .prepare_cached("SELECT max(size) FROM audit_checkpoints")?
        .query_row(params![], |row| row.get(0))
        .optional()?
        .flatten();
    if newest.unwrap_or(0) != number(previous)? {
        return Ok(false);
    }
    c.execute(
        "INSERT INTO audit_checkpoints VALUES (?1, ?2, ?3)",
        params![number(checkpoint.size)?, now.millis(), checkpoint.note],
    )?;
    super::outbox::checkpoint_signed(c, checkpoint, now)?;
    Ok(true)
}

impl AuditLog for SqlStore {
    fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        self.write(Scope::Free, move |c| append(c, &record))
    }

    fn log_head(&self) -> Result<Head, StoreError> {
        self.sequence()?;
        self.read(head)
    }

    fn log_root(&self, size: u64) -> Result<HexDigest, StoreError> {
        self.read(|c| computed(c, size, |tree| tree.root()))
    }

    fn log_inclusion(&self, index: u64, size: u64) -> Result<Vec<HexDigest>, StoreError> {
        self.read(|c| computed(c, size, |tree| tree.inclusion(index)))
    }

    fn log_consistency(&self, old: u64, size: u64) -> Result<Vec<HexDigest>, StoreError> {
        self.read(|c| computed(c, size, |tree| tree.consistency(old)))
    }

    fn log_entries(&self, start: u64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        self.sequence()?;
        self.read(|c| entries(c, start, limit))
    }

    fn log_place(&self, id: Uuid) -> Result<Option<LogPlace>, StoreError> {
        self.sequence()?;
        self.read(|c| place(c, id))
    }

    fn log_checkpoints(&self, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let sql = "SELECT size, note FROM audit_checkpoints WHERE size > ?1 ORDER BY size LIMIT ?2";
        self.read(|c| checkpoints(c, sql, after, limit))
    }

    fn log_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        let sql = "SELECT size, note FROM audit_checkpoints WHERE size > ?1 ORDER BY size DESC LIMIT ?2";
        Ok(self.read(|c| checkpoints(c, sql, 0, 1))?.pop())
    }

    fn keep_checkpoint(
        &self,
        previous: u64,
        checkpoint: StoredCheckpoint,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.write(Scope::Log, move |c| keep(c, previous, &checkpoint, now))
    }
}
