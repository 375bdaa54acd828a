//! Owners.

use crate::store::engine::{Connection, params};
use uuid::Uuid;

use super::super::OwnerCreated;
use super::{RowError, log, rows};
use crate::audit::actor::Act;
use crate::audit::record::{Event, ObjectKind, ObjectRef};
use crate::domain::token::TokenHash;
use crate::domain::{Name, Role};

/// What an owner's first token is called.
const FIRST: &str = "init";

/// An owner and the first token.
pub(super) fn create(
    c: &Connection,
    owner: &Name,
    token: TokenHash,
    act: &Act,
) -> Result<OwnerCreated, RowError> {
    let created = c.execute(
        "INSERT INTO owners (name, created) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
        params![owner.as_str(), act.time.millis()],
    )?;
    if created == 0 {
        return Ok(OwnerCreated::Exists);
    }
    // What an owner of this name released before a rollback is not known either.
    c.execute(
        "INSERT INTO rolled_back SELECT ?1, max(number) FROM rollbacks HAVING max(number) IS NOT NULL",
        [owner.as_str()],
    )?;
    let id = Uuid::new_v4();
    c.execute(
        "INSERT INTO tokens (hash, id, owner, name, role, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            token.0.as_slice(),
            id.as_bytes().as_slice(),
            owner.as_str(),
            FIRST,
            Role::Owner.as_str(),
            act.time.millis()
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
        role: Role::Owner.to_string(),
        expires: None,
    };
    for event in [Event::ObjectCreated { object }, token] {
        log::append(c, &act.record(Uuid::new_v4(), Some(owner.clone()), event))?;
    }
    Ok(OwnerCreated::Created)
}

pub(super) fn list(c: &Connection) -> Result<Vec<Name>, RowError> {
    let mut statement = c.prepare_cached("SELECT name FROM owners ORDER BY name")?;
    let mut found = statement.query(params![])?;
    let mut owners = Vec::new();
    while let Some(row) = found.next()? {
        owners.push(rows::name("an owner's name", row, 0)?);
    }
    Ok(owners)
}
