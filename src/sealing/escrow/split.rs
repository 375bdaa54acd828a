//! Shamir's secret sharing over GF(256): each byte is the constant of a polynomial of its own, a share is their values
//! at the share's number. Fewer shares than needed are consistent with every key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;

use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::share::Share;
use super::{Carried, EscrowError, SharesError};
use crate::domain::Time;
use crate::sealing::key_file::FileKeyBytes;
use crate::sealing::key_id;
use crate::sev::{Random, RandomError};

/// The most shares: few enough that one which was made up is found by trying.
pub(super) const MAX: u8 = 16;

/// How many shares there are, and how many of them it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How many it takes.
    pub needed: u8,
    /// How many there are.
    pub of: u8,
}

impl Parts {
    /// # Errors
    /// When one share would be enough, more are needed than there are, or there are too many.
    pub fn new(needed: u8, of: u8) -> Result<Self, EscrowError> {
        if needed < 2 || needed > of || of > MAX {
            return Err(EscrowError::Parts);
        }
        Ok(Self { needed, of })
    }
}

impl FromStr for Parts {
    type Err = EscrowError;

    fn from_str(text: &str) -> Result<Self, EscrowError> {
        let numbers = text.split_once("-of-").ok_or(EscrowError::Parts)?;
        match (numbers.0.parse(), numbers.1.parse()) {
            (Ok(needed), Ok(of)) => Self::new(needed, of),
            _ => Err(EscrowError::Parts),
        }
    }
}

/// Splits keys.
///
/// # Errors
/// When there are no random bytes.
pub fn split(
    keys: &[FileKeyBytes],
    parts: Parts,
    made: Time,
    random: &dyn Random,
) -> Result<Vec<Share>, EscrowError> {
    let mut set = [0; 8];
    random.fill(&mut set)?;
    let mut secret = Zeroizing::new(Vec::with_capacity(keys.len() * 32));
    for key in keys {
        secret.extend_from_slice(key.as_slice());
    }
    let mut drawn = Drawn { random, failed: None };
    let (needed, of) = (usize::from(parts.needed), usize::from(parts.of));
    let shares = Gf256::split_bytes(needed, of, secret.as_slice(), &mut drawn).map(|shares| {
        let shares = shares.into_iter().map(Zeroizing::new);
        shares.collect::<Vec<_>>()
    });
    if let Some(error) = drawn.failed {
        return Err(error.into());
    }
    let carried = Carried {
        keys: keys.iter().map(key_id).collect(),
        made,
    };
    let shares = shares.map_err(|_| EscrowError::Parts)?;
    let shares = shares.iter().map(|share| {
        let (number, bytes) = share.split_first().ok_or(EscrowError::Parts)?;
        Ok(Share {
            set,
            number: *number,
            parts,
            carried: carried.clone(),
            bytes: Zeroizing::new(bytes.to_vec()),
        })
    });
    shares.collect()
}

/// Our random bytes as the crate takes them, which knows no failure: what was drawn when one happened is thrown away.
struct Drawn<'a> {
    random: &'a dyn Random,
    failed: Option<RandomError>,
}

impl Drawn<'_> {
    fn number<const N: usize>(&mut self) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        if let Err(error) = self.random.fill(bytes.as_mut_slice()) {
            self.failed = Some(error);
        }
        bytes
    }
}

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(*self.number()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(*self.number()))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        if let Err(error) = self.random.fill(to) {
            self.failed = Some(error);
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

/// What shares gave back.
pub struct Joined {
    /// The keys.
    pub keys: Vec<FileKeyBytes>,
    /// Shares that do not belong to them, though their check digits are good: somebody made them up.
    pub made_up: Vec<usize>,
}

/// The keys that shares are of.
///
/// # Errors
/// When the shares are of different sets, too few, the same, or do not give what they say.
pub fn join(shares: &[Share]) -> Result<Joined, EscrowError> {
    let mut sets: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, share) in shares.iter().enumerate() {
        let Parts { needed, of } = share.parts;
        let set = (
            share.set,
            needed,
            of,
            &share.carried.keys,
            share.carried.made.millis(),
        );
        sets.entry(set).or_default().push(at);
    }
    let most = sets
        .values()
        .max_by_key(|set| set.len())
        .cloned()
        .unwrap_or_default();
    if most.len() < shares.len() {
        let others = (0..shares.len()).filter(|at| !most.contains(at));
        return Err(SharesError::OtherSet(others.collect()).into());
    }
    for (at, share) in shares.iter().enumerate() {
        let same = shares
            .iter()
            .take(at)
            .position(|other| other.number == share.number);
        if let Some(same) = same {
            return Err(SharesError::Twice(same, at).into());
        }
    }
    let need = shares.first().map_or(2, |share| usize::from(share.parts.needed));
    if shares.len() < need {
        let have = shares.len();
        return Err(SharesError::TooFew { have, need }.into());
    }
    let points: Vec<_> = shares.iter().map(point).collect();
    // Mostly the first try; more only where a share was made up.
    let mut chosen: Vec<usize> = (0..need).collect();
    loop {
        if let Some(keys) = keys_of(shares, &points, &chosen) {
            let made_up = |at: &usize| {
                // In the place of one that is good it gives the same keys, or it does not lie on the polynomials.
                let mut with: Vec<_> = chosen.iter().copied().skip(1).collect();
                with.push(*at);
                !chosen.contains(at) && keys_of(shares, &points, &with).is_none()
            };
            let made_up = (0..shares.len()).filter(made_up).collect();
            return Ok(Joined { keys, made_up });
        }
        if !next(&mut chosen, shares.len()) {
            return Err(SharesError::MadeUp.into());
        }
    }
}

fn point(share: &Share) -> Zeroizing<Vec<u8>> {
    let mut point = Zeroizing::new(Vec::with_capacity(share.bytes.len() + 1));
    point.push(share.number);
    point.extend_from_slice(&share.bytes);
    point
}

/// What these give, if that is what they say.
fn keys_of(shares: &[Share], points: &[Zeroizing<Vec<u8>>], chosen: &[usize]) -> Option<Vec<FileKeyBytes>> {
    let taken = chosen.iter().filter_map(|at| points.get(*at));
    let taken: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(taken.map(|point| point.to_vec()).collect());
    let secret = Zeroizing::new(Gf256::combine_bytes(taken.as_slice()).ok()?);
    // Room for all of them at once: what grows leaves copies behind.
    let mut keys = Vec::with_capacity(secret.len() / 32);
    for key in secret.chunks(32) {
        keys.push(Zeroizing::new(<[u8; 32]>::try_from(key).ok()?));
    }
    shares.first()?.carried.fits(&keys).then_some(keys)
}

/// The next choice of so many numbers below `all`, in lexical order; whether there is one.
fn next(chosen: &mut [usize], all: usize) -> bool {
    let many = chosen.len();
    for place in (0..many).rev() {
        let Some(value) = chosen.get(place).copied() else {
            break;
        };
        if value < all - many + place {
            for (more, slot) in chosen.iter_mut().skip(place).enumerate() {
                *slot = value + 1 + more;
            }
            return true;
        }
    }
    false
}
