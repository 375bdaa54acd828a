//! One after the other: decisions about a workload that depend on how many releases there were.
//!
//! Each one that is committed undoes those that were taken beside it, so they wait for each other here, within this
//! server; whatever comes between all the same, the store's commit finds out. Who waits holds a thread, so nobody
//! waits for ever.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

/// Workloads that a decision is being taken about.
pub(super) struct Turns {
    patience: Duration,
    taken: Mutex<HashSet<Uuid>>,
    ended: Condvar,
}

/// The right to decide; it ends when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    workload: Uuid,
}

impl Turns {
    /// Turns that are waited for this long.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            taken: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Waits for the workload's turn; none when it did not come in time.
    ///
    /// What the waiter knew before may no longer be so: it must look again.
    pub(super) fn take(&self, workload: Uuid) -> Option<Turn<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .ended
            .wait_timeout_while(taken, self.patience, |taken| taken.contains(&workload));
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        taken.insert(workload).then(|| Turn {
            turns: self,
            workload,
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.workload);
        drop(taken);
        // All of them, as each waits for a workload of its own.
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_one_workload_s_and_is_not_waited_for_without_end() {
        let turns = Turns::new(Duration::from_millis(1));
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let turn = turns.take(one);
        assert!(turn.is_some());
        assert!(turns.take(two).is_some(), "the turn of another workload");
        assert!(turns.take(one).is_none(), "a turn that somebody has");
        drop(turn);
        assert!(turns.take(one).is_some(), "a turn that ended");
    }

    #[test]
    fn a_turn_that_ends_goes_to_one_of_those_who_wait() {
        let turns = Turns::new(Duration::from_secs(60));
        let workload = Uuid::from_u128(1);
        let held = turns.take(workload);
        let deciding = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let turn = turns.take(workload);
                    assert!(turn.is_some());
                    let others = deciding.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert_eq!(others, 0, "two decide at once");
                    deciding.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
            drop(held);
        });
    }
}
