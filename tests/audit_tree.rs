//! The audit log's Merkle tree: known answers, two other implementations as oracles, and proofs that were tampered with.

use std::cell::Cell;
use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use keyward::audit::proof::{Head, ProofError, verify_consistency, verify_inclusion};
use keyward::audit::tree::{Frontier, Hashes, STEP, Tree, TreeError, empty_root, leaf_hash, node_hash};
use keyward::domain::{Hex, HexDigest};
use proptest::prelude::*;
use sha2::Sha256;
use tlog_tiles::tlog;

/// A store in memory: leaf hashes, and every eighth level above.
#[derive(Default)]
struct Memory {
    levels: Vec<Vec<HexDigest>>,
    frontier: Frontier,
}

impl Memory {
    fn of(leaves: &[Vec<u8>]) -> Self {
        let mut memory = Self::default();
        for leaf in leaves {
            memory.push(leaf_hash(leaf));
        }
        memory
    }

    fn push(&mut self, leaf: HexDigest) {
        self.put(0, leaf);
        for stored in self.frontier.push(leaf).unwrap() {
            self.put(stored.level, stored.hash);
            let row = &self.levels[usize::from(stored.level / STEP)];
            assert_eq!(stored.index + 1, row.len() as u64);
        }
    }

    fn put(&mut self, level: u8, hash: HexDigest) {
        let at = usize::from(level / STEP);
        self.levels.resize_with(self.levels.len().max(at + 1), Vec::new);
        self.levels[at].push(hash);
    }

    fn head(&self, size: u64) -> Head {
        Head {
            size,
            root: Tree::new(self, size).root().unwrap(),
        }
    }
}

impl Hashes for Memory {
    type Error = Infallible;

    fn read(&self, level: u8, first: u64, count: u64) -> Result<Vec<HexDigest>, Infallible> {
        assert!(level.is_multiple_of(STEP) && count <= 128);
        let row = self
            .levels
            .get(usize::from(level / STEP))
            .map_or(&[][..], Vec::as_slice);
        Ok(row
            .iter()
            .skip(first as usize)
            .take(count as usize)
            .copied()
            .collect())
    }
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("record {i}").into_bytes()).collect()
}

fn digest(text: &str) -> HexDigest {
    text.parse().unwrap()
}

/// The leaves and roots of the tests of Certificate Transparency's reference implementation
/// (github.com/google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc).
fn reference_leaves() -> Vec<Vec<u8>> {
    [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    .map(|text| hex::decode(text).unwrap())
    .to_vec()
}

const REFERENCE_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

const PROOF_0_OF_8: [&str; 3] = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
];

const PROOF_5_OF_8: [&str; 3] = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
];

const CONSISTENCY_6_TO_8: [&str; 3] = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
];

const CONSISTENCY_2_TO_5: [&str; 2] = [
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
];

#[test]
fn roots_are_those_of_the_reference_implementation() {
    let (mut memory, mut roots) = (Memory::default(), vec![Frontier::default().root()]);
    for leaf in reference_leaves() {
        memory.push(leaf_hash(&leaf));
        roots.push(memory.frontier.root());
    }
    assert_eq!(roots, REFERENCE_ROOTS.map(digest));
    for (size, root) in REFERENCE_ROOTS.iter().enumerate() {
        assert_eq!(
            memory.head(size as u64).root,
            digest(root),
            "of {size} leaves, read back"
        );
    }
}

#[test]
fn proofs_are_those_of_the_reference_implementation() {
    let memory = Memory::of(&reference_leaves());
    let tree = Tree::new(&memory, 8);
    assert_eq!(tree.inclusion(0).unwrap(), PROOF_0_OF_8.map(digest));
    assert_eq!(tree.inclusion(5).unwrap(), PROOF_5_OF_8.map(digest));
    assert_eq!(tree.consistency(1).unwrap(), PROOF_0_OF_8.map(digest));
    assert_eq!(tree.consistency(6).unwrap(), CONSISTENCY_6_TO_8.map(digest));
    assert_eq!(
        Tree::new(&memory, 5).consistency(2).unwrap(),
        CONSISTENCY_2_TO_5.map(digest)
    );
    let head = |size: usize| Head {
        size: size as u64,
        root: digest(REFERENCE_ROOTS[size]),
    };
    let leaf = leaf_hash(&hex::decode("40414243").unwrap());
    verify_inclusion(head(8), 5, leaf, &PROOF_5_OF_8.map(digest)).unwrap();
    verify_consistency(head(6), head(8), &CONSISTENCY_6_TO_8.map(digest)).unwrap();
    verify_consistency(head(2), head(5), &CONSISTENCY_2_TO_5.map(digest)).unwrap();
}

/// The store of `tlog_tiles`: every hash in the order of its index there.
struct Dense(Vec<tlog::Hash>);

impl tlog::HashReader for Dense {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|&index| self.0[index as usize]).collect())
    }
}

impl Dense {
    fn of(leaves: &[Vec<u8>]) -> Self {
        let mut dense = Self(Vec::new());
        for (index, leaf) in leaves.iter().enumerate() {
            let more = tlog::stored_hashes(index as u64, leaf, &dense).unwrap();
            dense.0.extend(more);
        }
        dense
    }
}

