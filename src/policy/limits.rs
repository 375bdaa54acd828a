//! How much loading and evaluating may take, and the stack that owners' text needs.

use std::any::Any;
use std::io;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Stack of a thread that owners' text is parsed and evaluated on: the engine recurses on what it reads. Only what
/// is touched takes memory.
pub const STACK: usize = 64 * 1024 * 1024;

/// How much an evaluation may take.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Limits {
    /// Time of one evaluation: all of a policy's rules together. 200 ms.
    pub time: Duration,
    /// Time to load a bundle: scan, parse, check. 10 s.
    pub load_time: Duration,
    /// How long a request waits for its turn before it is told to come back. 5 s.
    pub queue_time: Duration,
    /// Most messages of a `deny` set that are kept. 64.
    pub max_messages: usize,
    /// Most bytes of one message; longer ones are cut. 1024.
    pub max_message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_millis(200),
            load_time: Duration::from_secs(10),
            queue_time: Duration::from_secs(5),
            max_messages: 64,
            max_message_bytes: 1024,
        }
    }
}

impl Limits {
    /// Time to explain one policy: ten evaluations. 2 s.
    pub fn explain_time(&self) -> Duration {
        self.time.saturating_mul(10)
    }
}

/// A point in time that an evaluation must be done by.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    end: Instant,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Deadline {
        let now = Instant::now();
        Deadline {
            end: now.checked_add(time).unwrap_or(now),
        }
    }

    /// What is left; nothing once it has passed.
    pub(super) fn left(self) -> Option<Duration> {
        self.end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }
}

/// Runs a job on a thread of its own with a big stack, and waits for it.
///
/// # Errors
/// The text of its panic, or why the system gave no thread.
pub(super) fn on_big_stack<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| joined(spawned(scope, job)))
}

/// The same with so many threads, each of which runs the job.
pub(super) fn on_big_stacks<T: Send>(count: usize, job: impl Fn() -> T + Sync) -> Vec<Result<T, String>> {
    let job = &job;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| spawned(scope, job)).collect();
        threads.into_iter().map(joined).collect()
    })
}

fn spawned<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    job: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new()
        .name("policy".to_owned())
        .stack_size(STACK)
        .spawn_scoped(scope, job)
}

fn joined<T>(spawned: io::Result<ScopedJoinHandle<'_, T>>) -> Result<T, String> {
    match spawned {
        Ok(thread) => thread.join().map_err(|panic| text_of(&*panic)),
        Err(error) => Err(format!("there is no thread for it: {error}")),
    }
}

/// What a panic said.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let answer = on_big_stack(|| -> u32 { std::panic::resume_unwind(Box::new("broken")) });
        assert_eq!(answer, Err("broken".to_owned()));
        assert_eq!(on_big_stack(|| 7), Ok(7));
    }

    #[test]
    fn a_job_has_the_stack_that_deep_text_needs() {
        fn deep(levels: u32) -> u64 {
            let room = std::hint::black_box([u64::from(levels); 64]);
            let below = if levels == 0 { 0 } else { deep(levels - 1) };
            below + room.iter().copied().max().unwrap_or_default()
        }
        assert!(on_big_stack(|| deep(30_000)).is_ok());
    }
}
