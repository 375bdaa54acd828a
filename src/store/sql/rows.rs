//! Rows to types and back, with an error where a row is not what it should be.

use crate::store::engine::{Cell, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::RowError;
use crate::domain::{Hex, Name};

pub(super) fn damaged(what: &'static str, why: impl ToString) -> RowError {
    RowError::Damaged {
        what,
        why: why.to_string(),
    }
}

pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, RowError> {
    serde_json::from_str(text).map_err(|e| damaged(what, e))
}

pub(super) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, RowError> {
    serde_json::to_string(value).map_err(|e| damaged(what, e))
}

/// The JSON document in a column.
pub(super) fn json<T: DeserializeOwned>(what: &'static str, row: &Row, column: usize) -> Result<T, RowError> {
    from_json(what, row.get_ref(column)?.as_str().map_err(|e| damaged(what, e))?)
}

pub(super) fn uuid(what: &'static str, row: &Row, column: usize) -> Result<Uuid, RowError> {
    Uuid::from_slice(blob(row, column)?).map_err(|e| damaged(what, e))
}

pub(super) fn name(what: &'static str, row: &Row, column: usize) -> Result<Name, RowError> {
    row.get_ref(column)?
        .as_str()
        .map_err(|e| damaged(what, e))?
        .parse()
        .map_err(|e| damaged(what, e))
}

/// Exactly `N` bytes.
pub(super) fn bytes<const N: usize>(
    what: &'static str,
    row: &Row,
    column: usize,
) -> Result<Hex<N>, RowError> {
    let bytes = blob(row, column)?
        .try_into()
        .map_err(|_| damaged(what, "wrong length"))?;
    Ok(Hex(bytes))
}

pub(super) fn optional_bytes<const N: usize>(
    what: &'static str,
    row: &Row,
    column: usize,
) -> Result<Option<Hex<N>>, RowError> {
    match row.get_ref(column)? {
        Cell::Null => Ok(None),
        _ => bytes(what, row, column).map(Some),
    }
}

fn blob(row: &Row, column: usize) -> Result<&[u8], RowError> {
    row.get_ref(column)?.as_blob().map_err(|e| damaged("a column", e))
}

/// A whole number that must not be negative.
pub(super) fn natural(what: &'static str, row: &Row, column: usize) -> Result<u64, RowError> {
    u64::try_from(row.get::<i64>(column)?).map_err(|e| damaged(what, e))
}
