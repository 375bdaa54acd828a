//! Owners and their tokens.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{Caller, OwnerCreated, RowError, TokenHash};
use super::{log, rows};
use crate::audit::record::{AuditRecord, Event, ObjectKind, ObjectRef};
use crate::domain::{Name, Time};

/// What an owner's first token is called.
const FIRST: &str = "init";

/// An owner and the first token, made by whoever can write the data folder.
pub(super) fn create(
    c: &Connection,
    owner: &Name,
    token: TokenHash,
    now: Time,
) -> Result<OwnerCreated, RowError> {
    let created = c.execute(
        "INSERT INTO owners (name, created) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
        params![owner.as_str(), now.millis()],
    )?;
    if created == 0 {
        return Ok(OwnerCreated::Exists);
    }
    let id = Uuid::new_v4();
    c.execute(
        "INSERT INTO tokens (hash, id, owner, name, created) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            token.0.as_slice(),
            id.as_bytes().as_slice(),
            owner.as_str(),
            FIRST,
            now.millis()
        ],
    )?;
    let object = ObjectRef {
        kind: ObjectKind::Owner,
        name: owner.clone(),
        version: None,
    };
    let token = Event::TokenCreated {
        id,
        name: FIRST.to_owned(),
        role: "owner".to_owned(),
        expires: None,
    };
    for event in [Event::ObjectCreated { object }, token] {
        let record = AuditRecord::of_server(Uuid::new_v4(), now, Some(owner.clone()), event);
        log::append(c, &record)?;
    }
    Ok(OwnerCreated::Created)
}

pub(super) fn list(c: &Connection) -> Result<Vec<Name>, RowError> {
    let mut statement = c.prepare_cached("SELECT name FROM owners ORDER BY name")?;
    let mut found = statement.query([])?;
    let mut owners = Vec::new();
    while let Some(row) = found.next()? {
        owners.push(rows::name("an owner's name", row, 0)?);
    }
    Ok(owners)
}

pub(super) fn caller(c: &Connection, token: TokenHash) -> Result<Option<Caller>, RowError> {
    let found = c
        .prepare_cached("SELECT owner, id, name FROM tokens WHERE hash = ?1")?
        .query_row([token.0.as_slice()], |row| {
            Ok((
                rows::name("a token's owner", row, 0),
                rows::uuid("a token's id", row, 1),
                row.get(2)?,
            ))
        })
        .optional()?;
    found
        .map(|(owner, token, name)| {
            Ok(Caller {
                owner: owner?,
                token: token?,
                name,
            })
        })
        .transpose()
}
