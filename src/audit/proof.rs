//! Checking the proofs of a Merkle tree, as RFC 9162 sections 2.1.3.2 and 2.1.4.2 have it.
//!
//! Pure arithmetic on what a stranger may have written: no more than 64 steps, whatever the sizes say, and a proof
//! with a hash too many or too few is as wrong as one with a false hash.

use super::tree::{empty_root, node_hash};
use crate::domain::HexDigest;

/// Size and root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: HexDigest,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("record {index} is not in a tree of {size} records")]
    NoSuchLeaf {
        /// The leaf that was to be proved.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The later tree has fewer leaves than the earlier one.
    #[error("the tree had {old} records and now has {new}: a log never shrinks")]
    Shrunk {
        /// Size of the earlier tree.
        old: u64,
        /// Size of the later tree.
        new: u64,
    },
    /// Too many or too few hashes for trees of these sizes.
    #[error("a proof of {got} hashes does not fit trees of these sizes")]
    Length {
        /// Hashes in the proof.
        got: usize,
    },
    /// The proof leads to another root than the tree's.
    #[error("the proof leads to the root {got}, not to {expected}")]
    OtherRoot {
        /// The root that was to be reached.
        expected: HexDigest,
        /// The root that was reached.
        got: HexDigest,
    },
}

fn reaches(got: HexDigest, expected: HexDigest) -> Result<(), ProofError> {
    if got == expected {
        Ok(())
    } else {
        Err(ProofError::OtherRoot { expected, got })
    }
}

/// Is the leaf with this hash at `index` of the tree?
///
/// # Errors
/// When the proof does not show it.
pub fn verify_inclusion(
    tree: Head,
    index: u64,
    leaf: HexDigest,
    proof: &[HexDigest],
) -> Result<(), ProofError> {
    if index >= tree.size {
        return Err(ProofError::NoSuchLeaf {
            index,
            size: tree.size,
        });
    }
    let length = ProofError::Length { got: proof.len() };
    let mut place = Place::new(index, tree.size - 1);
    let mut root = leaf;
    for sibling in proof {
        root = match place.step().ok_or(length)? {
            Side::Left => node_hash(sibling, &root),
            Side::Right => node_hash(&root, sibling),
        };
    }
    if !place.at_the_top() {
        return Err(length);
    }
    reaches(root, tree.root)
}

/// Is the old tree the beginning of the new one? A tree is consistent with itself and the empty tree with every one;
/// either proof is empty.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_consistency(old: Head, new: Head, proof: &[HexDigest]) -> Result<(), ProofError> {
    let length = ProofError::Length { got: proof.len() };
    if old.size > new.size {
        return Err(ProofError::Shrunk {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == 0 || old.size == new.size {
        if !proof.is_empty() {
            return Err(length);
        }
        if old.size == 0 {
            reaches(old.root, empty_root())?;
        }
        return if old.size == new.size {
            reaches(new.root, old.root)
        } else {
            Ok(())
        };
    }
    // The old tree as a whole is a subtree of the new one: its root is known and not in the proof.
    let (start, rest) = if old.size.is_power_of_two() {
        (old.root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(length)?;
        (*first, rest)
    };
    let mut place = Place::new(old.size - 1, new.size - 1);
    place.skip_right_children();
    let (mut old_root, mut new_root) = (start, start);
    for sibling in rest {
        match place.step().ok_or(length)? {
            Side::Left => {
                old_root = node_hash(sibling, &old_root);
                new_root = node_hash(sibling, &new_root);
            }
            Side::Right => new_root = node_hash(&new_root, sibling),
        }
    }
    if !place.at_the_top() {
        return Err(length);
    }
    reaches(old_root, old.root)?;
    reaches(new_root, new.root)
}

/// On which side of the path the next hash of a proof stands.
enum Side {
    Left,
    Right,
}

/// A node on the way up, and the last node of its level: `fn` and `sn` of the RFC.
struct Place {
    node: u64,
    last: u64,
}

impl Place {
    fn new(node: u64, last: u64) -> Self {
        Self { node, last }
    }

    fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    fn skip_right_children(&mut self) {
        while self.node & 1 == 1 {
            self.up();
        }
    }

    /// Takes one hash of the proof; none is left to be taken at the top.
    fn step(&mut self) -> Option<Side> {
        if self.at_the_top() {
            return None;
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Some(side)
    }

    fn at_the_top(&self) -> bool {
        self.last == 0
    }
}
