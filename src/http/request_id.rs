//! Which request a thread works on at the moment, so that every line of the log can say it.
//!
//! A request is worked on in turns: by a future that shares its thread with others, and by work on threads where it
//! may wait. Both say so for exactly as long as they run.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

use uuid::Uuid;

thread_local! {
    static CURRENT: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// The request that this thread works on; none: it works on none.
#[must_use]
pub fn current() -> Option<Uuid> {
    CURRENT.get()
}

/// Says which it is until it is dropped.
struct Turn(Option<Uuid>);

impl Turn {
    fn of(id: Option<Uuid>) -> Self {
        Self(CURRENT.replace(id))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Does what belongs to a request.
pub(crate) async fn within<F: Future>(id: Uuid, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _turn = Turn::of(Some(id));
        work.as_mut().poll(context)
    })
    .await
}

/// Work of the request that is worked on now, to be done on another thread.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let id = current();
    move || {
        let _turn = Turn::of(id);
        work()
    }
}
