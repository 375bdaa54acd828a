//! Owners.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::OwnerCreated;
use super::{RowError, rows};
use crate::domain::token::TokenHash;
use crate::domain::{Name, Role, Time};

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
    c.execute(
        "INSERT INTO tokens (hash, id, owner, name, role, created) VALUES (?1, ?2, ?3, 'init', ?4, ?5)",
        params![
            token.0.as_slice(),
            Uuid::new_v4().as_bytes().as_slice(),
            owner.as_str(),
            Role::Owner.as_str(),
            now.millis()
        ],
    )?;
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
