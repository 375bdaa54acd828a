//! The canonical bytes of a bundle: what is stored, and what its digest covers.
//!
//! ```text
//! "keyward policy bundle 1\n"                       24 bytes
//! number of files                                   u32, little-endian
//! for each file, by path in ascending byte order:
//!     length of the path, path (UTF-8)              u32, little-endian; bytes
//!     length of the content, content                u32, little-endian; bytes
//! ```
//!
//! Each length precedes what it measures and nothing follows the last file, so two different contents never have
//! the same bytes, and there is one encoding of each content.

use std::collections::BTreeMap;

use super::bundle::{MAX_BUNDLE_BYTES, MAX_FILES};
use super::diagnostic::Diagnostic;

const PREFIX: &[u8] = b"keyward policy bundle 1\n";

/// Why bytes are not a canonical bundle archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The prefix is another one: no archive, or one of another version.
    #[error("not a policy bundle archive of version 1")]
    Prefix,
    /// The bytes end inside a length, a path or a content.
    #[error("the archive ends early, at byte {offset}")]
    Truncated {
        /// Where the missing part begins.
        offset: usize,
    },
    /// More bytes or files than a bundle may have.
    #[error("the archive exceeds what a bundle may hold")]
    TooLarge,
    /// A path is not UTF-8.
    #[error("a path in the archive is not UTF-8")]
    Path,
    /// Paths are not strictly ascending: not canonical, or the same path twice.
    #[error("the archive's files are not in strictly ascending order at {path:?}")]
    Order {
        /// The path out of order.
        path: String,
    },
    /// Bytes follow the last file.
    #[error("{extra} bytes follow the last file of the archive")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A file that is no part of a bundle.
    #[error("{path:?} is no part of a bundle")]
    ForeignFile {
        /// Its path.
        path: String,
    },
    /// The files are not a bundle.
    #[error("the archive's content is not a bundle: {}", .0.first().map(|d| d.message.as_str()).unwrap_or_default())]
    Content(Vec<Diagnostic>),
}

/// Writes files in their canonical form.
pub(super) fn write(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut out = PREFIX.to_vec();
    put_length(&mut out, files.len());
    for (path, content) in files {
        put_length(&mut out, path.len());
        out.extend_from_slice(path.as_bytes());
        put_length(&mut out, content.len());
        out.extend_from_slice(content);
    }
    out
}

/// Reads the canonical form, and nothing else.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    // Paths are counted too, so the cap leaves room for the lengths.
    if bytes.len() > MAX_BUNDLE_BYTES + PREFIX.len() + 4 + 8 * MAX_FILES {
        return Err(ArchiveError::TooLarge);
    }
    let rest = bytes.strip_prefix(PREFIX).ok_or(ArchiveError::Prefix)?;
    let mut reader = Reader {
        rest,
        offset: PREFIX.len(),
    };
    let count = reader.length()?;
    if count > MAX_FILES {
        return Err(ArchiveError::TooLarge);
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..count {
        let length = reader.length()?;
        let path = std::str::from_utf8(reader.take(length)?).map_err(|_| ArchiveError::Path)?;
        let length = reader.length()?;
        let content = reader.take(length)?;
        if files
            .last_key_value()
            .is_some_and(|(last, _)| last.as_str() >= path)
        {
            return Err(ArchiveError::Order {
                path: path.to_owned(),
            });
        }
        files.insert(path.to_owned(), content.to_vec());
    }
    match reader.rest.len() {
        0 => Ok(files),
        extra => Err(ArchiveError::Trailing { extra }),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ArchiveError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(ArchiveError::Truncated { offset: self.offset })?;
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, ArchiveError> {
        let offset = self.offset;
        let bytes = self
            .take(4)?
            .first_chunk::<4>()
            .ok_or(ArchiveError::Truncated { offset })?;
        usize::try_from(u32::from_le_bytes(*bytes)).map_err(|_| ArchiveError::TooLarge)
    }
}

/// INVARIANT: a bundle's caps are far below 4 GiB, so no length is cut.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}
