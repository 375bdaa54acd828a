//! Who gets a worker next: owners in turn, each owner's requests in their order.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A number of places, each held by one owner's request at a time. A place comes with what its last holder left.
pub(super) struct Turns<T> {
    places: usize,
    /// Most places that one owner holds at once.
    most: usize,
    waiting: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// What was left in places that nobody holds.
    idle: Vec<T>,
    taken: usize,
    clock: u64,
    owners: HashMap<String, Owner>,
    queue: VecDeque<Ticket>,
}

/// An owner who holds a place or waits for one.
#[derive(Default)]
struct Owner {
    holds: usize,
    waits: usize,
    /// When one was last given a place.
    served: u64,
}

struct Ticket {
    owner: String,
    thread: Thread,
    granted: Arc<AtomicBool>,
}

/// How well what was left in a place serves who comes next; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It has what is asked for.
    Held,
    /// It has room for it.
    Room,
    /// Something would have to give way; an empty place is better.
    Full,
}

/// A place that is held. Given back empty when dropped.
pub(super) struct Turn<'a, T> {
    turns: &'a Turns<T>,
    owner: String,
    left: Option<T>,
}

impl<T> Turns<T> {
    /// Where there are two places or more, one is left for others whatever an owner asks for.
    pub(super) fn new(places: usize, waiting: usize) -> Self {
        Self::shared(places, places.saturating_sub(1), waiting)
    }

    /// Places that one owner may hold all of, as there is no other.
    pub(super) fn of_one_owner(places: usize, waiting: usize) -> Self {
        Self::shared(places, places, waiting)
    }

