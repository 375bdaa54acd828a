//! The database's schema and how an older one becomes it. `user_version` says which it is.

use rusqlite::Connection;

use super::OpenError;

/// One text a version; a new version is a new text at the end, and the old are never edited.
const VERSIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3_tokens.sql"),
    include_str!("schema_4_audit.sql"),
    include_str!("schema_5_holds.sql"),
    include_str!("schema_6_host_tokens.sql"),
    include_str!("schema_7_recovery.sql"),
    include_str!("schema_8_incidents.sql"),
    include_str!("schema_9_keys.sql"),
    include_str!("schema_10_secret_versions.sql"),
    include_str!("schema_11_once.sql"),
    include_str!("schema_12_connections.sql"),
    include_str!("schema_13_release_numbers.sql"),
];

/// Marks a file as Keyward's («KWRD»).
const APPLICATION_ID: i64 = 0x4b57_5244;

/// The schema's version that this program writes.
pub(super) fn current() -> i64 {
    i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX)
}

/// The schema's version that a file has, 0 for one that is empty. Reads only.
///
/// # Errors
/// When the file is not Keyward's, is newer than this program, or the engine fails.
pub(super) fn check(connection: &Connection) -> Result<i64, OpenError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    if application != APPLICATION_ID && !(application == 0 && version == 0 && is_empty(connection)?) {
        return Err(OpenError::Foreign);
    }
    if version > current() {
        return Err(OpenError::Newer {
            found: version,
            known: current(),
        });
    }
    Ok(version)
}

/// Brings the schema up to date, in one transaction.
///
/// # Errors
/// As [`check`], and when the engine fails to write.
pub(super) fn run(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version = check(&transaction)?;
    for text in VERSIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(text)?;
    }
    transaction.execute_batch(&format!(
        "PRAGMA user_version = {}; PRAGMA application_id = {APPLICATION_ID};",
        current()
    ))?;
    transaction.commit()?;
    Ok(())
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}
