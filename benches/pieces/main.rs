//! What the pieces of a launch and of a validation cost, each alone and then the whole in one process.
//!
//! `cargo bench --bench pieces` prints criterion's figures, and a table of the least of seven rounds, with the ratio to the raw
//! cryptography of a launch (a P-384 key pair, an ECDH, five HMACs) in the same run, also as `target/pieces.json`, which
//! `docs/plots.py` reads. Figures of two runs, or two machines, can't be compared; ratios can.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that can't be set up has nothing to measure"
)]

mod database;
mod server;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use keyward::policy::{Input, Phase, PreparedBundle};
use keyward::psp::{Ca, Platform, PlatformOptions};
use keyward::sealing::{Place, Sealer, new_key};
use keyward::sev::p384::EphemeralKey;
use keyward::sev::secret_table::{self, Entry};
use keyward::sev::session::{self, derive, wrap};
use keyward::sev::verified::VerifiedChains;
use keyward::sev::{
    AttestedLaunch, Build, Certificate, LaunchKeys, Measurement, PresentedChain, SevPolicy, SystemRandom,
    TrustedRoots, measurement, packet,
};
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;

const BUILD: Build = Build {
    api_major: 1,
    api_minor: 55,
    build_id: 8,
};
const POLICY: SevPolicy = SevPolicy(3);
/// How long a piece is run for the table.
const TIME: Duration = Duration::from_millis(700);

/// One thing that is measured.
pub(crate) struct Piece {
    name: &'static str,
    /// How often one run does it.
    times: u32,
    run: Box<dyn FnMut()>,
}

pub(crate) fn piece(name: &'static str, run: impl FnMut() + 'static) -> Piece {
    pieces(name, 1, run)
}

/// One whose run does the same thing so many times.
pub(crate) fn pieces(name: &'static str, times: u32, run: impl FnMut() + 'static) -> Piece {
    Piece {
        name,
        times,
        run: Box::new(run),
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let ca = Ca::generate(4096).expect("a CA");
    let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default()).expect("a platform");
    let mut pieces = agreement(&platform);
    pieces.extend(chains(&ca, &platform));
    pieces.extend(guests());
    pieces.extend(built_in());
    pieces.extend(sealed());
    let server = std::sync::Arc::new(server::Server::new(&ca, platform));
    pieces.extend(database::pieces(&server));
    pieces.extend(server::pieces(&server));

    let mut criterion = Criterion::default().configure_from_args();
    for piece in &mut pieces {
        criterion.bench_function(piece.name, |b| b.iter(|| (piece.run)()));
    }
    criterion.final_summary();
    table(&mut pieces, if quick { Duration::from_millis(1) } else { TIME });
}

/// The pieces by turns, so that what else the machine does falls on all of them alike.
fn table(pieces: &mut [Piece], time: Duration) {
    const ROUNDS: u32 = 7;
    let mut times: Vec<Vec<Duration>> = pieces.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (piece, times) in pieces.iter_mut().zip(&mut times) {
            let (begun, mut count) = (Instant::now(), 0);
            while count == 0 || begun.elapsed() < time / ROUNDS {
                (piece.run)();
                count += 1;
            }
            times.push(begun.elapsed() / (count * piece.times));
        }
    }
    // What else the machine does only adds: the least is nearest to what it costs.
    let least = times
        .into_iter()
        .map(|times| times.into_iter().min().expect("a round"));
    let least: Vec<_> = pieces.iter().map(|piece| piece.name).zip(least).collect();
    let raw = least[0].1;
    let mut written = BTreeMap::new();
    println!("\n{:<44} {:>10}  of a launch's cryptography", "piece", "µs");
    for (name, time) in least {
        let ratio = time.as_secs_f64() / raw.as_secs_f64();
        println!("{name:<44} {:>10.1}  {ratio:>8.3}", time.as_secs_f64() * 1e6);
        written.insert(
            name,
            serde_json::json!({ "us": time.as_secs_f64() * 1e6, "ratio": ratio }),
        );
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pieces.json");
    let text = serde_json::to_string_pretty(&written).expect("JSON");
    std::fs::write(file, text).expect(file);
}

