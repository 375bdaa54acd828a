//! Keys that values are sealed under, and every place where sealed values lie.

use crate::store::engine::{Connection, Optional as _, Row, params};
use uuid::Uuid;

use super::{RowError, Scope, SqlStore, log, rows};
use crate::audit::actor::Act;
use crate::audit::record::{Event, KeyPurpose};
use crate::domain::Time;
use crate::domain::sealed::{KeyId, KeyLocation, KeyState, SealedAt, SealingKey};
use crate::store::StoreError;
use crate::store::keys::{Cursor, Keys, Resealed, SealedValue};

/// A column that holds sealed values. A new one is a row in [`PLACES`] and triggers like those of the others.
struct Place {
    /// Its table, where each row has a `rowid`.
    table: &'static str,
    /// The column; empty and null are no values.
    column: &'static str,
    /// The columns that say whose value it is.
    of: &'static str,
    /// What these say, the first in column 2.
    at: fn(&Row) -> Result<SealedAt, RowError>,
}

/// All of them. Their order is that of the walk: what a value moves to comes behind where it was.
const PLACES: &[Place] = &[
    Place {
        table: "secrets",
        column: "sealed",
        of: "owner, name, version",
        at: secret,
    },
    Place {
        table: "earlier_secrets",
        column: "sealed",
        of: "owner, name, version",
        at: secret,
    },
    Place {
        table: "launches",
        column: "keys",
        of: "owner, id",
        at: |row| {
            Ok(SealedAt::LaunchKeys {
                owner: rows::name("a launch's owner", row, 2)?,
                launch: rows::uuid("a launch's id", row, 3)?,
            })
        },
    },
    Place {
        table: "launches",
        column: "answer",
        of: "owner, id",
        at: |row| {
            Ok(SealedAt::Answer {
                owner: rows::name("a launch's owner", row, 2)?,
                launch: rows::uuid("a launch's id", row, 3)?,
            })
        },
    },
    Place {
        table: "connections",
        column: "sealed_key",
        of: "owner, id",
        at: |row| {
            Ok(SealedAt::ConnectionKey {
                owner: rows::name("a connection's owner", row, 2)?,
                connection: rows::uuid("a connection's id", row, 3)?,
            })
        },
    },
    Place {
        table: "audit_log_key",
        column: "sealed",
        of: "one",
        at: |_| Ok(SealedAt::AuditLogKey),
    },
];

fn secret(row: &Row) -> Result<SealedAt, RowError> {
    Ok(SealedAt::Secret {
        owner: rows::name("a secret's owner", row, 2)?,
        name: rows::name("a secret's name", row, 3)?,
        version: rows::natural("a secret's version", row, 4)?,
    })
}

impl Keys for SqlStore {
    fn sealing_keys(&self) -> Result<Vec<SealingKey>, StoreError> {
        self.read(all)
    }

    fn activate(&self, id: KeyId, location: &KeyLocation, act: &Act) -> Result<(), StoreError> {
        let (location, act) = (location.clone(), act.clone());
        self.write(Scope::Alone, move |c| activate(c, id, &location, &act))
    }

    fn retire(&self, act: &Act) -> Result<Vec<KeyId>, StoreError> {
        let act = act.clone();
        self.write(Scope::Alone, move |c| retire(c, &act))
    }

    fn sealed_values(
        &self,
        after: Cursor,
        but: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError> {
        self.read(|c| values(c, after, but, limit))
    }

    fn reseal(&self, values: Vec<Resealed>) -> Result<usize, StoreError> {
        self.write(Scope::Free, move |c| reseal(c, &values))
    }
}

impl SqlStore {
    /// The key that signs the audit log, sealed.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn audit_log_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|c| {
            let found = c.query_row("SELECT sealed FROM audit_log_key", params![], |row| row.get(0));
            found.optional()
        })
    }

    /// Keeps the key that signs the audit log, sealed. There is one, and it stays.
    ///
    /// # Errors
    /// When there is one already, it is sealed under a key that was retired, or the engine fails.
    pub fn keep_audit_log_key(&self, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.write(Scope::Alone, move |c| {
            c.execute(
                "INSERT INTO audit_log_key (one, sealed) VALUES (1, ?1)",
                [sealed.as_slice()],
            )?;
            Ok(())
        })
    }
}

fn all(c: &Connection) -> Result<Vec<SealingKey>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT id, state, location, created, retired FROM sealing_keys ORDER BY created, state DESC, id",
    )?;
    let mut found = statement.query(params![])?;
    let mut keys = Vec::new();
    while let Some(row) = found.next()? {
        let state: String = row.get(1)?;
        keys.push(SealingKey {
            id: KeyId(rows::bytes("a key's id", row, 0)?.0),
            state: state
                .parse()
                .map_err(|()| rows::damaged("a key's state", &state))?,
            location: rows::json("a key's location", row, 2)?,
            created: Time::from_millis(row.get(3)?),
            retired: row.get::<Option<i64>>(4)?.map(Time::from_millis),
        });
    }
    Ok(keys)
}

