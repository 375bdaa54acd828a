//! Why an export is not what the log signed: who is to blame, and from which record on.

use super::checkpoint::CheckpointError;
use super::export::LineError;
use super::tree::TreeFull;
use crate::domain::HexDigest;

/// Why an export is not what the log signed. [`VerifyError::fault`] says who is to blame, [`VerifyError::first`]
/// which record is the first that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A checkpoint that was given as seen before is none of this log.
    #[error("checkpoint {at} of those seen before can't be used: {error}")]
    Seen {
        /// Which of those given, from 1 on.
        at: usize,
        /// Why.
        error: CheckpointError,
    },
    /// Two checkpoints that were given contradict each other, whatever the file says.
    #[error("the log signed two different trees of {size} records: {one} and {other}")]
    SeenTwice {
        /// Their size.
        size: u64,
        /// One root.
        one: HexDigest,
        /// The other root.
        other: HexDigest,
    },
    /// A line can't be read.
    #[error("line {line}, where record {index} or a checkpoint is expected: {error}")]
    Line {
        /// Its number, from 1 on.
        line: u64,
        /// The record that comes next.
        index: u64,
        /// Why.
        error: LineError,
    },
    /// The file does not begin as an export, or does so twice.
    #[error("line {line}: an export begins with one header")]
    Header {
        /// The line.
        line: u64,
    },
    /// The file is of another log.
    #[error("the export is of the log `{got}`, the key is of `{expected}`")]
    Origin {
        /// The key's name.
        expected: String,
        /// What the header says.
        got: String,
    },
    /// Records are missing, or out of order.
    #[error("line {line}: record {expected} is missing or out of place, record {got} stands there")]
    Missing {
        /// The line.
        line: u64,
        /// The record that comes next.
        expected: u64,
        /// The one that stands there.
        got: u64,
    },
    /// A record stands where it has stood before.
    #[error("line {line}: record {got} stands a second time, or was inserted; record {expected} comes next")]
    Twice {
        /// The line.
        line: u64,
        /// The record that comes next.
        expected: u64,
        /// The one that stands there.
        got: u64,
    },
    /// A record is not the one whose hash is in the tree.
    #[error("record {index} (line {line}) was changed: its hash is {got}, the tree has {expected}")]
    Changed {
        /// The line.
        line: u64,
        /// The record.
        index: u64,
        /// Its leaf hash.
        expected: HexDigest,
        /// The hash of what stands there.
        got: HexDigest,
    },
    /// A record is there only as its hash, though its contents were asked for.
    #[error("record {index} (line {line}) is only a hash: its contents were forgotten or left out")]
    Withheld {
        /// The line.
        line: u64,
        /// The record.
        index: u64,
    },
    /// A checkpoint in the file is none of this log.
    #[error("the checkpoint on line {line} can't be used: {error}")]
    Checkpoint {
        /// The line.
        line: u64,
        /// Why.
        error: CheckpointError,
    },
    /// A checkpoint counts other records than stand before it.
    #[error(
        "the checkpoint on line {line} is of {size} records, {found} stand before it: record {first} is the first that is missing or too many"
    )]
    Place {
        /// The line.
        line: u64,
        /// What the checkpoint counts.
        size: u64,
        /// What stands there.
        found: u64,
        /// The smaller of both.
        first: u64,
    },
    /// Records, and their hashes with them, are not those that were signed.
    #[error(
        "the records {first} to {last} are not those that were signed: with them the root is {got}, the signed one is {expected}; at least one was changed, dropped, inserted or moved"
    )]
    Rewritten {
        /// The first that may be wrong: everything before it fits.
        first: u64,
        /// The last that may be wrong.
        last: u64,
        /// The signed root.
        expected: HexDigest,
        /// The root of what stands there.
        got: HexDigest,
    },
    /// The log signed this export, and before that another history.
    #[error(
        "the log was rewritten or rolled back: the records {first} to {last} are not those of the checkpoint of {size} records that was seen before, though the log signed both"
    )]
    Forked {
        /// The first that may be wrong.
        first: u64,
        /// The last that may be wrong.
        last: u64,
        /// Size of the tree that was seen.
        size: u64,
    },
    /// More was seen than there is.
    #[error(
        "the log was cut or rolled back: a checkpoint of {seen} records was seen before, the export ends after {found}: record {found} is the first that is missing"
    )]
    RolledBack {
        /// What was seen.
        seen: u64,
        /// What there is.
        found: u64,
    },
    /// Nothing signed covers the end of the file.
    #[error(
        "nothing proves the export from record {first} on: it ends without a checkpoint after its last record, it was cut"
    )]
    Unproved {
        /// The first record that no checkpoint covers; their number, if none is missing.
        first: u64,
    },
    /// There are more records than a tree can have.
    #[error(transparent)]
    Full(#[from] TreeFull),
}

/// Who is to blame when an export does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was given to verify with: the key, or the checkpoints seen before.
    Given,
    /// The file, or the database that it was made from: it is not what the log signed.
    Export,
    /// The log itself, or whoever has its key: it signed what contradicts what it had signed.
    Log,
}

impl VerifyError {
    /// Who is to blame.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Seen { .. } | Self::Origin { .. } => Fault::Given,
            Self::SeenTwice { .. } | Self::Forked { .. } => Fault::Log,
            _ => Fault::Export,
        }
    }

    /// The first record that does not fit, or may not: everything before it fits what was signed, or at least its
    /// own hash and place.
    ///
    /// Where records were dropped or inserted **and** those behind them numbered anew, every record fits its own hash
    /// and place. Then this is where the counts diverge ([`VerifyError::Place`], [`VerifyError::RolledBack`]), or the
    /// first of the range since the last checkpoint that fits ([`VerifyError::Rewritten`], [`VerifyError::Forked`]),
    /// not the record that is gone or too many.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        match self {
            Self::Line { index, .. } | Self::Changed { index, .. } | Self::Withheld { index, .. } => {
                Some(*index)
            }
            Self::Missing { expected, .. } => Some(*expected),
            Self::Twice { got, .. } => Some(*got),
            Self::Place { first, .. }
            | Self::Rewritten { first, .. }
            | Self::Forked { first, .. }
            | Self::Unproved { first } => Some(*first),
            Self::RolledBack { found, .. } => Some(*found),
            _ => None,
        }
    }
}
