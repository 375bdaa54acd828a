//! Threads with big stacks, on which owners' text is parsed and evaluated.
//!
//! The engine checks its timer between steps and recurses on what it evaluates, so a job may outlast its time and
//! needs more stack than a caller has. A job that does not answer in time is given up: its caller gets a denial at
//! once and another thread takes its place. The number of threads is bounded, given-up ones included; when all are
//! taken, callers are told that the pool is busy, which denies too.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Stack of each thread. Only what is touched takes memory.
const STACK: usize = 64 * 1024 * 1024;
/// Most jobs that wait for a thread.
const MAX_QUEUE: usize = 256;
/// Most threads that may be stuck in a given-up job, besides the working ones.
const MAX_STUCK: usize = 8;

/// Why a job has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It ran longer than its time. It may still run, without anyone listening.
    TimedOut,
    /// No thread came free in time, or too many jobs wait.
    Busy,
    /// It panicked; the text is the panic's.
    Panicked(String),
}

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const GIVEN_UP: u8 = 2;
const DONE: u8 = 3;

struct Job {
    state: Arc<AtomicU8>,
    started: Box<dyn FnOnce() + Send>,
    work: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stuck: usize,
}

/// The process's one pool.
struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    workers: usize,
}

fn pool() -> &'static Arc<Pool> {
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    POOL.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Pool {
            state: Mutex::default(),
            wake: Condvar::new(),
            workers: cores + 2,
        })
    })
}

/// Runs a job on a thread of the pool and waits for its answer: up to `wait` for a thread, then up to `time`.
pub(super) fn run<T, F>(wait: Duration, time: Duration, job: F) -> Result<T, NoAnswer>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let state = Arc::new(AtomicU8::new(WAITING));
    let (answer, answered) = sync_channel(1);
    let (begin, begun) = sync_channel(1);
    let work = move || {
        let result =
            catch_unwind(AssertUnwindSafe(job)).map_err(|panic| NoAnswer::Panicked(text_of(&*panic)));
        // INVARIANT: the channel holds one and gets one; if the caller is gone, nobody needs the answer.
        let _ = answer.send(result);
    };
    let started = move || {
        let _ = begin.send(());
    };
    let pool = pool();
    pool.submit(Job {
        state: Arc::clone(&state),
        started: Box::new(started),
        work: Box::new(work),
    })?;
    if begun.recv_timeout(wait).is_err() {
        let waiting = state.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        if waiting.is_ok() {
            return Err(NoAnswer::Busy);
        }
    }
    match answered.recv_timeout(time) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Panicked("the job was lost".to_owned())),
        Err(RecvTimeoutError::Timeout) => {
            if state
                .compare_exchange(RUNNING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                pool.replace_stuck();
            }
            Err(NoAnswer::TimedOut)
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so a poisoned state is still a consistent one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, job: Job) -> Result<(), NoAnswer> {
        let mut state = self.lock();
        if state.queue.len() >= MAX_QUEUE {
            return Err(NoAnswer::Busy);
        }
        state.queue.push_back(job);
        if state.idle < state.queue.len() {
            self.spawn(&mut state);
        }
        let none = state.threads == 0;
        drop(state);
        self.wake.notify_one();
        if none { Err(NoAnswer::Busy) } else { Ok(()) }
    }

    /// Starts a thread, if one may be.
    fn spawn(self: &Arc<Self>, state: &mut State) {
        if state.threads >= self.workers + state.stuck.min(MAX_STUCK) {
            return;
        }
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("policy".to_owned()).stack_size(STACK);
        if thread.spawn(move || pool.work()).is_ok() {
            state.threads += 1;
        }
    }

    /// A caller gave up a running job: another thread may take the place of the one that runs it.
    fn replace_stuck(self: &Arc<Self>) {
        let mut state = self.lock();
        state.stuck += 1;
        if !state.queue.is_empty() {
            self.spawn(&mut state);
        }
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(job) = state.queue.pop_front() else {
                state.idle += 1;
                // A thread beyond what is needed has nothing to wait for.
                if state.threads > self.workers + state.stuck.min(MAX_STUCK) {
                    state.idle -= 1;
                    state.threads -= 1;
                    return;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let claimed = job
                .state
                .compare_exchange(WAITING, RUNNING, Ordering::AcqRel, Ordering::Acquire);
            let mut given_up = false;
            if claimed.is_ok() {
                (job.started)();
                (job.work)();
                given_up = job.state.swap(DONE, Ordering::AcqRel) == GIVEN_UP;
            }
            state = self.lock();
            if given_up {
                state.stuck = state.stuck.saturating_sub(1);
            }
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// A point in time that a job must be done by.
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let answer = run(LONG, LONG, || -> u32 {
            std::panic::resume_unwind(Box::new("broken"))
        });
        assert_eq!(answer, Err(NoAnswer::Panicked("broken".to_owned())));
        assert_eq!(run(LONG, LONG, || 7), Ok(7));
    }

    #[test]
    fn jobs_that_never_end_are_given_up_and_others_still_served() {
        // More than there are threads to begin with; each waits until its sender is dropped.
        let mut held = Vec::new();
        let stuck = pool().workers + 2;
        for _ in 0..stuck {
            let (hold, held_back) = sync_channel::<()>(1);
            held.push(hold);
            let answer = run(LONG, Duration::from_millis(1), move || {
                let _ = held_back.recv();
            });
            assert_eq!(answer, Err(NoAnswer::TimedOut));
        }
        assert_eq!(run(LONG, LONG, || 7), Ok(7));
        drop(held);
        assert_eq!(run(LONG, LONG, || 8), Ok(8));
    }

    #[test]
    fn a_job_has_the_stack_that_deep_text_needs() {
        fn deep(levels: u32) -> u64 {
            let room = std::hint::black_box([u64::from(levels); 64]);
            let below = if levels == 0 { 0 } else { deep(levels - 1) };
            below + room.iter().copied().max().unwrap_or_default()
        }
        assert!(run(LONG, LONG, || deep(30_000)).is_ok());
    }
}