/// The session and what it is made of; the first piece is what all others are compared with.
fn agreement(platform: &Platform) -> Vec<Piece> {
    let pdh = Certificate::parse(&platform.pdh()).expect("a PDH");
    let (one, two, three) = (pdh.clone(), pdh.clone(), pdh.clone());
    let keys = LaunchKeys::from_bytes(&[2; 32]);
    vec![
        piece("raw cryptography of a launch", move || {
            let key = EphemeralKey::fresh(&SystemRandom).expect("a key");
            let wrapping = derive(&key.agree(&one).expect("a secret"), &[1; 16]);
            black_box(wrap(&keys, &wrapping, &[1; 16], &[3; 16], POLICY).expect("a session"));
        }),
        piece("key pair and ECDH with the system's OpenSSL", move || {
            let group = EcGroup::from_curve_name(Nid::SECP384R1).expect("a curve");
            let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
            let mut deriver = Deriver::new(&key).expect("a deriver");
            deriver.set_peer_ex(two.public_key(), false).expect("a peer");
            black_box(deriver.derive_to_vec().expect("a secret"));
        }),
        piece("key pair", || {
            black_box(EphemeralKey::fresh(&SystemRandom).expect("a key"));
        }),
        piece("session", move || {
            black_box(session::start(&three, POLICY, &SystemRandom).expect("a session"));
        }),
    ]
}

fn chains(ca: &Ca, platform: &Platform) -> Vec<Piece> {
    let roots = TrustedRoots::amd()
        .with_extra("bench", ca.ark().clone())
        .expect("a root");
    let chain = platform.full_chain();
    let (roots_too, chain_too) = (roots.clone(), chain.clone());
    let known = VerifiedChains::new(16);
    vec![
        piece("chain, verified", move || {
            let presented = PresentedChain::parse(None, &chain).expect("a chain");
            black_box(presented.verify(&roots).expect("a platform"));
        }),
        piece("chain, known", move || {
            black_box(known.read(None, &chain_too, &roots_too).expect("a platform"));
        }),
    ]
}

/// A guest that measured itself, and what is found of it.
fn guests() -> Vec<Piece> {
    let keys = || LaunchKeys::from_bytes(&[5; 32]);
    let measured = {
        let mnonce = [7; 16];
        let measure = measurement::compute(&keys(), BUILD, POLICY, &[9; 32], &mnonce);
        Measurement { measure, mnonce }
    };
    let attested = move |others: u8| -> AttestedLaunch {
        let candidates = (0..others)
            .map(|n| ([n; 32], ()))
            .filter(|(digest, ())| *digest != [9; 32]);
        let candidates = candidates.chain([([9; 32], ())]);
        measurement::verify(&keys(), &measured, BUILD, POLICY, candidates)
            .expect("a guest")
            .0
    };
    let entry = Entry {
        guid: uuid::Uuid::from_bytes([3; 16]),
        data: vec![1; 32].into(),
    };
    let table = secret_table::build(std::slice::from_ref(&entry)).expect("a table");
    let launch = attested(0);
    vec![
        piece("measurement, 1 candidate", move || {
            black_box(attested(0));
        }),
        piece("measurement, 256 candidates", move || {
            black_box(attested(255));
        }),
        piece("secret table", move || {
            black_box(secret_table::build(std::slice::from_ref(&entry)).expect("a table"));
        }),
        piece("packet", move || {
            black_box(packet::seal(&keys(), &launch, &table, &SystemRandom).expect("a packet"));
        }),
    ]
}

fn place(owner: &keyward::domain::Name) -> Place<'_> {
    Place::LaunchKeys {
        owner,
        launch: uuid::Uuid::nil(),
    }
}

/// The built-in policy, which every launch and release is asked about, in this process.
fn built_in() -> Vec<Piece> {
    let ask = |phase: Phase| {
        let (library, input) = (
            PreparedBundle::library().expect("the library"),
            Input::example(phase),
        );
        move || {
            black_box(library.evaluate("keyward.workload", phase, &input));
        }
    };
    vec![
        piece("built-in policy at launch", ask(Phase::Launch)),
        piece("built-in policy at release", ask(Phase::Release)),
    ]
}

fn sealed() -> Vec<Piece> {
    let key = new_key(&SystemRandom).expect("a key");
    let (one, two) = (Sealer::new(key.clone()), Sealer::new(key));
    let owner: keyward::domain::Name = "acme".parse().expect("a name");
    let other = owner.clone();
    let value = one.seal(place(&owner), &[7; 32], &SystemRandom).expect("sealed");
    vec![
        piece("seal", move || {
            black_box(one.seal(place(&owner), &[7; 32], &SystemRandom).expect("sealed"));
        }),
        piece("open", move || {
            black_box(two.open(place(&other), &value).expect("opened"));
        }),
    ]
}
