//! What it costs to verify an exported audit log, by its number of records, beside the hashing alone.
//!
//! `cargo bench --bench audit`, in release mode, all in one run: figures of two runs can't be compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark ends where something is wrong"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyward::audit::actor::Actor;
use keyward::audit::export;
use keyward::audit::key::SignerKey;
use keyward::audit::note::Note;
use keyward::audit::record::{AuditRecord, Event, Leaf, ObjectKind, ObjectRef, RECORD_VERSION};
use keyward::audit::tree::{Frontier, leaf_hash};
use keyward::audit::verify::Verifier;
use keyward::domain::{Base64, Time};
use uuid::Uuid;
use zeroize::Zeroizing;

const ORIGIN: &str = "example.com/keyward";
const SIZES: [u64; 2] = [10_000, 100_000];

fn leaf(index: u64) -> Leaf {
    let record = AuditRecord {
        version: RECORD_VERSION,
        id: Uuid::from_u128(u128::from(index)),
        time: Time::from_millis(1_790_000_000_000),
        owner: Some("acme".parse().expect("a name")),
        actor: Actor::Token {
            id: Uuid::from_u128(7),
            name: "ci of the team".to_owned(),
            role: "secret-writer".parse().expect("a role"),
        },
        event: Event::ObjectUpdated {
            object: ObjectRef {
                kind: ObjectKind::Secret,
                name: "db/password".parse().expect("a name"),
                version: Some(index + 1),
            },
        },
        once: None,
    };
    record.to_leaf().expect("a record that fits")
}

fn verifying(criterion: &mut Criterion) {
    let seed = Zeroizing::new([1; 32]);
    let signer = SignerKey::from_seed(ORIGIN.parse().expect("an origin"), seed).expect("a key");
    let mut group = criterion.benchmark_group("audit verify");
    group.sample_size(10);
    for size in SIZES {
        let leaves: Vec<Leaf> = (0..size).map(leaf).collect();
        let mut tree = Frontier::default();
        let mut lines = vec![export::header(ORIGIN)];
        for (index, leaf) in (0..).zip(&leaves) {
            tree.push(leaf.hash()).expect("room");
            lines.push(export::record(index, leaf));
        }
        let text = format!("{ORIGIN}\n{size}\n{}\n", Base64(tree.root().0));
        let note = Note::sign(text, &signer).expect("a checkpoint");
        lines.push(export::checkpoint(&note));
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new("the whole export", size), |bencher| {
            bencher.iter(|| {
                let seen: [&str; 0] = [];
                let mut verifier = Verifier::new(signer.verifier().clone(), &seen).expect("a verifier");
                for line in &lines {
                    verifier.line(line).expect("a line that fits");
                }
                verifier.finish().expect("a log that proves itself")
            });
        });
        group.bench_function(BenchmarkId::new("the leaf hashes alone", size), |bencher| {
            bencher.iter(|| {
                for leaf in &leaves {
                    black_box(leaf_hash(leaf.as_str().as_bytes()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verifying);
criterion_main!(benches);
