//! Connections of measured guests, and what a release is for: a launch that it spends, or a connection.

use crate::store::engine::{Connection as Database, Optional as _, Row, params};
use uuid::Uuid;

use super::{ReleaseCommit, RowError, Scope, SqlStore, StoreError, keys, launches, rows};
use crate::domain::connection::{Connection, FirstAnswer, Wanted};
use crate::domain::workload::WorkloadHead;
use crate::domain::{Name, Time};
use crate::store::{Connections, Link};

/// Connections that one sweep forgets.
const SWEEP: i64 = 100;
/// First answers that one sweep forgets.
const SWEPT_ANSWERS: i64 = 1000;

impl Connections for SqlStore {
    fn workload_heads(&self, owner: &Name, names: &[Name]) -> Result<Vec<WorkloadHead>, StoreError> {
        self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT document FROM workloads WHERE owner = ?1 AND name = ?2")?;
            let mut heads = Vec::with_capacity(names.len());
            for name in names {
                let mut found = statement.query([owner.as_str(), name.as_str()])?;
                if let Some(row) = found.next()? {
                    heads.push(rows::json("a workload", row, 0)?);
                }
            }
            Ok(heads)
        })
    }

    fn workload_name(&self, owner: &Name, uuid: Uuid) -> Result<Option<Name>, StoreError> {
        self.read(|c| {
            c.prepare_cached("SELECT name FROM workloads WHERE owner = ?1 AND uuid = ?2")?
                .query_row(params![owner.as_str(), uuid.as_bytes().as_slice()], |row| {
                    rows::name("a workload's name", row, 0)
                })
                .optional()
        })
    }

    fn connection(&self, id: Uuid, now: Time) -> Result<Option<Connection>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT id, owner, workload, launch, guest, sealed_key, created, expires, requests_left
                 FROM connections WHERE id = ?1 AND expires > ?2",
            )?;
            let mut found = statement.query(params![id.as_bytes().as_slice(), now.millis()])?;
            found.next()?.map(connection).transpose()
        })
    }

    fn take_request(&self, connection: Uuid, now: Time) -> Result<bool, StoreError> {
        self.write(Scope::Free, move |c| {
            let taken = c
                .prepare_cached(
                    "UPDATE connections SET requests_left = requests_left - 1
                     WHERE id = ?1 AND expires > ?2 AND requests_left > 0",
                )?
                .execute(params![connection.as_bytes().as_slice(), now.millis()])?;
            Ok(taken == 1)
        })
    }

    fn first_answers(
        &self,
        connection: Uuid,
        wanted: &[Wanted],
    ) -> Result<Vec<Option<FirstAnswer>>, StoreError> {
        self.read(|c| {
            wanted
                .iter()
                .map(|wanted| answer(c, connection, wanted))
                .collect()
        })
    }
}

fn connection(row: &Row) -> Result<Connection, RowError> {
    Ok(Connection {
        id: rows::uuid("a connection's id", row, 0)?,
        owner: rows::name("a connection's owner", row, 1)?,
        workload: rows::uuid("a connection's workload", row, 2)?,
        launch: rows::uuid("a connection's launch", row, 3)?,
        guest: rows::json("a connection", row, 4)?,
        sealed_key: row.get(5)?,
        created: Time::from_millis(row.get(6)?),
        expires: Time::from_millis(row.get(7)?),
        requests_left: row.get(8)?,
    })
}

fn answer(c: &Database, connection: Uuid, wanted: &Wanted) -> Result<Option<FirstAnswer>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT document FROM connection_answers WHERE connection = ?1 AND guid = ?2 AND id = ?3",
    )?;
    let mut found = statement.query(params![
        connection.as_bytes().as_slice(),
        wanted.guid.as_bytes().as_slice(),
        wanted.form.id()
    ])?;
    let row = found.next()?;
    row.map(|row| rows::json("a first answer", row, 0)).transpose()
}

/// Whether more can be asked over a connection; the request at hand was taken already.
pub(super) fn is_open(c: &Database, id: Uuid, now: Time) -> Result<bool, RowError> {
    c.prepare_cached("SELECT 1 FROM connections WHERE id = ?1 AND expires > ?2")?
        .exists(params![id.as_bytes().as_slice(), now.millis()])
}

