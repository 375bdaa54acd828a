//! Is an export what the log signed? Offline: lines in, a word on them out.
//!
//! What is established when [`Verifier::finish`] returns: the newest checkpoint in the file was signed with the
//! given key; the records in the file, in this order, are all of the log up to it; every older checkpoint in the
//! file, and every one that was seen before, is of the beginning of the same log. What the caller must establish:
//! that the key is the log's, and that the checkpoints seen before were kept where the server can't reach them. Only
//! those show a log that was rolled back as a whole and signed again.
//!
//! What is named when something does not fit. A record whose bytes were changed no longer has its leaf hash, and one
//! that is missing, doubled or out of order no longer its index: it is named exactly. Whoever changed the hash too,
//! and the indices, is found out at the next checkpoint: the range since the last one that fits is named, and no
//! signed root could tell more.

use super::checkpoint::Checkpoint;
use super::export::Line;
pub use super::fault::{Fault, VerifyError};
use super::key::VerifierKey;
use super::tree::{Frontier, leaf_hash};
use crate::domain::HexDigest;

/// Takes the lines of an export, one after the other, in memory that does not grow with them.
pub struct Verifier {
    key: VerifierKey,
    /// Seen before, oldest first; those that fit are taken off.
    seen: Vec<Checkpoint>,
    seen_count: u64,
    contents_from: Option<u64>,
    lines: u64,
    tree: Frontier,
    newest: Option<Checkpoint>,
    /// The first checkpoint seen before that does not fit. Whether the file or the log is to blame is known at the
    /// next checkpoint in the file.
    unfit: Option<Checkpoint>,
    /// Up to here everything fits what was signed.
    fits: u64,
    /// Up to here it fits what was seen before. Checkpoints in the file do not count: a log that forked signed those
    /// of its new history too.
    agrees: u64,
    checkpoints: u64,
    bare: u64,
}

/// An export that is what the log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The newest checkpoint: the log's name, size and root.
    pub checkpoint: Checkpoint,
    /// How many records are there only as hashes: they were forgotten, or left out for this reader.
    pub bare: u64,
    /// How many checkpoints in the file fit.
    pub checkpoints: u64,
    /// How many checkpoints seen before fit.
    pub seen: u64,
}

impl Verifier {
    /// For an export of the log of this key. `seen` are checkpoints that were kept from earlier, signed notes in any
    /// order.
    ///
    /// # Errors
    /// When one of them is not of this log, or they contradict each other.
    pub fn new<S: AsRef<str>>(key: VerifierKey, seen: &[S]) -> Result<Self, VerifyError> {
        let open = |(at, note): (usize, &S)| {
            Checkpoint::open(note.as_ref(), &key).map_err(|error| VerifyError::Seen { at: at + 1, error })
        };
        let mut seen = seen.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
        seen.sort_by_key(|checkpoint| checkpoint.head().size);
        for pair in seen.windows(2) {
            if let [one, other] = pair
                && one.head().size == other.head().size
                && one.head().root != other.head().root
            {
                return Err(VerifyError::SeenTwice {
                    size: one.head().size,
                    one: one.head().root,
                    other: other.head().root,
                });
            }
        }
        let mut verifier = Self {
            key,
            seen_count: seen.len() as u64,
            seen,
            contents_from: None,
            lines: 0,
            tree: Frontier::default(),
            newest: None,
            unfit: None,
            fits: 0,
            agrees: 0,
            checkpoints: 0,
            bare: 0,
        };
        verifier.compare_with_seen();
        Ok(verifier)
    }

    /// Refuses records from this index on that are there only as hashes. Whoever wants to hide what a record says
    /// can leave it out of a copy; that a log's rule of retention had reached it is for the reader to know.
    #[must_use]
    pub fn contents_from(mut self, index: u64) -> Self {
        self.contents_from = Some(index);
        self
    }

