//! Ephemeral keys that are made before they are asked for, by a processor that has nothing else to do.
//!
//! A key is taken out once and is gone: it is moved, and can't be copied. At most so many wait, in this process's memory
//! alone, and each is cleared when it is dropped. Where none waits, one is made on the spot.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::p384::EphemeralKey;
use super::random::{Random, RandomError};

/// Keys that wait.
pub struct KeysAhead {
    most: usize,
    shelf: Mutex<Shelf>,
    /// Told when a key was taken, and when no more are wanted.
    changed: Condvar,
}

#[derive(Default)]
struct Shelf {
    keys: Vec<EphemeralKey>,
    closed: bool,
}

impl KeysAhead {
    /// So many at most; none is made yet.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            shelf: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// A key that waits, or one that is made now.
    ///
    /// # Errors
    /// When none waits and there are no random bytes.
    pub fn take(&self, random: &dyn Random) -> Result<EphemeralKey, RandomError> {
        let waiting = self.shelf().keys.pop();
        match waiting {
            Some(key) => {
                self.changed.notify_one();
                Ok(key)
            }
            None => EphemeralKey::fresh(random),
        }
    }

    /// Makes keys, on this thread, whenever fewer than the most wait, until [`close`](Self::close).
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn keep_full(&self, random: &dyn Random) -> Result<(), RandomError> {
        loop {
            let shelf = self.shelf();
            let full = |shelf: &mut Shelf| !shelf.closed && shelf.keys.len() >= self.most;
            let shelf = self
                .changed
                .wait_while(shelf, full)
                .unwrap_or_else(PoisonError::into_inner);
            if shelf.closed {
                return Ok(());
            }
            drop(shelf);
            // Nobody waits for the shelf while a key is made.
            let key = EphemeralKey::fresh(random)?;
            let mut shelf = self.shelf();
            if !shelf.closed && shelf.keys.len() < self.most {
                shelf.keys.push(key);
            }
        }
    }

    /// No more are wanted; those that wait are cleared.
    pub fn close(&self) {
        let mut shelf = self.shelf();
        shelf.closed = true;
        shelf.keys.clear();
        drop(shelf);
        self.changed.notify_all();
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shelf().keys.len()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
