//! Owners' bundles, by digest: read from the store and loaded once, the least used forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::sha::sha256;

use super::register::render;
use crate::domain::{HexDigest, Name};
use crate::policy::{Archived, BundleFacts, Evaluator, LoadError};
use crate::store::{Store, StoreError};

/// A bundle that loads, and what is known of it.
pub(super) struct Loaded {
    pub(super) bundle: Archived,
    pub(super) facts: BundleFacts,
}

/// Loaded bundles of a server.
pub(super) struct Bundles {
    evaluator: Arc<dyn Evaluator>,
    capacity: usize,
    loaded: Mutex<Cache>,
    /// For each bundle that is being loaded, what is held meanwhile: what many wait for is loaded once.
    loading: Mutex<HashMap<HexDigest, Arc<Mutex<()>>>>,
    /// Bundles that could not be loaded a moment ago, and why.
    failed: Mutex<HashMap<HexDigest, (Instant, String)>>,
}

/// How long a bundle that could not be loaded is not tried again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Bytes of archives that are kept, however many bundles that is.
const BYTES: usize = 128 << 20;

#[derive(Default)]
struct Cache {
    clock: u64,
    entries: HashMap<HexDigest, (u64, Arc<Loaded>)>,
}

/// Why a bundle is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there, or not what its digest says, or does not load.
    #[error("{0}")]
    Unusable(String),
    /// There was no time to load it.
    #[error("{0}")]
    NotNow(String),
}

impl Bundles {
    pub(super) fn new(capacity: usize, evaluator: Arc<dyn Evaluator>) -> Self {
        Self {
            evaluator,
            capacity: capacity.max(1),
            loaded: Mutex::default(),
            loading: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// The owner's bundle of this digest, ready to be asked about.
    pub(super) fn load(
        &self,
        store: &dyn Store,
        owner: &Name,
        digest: HexDigest,
    ) -> Result<Arc<Loaded>, BundleError> {
        if let Some(bundle) = self.cached(digest) {
            return Ok(bundle);
        }
        let one = {
            let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            loading.entry(digest).or_default().clone()
        };
        let held = one.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match self.cached(digest) {
            Some(bundle) => Ok(bundle),
            None => self.read(store, owner, digest),
        };
        drop(held);
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loading.remove(&digest);
        loaded
    }

    fn read(&self, store: &dyn Store, owner: &Name, digest: HexDigest) -> Result<Arc<Loaded>, BundleError> {
        let now = Instant::now();
        let failures = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut failed = failures();
            failed.retain(|_, (since, _)| now.duration_since(*since) < REMEMBERED);
            if let Some((_, why)) = failed.get(&digest) {
                return Err(BundleError::Unusable(why.clone()));
            }
        }
        let unusable = |why: String| {
            let why = format!("the active bundle {digest} {why}");
            failures().insert(digest, (now, why.clone()));
            BundleError::Unusable(why)
        };
        let bytes: Arc<[u8]> = store
            .bundle(owner, digest)?
            .ok_or_else(|| unusable("is missing".to_owned()))?
            .into();
        if sha256(&bytes) != digest.0 {
            return Err(unusable("is damaged: its content has another digest".to_owned()));
        }
        let bundle = Archived {
            digest: digest.0,
            bytes,
        };
        let facts = self
            .evaluator
            .load(owner.as_str(), &bundle, false)
            .map_err(|error| match error {
                LoadError::Refused(found) => unusable(format!("does not load: {}", render(&found))),
                LoadError::NotNow(why) => BundleError::NotNow(why),
            })?;
        let loaded = Arc::new(Loaded { bundle, facts });
        self.insert(loaded.clone());
        Ok(loaded)
    }

    fn cached(&self, digest: HexDigest) -> Option<Arc<Loaded>> {
        let mut cache = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        let (used, bundle) = cache.entries.get_mut(&digest)?;
        *used = clock;
        Some(bundle.clone())
    }

    /// Puts one in that was loaded elsewhere, such as by the registration that made it active.
    pub(super) fn insert(&self, loaded: Arc<Loaded>) {
        let mut cache = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        let digest = HexDigest::from(loaded.bundle.digest);
        cache.entries.insert(digest, (clock, loaded));
        let bytes = |cache: &Cache| -> usize {
            let bundles = cache.entries.values();
            bundles.map(|(_, loaded)| loaded.bundle.bytes.len()).sum()
        };
        while cache.entries.len() > 1 && (cache.entries.len() > self.capacity || bytes(&cache) > BYTES) {
            let Some(oldest) = cache
                .entries
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(d, _)| *d)
            else {
                break;
            };
            cache.entries.remove(&oldest);
        }
    }
}
