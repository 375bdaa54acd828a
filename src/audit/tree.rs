//! The Merkle tree of RFC 9162 section 2.1 (the one of RFC 6962): hashes, roots, and proofs made from stored hashes.
//!
//! A tree of n leaves is its perfect subtrees from left to right, one for each bit of n. The hash of a perfect
//! subtree never changes once it is complete, so hashes are only ever added to a store, and the root of every
//! earlier size can still be computed.
//!
//! A store keeps the leaf hashes (level 0) and of the levels above every eighth ([`STEP`]): one hash more for each
//! 256 leaves. What lies between is computed from at most 128 of them. At 100,000,000 leaves a proof takes some 50
//! short range reads, an append none.

use openssl::sha::{Sha256, sha256};

use crate::domain::{Hex, HexDigest};

/// Levels between two that are stored.
pub const STEP: u8 = 8;

/// The hash of a leaf: SHA-256 of a zero byte and the leaf (RFC 9162 section 2.1.1).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> HexDigest {
    let mut sha = Sha256::new();
    sha.update(&[0]);
    sha.update(leaf);
    Hex(sha.finish())
}

/// The hash of an inner node: SHA-256 of a one byte and both children.
#[must_use]
pub fn node_hash(left: &HexDigest, right: &HexDigest) -> HexDigest {
    let mut sha = Sha256::new();
    sha.update(&[1]);
    sha.update(&left.0);
    sha.update(&right.0);
    Hex(sha.finish())
}

/// The root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> HexDigest {
    Hex(sha256(&[]))
}

/// The hash of a perfect subtree that a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredHash {
    /// Its height above the leaves, a multiple of [`STEP`].
    pub level: u8,
    /// How many subtrees of this height stand to the left of it.
    pub index: u64,
    /// Its hash.
    pub hash: HexDigest,
}

/// The tree has 2^64 - 1 leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is full: it has 2^64 - 1 records")]
pub struct TreeFull;

/// What an append needs to know of a tree: its size and the hashes of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    // INVARIANT: one hash for each bit that is set in `size`.
    subtrees: Vec<HexDigest>,
}

impl Frontier {
    /// A tree as it was kept: its size and [`Frontier::subtrees`]. None when their number does not fit the size.
    #[must_use]
    pub fn restored(size: u64, subtrees: Vec<HexDigest>) -> Option<Self> {
        let fits = subtrees.len() == usize::try_from(size.count_ones()).ok()?;
        fits.then_some(Self { size, subtrees })
    }

    /// The hashes of the perfect subtrees, largest first.
    #[must_use]
    pub fn subtrees(&self) -> &[HexDigest] {
        &self.subtrees
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash. Returns what a store has to keep besides the leaf hash itself, lowest first.
    ///
    /// # Errors
    /// When the tree is full. It is then unchanged.
    pub fn push(&mut self, leaf: HexDigest) -> Result<Vec<StoredHash>, TreeFull> {
        let size = self.size.checked_add(1).ok_or(TreeFull)?;
        let (mut hash, mut index, mut level) = (leaf, self.size, 0);
        let mut complete = Vec::new();
        while index & 1 == 1
            && let Some(left) = self.subtrees.pop()
        {
            hash = node_hash(&left, &hash);
            index >>= 1;
            level += 1;
            if level % STEP == 0 {
                complete.push(StoredHash { level, index, hash });
            }
        }
        self.subtrees.push(hash);
        self.size = size;
        Ok(complete)
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> HexDigest {
        root_of(&self.subtrees)
    }
}

/// The root over perfect subtrees from left to right, each smaller than the one before it.
fn root_of(subtrees: &[HexDigest]) -> HexDigest {
    let from_the_right = subtrees.iter().rev().copied();
    from_the_right
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(empty_root)
}

/// Where the hashes of a tree are read.
pub trait Hashes {
    /// Why they can't be read.
    type Error;

    /// `count` hashes of a level, from index `first` on, in their order. The level is a multiple of [`STEP`], `count`
    /// is at most 128, and every subtree that is asked for is complete in the tree at hand.
    ///
    /// # Errors
    /// When they can't be read. Fewer than `count` are taken for a damaged store.
    fn read(&self, level: u8, first: u64, count: u64) -> Result<Vec<HexDigest>, Self::Error>;
}

/// Why a proof can't be made. Nothing here is a caller's fault but `Outside`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// The hashes can't be read.
    #[error(transparent)]
    Read(E),
    /// The store has not all hashes that a tree of this size has.
    #[error(
        "the tree of {size} records is damaged: of {count} hashes on level {level} from {first} on, {found} are there"
    )]
    Missing {
        /// The tree's size.
        size: u64,
        /// The level.
        level: u8,
        /// Index of the first hash that was asked for.
        first: u64,
        /// How many were asked for.
        count: u64,
        /// How many there are.
        found: usize,
    },
    /// There is no such record, or no such earlier size, in the tree.
    #[error("expected at most {most} in a tree of {size} records, got {got}")]
    Outside {
        /// The tree's size.
        size: u64,
        /// The most that was possible.
        most: u64,
        /// What was asked for.
        got: u64,
    },
}

