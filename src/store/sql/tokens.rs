//! Tokens: by their hash for who calls, by their id for who looks after them.

use crate::store::engine::{Cell, Connection, Optional as _, Row, params};
use uuid::Uuid;

use super::super::{OwnerCreated, Revoked, StoreError, TokenCreated, Tokens};
use super::{RowError, Scope, SqlStore, log, owners, rows};
use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::revision::By;
use crate::domain::token::{Identity, Proof, TokenEntry, TokenHash};
use crate::domain::{Name, Role, Time};

/// Tokens that are kept for an owner, the ended among them.
const MOST: u32 = 1000;

/// Version of the UUIDs of those who have no token: [`Identity::vouched`].
const VOUCHED: usize = 8;

impl Tokens for SqlStore {
    fn create_owner(&self, owner: &Name, token: TokenHash, act: &Act) -> Result<OwnerCreated, StoreError> {
        let (owner, act) = (owner.clone(), act.clone());
        self.write(Scope::Alone, move |c| owners::create(c, &owner, token, &act))
    }

    fn owners(&self) -> Result<Vec<Name>, StoreError> {
        self.read(owners::list)
    }

    fn caller(&self, token: TokenHash, now: Time) -> Result<Option<Identity>, StoreError> {
        self.read(|c| caller(c, token, now))
    }

    fn create_token(
        &self,
        entry: &TokenEntry,
        hash: TokenHash,
        act: &Act,
    ) -> Result<TokenCreated, StoreError> {
        let (entry, act) = (entry.clone(), act.clone());
        self.write(Scope::of(entry.owner.as_ref()), move |c| {
            create(c, &entry, hash, &act)
        })
    }

    fn tokens(&self, owner: Option<&Name>) -> Result<Vec<TokenEntry>, StoreError> {
        self.read(|c| list(c, owner))
    }

    fn revoke_token(&self, owner: Option<&Name>, id: Uuid, act: &Act) -> Result<Revoked, StoreError> {
        let (owner, act) = (owner.cloned(), act.clone());
        self.write(Scope::of(owner.as_ref()), move |c| {
            revoke(c, owner.as_ref(), id, &act)
        })
    }

    fn tokens_used(&self, uses: &[(Uuid, Time)]) -> Result<(), StoreError> {
        // In one order, so that two servers never wait for each other.
        let mut uses = uses.to_vec();
        uses.sort();
        self.write(Scope::Free, move |c| used(c, &uses))
    }
}

fn caller(c: &Connection, token: TokenHash, now: Time) -> Result<Option<Identity>, RowError> {
    let found = c
        .prepare_cached(
            "SELECT owner, id, name, role FROM tokens
             WHERE hash = ?1 AND revoked IS NULL AND (expires IS NULL OR expires > ?2)",
        )?
        .query_row(params![token.0.as_slice(), now.millis()], |row| {
            let identity = || {
                Ok(Identity {
                    owner: owner(row, 0)?,
                    token: rows::uuid("a token's id", row, 1)?,
                    name: row.get(2)?,
                    role: role(row, 3)?,
                    once: None,
                    proof: Proof::Token,
                })
            };
            Ok(identity())
        })
        .optional()?;
    found.transpose()
}

fn create(c: &Connection, entry: &TokenEntry, hash: TokenHash, act: &Act) -> Result<TokenCreated, RowError> {
    let whose = entry.owner.as_ref().map(Name::as_str);
    if let Some(name) = whose {
        let known = "SELECT EXISTS (SELECT 1 FROM owners WHERE name = ?1)";
        if !c.query_row(known, [name], |row| row.get::<bool>(0))? {
            return Ok(TokenCreated::NoOwner);
        }
    }
    let count = "SELECT count(*) FROM tokens WHERE owner IS NOT DISTINCT FROM ?1";
    if c.query_row(count, [whose], |row| row.get::<u32>(0))? >= MOST {
        let forgotten = c.execute(
            "DELETE FROM tokens WHERE hash = (
                 SELECT hash FROM tokens
                 WHERE owner IS NOT DISTINCT FROM ?1 AND (revoked IS NOT NULL OR expires <= ?2)
                 ORDER BY CASE WHEN revoked < expires THEN revoked ELSE coalesce(expires, revoked) END LIMIT 1)",
            params![whose, entry.created.millis()],
        )?;
        if forgotten == 0 {
            return Ok(TokenCreated::Full(MOST));
        }
    }
    c.execute(
        "INSERT INTO tokens (hash, id, owner, name, role, created, expires, made_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            hash.0.as_slice(),
            entry.id.as_bytes().as_slice(),
            whose,
            entry.name.as_str(),
            entry.role.as_str(),
            entry.created.millis(),
            entry.expires.map(Time::millis),
            entry.made_by.map(|id| id.as_bytes().to_vec()),
        ],
    )?;
    let event = Event::TokenCreated {
        id: entry.id,
        name: entry.name.to_string(),
        role: entry.role.to_string(),
        expires: entry.expires,
    };
    log::append(c, &act.record(Uuid::new_v4(), entry.owner.clone(), event))?;
    Ok(TokenCreated::Created)
}

