//! Certificate chains that were verified a moment ago: the same bytes are the same platform.
//!
//! A platform sends the same chain at each launch, and verifying it costs more than the session that is made for it.
//! What is kept is what verification found, under the digest of every byte that it looked at: the trusted roots, the
//! PDH and the chain. So another root, or one changed byte anywhere, finds nothing; what did not verify is not kept.
//! Whether a platform counts for an owner is no part of it, and is asked each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::sha::Sha256;

use super::authority::TrustedRoots;
use super::chain::{ChainError, PresentedChain};
use super::{Digest, VerifiedPlatform};

/// What one entry takes at most, in bytes: four certificates and two of CAs, with their keys as OpenSSL has them.
pub const ENTRY: usize = 32 << 10;

/// A chain as it was presented, with what is known of it.
#[derive(Clone)]
pub enum Known {
    /// The CEK came signed, and the whole chain verifies.
    Verified(Arc<VerifiedPlatform>),
    /// The CEK came unsigned, and everything but its signature verifies.
    ButForCek(Arc<PresentedChain>),
}

/// Verifies chains, and remembers those that hold. Bounded: the least used give way.
///
/// Anybody can make chains whose CEK is not signed, as many as they like; so those have a part of the places, in which
/// they displace nobody else's.
pub struct VerifiedChains {
    most: usize,
    kept: Mutex<Kept>,
}

/// Of the places, the part of chains whose CEK came unsigned: one in so many.
const UNSIGNED: usize = 4;

#[derive(Default)]
struct Kept {
    clock: u64,
    entries: HashMap<Digest, (u64, Known)>,
    unsigned: usize,
}

impl VerifiedChains {
    /// Keeps so many entries of at most [`ENTRY`] bytes; with none each chain is verified anew.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    /// Reads and verifies a chain in any of its forms, up to a trusted root, or up to its unsigned CEK.
    ///
    /// # Errors
    /// As [`PresentedChain::parse`], [`PresentedChain::verify`] and [`PresentedChain::verify_but_for_cek`].
    pub fn read(&self, pdh: Option<&[u8]>, chain: &[u8], roots: &TrustedRoots) -> Result<Known, ChainError> {
        // An empty PDH is none that is left out.
        let how: &[u8] = if pdh.is_some() {
            b"with its PDH"
        } else {
            b"as presented"
        };
        let parts = [how, pdh.unwrap_or_default(), chain];
        self.known(&parts, roots, || {
            let chain = PresentedChain::parse(pdh, chain)?;
            if chain.cek_is_signed() {
                Ok(Known::Verified(Arc::new(chain.verify(roots)?)))
            } else {
                chain.verify_but_for_cek(roots)?;
                Ok(Known::ButForCek(Arc::new(chain)))
            }
        })
    }

    /// Verifies a chain whose CEK was completed.
    ///
    /// # Errors
    /// As [`PresentedChain::verify`].
    pub fn verify(
        &self,
        chain: &PresentedChain,
        roots: &TrustedRoots,
    ) -> Result<Arc<VerifiedPlatform>, ChainError> {
        let mut parts: Vec<&[u8]> = vec![b"completed"];
        parts.extend(chain.parts());
        match self.known(&parts, roots, || {
            Ok(Known::Verified(Arc::new(chain.verify(roots)?)))
        })? {
            Known::Verified(platform) => Ok(platform),
            // INVARIANT: under this digest nothing else is kept.
            Known::ButForCek(_) => chain.verify(roots).map(Arc::new),
        }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn known(
        &self,
        parts: &[&[u8]],
        roots: &TrustedRoots,
        verify: impl FnOnce() -> Result<Known, ChainError>,
    ) -> Result<Known, ChainError> {
        if self.most == 0 {
            return verify();
        }
        let digest = digest(parts, roots);
        if let Some(known) = self.find(&digest) {
            return Ok(known);
        }
        let known = verify()?;
        self.keep(digest, known.clone());
        Ok(known)
    }

    fn find(&self, digest: &Digest) -> Option<Known> {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        let (used, known) = kept.entries.get_mut(digest)?;
        *used = clock;
        Some(known.clone())
    }

    fn keep(&self, digest: Digest, known: Known) {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        if !kept.entries.contains_key(&digest) {
            if known.is_unsigned() && kept.unsigned >= (self.most / UNSIGNED).max(1) {
                kept.forget_least(Known::is_unsigned);
            } else if kept.entries.len() >= self.most {
                kept.forget_least(|_| true);
            }
            kept.unsigned += usize::from(known.is_unsigned());
        }
        // INVARIANT: under one digest it is always the same, signed or not.
        kept.entries.insert(digest, (clock, known));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_unsigned(&self) -> bool {
        matches!(self, Self::ButForCek(_))
    }
}

impl Kept {
    /// Forgets the least used of those of which this holds.
    fn forget_least(&mut self, of: impl Fn(&Known) -> bool) {
        let those = self.entries.iter().filter(|(_, (_, known))| of(known));
        let least = those
            .min_by_key(|(_, (used, _))| *used)
            .map(|(digest, _)| *digest);
        if let Some((_, known)) = least.and_then(|digest| self.entries.remove(&digest)) {
            self.unsigned -= usize::from(known.is_unsigned());
        }
    }
}

/// Of the roots and of every part, each with its length, so that no two sequences of parts are one text.
fn digest(parts: &[&[u8]], roots: &TrustedRoots) -> Digest {
    let mut hash = Sha256::new();
    hash.update(&roots.digest());
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finish()
}
