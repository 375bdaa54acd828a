//! Gives the records of the audit log their places: one server at a time, in batches.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use crate::store::StoreError;
use crate::store::sql::{Scope, log};

/// How often it is looked for what another server left pending when it died.
const ROUND: Duration = Duration::from_millis(500);

/// The thread that sequences.
pub(super) struct Sequencer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sequencer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || {
                let mut failing = false;
                while woken.recv_timeout(ROUND) != Err(RecvTimeoutError::Disconnected) {
                    match sequence(&shared) {
                        Ok(()) => failing = false,
                        // Once: a database that is away is told of at each request already.
                        Err(error) if !failing => {
                            ::log::warn!("the audit log: {error}");
                            failing = true;
                        }
                        Err(_) => {}
                    }
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// There is something to sequence.
    pub(super) fn nudge(&self) {
        if let Some(wake) = &self.wake {
            match wake.try_send(()) {
                // It is woken already.
                Ok(()) | Err(TrySendError::Full(())) | Err(TrySendError::Disconnected(())) => {}
            }
        }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives every record that is committed its place.
pub(super) fn sequence(shared: &Shared) -> Result<(), StoreError> {
    while shared.write(&Scope::Log, |c| log::sequence(c).map_err(StoreError::from))? {}
    Ok(())
}