fn activate(c: &Connection, key: KeyId, location: &KeyLocation, act: &Act) -> Result<(), RowError> {
    let before = all(c)?.into_iter().find(|key| key.state == KeyState::Active);
    let id = key.0.as_slice();
    let location = rows::to_json("a key's location", location)?;
    c.execute(
        "UPDATE sealing_keys SET state = 'retiring' WHERE state = 'active' AND id <> ?1",
        [id],
    )?;
    let active = c.execute(
        "INSERT INTO sealing_keys (id, state, location, created) VALUES (?1, 'active', ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET state = 'active', location = ?2
         WHERE sealing_keys.state <> 'retired'",
        params![id, location, act.time.millis()],
    )?;
    if active != 1 {
        return Err(rows::damaged(
            "a key's state",
            "it was retired, and is never taken up again",
        ));
    }
    match before.filter(|before| before.id != key) {
        Some(before) => record(
            c,
            act,
            Event::KeyRotated {
                purpose: KeyPurpose::KeyEncryption,
                from: before.id.to_string(),
                to: key.to_string(),
            },
        ),
        None => Ok(()),
    }
}

fn record(c: &Connection, act: &Act, event: Event) -> Result<(), RowError> {
    log::append(c, &act.record(Uuid::new_v4(), None, event))
}

fn retire(c: &Connection, act: &Act) -> Result<Vec<KeyId>, RowError> {
    let mut left = Vec::new();
    for key in all(c)?.into_iter().filter(|key| key.state == KeyState::Retiring) {
        let id = key.id.0.as_slice();
        let mut used = false;
        for Place { table, column, .. } in PLACES {
            let sql = format!("SELECT 1 FROM {table} WHERE substr({column}, 2, 8) = ?1 LIMIT 1");
            used |= c.query_row(&sql, [id], |_| Ok(())).optional()?.is_some();
        }
        if used {
            left.push(key.id);
        } else {
            c.execute(
                "UPDATE sealing_keys SET state = 'retired', retired = ?2 WHERE id = ?1",
                params![id, act.time.millis()],
            )?;
            let event = Event::KeyRetired {
                purpose: KeyPurpose::KeyEncryption,
                id: key.id.to_string(),
            };
            record(c, act, event)?;
        }
    }
    Ok(left)
}

fn values(
    c: &Connection,
    (first, mut after): Cursor,
    but: Option<KeyId>,
    limit: u32,
) -> Result<Vec<SealedValue>, RowError> {
    let mut values = Vec::new();
    for (number, place) in PLACES.iter().enumerate().skip(first) {
        let Place {
            table, column, of, ..
        } = place;
        let sql = format!(
            "SELECT rowid, {column}, {of} FROM {table}
             WHERE rowid > ?1 AND length({column}) > 0 AND (CAST(?2 AS BLOB) IS NULL OR substr({column}, 2, 8) <> ?2)
             ORDER BY rowid LIMIT ?3"
        );
        let mut statement = c.prepare_cached(&sql)?;
        let room = usize::try_from(limit).unwrap_or(usize::MAX) - values.len();
        let mut found = statement.query(params![
            after,
            but.map(|id| id.0),
            i64::try_from(room).unwrap_or(i64::MAX)
        ])?;
        while let Some(row) = found.next()? {
            values.push(SealedValue {
                at: (place.at)(row)?,
                cursor: (number, row.get(0)?),
                sealed: row.get(1)?,
            });
        }
        if values.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            break;
        }
        after = 0;
    }
    Ok(values)
}

fn reseal(c: &Connection, values: &[Resealed]) -> Result<usize, RowError> {
    let mut done = 0;
    for Resealed { cursor, old, new } in values {
        let Some(Place { table, column, .. }) = PLACES.get(cursor.0) else {
            return Err(rows::damaged("a sealed value's place", cursor.0));
        };
        let sql = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2 AND {column} = ?3");
        done += c.prepare_cached(&sql)?.execute(params![new, cursor.1, old])?;
    }
    Ok(done)
}

/// Whether a value is sealed under a key that was retired: it was on its way when the rotation ended.
pub(super) fn is_retired(c: &Connection, sealed: &[u8]) -> Result<bool, RowError> {
    let mut statement = c.prepare_cached("SELECT 1 FROM sealing_keys WHERE id = ?1 AND state = 'retired'")?;
    // The first byte is the version of the sealing, the next eight are the key's id.
    statement.exists([sealed.get(1..9).unwrap_or_default()])
}
