//! What `serve` tells its service manager (`sd_notify(3)`): that it serves, reloads, stops, and is alive.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::host;
use crate::release::Service;

/// How soon a store that failed is asked again: one failure does not use up the time that the service manager gives.
const AGAIN: Duration = Duration::from_secs(1);

/// The service manager, where there is one.
#[derive(Clone)]
pub(super) struct Notify {
    socket: Option<OsString>,
}

/// Says that the server is alive until it is dropped.
pub(super) struct Watchdog(Option<Sender<()>>);

impl Notify {
    /// The one that `NOTIFY_SOCKET` names.
    pub(super) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET");
        Self {
            socket: socket.filter(|name| !name.is_empty()),
        }
    }

    /// It serves, and this is its state.
    pub(super) fn ready(&self, status: &str) {
        let status = status_of(status);
        self.say(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It reads its files again; [`Notify::ready`] follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("the service manager is not told of the reload: {error}"),
        }
    }

    /// It ends.
    pub(super) fn stopping(&self, status: &str) {
        let status = status_of(status);
        self.say(&[NotifyState::Stopping, NotifyState::Status(&status)]);
    }

    /// Says at half of `WATCHDOG_USEC` that the server is alive, for as long as its store answers. A store that fails
    /// or hangs is told by silence; the service manager then starts the server anew.
    pub(super) fn watchdog(&self, service: Arc<Service>) -> std::io::Result<Watchdog> {
        let every = sd_notify::watchdog_enabled().map(|time| time / 2);
        let Some(every) = every.filter(|time| !time.is_zero() && self.socket.is_some()) else {
            return Ok(Watchdog(None));
        };
        let (stop, stopped) = channel();
        let this = self.clone();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                loop {
                    let wait = match service.store().ping() {
                        Ok(()) => {
                            this.say(&[NotifyState::Watchdog]);
                            every
                        }
                        Err(error) => {
                            log::error!("the service manager is not told that this server is alive: {error}");
                            let status = status_of(&format!("the store does not answer: {error}"));
                            this.say(&[NotifyState::Status(&status)]);
                            every.min(AGAIN)
                        }
                    };
                    if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })?;
        Ok(Watchdog(Some(stop)))
    }

    fn say(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        if let Err(error) = host::notify(socket, &lines.join("\n")) {
            log::warn!("the service manager can't be told: {error}");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A store that hangs would hold up who waits for the thread.
        self.0 = None;
    }
}

/// A status is one line: another would be another message.
fn status_of(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
