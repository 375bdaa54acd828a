//! A provider's keys in memory: the last set that was good, until it is too old.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::jwk::KeySet;
use super::source::{Source, SourceError, Stamp};
use crate::config::{Jwks, JwtAlgorithm};
use crate::domain::Time;

/// How often keys are asked for on account of a token with a key that is not known: anybody can send one.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// Requests that wait for keys that are being fetched; those beyond are refused, so that a provider that is slow
/// never holds all of the server's threads.
const WAITING: usize = 8;

pub(super) struct Keys {
    provider: String,
    source: Source,
    refresh: Duration,
    max_age: Duration,
    state: Mutex<State>,
    /// Held while keys are fetched.
    fetching: Mutex<()>,
    waiting: AtomicUsize,
}

struct State {
    set: Option<Arc<KeySet>>,
    /// When it was had.
    since: Time,
    /// When it was last tried, with success or not.
    tried: Time,
    stamp: Stamp,
    failing: bool,
}

impl Keys {
    /// # Errors
    /// When it is a file that can't be used. A URL may answer later.
    pub(super) fn start(provider: &str, config: &Jwks, now: Time) -> Result<Self, SourceError> {
        let seconds = |n: u32| Duration::from_secs(n.into());
        let keys = Self {
            provider: provider.to_owned(),
            source: Source::new(config),
            refresh: seconds(config.refresh_seconds),
            max_age: seconds(config.max_age_seconds),
            state: Mutex::new(State {
                set: None,
                since: now,
                tried: now,
                stamp: None,
                failing: false,
            }),
            fetching: Mutex::new(()),
            waiting: AtomicUsize::new(0),
        };
        let stamp = keys.source.stamp();
        match keys.source.load() {
            Err(error) if keys.source.is_file() => Err(error),
            loaded => {
                keys.keep(loaded, stamp, now);
                Ok(keys)
            }
        }
    }

    /// Fetches the keys anew when it is time to, or the file has changed.
    pub(super) fn refresh(&self, now: Time) {
        let due = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let every = if state.failing {
                AT_MOST_EVERY
            } else {
                self.refresh
            };
            now >= state.tried.after(every) || state.stamp != self.source.stamp()
        };
        if due && let Ok(_fetching) = self.fetching.try_lock() {
            self.fetch(now);
        }
    }

    /// The set in which the key of a token is to be looked for: the one there is, or a newer one where that has no
    /// such key.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(super) fn for_token(
        &self,
        id: Option<&str>,
        algorithm: JwtAlgorithm,
        now: Time,
    ) -> Result<Arc<KeySet>, String> {
        match self.current(now) {
            Some(set) if set.find(id, algorithm).is_some() => Ok(set),
            // Another key of the same id will not come.
            Some(set) if set.knows(id) => Err(format!(
                "the key {} is not one for {}",
                shown(id),
                algorithm.as_str()
            )),
            _ => {
                self.fetch_for_unknown(now);
                let set = self
                    .current(now)
                    .ok_or_else(|| "its keys are not to be had, or too old".to_owned())?;
                if set.find(id, algorithm).is_none() {
                    return Err(format!(
                        "there is no key {} for {}",
                        shown(id),
                        algorithm.as_str()
                    ));
                }
                Ok(set)
            }
        }
    }

    fn current(&self, now: Time) -> Option<Arc<KeySet>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .set
            .clone()
            .filter(|_| now < state.since.after(self.max_age))
    }

    fn fetch_for_unknown(&self, now: Time) {
        let may = || {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            now >= state.tried.after(AT_MOST_EVERY)
        };
        if self.waiting.fetch_add(1, Ordering::SeqCst) < WAITING {
            // Whoever waited here for another's fetch sees what that one brought.
            let _fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            if may() {
                self.fetch(now);
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn fetch(&self, now: Time) {
        let stamp = self.source.stamp();
        self.keep(self.source.load(), stamp, now);
    }

    /// Keeps what was fetched; the keys there were stay if there are no others.
    fn keep(&self, loaded: Result<KeySet, SourceError>, stamp: Stamp, now: Time) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tried = now;
        state.stamp = stamp;
        match loaded {
            Ok(set) => {
                log::debug!("identity provider {}: {} keys", self.provider, set.len());
                state.set = Some(Arc::new(set));
                state.since = now;
                state.failing = false;
            }
            Err(error) => {
                let kept = match &state.set {
                    Some(_) => format!("those of {} stay until they are too old", state.since),
                    None => "nobody gets in by it".to_owned(),
                };
                log::warn!("identity provider {}: {error}; {kept}", self.provider);
                state.failing = true;
            }
        }
    }
}

/// A key's id as a log may have it: anybody can send one.
fn shown(id: Option<&str>) -> String {
    match id {
        None => "(without an id)".to_owned(),
        Some(id) => format!("{:?}", id.chars().take(64).collect::<String>()),
    }
}
