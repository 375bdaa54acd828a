//! Prepared bundles, by digest: loaded once, cloned for each evaluation, the least used forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{HexDigest, Name};
use crate::policy::{Bundle, Limits, PreparedBundle};
use crate::store::{Store, StoreError};

/// Prepared bundles of a server.
pub(super) struct Bundles {
    limits: Limits,
    capacity: usize,
    prepared: Mutex<Cache>,
    /// Held while one is prepared: what many wait for is prepared once.
    preparing: Mutex<()>,
}

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
}

impl Bundles {
    pub(super) fn new(capacity: usize, limits: Limits) -> Self {
        Self {
            limits,
            capacity: capacity.max(1),
            prepared: Mutex::default(),
            preparing: Mutex::new(()),
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
        let unusable = |why: String| BundleError::Unusable(format!("the active bundle {digest} {why}"));
        let archive = store
            .bundle(owner, digest)?
            .ok_or_else(|| unusable("is missing".to_owned()))?;
        let bundle = Bundle::from_archive(&archive).map_err(|e| unusable(format!("is damaged: {e}")))?;
        if bundle.digest() != digest.0 {
            return Err(unusable("is damaged: its content has another digest".to_owned()));
        }
        let prepared = PreparedBundle::prepare(&bundle, &self.limits).map_err(|diagnostics| {
            unusable(format!(
                "does not load: {}",
                super::register::render(&diagnostics)
            ))
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