/// Whether what a release is for is there still: a launch that waits, or an open connection.
pub(super) fn waits(c: &Database, release: &ReleaseCommit) -> Result<bool, RowError> {
    let now = release.decision.time;
    match &release.link {
        Link::Over { connection, .. } => is_open(c, *connection, now),
        Link::None | Link::Opens(_) => launches::is_waiting(c, release.launch, now),
    }
}

/// What a denial costs: a try of a launch. A request over a connection was charged when it came.
pub(super) fn charge(c: &Database, release: &ReleaseCommit) -> Result<(), RowError> {
    if !matches!(release.link, Link::Over { .. }) {
        launches::charge_try(c, release.launch)?;
    }
    Ok(())
}

/// Whether what was prepared for a connection is late: its key is sealed under one that was retired, or another request
/// was answered first.
pub(super) fn is_late(c: &Database, release: &ReleaseCommit) -> Result<bool, RowError> {
    match &release.link {
        Link::None => Ok(false),
        Link::Opens(connection) => keys::is_retired(c, &connection.sealed_key),
        Link::Over { connection, answers } => {
            for first in answers {
                if answer(c, *connection, &first.wanted)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Spends the launch and opens the connection, or writes down what is answered first; whether that was possible.
pub(super) fn spend(c: &Database, release: &ReleaseCommit) -> Result<bool, RowError> {
    let now = release.decision.time;
    match &release.link {
        Link::None => launches::spend(c, release.launch, now, release.answer.as_ref()),
        Link::Opens(connection) => {
            let spent = launches::spend(c, release.launch, now, release.answer.as_ref())?;
            if spent {
                open(c, connection)?;
            }
            Ok(spent)
        }
        Link::Over { connection, answers } => {
            if !is_open(c, *connection, now)? {
                return Ok(false);
            }
            for first in answers {
                c.prepare_cached("INSERT INTO connection_answers VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![
                        connection.as_bytes().as_slice(),
                        first.wanted.guid.as_bytes().as_slice(),
                        first.wanted.form.id(),
                        rows::to_json("a first answer", first)?
                    ])?;
            }
            Ok(true)
        }
    }
}

fn open(c: &Database, connection: &Connection) -> Result<(), RowError> {
    c.prepare_cached(
        "INSERT INTO connections
           (id, owner, workload, launch, guest, sealed_key, created, expires, requests_left)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        connection.id.as_bytes().as_slice(),
        connection.owner.as_str(),
        connection.workload.as_bytes().as_slice(),
        connection.launch.as_bytes().as_slice(),
        rows::to_json("a connection", &connection.guest)?,
        connection.sealed_key,
        connection.created.millis(),
        connection.expires.millis(),
        connection.requests_left,
    ])?;
    Ok(())
}

/// Forgets connections that have expired, and before them what was answered over them, a bounded number of rows at a time;
/// whether there were more.
pub(super) fn sweep(c: &Database, now: Time) -> Result<bool, RowError> {
    const EXPIRED: &str = "SELECT id FROM connections WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
    // SQLite is told which of the two it begins with; PostgreSQL finds out.
    let join = c.either("CROSS JOIN", "JOIN");
    let of_them = format!(
        "DELETE FROM connection_answers WHERE (connection, guid, id) IN
           (SELECT connection, guid, connection_answers.id FROM ({EXPIRED}) AS expired
              {join} connection_answers ON connection = expired.id LIMIT ?3)"
    );
    let answers = c
        .prepare_cached(&of_them)?
        .execute(params![now.millis(), SWEEP, SWEPT_ANSWERS])?;
    if answers >= usize::try_from(SWEPT_ANSWERS).unwrap_or(usize::MAX) {
        return Ok(true);
    }
    let them = format!("DELETE FROM connections WHERE id IN ({EXPIRED})");
    let forgotten = c.prepare_cached(&them)?.execute(params![now.millis(), SWEEP])?;
    Ok(forgotten >= usize::try_from(SWEEP).unwrap_or(usize::MAX))
}
