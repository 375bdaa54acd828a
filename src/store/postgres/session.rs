//! A connection of PostgreSQL's, asked from threads that may wait.

use std::cell::Cell;
use std::future::Future;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::store::engine::{Param, RowError};

/// What a failure says of the transaction that it was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing of it is there, and the same again may do: another transaction was in the way, or the connection is gone
    /// before the end was asked for.
    Passing,
    /// It would fail again.
    Lasting,
}

impl Failure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            // No answer at all: the connection is lost. What the program itself got wrong has no code either.
            return if error.is_closed()
                || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>())
            {
                Self::Passing
            } else {
                Self::Lasting
            };
        };
        let passing = [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            &SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        if passing.contains(&code) || code.code().starts_with("08") {
            Self::Passing
        } else {
            Self::Lasting
        }
    }
}

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
        self.handle.block_on(future).map_err(|error| {
            if self.failure.get().is_none() {
                self.failure.set(Some(Failure::of(&error)));
            }
            error.into()
        })
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
