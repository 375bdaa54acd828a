//! The audit log: what happened, in an order that nobody can change unseen.
//!
//! Records in, a Merkle tree over them, signed checkpoints out; and the other way round, an export in and a word on
//! whether it is what was signed. No store, no clock, no file: hashes are read through [`tree::Hashes`], the seed of
//! a key and the lines of an export are passed in.
//!
//! - [`record`]: what one record says, and by whom ([`actor`]). Its bytes as they are stored are the leaf.
//! - [`tree`]: the Merkle tree of RFC 9162 section 2.1 and the proofs made from it; [`proof`] checks those.
//! - [`note`] and [`key`]: signed notes (C2SP); [`checkpoint`]: the signed size and root of the tree.
//! - [`export`]: the lines of an export; [`verify`]: is it whole, and if not, from which record on?

pub mod actor;
pub mod checkpoint;
pub mod export;
mod fault;
pub mod key;
pub mod note;
mod object;
pub mod proof;
pub mod record;
pub mod tree;
pub mod verify;
