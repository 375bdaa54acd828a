//! The keys of a key file in other hands, for the day on which the file is lost.
//!
//! Two ways, both without a key of this server's: sealed to a public key whose private key is offline ([`sealed`]), or
//! split so that any k of n shares give them back and fewer do not help ([`share`]). Both are text, and both say in
//! clear which keys they carry, by their ids: so an escrow from before a rotation is told without opening it. An id is
//! 8 bytes of a hash of 32 random ones, and helps nobody to find them.
//!
//! What comes back is right when its keys have these ids, and is this data folder's when it opens what is sealed there:
//! that is for the caller to try. A text that anybody could have written proves nothing by itself.

mod split;

pub mod sealed;
pub mod share;

use zeroize::Zeroizing;

use super::key_file::FileKeyBytes;
use super::key_id;
use crate::domain::Time;
use crate::domain::sealed::KeyId;
use crate::sev::RandomError;

pub use split::{Joined, Parts, join, split};

/// Why keys can't be put in escrow, or do not come out of one.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The text does not read as an escrow.
    #[error("line {line}: expected {expected}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Check digits do not fit.
    #[error("{0}: it was copied wrong or damaged; compare it with the original")]
    Checksum(String),
    /// The public key can't be used.
    #[error("{0}")]
    PublicKey(String),
    /// The private key can't be used.
    #[error("{0}")]
    PrivateKey(String),
    /// The keys are not those that the escrow says it carries.
    #[error("what is inside is not what the escrow says it carries: it was changed")]
    Changed,
    /// The parts of a split can't be such.
    #[error(
        "expected K-of-N with K from 2 to N and N at most {}, such as 3-of-5",
        split::MAX
    )]
    Parts,
    /// Shares that do not give the keys back.
    #[error(transparent)]
    Shares(#[from] SharesError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library failed.
    #[error("encryption failed: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
}

/// Why shares do not give keys back; shares are meant by their place in what was given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    /// Some are of another set than the most.
    #[error("shares of different sets do not fit together")]
    OtherSet(Vec<usize>),
    /// The same share twice.
    #[error("the same share was given twice")]
    Twice(usize, usize),
    /// There are not enough.
    #[error("{have} of the {need} shares that are needed")]
    TooFew {
        /// How many there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// Good check digits, but no key.
    #[error(
        "the shares have good check digits but do not give the keys that they say they are of: at least one was made up or \
         changed on purpose; bring another share, and the one that does not fit is named"
    )]
    MadeUp,
}

/// What an escrow says of itself, in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The ids of the keys in it.
    pub keys: Vec<KeyId>,
    /// When it was made.
    pub made: Time,
}

impl Carried {
    /// Whether these are the keys.
    fn fits(&self, keys: &[FileKeyBytes]) -> bool {
        keys.iter().map(key_id).eq(self.keys.iter().copied())
    }

    fn ids(&self) -> String {
        let ids: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        ids.join(" ")
    }
}

/// Lines that are not blank, each with its number from 1, a word and the rest.
struct Lines<'a> {
    lines: Vec<(usize, &'a str, &'a str)>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let lines = text.lines().enumerate().filter_map(|(at, line)| {
            let line = line.trim();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (!line.is_empty()).then_some((at + 1, word, rest.trim()))
        });
        Self {
            lines: lines.collect(),
            next: 0,
        }
    }

    fn take(&mut self) -> Option<(usize, &'a str, &'a str)> {
        let line = self.lines.get(self.next).copied();
        self.next += 1;
        line
    }

    /// The rest of a line that begins with this word, as `parse` takes it.
    fn member<T>(
        &mut self,
        word: &str,
        expected: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, EscrowError> {
        let line = self.take();
        let value = line.filter(|(_, found, _)| *found == word);
        let value = value.and_then(|(_, _, rest)| parse(rest));
        value.ok_or_else(|| self.malformed(line, expected))
    }

    fn malformed(&self, line: Option<(usize, &'a str, &'a str)>, expected: &'static str) -> EscrowError {
        let after = self.lines.last().map_or(1, |(at, _, _)| at + 1);
        EscrowError::Malformed {
            line: line.map_or(after, |(at, _, _)| at),
            expected,
        }
    }
}

/// The end of a line.
fn nothing(rest: &str) -> Option<()> {
    rest.is_empty().then_some(())
}

fn key_ids(text: &str) -> Option<Vec<KeyId>> {
    let ids = text.split_whitespace().map(|id| id.parse().ok());
    ids.collect::<Option<Vec<_>>>().filter(|ids| !ids.is_empty())
}

/// Digits as people type them: in groups, in either case.
fn digits(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: what grows leaves copies behind.
    let mut close = Zeroizing::new(String::with_capacity(text.len()));
    text.split_whitespace().for_each(|group| close.push_str(group));
    hex::decode(close.as_bytes()).ok().map(Zeroizing::new)
}
