//! Prepared bundles, by digest: loaded once, cloned for each evaluation, the least used forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::register::render;

use crate::domain::{HexDigest, Name};
use crate::policy::{Bundle, Limits, PreparedBundle, ReloadError};
use crate::store::{Store, StoreError};

/// Prepared bundles of a server.
pub(super) struct Bundles {
    limits: Limits,
    capacity: usize,
    prepared: Mutex<Cache>,
    /// Held while one is prepared: what many wait for is prepared once.
    preparing: Mutex<()>,
    /// Bundles that could not be loaded a moment ago, and why.
    failed: Mutex<HashMap<HexDigest, (Instant, String)>>,
}

/// How long a bundle that could not be loaded is not tried again.
const REMEMBERED: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Cache {
    clock: u64,
    entries: HashMap<HexDigest, (u64, Arc<PreparedBundle>)>,
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
    pub(super) fn new(capacity: usize, limits: Limits) -> Self {
        Self {
            limits,
            capacity: capacity.max(1),
            prepared: Mutex::default(),
            preparing: Mutex::new(()),
            failed: Mutex::default(),
        }
    }

    /// The owner's bundle of this digest, ready to be evaluated.
    pub(super) fn load(
        &self,
        store: &dyn Store,
        owner: &Name,
        digest: HexDigest,
    ) -> Result<Arc<PreparedBundle>, BundleError> {
        if let Some(bundle) = self.cached(digest) {
            return Ok(bundle);
        }
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = self.cached(digest) {
            return Ok(bundle);
        }
        let now = Instant::now();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, (since, _)| now.duration_since(*since) < REMEMBERED);
        if let Some((_, why)) = failed.get(&digest) {
            return Err(BundleError::Unusable(why.clone()));
        }
        let mut unusable = |why: String| {
            let why = format!("the active bundle {digest} {why}");
            failed.insert(digest, (now, why.clone()));
            BundleError::Unusable(why)
        };
        let archive = store
            .bundle(owner, digest)?
            .ok_or_else(|| unusable("is missing".to_owned()))?;
        let bundle = Bundle::from_archive(&archive).map_err(|e| unusable(format!("is damaged: {e}")))?;
        if bundle.digest() != digest.0 {
            return Err(unusable("is damaged: its content has another digest".to_owned()));
        }
        let prepared = PreparedBundle::reload(&bundle, &self.limits).map_err(|error| match error {
            ReloadError::Refused(found) => unusable(format!("does not load: {}", render(&found))),
            ReloadError::NotNow(why) => BundleError::NotNow(why),
        })?;
        let prepared = Arc::new(prepared);
        self.insert(digest, prepared.clone());
        Ok(prepared)
    }

    fn cached(&self, digest: HexDigest) -> Option<Arc<PreparedBundle>> {
        let mut cache = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        let (used, bundle) = cache.entries.get_mut(&digest)?;
        *used = clock;
        Some(bundle.clone())
    }

    /// Puts one in that was prepared elsewhere, such as by the registration that made it active.
    pub(super) fn insert(&self, digest: HexDigest, bundle: Arc<PreparedBundle>) {
        let mut cache = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        cache.entries.insert(digest, (clock, bundle));
        while cache.entries.len() > self.capacity {
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
