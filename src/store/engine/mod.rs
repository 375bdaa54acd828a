//! One way to ask either engine: statements with numbered parameters, rows of owned cells.
//!
//! The use cases in `store::sql` are written once, in SQL that SQLite and PostgreSQL read alike; where they differ, a use
//! case has a text for each ([`Connection::either`]). What an engine is alone in, such as how it begins a transaction,
//! who waits for whom and how its schema is made, is in `store::sqlite` and `store::postgres`.

mod cell;
mod param;

use rusqlite::CachedStatement;

pub(super) use cell::{Cell, Row};
pub(super) use param::{Param, Params, ToParam, params};

use super::StoreError;
use super::postgres::Session;

/// What may go wrong with a row: the engine, or what the row holds.
#[derive(Debug)]
pub(super) enum RowError {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// PostgreSQL failed.
    Postgres(Box<tokio_postgres::Error>),
    /// PostgreSQL did not answer.
    Silent,
    /// There is no such row where one was asked for.
    NoRow,
    /// A row does not hold what it should.
    Damaged { what: &'static str, why: String },
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<tokio_postgres::Error> for RowError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(Box::new(error))
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Sqlite(error) => Self::Engine(error.to_string()),
            RowError::Postgres(error) => super::postgres::engine(&error),
            RowError::Silent => Self::Engine("the database does not answer".to_owned()),
            RowError::NoRow => Self::Engine("a row is missing".to_owned()),
            RowError::Damaged { what, why } => Self::Damaged { what, why },
        }
    }
}

/// A row that need not be there.
pub(super) trait Optional<T> {
    /// None where there is no such row.
    fn optional(self) -> Result<Option<T>, RowError>;
}

impl<T> Optional<T> for Result<T, RowError> {
    fn optional(self) -> Result<Option<T>, RowError> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(RowError::NoRow | RowError::Sqlite(rusqlite::Error::QueryReturnedNoRows)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A connection on which a transaction is under way.
pub(super) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Session),
}

impl Connection {
    /// The text for this engine.
    pub(super) fn either<'s>(&self, sqlite: &'s str, postgres: &'s str) -> &'s str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    pub(super) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>, RowError> {
        Ok(match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection.prepare_cached(sql)?),
            Self::Postgres(session) => Statement::Postgres(session, session.prepare(sql)?),
        })
    }

    /// Runs one statement; how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, RowError> {
        self.prepare_cached(sql)?.execute(params)
    }

    /// The first row of an answer.
    pub(super) fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row) -> Result<T, RowError>,
    ) -> Result<T, RowError> {
        self.prepare_cached(sql)?.query_row(params, read)
    }

    /// Runs statements without parameters.
    pub(super) fn execute_batch(&self, sql: &str) -> Result<(), RowError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(session) => session.batch(sql),
        }
    }

    /// Whether a transaction of SQLite's is open.
    pub(super) fn is_in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(connection) => !connection.is_autocommit(),
            Self::Postgres(_) => true,
        }
    }
}

/// A prepared statement.
pub(super) enum Statement<'c> {
    Sqlite(CachedStatement<'c>),
    Postgres(&'c Session, tokio_postgres::Statement),
}

impl Statement<'_> {
    pub(super) fn execute(&mut self, params: impl Params) -> Result<usize, RowError> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(rusqlite::params_from_iter(params.list()))?),
            Self::Postgres(session, statement) => session.execute(statement, &params.list()),
        }
    }

    pub(super) fn query(&mut self, params: impl Params) -> Result<Rows<'_>, RowError> {
        let source = match self {
            Self::Sqlite(statement) => {
                let columns = statement.column_count();
                Source::Sqlite(
                    statement.query(rusqlite::params_from_iter(params.list()))?,
                    columns,
                )
            }
            Self::Postgres(session, statement) => {
                Source::Postgres(session.query(statement, &params.list())?.into_iter())
            }
        };
        Ok(Rows {
            source,
            current: None,
        })
    }

    /// The first row of an answer.
    pub(super) fn query_row<T>(
        &mut self,
        params: impl Params,
        read: impl FnOnce(&Row) -> Result<T, RowError>,
    ) -> Result<T, RowError> {
        match self.query(params)?.next()? {
            Some(row) => read(row),
            None => Err(RowError::NoRow),
        }
    }

    /// Whether there is any row.
    pub(super) fn exists(&mut self, params: impl Params) -> Result<bool, RowError> {
        Ok(self.query(params)?.next()?.is_some())
    }
}

enum Source<'s> {
    Sqlite(rusqlite::Rows<'s>, usize),
    Postgres(std::vec::IntoIter<tokio_postgres::Row>),
}

/// The rows of an answer, one after the other.
pub(super) struct Rows<'s> {
    source: Source<'s>,
    current: Option<Row>,
}

impl Rows<'_> {
    pub(super) fn next(&mut self) -> Result<Option<&Row>, RowError> {
        self.current = match &mut self.source {
            Source::Sqlite(rows, columns) => match rows.next()? {
                Some(row) => Some(Row::of_sqlite(row, *columns)?),
                None => None,
            },
            Source::Postgres(rows) => rows.next().map(|row| Row::of_postgres(&row)).transpose()?,
        };
        Ok(self.current.as_ref())
    }
}
