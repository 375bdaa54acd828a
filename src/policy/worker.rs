//! What a worker process does: it holds bundles and answers questions about them, until its input ends.
//!
//! A message is a header and a body, each after its length in bytes (u32, little-endian). Headers are JSON; a body is
//! a bundle's archive or an input's JSON text, taken as they are. The asking side is the worker's only peer, so what
//! it sends is trusted; the bundles are not, and the process may die of them at any point.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::decision::{ErrorKind, EvaluationError, Phase, Verdict};
use super::diagnostic::Diagnostic;
use super::evaluator::BundleFacts;
use super::explain::Explanation;
use super::limits::Limits;
use super::prepared::PreparedBundle;

/// The largest header or body, in bytes: a bundle's archive is smaller.
const MAX_PART: usize = 32 << 20;
/// What a loaded bundle takes at least, and for each byte of its archive; measured: 155 KiB for 7 KB of text.
const BUNDLE_COST: (usize, usize) = (128 << 10, 32);

/// What holding a bundle takes, in bytes, by estimate.
pub(crate) fn cost(archive: &[u8]) -> usize {
    let (least, each) = BUNDLE_COST;
    archive.len().saturating_mul(each).saturating_add(least)
}

/// What a worker with so much address space may take for bundles, in bytes.
pub(crate) fn room(memory: u64) -> usize {
    usize::try_from(memory / 2).unwrap_or(usize::MAX)
}

/// What a worker is told.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Load the bundle whose archive is the body. Answered by [`Loaded`].
    Load {
        /// The bundle's digest.
        digest: [u8; 32],
        /// Whether to ask each policy once.
        trial: bool,
        /// How much all may take.
        limits: Limits,
    },
    /// Ask a policy about the input that is the body. Answered by an [`Answer`] that is a [`Verdict`].
    Ask(Question),
    /// Explain what a policy says about the input that is the body. Answered by an [`Answer`] that is [`Explained`].
    Explain(Question),
}

/// Which policy is meant.
#[derive(Serialize, Deserialize)]
pub struct Question {
    /// The bundle's digest.
    pub digest: [u8; 32],
    /// The policy.
    pub policy: String,
    /// The phase.
    pub phase: Phase,
    /// How much it may take.
    pub limits: Limits,
}

/// What came of loading.
pub type Loaded = Result<BundleFacts, Vec<Diagnostic>>;

/// What came of explaining.
pub type Explained = Result<Explanation, EvaluationError>;

/// An answer to a question about a bundle.
#[derive(Serialize, Deserialize)]
pub enum Answer<T> {
    /// The answer.
    Said(T),
    /// The worker does not hold the bundle, or no longer; it must be loaded first.
    NotLoaded,
}

/// Writes a message, which has left when this returns.
///
/// # Errors
/// What the writer says.
pub fn send<T: Serialize>(output: &mut impl Write, header: &T, body: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    // In one piece where it is small: each piece wakes the reader up.
    let mut message = Vec::with_capacity(8 + header.len() + body.len());
    for part in [&header, body] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(part);
    }
    output.write_all(&message)?;
    output.flush()
}

/// Reads a message.
///
/// # Errors
/// What the reader says, or that a message makes no sense.
pub fn receive<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let header = part(input)?;
    Ok((serde_json::from_slice(&header)?, part(input)?))
}

fn part(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_PART {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Answers requests until the input ends. Runs on a thread with a big [stack](super::STACK).
///
/// `memory` is what the bundles that are held may take, by estimate; the least used give way. `allow` is called
/// before each piece of work with the time that it may take.
///
/// # Errors
/// When the input or the output breaks.
pub fn serve(
    mut input: impl BufRead,
    mut output: impl Write,
    memory: usize,
    allow: impl Fn(Duration),
) -> io::Result<()> {
    let mut held = Held {
        memory,
        ..Held::default()
    };
    while !input.fill_buf()?.is_empty() {
        let (request, body) = receive(&mut input)?;
        match request {
            Request::Load {
                digest,
                trial,
                limits,
            } => {
                allow(limits.load_time);
                let loaded: Loaded = held.load(digest, trial, &limits, &body);
                send(&mut output, &loaded, &[])?;
            }
            Request::Ask(asked) => {
                allow(asked.limits.time);
                let failed = || Verdict::failed(&asked.policy, ErrorKind::Internal, "the input is not text");
                let answer = held.answer(&asked.digest, |bundle| match std::str::from_utf8(&body) {
                    Ok(input) => bundle.ask_here(&asked.policy, asked.phase, input, &asked.limits),
                    Err(_) => failed(),
                });
                send(&mut output, &answer, &[])?;
            }
            Request::Explain(asked) => {
                allow(asked.limits.explain_time());
                let failed = || EvaluationError::new(ErrorKind::Internal, "the input is not text");
                let answer = held.answer(&asked.digest, |bundle| -> Explained {
                    let input = std::str::from_utf8(&body).map_err(|_| failed())?;
                    bundle.explain_here(&asked.policy, asked.phase, input, &asked.limits)
                });
                send(&mut output, &answer, &[])?;
            }
        }
    }
    Ok(())
}

/// The bundles that a worker holds.
#[derive(Default)]
struct Held {
    memory: usize,
    clock: u64,
    bundles: HashMap<[u8; 32], Kept>,
}

struct Kept {
    bundle: PreparedBundle,
    cost: usize,
    used: u64,
}

impl Held {
    fn answer<T>(&mut self, digest: &[u8; 32], about: impl FnOnce(&PreparedBundle) -> T) -> Answer<T> {
        match self.get(digest) {
            Some(bundle) => Answer::Said(about(bundle)),
            None => Answer::NotLoaded,
        }
    }

    fn get(&mut self, digest: &[u8; 32]) -> Option<&PreparedBundle> {
        self.clock += 1;
        let kept = self.bundles.get_mut(digest)?;
        kept.used = self.clock;
        Some(&kept.bundle)
    }

    fn load(&mut self, digest: [u8; 32], trial: bool, limits: &Limits, archive: &[u8]) -> Loaded {
        let cost = cost(archive);
        self.make_room(cost);
        let bundle = Bundle::from_archive(archive)
            .map_err(|error| vec![Diagnostic::on_file("", format!("the bundle is damaged: {error}"))])?;
        if bundle.digest() != digest {
            let why = "the bundle is damaged: its content has another digest";
            return Err(vec![Diagnostic::on_file("", why)]);
        }
        let mut bundle = PreparedBundle::load_here(&bundle, limits)?;
        if trial {
            bundle.try_here()?;
        }
        let facts = bundle.facts().clone();
        self.clock += 1;
        let used = self.clock;
        self.bundles.insert(digest, Kept { bundle, cost, used });
        Ok(facts)
    }

    /// Forgets the least used, until one of this cost fits or none is left.
    fn make_room(&mut self, cost: usize) {
        let mut taken: usize = self.bundles.values().map(|kept| kept.cost).sum();
        while taken.saturating_add(cost) > self.memory {
            let oldest = self.bundles.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else {
                return;
            };
            taken = taken.saturating_sub(self.bundles.remove(&oldest).map_or(0, |kept| kept.cost));
        }
    }
}
