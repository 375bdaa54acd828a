//! HTTPS: the listener's certificate and key.

use std::path::PathBuf;

use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVersion};

use crate::config::Tls;

/// Why the TLS files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not PEM of what it should be.
    #[error("{what} {path}: {source}", path = .path.display())]
    File {
        /// Which of the two.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: ErrorStack,
    },
    /// Certificate and key are not a pair.
    #[error("the certificate {certificate} and the key {key} do not belong together", certificate = .certificate.display(), key = .key.display())]
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

/// TLS 1.2 and later with modern suites.
pub(super) fn acceptor(tls: &Tls) -> Result<SslAcceptorBuilder, TlsError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    let file = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { what, path, source }
    };
    builder
        .set_certificate_chain_file(&tls.certificate)
        .map_err(file("TLS certificate", &tls.certificate))?;
    builder
        .set_private_key_file(&tls.key, SslFiletype::PEM)
        .map_err(file("TLS key", &tls.key))?;
    builder.check_private_key().map_err(|_| TlsError::NoPair {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    })?;
    Ok(builder)
}