    /// Takes the next line, without its newline.
    ///
    /// # Errors
    /// When it does not fit. The rest need not be read.
    pub fn line(&mut self, line: &str) -> Result<(), VerifyError> {
        self.lines += 1;
        let line = Line::parse(line).map_err(|error| VerifyError::Line {
            line: self.lines,
            index: self.tree.size(),
            error,
        })?;
        if matches!(line, Line::Header { .. }) != (self.lines == 1) {
            return Err(VerifyError::Header { line: self.lines });
        }
        match line {
            Line::Header { origin } if origin == self.key.name() => Ok(()),
            Line::Header { origin } => Err(VerifyError::Origin {
                expected: self.key.name().to_owned(),
                got: origin,
            }),
            Line::Record { index, leaf, record } => self.record(index, leaf, record),
            Line::Checkpoint { note } => self.checkpoint(&note),
        }
    }

    /// What was verified, once there are no more lines.
    ///
    /// # Errors
    /// When the end of the file is not proved, or more was seen before than there is.
    pub fn finish(self) -> Result<Verified, VerifyError> {
        let found = self.tree.size();
        let Some(checkpoint) = self.newest.filter(|newest| newest.head().size == found) else {
            return Err(VerifyError::Unproved { first: self.fits });
        };
        if let Some(longer) = self.seen.first() {
            return Err(VerifyError::RolledBack {
                seen: longer.head().size,
                found,
            });
        }
        Ok(Verified {
            checkpoint,
            bare: self.bare,
            checkpoints: self.checkpoints,
            seen: self.seen_count,
        })
    }

    fn record(&mut self, index: u64, leaf: HexDigest, record: Option<&str>) -> Result<(), VerifyError> {
        let (line, expected) = (self.lines, self.tree.size());
        if index > expected {
            return Err(VerifyError::Missing {
                line,
                expected,
                got: index,
            });
        }
        if index < expected {
            return Err(VerifyError::Twice {
                line,
                expected,
                got: index,
            });
        }
        match record.map(|record| leaf_hash(record.as_bytes())) {
            Some(got) if got != leaf => {
                return Err(VerifyError::Changed {
                    line,
                    index,
                    expected: leaf,
                    got,
                });
            }
            Some(_) => {}
            None if self.contents_from.is_some_and(|from| index >= from) => {
                return Err(VerifyError::Withheld { line, index });
            }
            None => self.bare += 1,
        }
        self.tree.push(leaf)?;
        self.compare_with_seen();
        Ok(())
    }

    fn checkpoint(&mut self, note: &str) -> Result<(), VerifyError> {
        let (line, found) = (self.lines, self.tree.size());
        let checkpoint =
            Checkpoint::open(note, &self.key).map_err(|error| VerifyError::Checkpoint { line, error })?;
        let head = checkpoint.head();
        if head.size != found {
            return Err(VerifyError::Place {
                line,
                size: head.size,
                found,
                first: head.size.min(found),
            });
        }
        let got = self.tree.root();
        let unfit = self.unfit.take().map(|seen| seen.head().size);
        if got != head.root {
            let size = unfit.unwrap_or(head.size);
            return Err(VerifyError::Rewritten {
                first: self.fits,
                last: size.saturating_sub(1),
                expected: head.root,
                got,
            });
        }
        if let Some(size) = unfit {
            return Err(VerifyError::Forked {
                first: self.agrees,
                last: size.saturating_sub(1),
                size,
            });
        }
        self.fits = head.size;
        self.checkpoints += 1;
        self.newest = Some(checkpoint);
        Ok(())
    }

    /// Holds the tree against the checkpoints seen before that are of its size.
    fn compare_with_seen(&mut self) {
        let size = self.tree.size();
        let count = self.seen.partition_point(|seen| seen.head().size <= size);
        if count == 0 {
            return;
        }
        let root = self.tree.root();
        for seen in self.seen.drain(..count) {
            if seen.head().root == root && self.unfit.is_none() {
                self.fits = size;
                self.agrees = size;
            } else if seen.head().root != root {
                self.unfit.get_or_insert(seen);
            }
        }
    }
}
