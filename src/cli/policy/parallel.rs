//! Decisions from one reader, worked on by several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{anyhow, bail};

use super::recorded::Recorded;
use crate::domain::decision::Decision;

/// Decisions that are handed over at once.
const BATCH: usize = 64;

/// Does `work` for each decision on so many threads. The first error ends it, whoever's it is.
pub(super) fn for_each(
    recorded: &Recorded,
    threads: usize,
    work: impl Fn(&Decision) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let (send, receive) = sync_channel::<Vec<Decision>>(threads * 2);
    let receive = Mutex::new(receive);
    let failed = Failed::default();
    let read = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(batch) = next(&receive) {
                    for decision in batch {
                        // After an error what comes is taken and left alone, so that the reader never waits.
                        if !failed.is_set()
                            && let Err(error) = work(&decision)
                        {
                            failed.set(error);
                        }
                    }
                }
            });
        }
        let mut batch = Vec::with_capacity(BATCH);
        let read = recorded.each(&mut |decision| {
            batch.push(decision);
            if batch.len() < BATCH {
                return Ok(());
            }
            if failed.is_set() {
                bail!("stopped");
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            send.send(full).map_err(|_| anyhow!("stopped"))
        });
        let rest = read.and_then(|()| send.send(batch).map_err(|_| anyhow!("stopped")));
        drop(send);
        rest
    });
    match failed.take() {
        Some(error) => Err(error),
        None => read,
    }
}

fn next(receive: &Mutex<Receiver<Vec<Decision>>>) -> Option<Vec<Decision>> {
    let receive = receive.lock().unwrap_or_else(PoisonError::into_inner);
    receive.recv().ok()
}

/// The first error.
#[derive(Default)]
struct Failed {
    set: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl Failed {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    fn set(&self, error: anyhow::Error) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.set.store(true, Ordering::Release);
    }

    fn take(self) -> Option<anyhow::Error> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