fn theirs(hash: HexDigest) -> tlog::Hash {
    tlog::Hash(hash.0)
}

fn flat(proof: &[HexDigest]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn roots_and_proofs_are_those_of_two_other_implementations(size in 1_usize..700, old in 0_usize..700, index in 0_usize..700) {
        let (old, index) = (1 + old % size, index % size);
        let leaves = leaves(size);
        let memory = Memory::of(&leaves);
        let (new, before) = (memory.head(size as u64), memory.head(old as u64));
        let tree = Tree::new(&memory, size as u64);
        let (inclusion, consistency) = (tree.inclusion(index as u64).unwrap(), tree.consistency(old as u64).unwrap());

        let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        for leaf in &leaves {
            ct.push(leaf.clone());
        }
        prop_assert_eq!(new.root.0.to_vec(), ct.root().as_bytes().to_vec());
        prop_assert_eq!(flat(&inclusion), ct.prove_inclusion(index).as_bytes().to_vec());
        if old < size {
            prop_assert_eq!(flat(&consistency), ct.prove_consistency(size - old).as_bytes().to_vec());
        }

        let dense = Dense::of(&leaves);
        prop_assert_eq!(theirs(new.root), tlog::tree_hash(size as u64, &dense).unwrap());
        let theirs_inclusion = tlog::prove_record(size as u64, index as u64, &dense).unwrap();
        prop_assert_eq!(inclusion.iter().copied().map(theirs).collect::<Vec<_>>(), theirs_inclusion);
        let theirs_consistency = tlog::prove_tree(size as u64, old as u64, &dense).unwrap();
        prop_assert_eq!(consistency.iter().copied().map(theirs).collect::<Vec<_>>(), theirs_consistency);

        verify_inclusion(new, index as u64, leaf_hash(&leaves[index]), &inclusion).unwrap();
        verify_consistency(before, new, &consistency).unwrap();
    }

    #[test]
    fn verdicts_on_made_up_proofs_are_those_of_another_implementation(
        size in 1_u64..40, index in 0_u64..40, length in 0_usize..8, good in any::<bool>(),
    ) {
        let leaves = leaves(40);
        let memory = Memory::of(&leaves);
        let head = memory.head(size);
        let mut proof = if good && index < size { Tree::new(&memory, size).inclusion(index).unwrap() } else { Vec::new() };
        proof.resize(length, leaf_hash(b"made up"));
        let leaf = leaf_hash(&leaves[index as usize]);
        let list = proof.iter().copied().map(theirs).collect();
        let ours = verify_inclusion(head, index, leaf, &proof).is_ok();
        let other = index < size && tlog::check_record(&list, size, theirs(head.root), index, theirs(leaf)).is_ok();
        prop_assert_eq!(ours, other);
    }

    #[test]
    fn no_sizes_and_no_proof_make_the_checks_fall_over(
        sizes in any::<(u64, u64, u64)>(), length in 0_usize..70, small in 0_u32..64,
    ) {
        let proof = vec![leaf_hash(b"made up"); length];
        let head = |size| Head { size, root: empty_root() };
        prop_assert!(verify_inclusion(head(sizes.0), sizes.1, empty_root(), &proof).is_err());
        let (old, new) = (sizes.2 >> small, sizes.0);
        let consistent = verify_consistency(head(old), head(new), &proof).is_ok();
        prop_assert_eq!(consistent, proof.is_empty() && (old == new || old == 0));
    }
}

