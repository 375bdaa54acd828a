//! The certificates that clients show: kept for the requests of their connection, for as long as they are trusted.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use actix_tls::accept::openssl::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::{X509, X509StoreContext};

use super::LiveTls;
use super::files::Material;
use crate::identity::ClientCertificate;

/// How long a certificate that was verified counts before it is verified again.
const HOLDS: Duration = Duration::from_secs(60);

/// The certificate that a connection was made with.
struct Shown {
    /// What it says; none: it can't be read.
    says: Option<ClientCertificate>,
    /// Itself, and those that were shown with it.
    certificate: X509,
    chain: Vec<X509>,
    tls: Arc<LiveTls>,
    /// When that was: certificates, authorities and lists end while nobody changes a file.
    at: RwLock<Instant>,
    /// With which of the files' states it was verified the last time; 0: it is not known with which.
    verified: AtomicU64,
    /// Why it is trusted no more.
    ended: RwLock<Option<String>>,
}

/// Keeps a client's certificate for the requests of its connection.
pub(in crate::http) fn remember(
    tls: Option<Arc<LiveTls>>,
) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static {
    move |connection, extensions| {
        let stream = connection.downcast_ref::<TlsStream<TcpStream>>();
        let (Some(tls), Some(ssl)) = (&tls, stream.map(|stream| stream.ssl())) else {
            return;
        };
        let Some(certificate) = ssl.peer_certificate() else {
            return;
        };
        let now = tls.material();
        // The files may have been read again since the handshake.
        let same = std::ptr::eq(ssl.ssl_context(), now.acceptor.context());
        extensions.insert(Shown {
            says: ClientCertificate::read(&certificate).ok(),
            chain: ssl
                .peer_cert_chain()
                .map(|chain| chain.iter().map(ToOwned::to_owned).collect())
                .unwrap_or_default(),
            certificate,
            verified: AtomicU64::new(if same { now.generation } else { 0 }),
            at: RwLock::new(Instant::now()),
            ended: RwLock::new(None),
            tls: tls.clone(),
        });
    }
}

impl Shown {
    /// Why the certificate would not be let in now, given that it was when the connection was made.
    fn ended(&self) -> Option<String> {
        let now = self.tls.material();
        let old = self.at.read().unwrap_or_else(PoisonError::into_inner).elapsed() >= HOLDS;
        if old || self.verified.load(Ordering::Acquire) != now.generation {
            let why = self.verify(&now).unwrap_or_else(|error| Some(error.to_string()));
            *self.ended.write().unwrap_or_else(PoisonError::into_inner) = why;
            *self.at.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.verified.store(now.generation, Ordering::Release);
        }
        self.ended.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verify(&self, now: &Material) -> Result<Option<String>, ErrorStack> {
        let Some(authorities) = &now.authorities else {
            return Ok(Some("clients are not asked for certificates".to_owned()));
        };
        let mut chain = Stack::new()?;
        for certificate in &self.chain {
            chain.push(certificate.clone())?;
        }
        X509StoreContext::new()?.init(authorities, &self.certificate, &chain, |context| {
            Ok((!context.verify_cert()?).then(|| context.error().error_string().to_owned()))
        })
    }
}

/// The certificate that the request's connection was made with; `Some(None)`: one that can't be read, or that is
/// trusted no more since the files were read again.
pub(in crate::http) fn shown(request: &HttpRequest) -> Option<Option<ClientCertificate>> {
    let shown = request.conn_data::<Shown>()?;
    match shown.ended() {
        Some(why) => {
            log::info!("a client certificate is trusted no more: {why}");
            Some(None)
        }
        None => Some(shown.says.clone()),
    }
}

/// Whether the request's connection was made with a certificate that is trusted no more: who closes it lets the client
/// show another.
pub(in crate::http) fn ended(request: &HttpRequest) -> bool {
    request
        .conn_data::<Shown>()
        .is_some_and(|shown| shown.ended().is_some())
}
