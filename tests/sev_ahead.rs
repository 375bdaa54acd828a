//! Ephemeral keys made ahead: each is used once, and there are never more than was said.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use keyward::sev::ahead::KeysAhead;
use keyward::sev::{Certificate, Random, RandomError, SystemRandom};

use crate::support::platform;

/// Counts what is drawn, so that no two keys are the same, and those made ahead are told from those made on the spot.
struct Numbered {
    kind: u8,
    drawn: AtomicU64,
}

impl Numbered {
    fn new(kind: u8) -> Self {
        Self {
            kind,
            drawn: AtomicU64::new(0),
        }
    }

    fn drawn(&self) -> u64 {
        self.drawn.load(Ordering::SeqCst)
    }
}

impl Random for Numbered {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.fill(self.kind);
        let number = self.drawn.fetch_add(1, Ordering::SeqCst);
        out[..8].copy_from_slice(&(number + 1).to_le_bytes());
        Ok(())
    }
}

#[test]
fn no_key_is_used_twice_and_none_is_beyond_the_bound() {
    const MOST: usize = 3;
    let pdh = Certificate::parse(&platform().pdh()).unwrap();
    let (keys, ahead, spot) = (KeysAhead::new(MOST), Numbered::new(1), Numbered::new(2));
    let made = std::thread::scope(|scope| {
        let maker = scope.spawn(|| keys.keep_full(&ahead));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let taken = (0..50).map(|_| {
                        assert!(keys.waiting() <= MOST);
                        let key = keys.take(&spot).unwrap();
                        key.agree(&pdh).unwrap().to_vec()
                    });
                    taken.collect::<Vec<_>>()
                })
            })
            .collect();
        let made: Vec<_> = takers
            .into_iter()
            .flat_map(|taker| taker.join().unwrap())
            .collect();
        // The shelf fills up again, and no further.
        while keys.waiting() < MOST {
            std::thread::yield_now();
        }
        keys.close();
        maker.join().unwrap().unwrap();
        made
    });
    let distinct: std::collections::BTreeSet<_> = made.iter().collect();
    assert_eq!(
        (made.len(), distinct.len()),
        (200, 200),
        "each secret is another key's"
    );
    assert_eq!(keys.waiting(), 0, "closed, and cleared");
    // Of those made ahead, what was not taken is what waited, and at most one more that was under way.
    let left = ahead.drawn() + spot.drawn() - 200;
    assert!((MOST as u64..=MOST as u64 + 1).contains(&left), "{left}");
}

#[test]
fn where_none_waits_one_is_made() {
    let (keys, spot) = (KeysAhead::new(4), Numbered::new(2));
    for drawn in 1..=3 {
        keys.take(&spot).unwrap();
        assert_eq!((spot.drawn(), keys.waiting()), (drawn, 0));
    }
}

#[test]
fn a_source_that_fails_ends_the_making_and_not_the_taking() {
    /// Has so many draws to give.
    struct Few(AtomicU8);
    impl Random for Few {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            let left = self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_err(|_| RandomError("unplugged".to_owned()))?;
            SystemRandom.fill(out)
        }
    }
    let keys = KeysAhead::new(4);
    assert!(keys.keep_full(&Few(AtomicU8::new(2))).is_err());
    assert_eq!(keys.waiting(), 2);
    let none = Few(AtomicU8::new(0));
    assert!(keys.take(&none).is_ok() && keys.take(&none).is_ok());
    assert!(keys.take(&none).is_err(), "no key is better than a guessable one");
}
