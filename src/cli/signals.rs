//! The signals that a terminal and a service manager send: reload, end, and end at once.

use std::sync::mpsc::{Sender, channel};
use std::task::Poll;
use std::time::Duration;

use actix_web::rt::Runtime;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use anyhow::Context as _;

/// What is done at a signal.
pub(super) struct Heed {
    /// SIGHUP, any number of times.
    pub(super) reload: Box<dyn Fn() + Send>,
    /// SIGTERM or SIGINT, once: the end begins. It may not wait.
    pub(super) stop: Box<dyn FnOnce() + Send>,
    /// How long the end may take from then on.
    pub(super) bound: Duration,
}

/// Signals that are kept, and not heeded yet.
pub(super) struct Signals {
    heed: Sender<Heed>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Reload,
    Stop,
}

impl Signals {
    /// Takes signals on a thread of its own, which answers for as long as the process lives, whatever hangs. Where
    /// serving fails before they are heeded, a signal bounds the end all the same.
    ///
    /// # Errors
    /// When the system gives no thread, or no signals.
    pub(super) fn listen(bound: Duration) -> anyhow::Result<Self> {
        let (heed, heeded) = channel::<Heed>();
        let (listens, listening) = channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let runtime = match Runtime::new() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(listens.send(Err(error))),
                };
                runtime.block_on(async move {
                    match kinds() {
                        Err(error) => drop(listens.send(Err(error))),
                        Ok(signals) => {
                            let _ = listens.send(Ok(()));
                            // Nothing else runs here that could be held up.
                            let heed = heeded.recv().unwrap_or_else(|_| Heed {
                                reload: Box::new(|| {}),
                                stop: Box::new(|| {}),
                                bound,
                            });
                            answer(signals, heed).await;
                        }
                    }
                });
            })?;
        listening.recv().context("signals")?.context("signals")?;
        Ok(Self { heed })
    }

    /// Heeds those that came, and all that come.
    pub(super) fn heed(self, heed: Heed) {
        // Its thread waits for this, and for nothing else.
        let _ = self.heed.send(heed);
    }
}

fn kinds() -> std::io::Result<[Signal; 3]> {
    Ok([
        signal(SignalKind::hangup())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ])
}

async fn next([hangup, terminate, interrupt]: &mut [Signal; 3]) -> Told {
    std::future::poll_fn(|context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            return Poll::Ready(Told::Stop);
        }
        hangup.poll_recv(context).map(|_| Told::Reload)
    })
    .await
}

async fn answer(mut signals: [Signal; 3], heed: Heed) {
    while next(&mut signals).await == Told::Reload {
        (heed.reload)();
    }
    (heed.stop)();
    let again = async { while next(&mut signals).await == Told::Reload {} };
    match actix_web::rt::time::timeout(heed.bound, again).await {
        Ok(()) => log::error!(
            "a second signal: ended at once, without an answer for requests under way and without a last checkpoint"
        ),
        Err(_) => log::error!(
            "ended without having come to an end within {} seconds",
            heed.bound.as_secs()
        ),
    }
    // What is committed is on the disk; what is not was not answered.
    std::process::exit(1)
}
