//! How many workers there were, and how they ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Workers;
use super::process::Failure;

/// Counts since the pool was made.
#[derive(Default)]
pub(super) struct Tally {
    started: AtomicU64,
    died: AtomicU64,
    timed_out: AtomicU64,
}

impl Tally {
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, failure: &Failure) {
        let count = match failure {
            Failure::TimedOut => &self.timed_out,
            Failure::Died(_) => &self.died,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool as it is, and what became of its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerFigures {
    /// Workers that were started.
    pub started: u64,
    /// Of them, those that died of what they were asked.
    pub died: u64,
    /// Of them, those that were ended as they did not answer in time.
    pub timed_out: u64,
    /// Workers that are being asked something.
    pub busy: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

impl Workers {
    /// Figures of this moment.
    #[must_use]
    pub fn figures(&self) -> WorkerFigures {
        let (busy, waiting) = self.turns.load();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WorkerFigures {
            started: read(&self.tally.started),
            died: read(&self.tally.died),
            timed_out: read(&self.tally.timed_out),
            busy,
            waiting,
        }
    }
}
