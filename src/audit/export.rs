//! The lines of an export: JSON Lines that another machine can verify without the database.
//!
//! ```text
//! {"export":1,"origin":"example.com/keyward"}
//! {"index":0,"leaf":"LEAF HASH","record":{…}}
//! {"index":1,"leaf":"LEAF HASH"}
//! {"checkpoint":"example.com/keyward\n2\nROOT\n\n— example.com/keyward SIGNATURE\n"}
//! ```
//!
//! - The first line says what it is and of which log.
//! - Then every record from index 0 on, in order. The bytes of `record`, exactly as they stand in the line, are the
//!   leaf; `leaf` is their hash, 64 hexadecimal digits. A record that was forgotten, or that is another owner's, is
//!   its hash alone.
//! - A checkpoint stands behind the last record that it counts. There is one at the end, and as many before as the
//!   log made: the more there are, the closer a change of records **and** their hashes can be told. A hash that no
//!   longer fits its own record tells it exactly.
//! - No other members, no other lines, no line longer than [`MAX_LINE`]. A tool that writes the lines anew, such as
//!   one that sorts members, changes the bytes of records and so the export.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::note::{MAX_NOTE, Note};
use super::record::{Leaf, MAX_RECORD};
use crate::domain::HexDigest;

/// The version of the format.
pub const EXPORT_VERSION: u32 = 1;

/// The longest line, in bytes, its newline not counted. In JSON a character of a note takes up to six.
pub const MAX_LINE: usize = const {
    let (record, note) = (MAX_RECORD + 256, 6 * MAX_NOTE);
    if record > note { record } else { note }
};

/// A line of an export.
#[derive(Debug)]
pub enum Line<'a> {
    /// What the file is.
    Header {
        /// The log's name.
        origin: String,
    },
    /// A record, or only its hash.
    Record {
        /// Its place in the log.
        index: u64,
        /// Its leaf hash, as the line says.
        leaf: HexDigest,
        /// Its bytes, unless they were left out.
        record: Option<&'a str>,
    },
    /// A checkpoint: a signed note, not verified.
    Checkpoint {
        /// The note.
        note: String,
    },
}

/// Why a line is none of an export's.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is longer than any.
    #[error("it has {0} bytes, a line has at most {MAX_LINE}")]
    Long(usize),
    /// It is not one JSON object with the members of one kind of line.
    #[error("expected a header, a record or a checkpoint as one JSON object: {0}")]
    Read(#[from] serde_json::Error),
    /// Its members belong to different kinds of lines, or some are left out.
    #[error(
        "expected the members of a header (export, origin), a record (index, leaf, record) or a checkpoint (checkpoint)"
    )]
    Members,
    /// It was written by a later version.
    #[error("this export has format {0}, this version of Keyward reads format {EXPORT_VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<HexDigest>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

impl<'a> Line<'a> {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(line: &'a str) -> Result<Self, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::Long(line.len()));
        }
        let members: Members<'a> = serde_json::from_str(line)?;
        Ok(match members {
            Members {
                export: Some(EXPORT_VERSION),
                origin: Some(origin),
                index: None,
                leaf: None,
                record: None,
                checkpoint: None,
            } => Self::Header { origin },
            Members {
                export: Some(other), ..
            } if other != EXPORT_VERSION => return Err(LineError::Version(other)),
            Members {
                export: None,
                origin: None,
                index: Some(index),
                leaf: Some(leaf),
                record,
                checkpoint: None,
            } => Self::Record {
                index,
                leaf,
                record: record.map(RawValue::get),
            },
            Members {
                export: None,
                origin: None,
                index: None,
                leaf: None,
                record: None,
                checkpoint: Some(note),
            } => Self::Checkpoint { note },
            _ => return Err(LineError::Members),
        })
    }
}

/// The first line.
#[must_use]
pub fn header(origin: &str) -> String {
    format!(
        "{{\"export\":{EXPORT_VERSION},\"origin\":{}}}",
        serde_json::Value::from(origin)
    )
}

/// The line of a record.
#[must_use]
pub fn record(index: u64, leaf: &Leaf) -> String {
    stored_record(index, &leaf.hash(), leaf.as_str())
}

/// The line of a record as a store has it: leaf hash and bytes.
///
/// The hash is the stored one, never computed anew: if the bytes were changed since, the export has to show it.
#[must_use]
pub fn stored_record(index: u64, leaf: &HexDigest, bytes: &str) -> String {
    format!("{{\"index\":{index},\"leaf\":\"{leaf}\",\"record\":{bytes}}}")
}

/// The line of a record whose contents are left out.
#[must_use]
pub fn bare_leaf(index: u64, leaf: &HexDigest) -> String {
    format!("{{\"index\":{index},\"leaf\":\"{leaf}\"}}")
}

/// The line of a checkpoint.
#[must_use]
pub fn checkpoint(note: &Note) -> String {
    format!("{{\"checkpoint\":{}}}", serde_json::Value::from(note.to_string()))
}
