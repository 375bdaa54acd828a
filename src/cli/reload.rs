//! TLS files are read again: when a signal says so, and when they have changed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::notify::Notify;
use crate::domain::{Clock as _, SystemClock};
use crate::http::LiveTls;

/// How often it is looked whether files have changed. What has is read once it stays the same until the next look.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is said that a certificate ends soon.
const REMIND: Duration = Duration::from_secs(86_400);
/// What is soon.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// A listener that has TLS.
pub(super) struct Listener {
    /// As it is called in messages: the configuration's key.
    pub(super) name: &'static str,
    pub(super) tls: Arc<LiveTls>,
}

enum Told {
    Reload,
    Stop,
}

/// Reads files again until it is dropped.
pub(super) struct Reloads(Sender<Told>);

impl Drop for Reloads {
    fn drop(&mut self) {
        let _ = self.0.send(Told::Stop);
    }
}

impl Reloads {
    pub(super) fn start(listeners: Vec<Listener>, notify: Notify, served: String) -> std::io::Result<Self> {
        let (sender, told) = channel();
        remind(&listeners);
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || {
                let mut reminded = Instant::now();
                loop {
                    match told.recv_timeout(LOOK) {
                        Ok(Told::Reload) => reload(&listeners.iter().collect::<Vec<_>>(), &notify, &served),
                        Err(RecvTimeoutError::Timeout) => {
                            let changed: Vec<_> = listeners.iter().filter(|one| one.tls.changed()).collect();
                            if !changed.is_empty() {
                                reload(&changed, &notify, &served);
                            }
                        }
                        Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    }
                    if reminded.elapsed() >= REMIND {
                        remind(&listeners);
                        reminded = Instant::now();
                    }
                }
            })?;
        Ok(Self(sender))
    }

    /// What has all files read again, from any thread.
    pub(super) fn now(&self) -> impl Fn() + Send + use<> {
        let sender = self.0.clone();
        move || drop(sender.send(Told::Reload))
    }
}

fn reload(listeners: &[&Listener], notify: &Notify, served: &str) {
    notify.reloading();
    let mut faults = Vec::new();
    for Listener { name, tls } in listeners {
        match tls.reload(SystemClock.now()) {
            Ok(()) => {
                log::info!(
                    "{name}: the files were read again; the certificate is valid until {}",
                    tls.validity().1
                );
                remind_of(name, tls);
            }
            Err(error) => {
                log::error!("{name}: the files were not taken, new connections are made as before: {error}");
                faults.push(format!("{name} as before: {error}"));
            }
        }
    }
    if listeners.is_empty() {
        log::info!("nothing is read again: no listener has TLS, and other settings are read at the start");
    }
    match faults.is_empty() {
        true => notify.ready(&format!("{served}; reloaded")),
        false => notify.ready(&format!("{served}; not reloaded: {}", faults.join("; "))),
    }
}

fn remind(listeners: &[Listener]) {
    for Listener { name, tls } in listeners {
        remind_of(name, tls);
    }
}

fn remind_of(name: &str, tls: &LiveTls) {
    let (now, (since, until)) = (SystemClock.now(), tls.validity());
    let path = tls.certificate().display();
    if until <= now {
        log::warn!("{name}: the certificate {path} expired at {until}: clients refuse it");
    } else if now < since {
        log::warn!("{name}: the certificate {path} is not valid before {since}: clients refuse it");
    } else if until <= now.after(SOON) {
        log::warn!("{name}: the certificate {path} expires at {until}: put a new one in its place");
    }
}