/// The tree of the first `size` leaves of what is stored.
pub struct Tree<'a, H> {
    hashes: &'a H,
    size: u64,
}

impl<'a, H: Hashes> Tree<'a, H> {
    /// The tree of this size. The store must have at least as many leaves.
    #[must_use]
    pub fn new(hashes: &'a H, size: u64) -> Self {
        Self { hashes, size }
    }

    /// What is needed to go on from here.
    ///
    /// # Errors
    /// When a hash is missing or can't be read.
    pub fn frontier(&self) -> Result<Frontier, TreeError<H::Error>> {
        Ok(Frontier {
            size: self.size,
            subtrees: self.subtrees(0, self.size)?,
        })
    }

    /// The root.
    ///
    /// # Errors
    /// When a hash is missing or can't be read.
    pub fn root(&self) -> Result<HexDigest, TreeError<H::Error>> {
        self.range(0, self.size)
    }

    /// Proves that the leaf at `index` is in the tree: the siblings of its path, lowest first (RFC 9162
    /// section 2.1.3.1).
    ///
    /// # Errors
    /// When there is no such leaf, or a hash is missing or can't be read.
    pub fn inclusion(&self, index: u64) -> Result<Vec<HexDigest>, TreeError<H::Error>> {
        if index >= self.size {
            return Err(self.outside(self.size.saturating_sub(1), index));
        }
        let (mut low, mut high) = (0, self.size);
        let mut path = Vec::new();
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// Proves that the tree of `old` leaves is the beginning of this one (RFC 9162 section 2.1.4.1). The proof of a
    /// tree to itself, and of the empty one to any, is empty.
    ///
    /// # Errors
    /// When `old` is larger than the tree, or a hash is missing or can't be read.
    pub fn consistency(&self, old: u64) -> Result<Vec<HexDigest>, TreeError<H::Error>> {
        if old > self.size {
            return Err(self.outside(self.size, old));
        }
        if old == 0 || old == self.size {
            return Ok(Vec::new());
        }
        let (mut low, mut high) = (0, self.size);
        let mut path = Vec::new();
        while high != old {
            let middle = low + split(high - low);
            if old <= middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        // Whoever verifies knows the root of the old tree already.
        if low > 0 {
            path.push(self.range(low, high)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The root over the leaves `low..high`. `low` is a multiple of a power of two that is at least `high - low`.
    fn range(&self, low: u64, high: u64) -> Result<HexDigest, TreeError<H::Error>> {
        Ok(root_of(&self.subtrees(low, high)?))
    }

    /// The perfect subtrees of such a range.
    fn subtrees(&self, low: u64, high: u64) -> Result<Vec<HexDigest>, TreeError<H::Error>> {
        let mut subtrees = Vec::new();
        let mut at = low;
        while at < high {
            let level = (high - at).ilog2();
            subtrees.push(self.subtree(level as u8, at >> level)?);
            at += 1 << level;
        }
        Ok(subtrees)
    }

    fn subtree(&self, level: u8, index: u64) -> Result<HexDigest, TreeError<H::Error>> {
        let above = level % STEP;
        let (level, first, count) = (level - above, index << above, 1 << above);
        let mut row = self.hashes.read(level, first, count).map_err(TreeError::Read)?;
        let missing = TreeError::Missing {
            size: self.size,
            level,
            first,
            count,
            found: row.len(),
        };
        if row.len() as u64 != count {
            return Err(missing);
        }
        for _ in 0..above {
            let (pairs, _) = row.as_chunks::<2>();
            row = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        row.first().copied().ok_or(missing)
    }

    fn outside(&self, most: u64, got: u64) -> TreeError<H::Error> {
        TreeError::Outside {
            size: self.size,
            most,
            got,
        }
    }
}

/// The largest power of two below `n`, for n > 1.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}
