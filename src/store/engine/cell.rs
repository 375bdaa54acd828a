//! Rows, as owned cells of the four types that both engines have.

use tokio_postgres::types::Type;

use super::{Param, RowError};

/// What a column of a row holds.
#[derive(Clone)]
pub(in crate::store) enum Cell {
    Null,
    /// Whole numbers; booleans are 0 and 1.
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Cell {
    pub(in crate::store) fn as_str(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.is_no("text")),
        }
    }

    pub(in crate::store) fn as_blob(&self) -> Result<&[u8], String> {
        match self {
            Self::Blob(bytes) => Ok(bytes),
            other => Err(other.is_no("bytes")),
        }
    }

    /// The same, as a parameter.
    pub(in crate::store) fn param(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::Int(number) => Param::Int(*number),
            Self::Text(text) => Param::Text(text),
            Self::Blob(bytes) => Param::Blob(bytes),
        }
    }

    fn is_no(&self, wanted: &str) -> String {
        let found = match self {
            Self::Null => "null",
            Self::Int(_) => "a number",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        };
        format!("{found} where {wanted} should be")
    }
}

fn damaged(why: String) -> RowError {
    RowError::Damaged {
        what: "a column",
        why,
    }
}

/// A row of an answer.
pub(in crate::store) struct Row(Vec<Cell>);

impl Row {
    pub(super) fn of_sqlite(row: &rusqlite::Row<'_>, columns: usize) -> Result<Self, RowError> {
        use rusqlite::types::ValueRef;
        let cell = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Int(number),
                ValueRef::Text(text) => {
                    let text = std::str::from_utf8(text).map_err(|e| RowError::Damaged {
                        what: "a column",
                        why: e.to_string(),
                    })?;
                    Cell::Text(text.to_owned())
                }
                ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
                ValueRef::Real(_) => {
                    return Err(RowError::Damaged {
                        what: "a column",
                        why: "a fraction, which no column holds".to_owned(),
                    });
                }
            })
        };
        (0..columns).map(cell).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of_postgres(row: &tokio_postgres::Row) -> Result<Self, RowError> {
        let cell = |(column, of): (usize, &tokio_postgres::Column)| {
            Ok(match *of.type_() {
                Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(Cell::Int),
                Type::INT4 => row
                    .try_get::<_, Option<i32>>(column)?
                    .map(|number| Cell::Int(number.into())),
                Type::BOOL => row
                    .try_get::<_, Option<bool>>(column)?
                    .map(|truth| Cell::Int(truth.into())),
                Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.map(Cell::Blob),
                _ => row.try_get::<_, Option<String>>(column)?.map(Cell::Text),
            }
            .unwrap_or(Cell::Null))
        };
        let columns = row.columns().iter().enumerate();
        columns.map(cell).collect::<Result<_, _>>().map(Self)
    }

    pub(in crate::store) fn get_ref(&self, column: usize) -> Result<&Cell, RowError> {
        self.0.get(column).ok_or(RowError::Damaged {
            what: "a row",
            why: format!("it has no column {column}"),
        })
    }

    /// Everything in it, in order.
    pub(in crate::store) fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// What a column holds, as a type that fits.
    pub(in crate::store) fn get<T: Column>(&self, column: usize) -> Result<T, RowError> {
        T::read(self.get_ref(column)?)
    }
}

/// A type that a column is read as.
pub(in crate::store) trait Column: Sized {
    fn read(cell: &Cell) -> Result<Self, RowError>;
}

impl Column for String {
    fn read(cell: &Cell) -> Result<Self, RowError> {
        cell.as_str().map(str::to_owned).map_err(damaged)
    }
}

impl Column for Vec<u8> {
    fn read(cell: &Cell) -> Result<Self, RowError> {
        cell.as_blob().map(<[u8]>::to_vec).map_err(damaged)
    }
}

impl Column for i64 {
    fn read(cell: &Cell) -> Result<Self, RowError> {
        match cell {
            Cell::Int(number) => Ok(*number),
            other => Err(damaged(other.is_no("a number"))),
        }
    }
}

impl Column for bool {
    fn read(cell: &Cell) -> Result<Self, RowError> {
        i64::read(cell).map(|number| number != 0)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Column for $number {
            fn read(cell: &Cell) -> Result<Self, RowError> {
                i64::read(cell)?.try_into().map_err(|_| damaged(cell.is_no("a number of its width")))
            }
        }
    )*};
}
numbers!(u16, u32);

impl<T: Column> Column for Option<T> {
    fn read(cell: &Cell) -> Result<Self, RowError> {
        match cell {
            Cell::Null => Ok(None),
            cell => T::read(cell).map(Some),
        }
    }
}
