//! The thread that makes ephemeral keys ahead, when the processors have nothing else to do.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::release::Service;

/// The lowest of priorities: whoever else wants the processor has it.
const NICE: i32 = 19;

/// The thread; it ends when this is dropped.
pub(super) struct Ahead {
    service: Arc<Service>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts it, where keys are to be made ahead.
    pub(super) fn start(service: &Arc<Service>) -> std::io::Result<Self> {
        let making = service.clone();
        let thread = std::thread::Builder::new()
            .name("keys-ahead".to_owned())
            .spawn(move || {
                // On Linux it is this thread's.
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    log::warn!("keys are not made ahead, as the thread's priority can't be lowered: {error}");
                    return;
                }
                if let Err(error) = making.make_keys_ahead() {
                    log::error!("keys are not made ahead any more: {error}");
                }
            })?;
        Ok(Self {
            service: service.clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.service.end_keys_ahead();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
