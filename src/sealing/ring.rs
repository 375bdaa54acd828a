//! The keys at hand: the active one, and those that still open what was sealed before it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::SealError;
use super::provider::{KeyError, KeyProvider, KeySource};
use crate::domain::sealed::{KeyId, KeyState};

/// Keys, as their source last said; opened when they are first needed.
pub(super) struct Ring {
    source: Box<dyn KeySource>,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    states: Vec<(KeyId, KeyState)>,
    providers: HashMap<KeyId, Arc<dyn KeyProvider>>,
}

impl Ring {
    pub(super) fn new(source: Box<dyn KeySource>) -> Self {
        Self {
            source,
            held: RwLock::default(),
        }
    }

    /// The key that is active now. Keys that were retired since are let go.
    pub(super) fn active(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let states = self.source.states()?;
        let active = states.iter().find(|(_, state)| *state == KeyState::Active);
        let (active, _) = *active
            .ok_or_else(|| KeyError::Unusable("the database names no active key to seal under".to_owned()))?;
        if self.read().states != states {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.providers.retain(|id, _| {
                let state = states.iter().find(|(known, _)| known == id);
                state.is_some_and(|(_, state)| *state != KeyState::Retired)
            });
            held.states = states;
        }
        self.provider(active)
    }

    /// The key of this id, to open with.
    pub(super) fn find(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, SealError> {
        if let Some(provider) = self.read().providers.get(&id) {
            return Ok(provider.clone());
        }
        let active = self.active()?.id();
        let state = self
            .read()
            .states
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, state)| *state);
        match state {
            None => Err(SealError::OtherKey {
                sealed: id,
                ours: active,
            }),
            Some(KeyState::Retired) => Err(SealError::Retired(id)),
            Some(KeyState::Active | KeyState::Retiring) => Ok(self.provider(id)?),
        }
    }

    fn provider(&self, id: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError> {
        if let Some(provider) = self.read().providers.get(&id) {
            return Ok(provider.clone());
        }
        // Without the lock: a token may take its time.
        let provider = self.source.provider(id)?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.states.contains(&(id, KeyState::Retired)) {
            return Ok(provider);
        }
        Ok(held.providers.entry(id).or_insert(provider).clone())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One key, which is never changed.
pub(super) struct Only(pub(super) Arc<dyn KeyProvider>);

impl KeySource for Only {
    fn states(&self) -> Result<Vec<(KeyId, KeyState)>, KeyError> {
        Ok(vec![(self.0.id(), KeyState::Active)])
    }

    fn provider(&self, _: KeyId) -> Result<Arc<dyn KeyProvider>, KeyError> {
        Ok(self.0.clone())
    }
}