/// Every proof that differs from this one in a bit, or has a hash more or less.
fn tampered(proof: &[HexDigest]) -> Vec<Vec<HexDigest>> {
    let mut all = Vec::new();
    for bit in 0..proof.len() * 256 {
        let mut changed = proof.to_vec();
        changed[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
        all.push(changed);
    }
    for at in 0..proof.len() {
        let mut shorter = proof.to_vec();
        let hash = shorter.remove(at);
        all.push(shorter);
        let mut longer = proof.to_vec();
        longer.insert(at, hash);
        all.push(longer);
    }
    all.push([proof, &[leaf_hash(b"one more")]].concat());
    all
}

#[test]
fn a_proof_with_one_bit_changed_or_a_hash_more_or_less_is_refused() {
    let leaves = leaves(21);
    let memory = Memory::of(&leaves);
    for (size, index) in [(1, 0), (2, 1), (7, 6), (8, 3), (21, 0), (21, 11), (21, 20)] {
        let (head, proof) = (
            memory.head(size),
            Tree::new(&memory, size).inclusion(index).unwrap(),
        );
        let leaf = leaf_hash(&leaves[index as usize]);
        verify_inclusion(head, index, leaf, &proof).unwrap();
        for wrong in tampered(&proof) {
            assert!(
                verify_inclusion(head, index, leaf, &wrong).is_err(),
                "{index} of {size}"
            );
        }
        for other in (0..=size).filter(|&other| other != index) {
            assert!(
                verify_inclusion(head, other, leaf, &proof).is_err(),
                "{index} as {other} of {size}"
            );
        }
        assert!(verify_inclusion(head, index, node_hash(&leaf, &leaf), &proof).is_err());
    }
    for (old, new) in [
        (1, 2),
        (1, 21),
        (3, 7),
        (4, 8),
        (6, 8),
        (16, 21),
        (20, 21),
        (21, 21),
        (0, 21),
    ] {
        let (before, after) = (memory.head(old), memory.head(new));
        let proof = Tree::new(&memory, new).consistency(old).unwrap();
        verify_consistency(before, after, &proof).unwrap();
        for wrong in tampered(&proof) {
            assert!(
                verify_consistency(before, after, &wrong).is_err(),
                "{old} to {new}"
            );
        }
        let other = Head {
            size: old,
            root: leaf_hash(b"another history"),
        };
        assert!(
            verify_consistency(other, after, &proof).is_err(),
            "{old} to {new}, forked"
        );
    }
}

#[test]
fn a_tree_never_shrinks_and_equal_sizes_have_equal_roots() {
    let memory = Memory::of(&leaves(5));
    let (four, five) = (memory.head(4), memory.head(5));
    assert_eq!(
        verify_consistency(five, four, &[]),
        Err(ProofError::Shrunk { old: 5, new: 4 })
    );
    let forked = Head {
        size: 5,
        root: four.root,
    };
    assert!(matches!(
        verify_consistency(five, forked, &[]),
        Err(ProofError::OtherRoot { .. })
    ));
    let nothing = Head {
        size: 0,
        root: five.root,
    };
    assert!(matches!(
        verify_consistency(nothing, five, &[]),
        Err(ProofError::OtherRoot { .. })
    ));
    verify_consistency(memory.head(0), five, &[]).unwrap();
    assert_eq!(
        Tree::new(&memory, 4).consistency(5),
        Err(TreeError::Outside {
            size: 4,
            most: 4,
            got: 5
        })
    );
    assert!(matches!(
        Tree::new(&memory, 5).inclusion(5),
        Err(TreeError::Outside { most: 4, .. })
    ));
    assert!(matches!(
        Tree::new(&memory, 0).inclusion(0),
        Err(TreeError::Outside { .. })
    ));
}

#[test]
fn a_frontier_that_was_read_back_goes_on_as_if_nothing_had_happened() {
    let mut memory = Memory::default();
    for leaf in leaves(600) {
        let size = memory.frontier.size();
        assert_eq!(
            Tree::new(&memory, size).frontier().unwrap(),
            memory.frontier,
            "{size}"
        );
        memory.push(leaf_hash(&leaf));
    }
    assert_eq!(
        memory.levels[1].len(),
        2,
        "one hash is stored for each 256 leaves"
    );
}

#[test]
fn a_store_that_lost_a_hash_is_noticed() {
    let mut memory = Memory::of(&leaves(600));
    memory.levels[1].pop();
    let error = Tree::new(&memory, 600).root().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tree of 600 records is damaged: of 2 hashes on level 8 from 0 on, 1 are there"
    );
}

/// A tree whose leaves are all alike, of any size, which counts how often it is read.
struct Alike {
    rows: Vec<HexDigest>,
    reads: Cell<usize>,
}

impl Hashes for Alike {
    type Error = Infallible;

    fn read(&self, level: u8, _: u64, count: u64) -> Result<Vec<HexDigest>, Infallible> {
        self.reads.set(self.reads.get() + 1);
        Ok(vec![self.rows[usize::from(level)]; count as usize])
    }
}

#[test]
fn proofs_from_a_hundred_million_records_take_few_reads() {
    let mut rows = vec![leaf_hash(b"alike")];
    while rows.len() < 64 {
        let last = rows[rows.len() - 1];
        rows.push(node_hash(&last, &last));
    }
    let store = Alike {
        rows,
        reads: Cell::new(0),
    };
    let leaf = Hex(store.rows[0].0);
    for size in [100_000_000, (1 << 32) - 1, u64::MAX] {
        let head = |size| Head {
            size,
            root: Tree::new(&store, size).root().unwrap(),
        };
        let (whole, tree) = (head(size), Tree::new(&store, size));
        for at in [0, 1, size / 3, size / 2, size - 2, size - 1] {
            store.reads.set(0);
            let proof = tree.inclusion(at).unwrap();
            assert!(
                store.reads.get() <= 128,
                "{} reads for {at} of {size}",
                store.reads.get()
            );
            assert!(size > 100_000_000 || store.reads.get() <= 54);
            verify_inclusion(whole, at, leaf, &proof).unwrap();
            store.reads.set(0);
            let proof = tree.consistency(at).unwrap();
            assert!(
                store.reads.get() <= 128,
                "{} reads from {at} to {size}",
                store.reads.get()
            );
            verify_consistency(head(at), whole, &proof).unwrap();
        }
    }
    let mut full = Tree::new(&store, u64::MAX).frontier().unwrap();
    assert!(full.push(leaf).is_err(), "2^64 - 1 leaves are all there can be");
}
