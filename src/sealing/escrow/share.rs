//! A share as text that can be printed, put in an envelope, and typed in again.
//!
//! `keyward-share-v1`, then `set` (8 random bytes, the same in all shares that were made together), `share`, `keys`,
//! `made` and `check`; then the share itself, 8 bytes a line, each line with its number and check digits of its own. All
//! in hexadecimal digits. `check` is 4 bytes of a SHA-256 over what stands above it, a line's check digits 2 bytes of one
//! over the same, the line's number and its bytes. So a slip of the hand is told with its line, and lines of two shares
//! do not mix. They guard against slips, not against somebody who makes a share up: see [`super::join`].

use std::fmt::Write as _;

use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::{Carried, EscrowError, Lines, Parts, digits, key_ids, nothing};

/// The first line.
pub const HEAD: &str = "keyward-share-v1";
/// Bytes in a line.
const LINE: usize = 8;

/// One share of keys that were split. No `Debug`; wiped when dropped.
pub struct Share {
    /// Which shares were made together.
    pub set: [u8; 8],
    /// Its number, from 1: where the polynomials were evaluated.
    pub number: u8,
    /// How many there are, and how many it takes.
    pub parts: Parts,
    /// What it says it is of.
    pub carried: Carried,
    /// A byte for each byte of the keys, one key behind the other.
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Share {
    fn head(&self) -> String {
        let (number, Parts { needed, of }) = (self.number, self.parts);
        format!(
            "{HEAD}\nset    {}\nshare  {number} of {of}, any {needed} of them are enough\nkeys   {}\nmade   {}\n",
            grouped(&self.set),
            self.carried.ids(),
            self.carried.made
        )
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let head = self.head();
        // Room for all of it at once: what grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(head.len() + 64 + 8 * self.bytes.len()));
        let _ = writeln!(text, "{head}check  {}\n", grouped(&head_check(&head)));
        for (at, line) in self.bytes.chunks(LINE).enumerate() {
            let shown = Zeroizing::new(grouped(line));
            let _ = writeln!(
                text,
                "{:<6} {}  {}",
                at + 1,
                *shown,
                grouped(&line_check(&head, at, line))
            );
        }
        text
    }

    /// The share of a text.
    ///
    /// # Errors
    /// When it is none, or something in it does not fit its check digits; says in which line.
    pub fn parse(text: &str) -> Result<Self, EscrowError> {
        let mut lines = Lines::of(text);
        lines.member(HEAD, "`keyward-share-v1` and nothing more", nothing)?;
        let set = lines.member("set", "`set` and 16 hexadecimal digits", |text| {
            <[u8; 8]>::try_from(digits(text)?.as_slice()).ok()
        })?;
        let expected = "`share`, such as `share  2 of 5, any 3 of them are enough`";
        let (number, parts) = lines.member("share", expected, numbered)?;
        let keys = lines.member("keys", "`keys` and the keys' ids", key_ids)?;
        let made = lines.member("made", "`made` and when it was", |text| text.parse().ok())?;
        let mut share = Self {
            set,
            number,
            parts,
            carried: Carried { keys, made },
            bytes: Zeroizing::new(Vec::new()),
        };
        let check = lines.member("check", "`check` and 8 hexadecimal digits", digits)?;
        let head = share.head();
        if *check != head_check(&head) {
            let what = "the lines above `check` do not fit its digits, or these are wrong";
            return Err(EscrowError::Checksum(what.to_owned()));
        }
        let length = share.carried.keys.len() * 32;
        share.bytes = Zeroizing::new(Vec::with_capacity(length));
        for at in 0..length / LINE {
            let number = (at + 1).to_string();
            let expected = "the line's number, 16 hexadecimal digits and 4 check digits";
            let found = lines.member(&number, expected, |text| {
                digits(text).filter(|found| found.len() == LINE + 2)
            })?;
            let (line, check) = found.split_at(LINE);
            if check != line_check(&head, at, line) {
                return Err(EscrowError::Checksum(format!(
                    "the line numbered {number} does not fit its check digits"
                )));
            }
            share.bytes.extend_from_slice(line);
        }
        match lines.take() {
            None => Ok(share),
            more => Err(lines.malformed(more, "nothing more: the share has all its lines")),
        }
    }
}

/// `2 of 5, any 3 …`.
fn numbered(text: &str) -> Option<(u8, Parts)> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok());
    let (number, of, needed) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let parts = Parts::new(needed, of).ok()?;
    (1..=of).contains(&number).then_some((number, parts))
}

fn grouped(bytes: &[u8]) -> String {
    let groups = bytes.chunks(2);
    let mut text = String::with_capacity(bytes.len() * 3);
    for group in groups {
        let separator = if text.is_empty() { "" } else { " " };
        text.push_str(separator);
        for byte in group {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

fn head_check(head: &str) -> Vec<u8> {
    sha256(head.as_bytes()).into_iter().take(4).collect()
}

fn line_check(head: &str, at: usize, line: &[u8]) -> Vec<u8> {
    let text = Zeroizing::new([head.as_bytes(), &(at as u64).to_le_bytes(), line].concat());
    sha256(&text).into_iter().take(2).collect()
}
