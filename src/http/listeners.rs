//! Listeners, and which API is served on which.
//!
//! An API that has a listener of its own is served there alone; the main one serves what has none. What monitors ask,
//! and the pages that explain problems, are on each.

use std::net::{SocketAddr, TcpListener};

use super::roles::{ENDPOINTS, Who};

/// Bound listeners.
pub struct Listeners {
    /// Serves each API that has no listener of its own.
    pub main: TcpListener,
    /// Serves the host API alone.
    pub hosts: Option<TcpListener>,
    /// Serves the owner API alone.
    pub owners: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    /// Both APIs on one.
    fn from(main: TcpListener) -> Self {
        Self {
            main,
            hosts: None,
            owners: None,
        }
    }
}

impl Listeners {
    /// Which API is served where.
    ///
    /// # Errors
    /// When the system does not say where they listen.
    pub(super) fn served(&self) -> std::io::Result<Served> {
        let or_main = |own: &Option<TcpListener>| own.as_ref().unwrap_or(&self.main).local_addr();
        Ok(Served {
            hosts: or_main(&self.hosts)?,
            owners: or_main(&self.owners)?,
        })
    }

    pub(super) fn all(self) -> impl Iterator<Item = TcpListener> {
        [Some(self.main), self.hosts, self.owners].into_iter().flatten()
    }
}

/// The listener of each API.
#[derive(Clone, Copy)]
pub(super) struct Served {
    hosts: SocketAddr,
    owners: SocketAddr,
}

impl Served {
    /// Whether this path, as the router matched it, is served on this listener.
    pub(super) fn has(self, listener: SocketAddr, path: &str) -> bool {
        let row = ENDPOINTS.iter().find(|row| row.path == path);
        match row.map(|row| row.who) {
            // What has no row is no API's, and nobody can call it.
            None | Some(Who::Anybody) => true,
            Some(Who::Hosts) => listener == self.hosts,
            Some(Who::Roles(_)) => listener == self.owners,
        }
    }
}
