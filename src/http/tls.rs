//! HTTPS: the listener's certificate and key.

use std::path::PathBuf;

use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVersion};

use crate::config::Tls;

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

/// TLS 1.2 and later with modern suites.
pub(super) fn acceptor(tls: &Tls) -> Result<SslAcceptorBuilder, TlsError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // The library's own words for a missing file are a page of its innards.
    let readable = |what, path: &PathBuf| match std::fs::read(path).map(zeroize::Zeroizing::new) {
        Ok(_) => Ok(path.clone()),
        Err(source) => Err(TlsError::Unreadable {
            what,
            path: path.clone(),
            source,
        }),
    };
    let path = readable("certificate", &tls.certificate)?;
    builder
        .set_certificate_chain_file(&path)
        .map_err(|_| TlsError::Malformed {
            what: "certificate",
            path,
        })?;
    let path = readable("key", &tls.key)?;
    // One that is the key of another certificate is refused here already.
    let key = builder.set_private_key_file(&path, SslFiletype::PEM);
    key.map_err(|errors| match mismatched(&errors) {
        true => no_pair(tls),
        false => TlsError::Malformed { what: "key", path },
    })?;
    builder.check_private_key().map_err(|_| no_pair(tls))?;
    Ok(builder)
}

fn mismatched(errors: &ErrorStack) -> bool {
    let reasons = errors.errors().iter().filter_map(openssl::error::Error::reason);
    reasons.into_iter().any(|reason| reason.contains("mismatch"))
}

fn no_pair(tls: &Tls) -> TlsError {
    TlsError::NoPair {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    }
}
