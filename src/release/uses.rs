//! When tokens were last used: noted in memory, so that no request waits for it, and written down in passing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::Time;
use crate::store::{Store, StoreError};

/// How often the use of one token is written down at most.
const EVERY: Duration = Duration::from_secs(60);

/// The last use of each token, and when that was written down.
#[derive(Default)]
pub(super) struct Uses(Mutex<HashMap<Uuid, Use>>);

struct Use {
    last: Time,
    unwritten: bool,
    written_at: Option<Time>,
}

impl Uses {
    /// A valid token was used.
    pub(super) fn note(&self, token: Uuid, now: Time) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = uses.entry(token).or_insert(Use {
            last: now,
            unwritten: true,
            written_at: None,
        });
        noted.last = now;
        noted.unwritten = true;
    }

    /// Writes down what was not for a minute, and forgets what has not been used since it was written.
    ///
    /// # Errors
    /// When the store fails; then it is tried again the next time.
    pub(super) fn flush(&self, store: &dyn Store, now: Time) -> Result<(), StoreError> {
        let due: Vec<(Uuid, Time)> = {
            let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let rested = |noted: &Use| noted.written_at.is_none_or(|at| at.after(EVERY) <= now);
            uses.retain(|_, noted| noted.unwritten || !rested(noted));
            let due = uses.iter().filter(|(_, noted)| noted.unwritten && rested(noted));
            due.map(|(token, noted)| (*token, noted.last)).collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        store.tokens_used(&due)?;
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (token, time) in due {
            if let Some(noted) = uses.get_mut(&token) {
                noted.unwritten = noted.last != time;
                noted.written_at = Some(now);
            }
        }
        Ok(())
    }
}
