//! HTTPS: the listener's certificate and key, and the certificates that clients show.

use std::any::Any;
use std::path::PathBuf;

use actix_tls::accept::openssl::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use openssl::error::ErrorStack;
use openssl::ssl::{
    SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Crl};

use crate::config::Tls;
use crate::identity::ClientCertificate;

/// Why the TLS files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("TLS {what} {path}: {source}", path = .path.display())]
    Unreadable {
        /// Which of the two.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not PEM of what it should be.
    #[error("TLS {what} {path}: holds no {what} in PEM form", path = .path.display())]
    Malformed {
        /// Which of the two.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("TLS certificate {certificate} and key {key} do not belong together: name the key that the certificate was made for", certificate = .certificate.display(), key = .key.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library failed.
    #[error("TLS: {0}")]
    Library(#[from] ErrorStack),
}

/// TLS 1.2 and later with modern suites, with what the listener asks of clients.
pub(super) fn acceptor(tls: &Tls) -> Result<SslAcceptorBuilder, TlsError> {
    let mut builder = tls_acceptor(&tls.certificate, &tls.key)?;
    if let Some(path) = &tls.client_ca {
        ask_clients(&mut builder, path, tls.client_crl.as_ref())?;
    }
    Ok(builder)
}

/// TLS 1.2 and later with modern suites, for any client.
///
/// # Errors
/// When the files can't be read, or are not a certificate and its key.
pub fn tls_acceptor(certificate: &PathBuf, key: &PathBuf) -> Result<SslAcceptorBuilder, TlsError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // Also where OpenSSL is older than 3.0, which refuses clients' renegotiation by itself.
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    // The library's own words for a missing file are a page of its innards.
    let readable = |what, path: &PathBuf| match std::fs::read(path).map(zeroize::Zeroizing::new) {
        Ok(_) => Ok(path.clone()),
        Err(source) => Err(TlsError::Unreadable {
            what,
            path: path.clone(),
            source,
        }),
    };
    let path = readable("certificate", certificate)?;
    builder
        .set_certificate_chain_file(&path)
        .map_err(|_| TlsError::Malformed {
            what: "certificate",
            path,
        })?;
    let path = readable("key", key)?;
    let no_pair = || TlsError::NoPair {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    // One that is the key of another certificate is refused here already.
    let used = builder.set_private_key_file(&path, SslFiletype::PEM);
    used.map_err(|errors| match mismatched(&errors) {
        true => no_pair(),
        false => TlsError::Malformed { what: "key", path },
    })?;
    builder.check_private_key().map_err(|_| no_pair())?;
    Ok(builder)
}

/// Asks clients for certificates: who has none comes in without one, who has a bad one does not come in.
fn ask_clients(
    builder: &mut SslAcceptorBuilder,
    authorities: &PathBuf,
    revoked: Option<&PathBuf>,
) -> Result<(), TlsError> {
    let read = |what, path: &PathBuf| {
        std::fs::read(path).map_err(|source| TlsError::Unreadable {
            what,
            path: path.clone(),
            source,
        })
    };
    let malformed = |what, path: &PathBuf| TlsError::Malformed {
        what,
        path: path.clone(),
    };
    let what = "client CA";
    let pem = read(what, authorities)?;
    let trusted = X509::stack_from_pem(&pem).unwrap_or_default();
    if trusted.is_empty() {
        return Err(malformed(what, authorities));
    }
    // None but these: the system's authorities vouch for servers, not for who may call this one.
    let mut store = X509StoreBuilder::new()?;
    for authority in trusted {
        builder.add_client_ca(&authority)?;
        store.add_cert(authority)?;
    }
    if let Some(path) = revoked {
        let what = "client CRL";
        let pem = read(what, path)?;
        let lists = crls(&pem).filter(|lists| !lists.is_empty());
        // The library takes a name in UTF-8 only.
        if lists.is_none() || path.to_str().is_none() {
            return Err(malformed(what, path));
        }
        store
            .add_lookup(X509Lookup::file())?
            .load_crl_file(path, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
    }
    builder.set_verify_cert_store(store.build())?;
    builder.set_verify(SslVerifyMode::PEER);
    // A session that is taken up again brings its certificate along unverified.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;
    Ok(())
}

/// The revocation lists of a file; none where one of them is not understood.
fn crls(pem: &[u8]) -> Option<Vec<X509Crl>> {
    const END: &str = "-----END X509 CRL-----";
    let text = std::str::from_utf8(pem).ok()?;
    let parts = text.split_inclusive(END).filter(|part| part.contains(END));
    parts
        .map(|part| X509Crl::from_pem(part.as_bytes()).ok())
        .collect()
}

/// The certificate that a connection was made with; none inside: it can't be read.
struct Shown(Option<ClientCertificate>);

/// Keeps a client's certificate for the requests of its connection.
pub(super) fn remember(connection: &dyn Any, extensions: &mut Extensions) {
    let stream = connection.downcast_ref::<TlsStream<TcpStream>>();
    let certificate = stream.and_then(|stream| stream.ssl().peer_certificate());
    if let Some(certificate) = certificate {
        extensions.insert(Shown(ClientCertificate::read(&certificate).ok()));
    }
}

/// The certificate that the request's connection was made with; `Some(None)`: one that can't be read.
pub(super) fn shown(request: &HttpRequest) -> Option<Option<ClientCertificate>> {
    request.conn_data::<Shown>().map(|shown| shown.0.clone())
}

fn mismatched(errors: &ErrorStack) -> bool {
    let reasons = errors.errors().iter().filter_map(openssl::error::Error::reason);
    reasons.into_iter().any(|reason| reason.contains("mismatch"))
}
