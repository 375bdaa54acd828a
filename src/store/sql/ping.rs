//! Whether the database can be written, found out once for all who ask at about the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::StoreError;

/// How long what was found stands for those who ask later, where it was well.
const STANDS: Duration = Duration::from_secs(1);
/// How long others wait for one who is finding out: anybody may ask, and threads are few.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found last, and whether somebody is finding out.
#[derive(Default)]
pub(super) struct Pings {
    state: Mutex<State>,
    found: Condvar,
}

#[derive(Default)]
struct State {
    asking: bool,
    /// When, and why it could not be written.
    last: Option<(Instant, Option<String>)>,
}

impl Pings {
    /// Whether it can be written, by this real write: a full disk is seen, too.
    pub(super) fn ask(&self, write: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut state = self.lock();
        loop {
            // What one found stands for those that waited for it, and where it was well for those that come soon.
            if let Some((at, failed)) = &state.last
                && (*at >= asked || (failed.is_none() && at.elapsed() < STANDS))
            {
                return match failed {
                    None => Ok(()),
                    Some(why) => Err(StoreError::Engine(why.clone())),
                };
            }
            if !state.asking {
                break;
            }
            let Some(left) = PATIENCE.checked_sub(asked.elapsed()) else {
                return Err(StoreError::Engine("the database has not answered yet".to_owned()));
            };
            let waited = self.found.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.asking = true;
        drop(state);
        let asking = Asking(self);
        let done = write();
        let mut state = self.lock();
        state.last = Some((Instant::now(), done.as_ref().err().map(ToString::to_string)));
        drop(state);
        drop(asking);
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next one ask, however this one ends.
struct Asking<'p>(&'p Pings);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().asking = false;
        self.0.found.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::channel;

    use super::*;

    fn failed() -> Result<(), StoreError> {
        Err(StoreError::Engine("full".to_owned()))
    }

    #[test]
    fn one_finds_out_for_all_and_nobody_waits_for_long() {
        let pings = Pings::default();
        let (gate, shut) = channel::<()>();
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                pings.ask(move || {
                    let _ = shut.recv();
                    Ok(())
                })
            });
            while !pings.lock().asking {
                std::thread::yield_now();
            }
            let error = pings.ask(|| panic!("another finds out")).unwrap_err();
            assert!(error.to_string().contains("has not answered yet"), "{error}");
            drop(gate);
            slow.join().unwrap().unwrap();
        });
        pings.ask(|| panic!("it was well a moment ago")).unwrap();
    }

    #[test]
    fn what_failed_is_asked_again_and_a_panic_keeps_nobody_out() {
        let pings = Pings::default();
        assert!(pings.ask(failed).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| pings.ask(|| panic!("inside")))).is_err());
        assert!(pings.ask(failed).is_err());
        pings.ask(|| Ok(())).unwrap();
    }
}
