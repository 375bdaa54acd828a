//! What connections are made with now: read anew when it is told to, while connections that are there go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use openssl::ssl::{ClientHelloResponse, Ssl, SslAcceptorBuilder};

use super::files::{Material, Stamp, TlsError, TlsFiles, bare};
use crate::domain::Time;

/// A listener's TLS, by its files.
pub struct LiveTls {
    files: TlsFiles,
    now: ArcSwap<Material>,
    seen: Mutex<Seen>,
    /// Whether the files were not taken when they were read the last time.
    refused: AtomicBool,
}

/// How the files were.
struct Seen {
    /// When they were read the last time, with whatever came of it.
    tried: Vec<Stamp>,
    /// When they were looked at the last time.
    before: Vec<Stamp>,
}

impl LiveTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them can't be used, or they don't fit together.
    pub fn read(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let tried = files.stamps();
        let material = Material::read(&files, 1)?;
        Ok(Arc::new(Self {
            now: ArcSwap::from_pointee(material),
            refused: AtomicBool::new(false),
            seen: Mutex::new(Seen {
                before: tried.clone(),
                tried,
            }),
            files,
        }))
    }

    /// Reads the files again. New connections are made with what is in them now, or, after an error, as before.
    ///
    /// # Errors
    /// When one of them can't be used, they don't fit together, or a certificate that is valid would be given up for
    /// one that has ended.
    pub fn reload(&self, now: Time) -> Result<(), TlsError> {
        let taken = self.take(now);
        self.refused.store(taken.is_err(), Ordering::Relaxed);
        taken
    }

    /// Whether connections are made as before because the files, when they were read again, could not be used.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, now: Time) -> Result<(), TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what is changed meanwhile is looked at once more.
        seen.tried = self.files.stamps();
        let current = self.now.load();
        let next = Material::read(&self.files, current.generation.saturating_add(1))?;
        if next.validity.1 <= now && now < current.validity.1 {
            return Err(TlsError::Expired {
                path: self.files.certificate().to_owned(),
                not_after: next.validity.1,
            });
        }
        self.now.store(Arc::new(next));
        Ok(())
    }

    /// Whether the files are others than were read, and the same as when this was asked the last time: a certificate
    /// and its key are two files, and between one's change and the other's is no time to read them.
    pub fn changed(&self) -> bool {
        let stamps = self.files.stamps();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = stamps != seen.tried && stamps == seen.before;
        seen.before = stamps;
        changed
    }

    /// Since when, and until when, the certificate in use is valid.
    #[must_use]
    pub fn validity(&self) -> (Time, Time) {
        self.now.load().validity
    }

    /// When the first certificate ends that is shown: the listener's own, or one above it.
    #[must_use]
    pub fn first_end(&self) -> Time {
        self.now.load().first_end
    }

    /// The certificate's file.
    #[must_use]
    pub fn certificate(&self) -> &std::path::Path {
        self.files.certificate()
    }

    /// A server's side of a new connection.
    ///
    /// # Errors
    /// When the library has none.
    pub fn connection(&self) -> Result<Ssl, openssl::error::ErrorStack> {
        Ssl::new(self.now.load().acceptor.context())
    }

    /// What is in use now.
    pub(super) fn material(&self) -> Guard<Arc<Material>> {
        self.now.load()
    }

    /// An acceptor whose connections are made, from the first message on, with what is in use at that moment. It has
    /// no certificate and no key of its own.
    pub(in crate::http) fn acceptor(self: &Arc<Self>) -> Result<SslAcceptorBuilder, TlsError> {
        let live = self.clone();
        let mut builder = bare()?;
        builder.set_client_hello_callback(move |connection, _| {
            let now = live.now.load();
            let context = now.acceptor.context();
            connection.set_ssl_context(context)?;
            // A context that is exchanged brings its certificate, its authorities and its protocols, and leaves the
            // connection's own word on whether the client is asked.
            connection.set_verify(context.verify_mode());
            Ok(ClientHelloResponse::SUCCESS)
        });
        Ok(builder)
    }
}
