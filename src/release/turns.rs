//! One after the other: decisions about a workload that depend on how many releases there were, and explanations of
//! an owner's decisions.
//!
//! Each decision that is committed undoes those that were taken beside it, so they wait for each other here, within
//! this server; whatever comes between all the same, the store's commit finds out. Who waits holds a thread, so nobody
//! waits for ever.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whose turn it is, by what the work is about.
pub(super) struct Turns<K: Clone + Eq + Hash> {
    patience: Duration,
    taken: Mutex<HashSet<K>>,
    ended: Condvar,
}

/// The right to work; it ends when it is dropped.
pub(super) struct Turn<'a, K: Clone + Eq + Hash> {
    turns: &'a Turns<K>,
    about: K,
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Turns that are waited for this long.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            taken: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Waits for a turn; none when it did not come in time.
    ///
    /// What the waiter knew before may no longer be so: it must look again.
    pub(super) fn take(&self, about: K) -> Option<Turn<'_, K>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .ended
            .wait_timeout_while(taken, self.patience, |taken| taken.contains(&about));
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        taken.insert(about.clone()).then(|| Turn { turns: self, about })
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.about);
        drop(taken);
        // All of them, as each waits for a turn of its own.
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

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
    fn where_nobody_waits_the_second_is_turned_away_at_once() {
        let turns = Turns::new(Duration::ZERO);
        let turn = turns.take("acme");
        assert!(turn.is_some() && turns.take("acme").is_none() && turns.take("umbra").is_some());
        drop(turn);
        assert!(turns.take("acme").is_some());
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
