//! Checkpoints, as <https://c2sp.org/tlog-checkpoint> specifies them: the signed size and root of a log's tree.
//!
//! ```text
//! example.com/keyward
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — example.com/keyward Az3grlgt…
//! ```
//!
//! Origin, size, root, then lines that somebody else may have added. A log signs only what continues what it signed
//! before: [`Checkpoint::followed_by`] is the one way from a checkpoint to the next.

use crate::domain::{Base64, HexDigest};

use super::key::{KeyName, SignerKey, VerifierKey};
use super::note::{Note, NoteError};
use super::proof::{Head, ProofError, verify_consistency};
use super::tree::empty_root;

/// The most lines below the root that are read.
pub const MAX_EXTENSIONS: usize = 16;

/// Size and root of a log's tree at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: KeyName,
    head: Head,
    extensions: Vec<String>,
}

/// Why a text is no checkpoint of the log.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It is no signed note, or not one of this log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It has too few lines, or empty ones.
    #[error("a checkpoint has an origin, a size and a root, each on a line of its own, and no empty line")]
    Lines,
    /// There are too many lines below the root.
    #[error("a checkpoint has at most {MAX_EXTENSIONS} lines below its root here")]
    Extensions,
    /// The size is no number as a checkpoint writes it.
    #[error("a checkpoint's size is decimal, below 2^64 and without leading zeros, got `{0}`")]
    Size(String),
    /// The root is not the base64 of 32 bytes.
    #[error("a checkpoint's root is the base64 of 32 bytes, got `{0}`")]
    Root(String),
    /// A tree without records has another root than the one it always has.
    #[error("the root of a tree without records is {expected}, this checkpoint says {got}")]
    EmptyRoot {
        /// SHA-256 of nothing.
        expected: HexDigest,
        /// What the checkpoint says.
        got: HexDigest,
    },
    /// It is of another log than the key's name says.
    #[error("the checkpoint is of the log `{got}`, the key is of `{expected}`")]
    Origin {
        /// The key's name.
        expected: String,
        /// The checkpoint's origin.
        got: String,
    },
}

impl Checkpoint {
    /// The checkpoint of a log that has no records yet.
    #[must_use]
    pub fn empty(origin: KeyName) -> Self {
        let head = Head {
            size: 0,
            root: empty_root(),
        };
        Self {
            origin,
            head,
            extensions: Vec::new(),
        }
    }

    /// The next one, given a proof that the tree of this one is its beginning.
    ///
    /// # Errors
    /// When the proof does not show it: the tree shrank, or was rewritten. Then nothing must be signed.
    pub fn followed_by(&self, head: Head, proof: &[HexDigest]) -> Result<Self, ProofError> {
        verify_consistency(self.head, head, proof)?;
        Ok(Self {
            origin: self.origin.clone(),
            head,
            extensions: Vec::new(),
        })
    }

    /// A checkpoint that this log signed. The key's name is the log's origin.
    ///
    /// # Errors
    /// When it is not one, or not signed by this key.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::parse(note.verify(key)?)?;
        checkpoint.has_origin(key)?;
        Ok(checkpoint)
    }

    /// Signs it in the name of its origin.
    ///
    /// # Errors
    /// When the key is of another log, or the library fails.
    pub fn sign(&self, key: &SignerKey) -> Result<Note, CheckpointError> {
        self.has_origin(key.verifier())?;
        Ok(Note::sign(self.text(), key)?)
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.origin.as_str()
    }

    /// Size and root of its tree.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The lines below the root, which mean nothing to Keyward.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\n{}\n{}\n",
            self.origin.as_str(),
            self.head.size,
            Base64(self.head.root.0)
        );
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note that has been verified.
    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Lines);
        }
        if extensions.len() > MAX_EXTENSIONS {
            return Err(CheckpointError::Extensions);
        }
        let head = Head {
            size: size_of(size).ok_or_else(|| CheckpointError::Size(size.to_owned()))?,
            root: root
                .parse::<Base64<32>>()
                .map(|root| HexDigest::from(root.0))
                .map_err(|_| CheckpointError::Root(root.to_owned()))?,
        };
        if head.size == 0 && head.root != empty_root() {
            return Err(CheckpointError::EmptyRoot {
                expected: empty_root(),
                got: head.root,
            });
        }
        Ok(Self {
            origin: origin.parse().map_err(NoteError::Key)?,
            head,
            extensions,
        })
    }

    fn has_origin(&self, key: &VerifierKey) -> Result<(), CheckpointError> {
        if self.origin.as_str() == key.name() {
            return Ok(());
        }
        Err(CheckpointError::Origin {
            expected: key.name().to_owned(),
            got: self.origin.as_str().to_owned(),
        })
    }
}

/// A number in the one way that it is written: `parse` alone would take `+7` and `007`.
fn size_of(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}
