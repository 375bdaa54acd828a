//! A connection of PostgreSQL's, asked from threads that may wait.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::store::engine::{Param, RowError};

/// What a failure says of the transaction that it was in, before its end was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another transaction was in the way: nothing of this one is there, and the same again may do.
    Conflict,
    /// The connection is lost or of no more use: nothing is there, and the same again may do over another one.
    Lost,
    /// The database does not answer at all. Whoever asks has waited long enough.
    Silent,
    /// It would fail again.
    Lasting,
}

impl Failure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            // No answer at all: the connection is lost. What the program itself got wrong has no code either.
            let io = std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>());
            return if error.is_closed() || io {
                Self::Lost
            } else {
                Self::Lasting
            };
        };
        let conflicts = [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            // Two wrote the same for the first time: the second finds it there.
            &SqlState::UNIQUE_VIOLATION,
        ];
        let lost = [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            // It became a standby, or may not be written for another reason; the next may be one that can.
            &SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        if conflicts.contains(&code) {
            Self::Conflict
        } else if lost.contains(&code) || code.code().starts_with("08") {
            Self::Lost
        } else {
            Self::Lasting
        }
    }
}

/// How long an answer is waited for: longer than the database lets a statement run, so that only one that hangs as a whole
/// is given up here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, with what became of it.
pub(in crate::store) struct Session {
    client: Object,
    handle: Handle,
    /// The first failure since the transaction began. PostgreSQL ends a transaction at its first failure, and answers the
    /// `COMMIT` of such a one with «rolled back» and no error.
    failure: Cell<Option<Failure>>,
}

impl Session {
    pub(super) fn new(client: Object, handle: Handle) -> Self {
        Self {
            client,
            handle,
            failure: Cell::new(None),
        }
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, RowError> {
        let answered = self
            .handle
            .block_on(async { tokio::time::timeout(PATIENCE, future).await });
        let (failure, error) = match answered {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => (Failure::of(&error), error.into()),
            Err(_) => (Failure::Silent, RowError::Silent),
        };
        if self.failure.get().is_none() {
            self.failure.set(Some(failure));
        }
        Err(error)
    }

    pub(in crate::store) fn prepare(&self, sql: &str) -> Result<Statement, RowError> {
        self.wait(self.client.prepare_cached(&translated(sql)))
    }

    pub(in crate::store) fn execute(
        &self,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<usize, RowError> {
        let rows = self.wait(self.client.execute_raw(statement, borrowed(params)))?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    pub(in crate::store) fn query(
        &self,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, RowError> {
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        self.wait(self.client.query(statement, &params))
    }

    pub(in crate::store) fn batch(&self, sql: &str) -> Result<(), RowError> {
        self.wait(self.client.batch_execute(sql))
    }

    /// How the transaction failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// Undoes what was done since the savepoint `change`, with the failure that it ended in.
    pub(super) fn undo_change(&self) -> Result<(), RowError> {
        // Before, so that what fails now is known for what it is.
        self.failure.set(None);
        self.batch("ROLLBACK TO SAVEPOINT change")
    }

    /// Ends the connection instead of giving it back.
    pub(super) fn discard(self) {
        drop(Object::take(self.client));
    }

    /// Undoes the transaction and gives the connection back, where both is possible.
    pub(super) fn undo(self) {
        match self.batch("ROLLBACK") {
            Ok(()) => drop(self),
            Err(_) => self.discard(),
        }
    }
}

fn borrowed<'p>(params: &'p [Param<'p>]) -> impl ExactSizeIterator<Item = &'p (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync))
}

/// A text for both engines as PostgreSQL writes it: `$N` for `?N`, `''` for no bytes, `BYTEA`, and no hint at an index. No
/// text has a question mark otherwise.
fn translated(sql: &str) -> String {
    let sql = sql
        .replace('?', "$")
        .replace("x''", "''")
        .replace("AS BLOB)", "AS BYTEA)");
    match sql.split_once(" INDEXED BY ") {
        Some((before, after)) => {
            let after = after.trim_start().split_once(char::is_whitespace);
            format!("{before} {}", after.map_or("", |(_, rest)| rest))
        }
        None => sql,
    }
}