fn list(c: &Connection, of: Option<&Name>) -> Result<Vec<TokenEntry>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT owner, id, name, role, created, expires, last_used, revoked, made_by FROM tokens
         WHERE CAST(?1 AS TEXT) IS NULL OR owner = ?1 ORDER BY created, id",
    )?;
    let mut found = statement.query([of.map(Name::as_str)])?;
    let mut tokens = Vec::new();
    while let Some(row) = found.next()? {
        let time = |column| Ok::<_, RowError>(row.get::<Option<i64>>(column)?.map(Time::from_millis));
        tokens.push(TokenEntry {
            owner: owner(row, 0)?,
            id: rows::uuid("a token's id", row, 1)?,
            name: rows::name("a token's name", row, 2)?,
            role: role(row, 3)?,
            created: Time::from_millis(row.get(4)?),
            expires: time(5)?,
            last_used: time(6)?,
            revoked: time(7)?,
            made_by: made_by(row, 8)?,
        });
    }
    Ok(tokens)
}

fn revoke(c: &Connection, of: Option<&Name>, token: Uuid, act: &Act) -> Result<Revoked, RowError> {
    let (id, now) = (token.as_bytes().as_slice(), act.time);
    let whose = of.map(Name::as_str);
    // An administrator's token is nobody's, so that no owner finds it here.
    let found = c
        .query_row(
            "SELECT revoked IS NOT NULL, role = 'owner' AND (expires IS NULL OR expires > ?3), name, owner
             FROM tokens WHERE id = ?1 AND (CAST(?2 AS TEXT) IS NULL OR owner = ?2)",
            params![id, whose, now.millis()],
            |row| {
                let listed = row.get::<String>(2)?;
                Ok((row.get::<bool>(0)?, row.get::<bool>(1)?, listed, owner(row, 3)))
            },
        )
        .optional()?;
    let Some((revoked, last_resort, name, its_owner)) = found else {
        return Ok(Revoked::NotFound);
    };
    match (revoked, last_resort) {
        (true, _) => return Ok(Revoked::Done),
        (false, true) if of.is_some() => {
            let others = c.query_row(
                "SELECT EXISTS (SELECT 1 FROM tokens WHERE owner = ?2 AND id <> ?1 AND role = 'owner'
                     AND revoked IS NULL AND (expires IS NULL OR expires > ?3))",
                params![id, whose, now.millis()],
                |row| row.get::<bool>(0),
            )?;
            if !others {
                return Ok(Revoked::Last);
            }
        }
        (false, _) => {}
    }
    c.execute(
        "UPDATE tokens SET revoked = ?2 WHERE id = ?1",
        params![id, now.millis()],
    )?;
    let event = Event::TokenRevoked { id: token, name };
    log::append(c, &act.record(Uuid::new_v4(), its_owner?, event))?;
    Ok(Revoked::Done)
}

fn used(c: &Connection, uses: &[(Uuid, Time)]) -> Result<(), RowError> {
    let mut statement = c.prepare_cached(
        "UPDATE tokens SET last_used = ?2 WHERE id = ?1 AND (last_used IS NULL OR last_used < ?2)",
    )?;
    for (id, time) in uses {
        statement.execute(params![id.as_bytes().as_slice(), time.millis()])?;
    }
    Ok(())
}

fn owner(row: &Row, column: usize) -> Result<Option<Name>, RowError> {
    match row.get_ref(column)? {
        Cell::Null => Ok(None),
        _ => rows::name("a token's owner", row, column).map(Some),
    }
}

fn made_by(row: &Row, column: usize) -> Result<Option<Uuid>, RowError> {
    match row.get_ref(column)? {
        Cell::Null => Ok(None),
        _ => rows::uuid("a token's maker", row, column).map(Some),
    }
}

/// Why this one has no word where two people are asked for; none: it has.
pub(super) fn without_word(
    c: &Connection,
    owner: &Name,
    by: &By,
    now: Time,
) -> Result<Option<String>, RowError> {
    // One person may have a token, a certificate and several identities: only the first are told apart here, and
    // whether the last are still valid is not known.
    if by.token.get_version_num() == VOUCHED {
        return Ok(Some(format!(
            "{} has no token of this server: where two people are asked for, only those have a word whose token an \
             administrator made",
            by.name
        )));
    }
    let found: Option<(bool, bool)> = c
        .prepare_cached(
            "SELECT revoked IS NULL AND (expires IS NULL OR expires > ?3), made_by IS NOT NULL FROM tokens
             WHERE id = ?1 AND owner = ?2",
        )?
        .query_row(
            params![by.token.as_bytes().as_slice(), owner.as_str(), now.millis()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(match found {
        Some((true, false)) => None,
        Some((true, true)) => Some(format!(
            "the token {} was made with another token of this owner: where two people are asked for, an administrator \
             makes the tokens of those who have a word",
            by.name
        )),
        Some((false, _)) | None => Some(format!("the token {} is no longer valid", by.name)),
    })
}

fn role(row: &Row, column: usize) -> Result<Role, RowError> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|error| rows::damaged("a token's role", error))
}