    fn shared(places: usize, most: usize, waiting: usize) -> Self {
        Self {
            places: places.max(1),
            most: most.max(1),
            waiting,
            state: Mutex::new(State {
                idle: Vec::new(),
                taken: 0,
                clock: 0,
                owners: HashMap::new(),
                queue: VecDeque::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Every change of the state is made wholly before the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places are held, and how many requests wait for one.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.taken, state.queue.len())
    }

    /// A place, and what was left in it; of those that are free, the one that fits best. None if the queue is full,
    /// or no place comes free in time.
    pub(super) fn take(
        &self,
        owner: &str,
        wait: Duration,
        fits: impl Fn(&T) -> Fit,
    ) -> Option<(Turn<'_, T>, Option<T>)> {
        let mut state = self.lock();
        // One owner's requests leave half of the queue to others.
        let own = state.owners.get(owner).map_or(0, |owner| owner.waits);
        if state.queue.len() >= self.waiting || own >= (self.waiting / 2).max(1) {
            return None;
        }
        let granted = Arc::new(AtomicBool::new(false));
        state.queue.push_back(Ticket {
            owner: owner.to_owned(),
            thread: thread::current(),
            granted: granted.clone(),
        });
        state.owners.entry(owner.to_owned()).or_default().waits += 1;
        self.hand_out(&mut state);
        if !granted.load(Ordering::Acquire) {
            drop(state);
            let end = Instant::now() + wait;
            while !granted.load(Ordering::Acquire) {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
            state = self.lock();
        }
        if !granted.load(Ordering::Acquire) {
            state
                .queue
                .retain(|ticket| !Arc::ptr_eq(&ticket.granted, &granted));
            state.left(owner, |owner| owner.waits -= 1);
            return None;
        }
        let best = state
            .idle
            .iter()
            .map(fits)
            .enumerate()
            .min_by_key(|(_, fit)| *fit);
        // What was left in places is warm; a place with nothing in it is taken only where nothing else has room.
        let empty = state.idle.len() + state.taken <= self.places;
        let idle = best
            .filter(|(_, fit)| !(*fit == Fit::Full && empty))
            .map(|(at, _)| state.idle.swap_remove(at));
        let turn = Turn {
            turns: self,
            owner: owner.to_owned(),
            left: None,
        };
        Some((turn, idle))
    }

    /// Gives free places to those whose turn it is.
    fn hand_out(&self, state: &mut State<T>) {
        while state.taken < self.places {
            let owners = &state.owners;
            let next = state
                .queue
                .iter()
                .enumerate()
                .filter_map(|(at, ticket)| {
                    let owner = owners.get(&ticket.owner)?;
                    (owner.holds < self.most).then_some((owner.served, at))
                })
                .min();
            let Some(ticket) = next.and_then(|(_, at)| state.queue.remove(at)) else {
                return;
            };
            state.clock += 1;
            state.taken += 1;
            let served = state.clock;
            state.left(&ticket.owner, |owner| {
                owner.waits -= 1;
                owner.holds += 1;
                owner.served = served;
            });
            ticket.granted.store(true, Ordering::Release);
            ticket.thread.unpark();
        }
    }
}

impl<T> State<T> {
    /// Changes what is known of an owner; one who neither holds nor waits is forgotten.
    fn left(&mut self, name: &str, change: impl FnOnce(&mut Owner)) {
        let Some(owner) = self.owners.get_mut(name) else {
            return;
        };
        change(owner);
        if owner.holds == 0 && owner.waits == 0 {
            self.owners.remove(name);
        }
    }
}

impl<T> Turn<'_, T> {
    /// Gives the place back with something in it for the next holder.
    pub(super) fn give_back(mut self, left: T) {
        self.left = Some(left);
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.taken -= 1;
        state.left(&self.owner, |owner| owner.holds -= 1);
        state.idle.extend(self.left.take());
        self.turns.hand_out(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(30);

    fn now(turns: &Turns<u32>, owner: &str) -> bool {
        turns.take(owner, Duration::ZERO, |_| Fit::Room).is_some()
    }

    #[test]
    fn a_place_comes_with_what_was_left_in_it_best_what_is_preferred() {
        let turns = Turns::new(3, 8);
        for left in [1, 2] {
            let (turn, idle) = turns.take("a", LONG, |_| Fit::Room).unwrap();
            assert_eq!(idle, None);
            let (other, _) = turns.take("a", LONG, |_| Fit::Room).unwrap();
            other.give_back(left);
            drop(turn);
            turns.lock().idle.clear();
        }
        turns.lock().idle.extend([1, 2, 3]);
        let held = |left: &u32| if *left == 2 { Fit::Held } else { Fit::Full };
        let (_turn, idle) = turns.take("a", LONG, held).unwrap();
        assert_eq!(idle, Some(2));
    }

    #[test]
    fn a_place_with_nothing_in_it_is_better_than_one_that_is_full() {
        let turns = Turns::new(3, 8);
        turns.lock().idle.extend([1, 2]);
        let room = |left: &u32| if *left == 1 { Fit::Room } else { Fit::Full };
        let (first, idle) = turns.take("a", LONG, room).unwrap();
        assert_eq!(idle, Some(1), "what is warm and has room");
        let (second, idle) = turns.take("a", LONG, room).unwrap();
        assert_eq!(idle, None, "the third place");
        let (_third, idle) = turns.take("b", LONG, room).unwrap();
        assert_eq!(idle, Some(2), "there is no other");
        drop((first, second));
    }

    #[test]
    fn one_owner_leaves_a_place_to_others() {
        let turns = Turns::new(3, 8);
        let held = [
            turns.take("a", LONG, |_| Fit::Room),
            turns.take("a", LONG, |_| Fit::Room),
        ];
        assert!(held.iter().all(Option::is_some));
        assert!(!now(&turns, "a"));
        assert!(now(&turns, "b"));
        drop(held);
        assert!(now(&turns, "a"));
        assert!(turns.lock().owners.is_empty(), "who left is forgotten");
    }

    #[test]
    fn an_owner_who_is_alone_holds_every_place() {
        let turns = Turns::of_one_owner(2, 8);
        let held = [
            turns.take("a", LONG, |_| Fit::Room),
            turns.take("a", LONG, |_| Fit::Room),
        ];
        assert!(held.iter().all(Option::is_some));
        assert!(!now(&turns, "a"));
    }

    #[test]
    fn a_single_place_is_for_everybody_in_turn() {
        let turns = Turns::new(1, 8);
        let (first, _) = turns.take("a", LONG, |_: &u32| Fit::Room).unwrap();
        let (told, order) = channel();
        thread::scope(|scope| {
            // Two of the same owner wait, then one of another, who is served before the second.
            for (number, owner) in ["a", "a", "b"].into_iter().enumerate() {
                let told = told.clone();
                let turns = &turns;
                scope.spawn(move || {
                    let turn = turns.take(owner, LONG, |_| Fit::Room);
                    told.send((number, owner)).unwrap();
                    drop(turn);
                });
                while turns.lock().queue.len() < number + 1 {
                    thread::yield_now();
                }
            }
            drop(first);
        });
        let order: Vec<_> = order.try_iter().collect();
        assert_eq!(order.first(), Some(&(2, "b")), "{order:?}");
        assert_eq!(order.len(), 3);
    }

    #[test]
    fn a_queue_that_is_full_and_a_place_that_does_not_come_free_are_told() {
        let turns: Turns<u32> = Turns::new(1, 2);
        let held = turns.take("a", LONG, |_| Fit::Room);
        assert!(turns.take("b", Duration::from_millis(1), |_| Fit::Room).is_none());
        assert!(turns.lock().queue.is_empty(), "who gave up does not wait");
        thread::scope(|scope| {
            let turns = &turns;
            let waiting = scope.spawn(move || turns.take("b", LONG, |_| Fit::Room).is_some());
            while turns.lock().queue.is_empty() {
                thread::yield_now();
            }
            // Half of the queue is one owner's at most.
            assert!(turns.take("b", LONG, |_| Fit::Room).is_none());
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }
}
