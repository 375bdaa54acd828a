//! A simple-kbs database in a SQLite file. It is opened read-only.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use zeroize::Zeroizing;

use super::database::{KeySetRow, PolicyRow, ResourceRow, SecretRow, SimpleKbs, SimpleKbsError};

impl From<rusqlite::Error> for SimpleKbsError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads all of it, in one moment.
///
/// # Errors
/// When the file is no database, or has other tables. Those that later versions added may be missing.
pub(super) fn read(path: &Path) -> Result<SimpleKbs, SimpleKbsError> {
    let c = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    c.execute_batch("PRAGMA trusted_schema = OFF; BEGIN")?;
    let policies = all(
            &c,
            "SELECT id, allowed_digests, allowed_policies, min_fw_api_major, min_fw_api_minor, allowed_build_ids, valid
             FROM policy ORDER BY id",
            |row| {
                Ok(PolicyRow {
                    id: row.get(0)?,
                    allowed_digests: text(row, 1)?,
                    allowed_policies: text(row, 2)?,
                    min_fw_api_major: row.get(3)?,
                    min_fw_api_minor: row.get(4)?,
                    allowed_build_ids: text(row, 5)?,
                    valid: row.get::<_, Option<i64>>(6)? == Some(1),
                })
            },
        )?;
    let secret = |row: &Row<'_>| {
        Ok(SecretRow {
            id: text(row, 0)?,
            value: text(row, 1)?.map(Zeroizing::new),
            policy: row.get(2)?,
        })
    };
    Ok(SimpleKbs {
        policies,
        secrets: all(
            &c,
            "SELECT secret_id, secret, polid FROM secrets ORDER BY id",
            secret,
        )?,
        keysets: all(
            &c,
            "SELECT keysetid, kskeys, polid FROM keysets ORDER BY id",
            |row| {
                Ok(KeySetRow {
                    id: text(row, 0)?,
                    keys: text(row, 1)?,
                    policy: row.get(2)?,
                })
            },
        )?,
        report_keys: if_there(&c, "report_keypair", || {
            let sql = "SELECT key_id, keypair, polid FROM report_keypair ORDER BY id";
            all(&c, sql, secret)
        })?,
        resources: if_there(&c, "resources", || {
            let sql = "SELECT resource_id, resource_path, polid FROM resources ORDER BY id";
            all(&c, sql, |row| {
                Ok(ResourceRow {
                    id: text(row, 0)?,
                    path: text(row, 1)?,
                    policy: row.get(2)?,
                })
            })
        })?,
        connections: c
            .query_row("SELECT count(*) FROM conn_bundle", [], |row| row.get::<_, i64>(0))
            .map_or(0, i64::unsigned_abs),
    })
}

fn if_there<T>(
    c: &Connection,
    table: &str,
    read: impl FnOnce() -> Result<Vec<T>, SimpleKbsError>,
) -> Result<Vec<T>, SimpleKbsError> {
    let sql = "SELECT count(*) = 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    match c.query_row(sql, [table], |row| row.get(0))? {
        true => read(),
        false => Ok(Vec::new()),
    }
}

fn all<T>(
    c: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, SimpleKbsError> {
    let mut statement = c.prepare(sql)?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read(row)?);
    }
    Ok(rows)
}

/// Text, however the column holds it: MySQL's dumps have blobs where SQLite's have text.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    })
}
