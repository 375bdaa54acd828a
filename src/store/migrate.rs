//! From SQLite to PostgreSQL: everything or nothing, and compared row by row before it counts.
//!
//! Nobody writes to either meanwhile. What is there afterwards is read back and has the same digest, table by table; only
//! then the copy is committed, and the file marked as one that is left, so that no server serves it beside the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::sha::Sha256;

use super::engine::{Cell, Connection, Optional as _, Param, Row, RowError, params};
use super::postgres::{self, Postgres};
use super::sql::log;
use super::sqlite::{OpenError, Sqlite};
use super::{SqlStore, StoreError};
use crate::domain::{HexDigest, Time};

/// Fact of a SQLite database: since when another database has what it had.
pub const MOVED: &str = "moved_to_postgres";

/// Rows that are read at once.
const PAGE: i64 = 500;
/// Of tables whose rows hold files.
const FILES: i64 = 2;

/// A table, and the columns that order its rows.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
    /// The column that PostgreSQL numbers by itself.
    numbered: Option<&'static str>,
}

const fn table(name: &'static str, key: &'static [&'static str], numbered: Option<&'static str>) -> Table {
    Table { name, key, numbered }
}

/// All tables, each behind those that it refers to.
const TABLES: &[Table] = &[
    table("meta", &["key"], None),
    table("owners", &["name"], None),
    table("bundles", &["owner", "digest"], Some("rowid")),
    table("sealing_keys", &["id"], None),
    table("audit_log_key", &["one"], Some("rowid")),
    table("secrets", &["owner", "name"], Some("rowid")),
    table("earlier_secrets", &["owner", "name", "version"], Some("rowid")),
    table("workload_uuids", &["owner", "name"], None),
    table("secret_versions", &["owner", "name"], None),
    table("keysets", &["owner", "name"], None),
    table("firmware", &["owner", "name"], None),
    table("workloads", &["uuid"], None),
    table("launches", &["id"], Some("rowid")),
    table("rollbacks", &["number"], Some("number")),
    table("rolled_back", &["owner"], None),
    table("counts", &["owner", "kind", "name", "secret"], None),
    table("release_totals", &["owner", "scope"], None),
    table("release_times", &["rowid"], Some("rowid")),
    table("decisions", &["seq"], Some("seq")),
    table("decision_subjects", &["owner", "kind", "value", "seq"], None),
    table("ceks", &["key"], None),
    table("unknown_chips", &["chip"], None),
    table("revisions", &["owner", "number"], None),
    table("signing_keys", &["owner", "name"], None),
    table("audit_leaves", &["seq"], Some("seq")),
    table("audit_nodes", &["level", "idx"], None),
    table("audit_head", &["one"], None),
    table("audit_checkpoints", &["size"], None),
    table("holds", &["seq"], Some("seq")),
    table("hold_launches", &["hold", "launch"], None),
    table(
        "hold_allowances",
        &["hold", "kind", "name", "secret"],
        Some("rowid"),
    ),
    table("limit_resets", &["owner", "number"], None),
    table("approvals_required", &["owner", "number"], None),
    table("proposals", &["owner", "act"], None),
    table("tokens", &["hash"], None),
    table("webhooks", &["name"], None),
    table("webhook_outbox", &["seq"], Some("seq")),
    table("freezes", &["seq"], Some("seq")),
    table("platforms", &["owner", "cek"], None),
    table("idempotency_keys", &["key"], None),
    table("connections", &["id"], Some("rowid")),
    table("connection_answers", &["connection", "guid", "id"], None),
];

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The file can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// PostgreSQL can't be used.
    #[error(transparent)]
    Connect(#[from] postgres::ConnectError),
    /// There is something in it.
    #[error("the PostgreSQL database is initialised already; nothing was changed: give one that is empty")]
    NotEmpty,
    /// The copy is not what it was made of.
    #[error("the copy of {table} differs from what it was made of; nothing was kept")]
    Differs {
        /// The table.
        table: &'static str,
    },
    /// The two programs' schemas differ.
    #[error("{table} has a column that only one of the databases has: {column}")]
    Column {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
    },
    /// An engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RowError> for MigrateError {
    fn from(error: RowError) -> Self {
        Self::Store(error.into())
    }
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Rows of each table that has any.
    pub tables: Vec<(&'static str, u64)>,
    /// Records of the audit log.
    pub records: u64,
    /// The root of its tree.
    pub root: HexDigest,
}

/// Moves the SQLite database of a data folder into an empty PostgreSQL database. `told` gets the number of rows that are
/// copied so far.
///
/// # Errors
/// When either can't be used, the second is not empty, or the copy does not compare; nothing is kept then.
pub fn migrate(
    folder: &Path,
    to: &postgres::Options,
    now: Time,
    told: Arc<AtomicU64>,
) -> Result<Migrated, MigrateError> {
    let source = Sqlite::open(folder, false)?;
    let target = Postgres::connect(to, true)?;
    // In the writer's transaction, so that nobody else writes to the file until the copy is committed.
    source.write(move |file| {
        let migrated = target.alone(|copy| {
            told.store(0, Ordering::Relaxed);
            all(file, copy, &told)
        })?;
        // Also those who have the file open already write no more to it.
        for (name, event) in [
            ("inserted", "INSERT ON audit_leaves"),
            ("launched", "INSERT ON launches"),
            ("changed", "UPDATE ON launches"),
        ] {
            file.execute_batch(&format!(
                "CREATE TRIGGER IF NOT EXISTS moved_{name} BEFORE {event}
                 BEGIN SELECT RAISE(ABORT, 'this database was moved to PostgreSQL'); END"
            ))?;
        }
        file.execute(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
            params![MOVED, now.to_string()],
        )?;
        Ok(migrated)
    })
}

fn all(file: &Connection, copy: &Connection, told: &AtomicU64) -> Result<Migrated, MigrateError> {
    let taken = "SELECT EXISTS (SELECT 1 FROM sealing_keys) OR EXISTS (SELECT 1 FROM owners)";
    if copy.query_row(taken, params![], |row| row.get(0))? {
        // A move that was complete but for the mark on the file, and nobody has served since.
        let marked = file
            .prepare_cached("SELECT 1 FROM meta WHERE key = ?1")?
            .exists([MOVED])?;
        let (from, to) = (log::head(file)?, log::head(copy)?);
        if marked || from.size == 0 || (from.size, from.root) != (to.size, to.root) {
            return Err(MigrateError::NotEmpty);
        }
        return Ok(Migrated {
            tables: Vec::new(),
            records: to.size,
            root: to.root,
        });
    }
    copy.execute_batch("DELETE FROM audit_head; DELETE FROM meta")?;
    let mut tables = Vec::new();
    for table in TABLES {
        let columns = columns(file, copy, table)?;
        let mut digest = Sha256::new();
        let rows = read(file, table, &columns, |row| {
            take(&mut digest, row)?;
            write(copy, table, &columns, row)?;
            told.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        let mut copied = Sha256::new();
        let there = read(copy, table, &columns, |row| take(&mut copied, row))?;
        if (rows, digest.finish()) != (there, copied.finish()) {
            return Err(MigrateError::Differs { table: table.name });
        }
        if let Some(column) = table.numbered {
            let name = table.name;
            // Numbers of what was forgotten are not used again either.
            let given: Option<i64> = match column {
                "seq" => file
                    .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [name], |row| {
                        row.get(0)
                    })
                    .optional()?,
                _ => None,
            };
            copy.execute_batch(&format!(
                "SELECT setval(pg_get_serial_sequence('{name}', '{column}'), greatest((SELECT max({column}) FROM {name}), {}, 1))",
                given.unwrap_or(1)
            ))?;
        }
        if rows > 0 {
            tables.push((table.name, rows));
        }
    }
    let head = log::head(copy)?;
    Ok(Migrated {
        tables,
        records: head.size,
        root: head.root,
    })
}

/// The columns of a table, which are the same in both.
fn columns(file: &Connection, copy: &Connection, table: &Table) -> Result<Vec<String>, MigrateError> {
    let names = |c: &Connection, sql: &str| {
        let mut statement = c.prepare_cached(sql)?;
        let mut found = statement.query([table.name])?;
        let mut names = Vec::new();
        while let Some(row) = found.next()? {
            names.push(row.get::<String>(0)?);
        }
        Ok::<_, RowError>(names)
    };
    let mut ours = names(file, "SELECT name FROM pragma_table_info(?1)")?;
    if table.numbered == Some("rowid") {
        ours.push("rowid".to_owned());
    }
    let theirs = names(
        copy,
        "SELECT CAST(column_name AS TEXT) FROM information_schema.columns
         WHERE table_schema = current_schema() AND CAST(table_name AS TEXT) = ?1",
    )?;
    let (mut one, mut other) = (ours.clone(), theirs);
    one.sort();
    other.sort();
    let only = one.iter().find(|name| !other.contains(name));
    if let Some(column) = only.or_else(|| other.iter().find(|name| !one.contains(name))) {
        return Err(MigrateError::Column {
            table: table.name,
            column: column.clone(),
        });
    }
    Ok(ours)
}

/// Hands on every row of a table in the order of its key; how many there were.
fn read(
    c: &Connection,
    table: &Table,
    columns: &[String],
    mut each: impl FnMut(&Row) -> Result<(), RowError>,
) -> Result<u64, RowError> {
    let (name, key) = (table.name, table.key.join(", "));
    let list = columns.join(", ");
    let marks: Vec<String> = (2..).take(table.key.len()).map(|n| format!("?{n}")).collect();
    let first = format!("SELECT {list} FROM {name} ORDER BY {key} LIMIT ?1");
    let next = format!(
        "SELECT {list} FROM {name} WHERE ({key}) > ({}) ORDER BY {key} LIMIT ?1",
        marks.join(", ")
    );
    let places: Vec<usize> = table
        .key
        .iter()
        .filter_map(|key| columns.iter().position(|column| column == key))
        .collect();
    let page = match name {
        "firmware" | "bundles" => FILES,
        _ => PAGE,
    };
    let mut after: Option<Vec<Cell>> = None;
    let mut count = 0;
    loop {
        let mut statement = c.prepare_cached(if after.is_none() { &first } else { &next })?;
        let given = after.iter().flatten().map(Cell::param);
        let given: Vec<Param<'_>> = std::iter::once(Param::Int(page)).chain(given).collect();
        let mut found = statement.query(given.as_slice())?;
        let (mut seen, mut last) = (0, None);
        while let Some(row) = found.next()? {
            each(row)?;
            seen += 1;
            if seen == page {
                let cells = places.iter().map(|place| row.get_ref(*place).cloned());
                last = Some(cells.collect::<Result<_, _>>()?);
            }
        }
        count += u64::try_from(seen).unwrap_or(0);
        match last {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

fn write(c: &Connection, table: &Table, columns: &[String], row: &Row) -> Result<(), RowError> {
    let marks: Vec<String> = (1..).take(columns.len()).map(|n| format!("?{n}")).collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table.name,
        columns.join(", "),
        marks.join(", ")
    );
    let cells: Vec<Param<'_>> = row.cells().iter().map(Cell::param).collect();
    c.execute(&sql, cells.as_slice())?;
    Ok(())
}

/// Takes a row into a digest, without two rows that would be taken alike.
fn take(digest: &mut Sha256, row: &Row) -> Result<(), RowError> {
    for cell in row.cells() {
        let (kind, bytes) = match cell {
            Cell::Null => (0, Vec::new()),
            Cell::Int(number) => (1, number.to_be_bytes().to_vec()),
            Cell::Text(text) => (2, text.as_bytes().to_vec()),
            Cell::Blob(bytes) => (3, bytes.clone()),
        };
        digest.update(&[kind]);
        digest.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(&bytes);
    }
    Ok(())
}

impl SqlStore {
    /// Since when another database has what this one had.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn moved(&self) -> Result<Option<String>, StoreError> {
        self.meta(MOVED)
    }
}
