//! When certificates end that the server shows, or goes by.

use std::path::PathBuf;
use std::sync::Arc;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{X509, X509Crl};

use crate::domain::Time;

/// Says what a listener shows now.
pub type Shown = Arc<dyn Fn() -> ShownCertificate + Send + Sync>;

/// What a listener shows, whatever is in its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// When the first of its certificates ends.
    pub ends: Time,
    /// Whether the files were read again since and could not be used.
    pub refused: bool,
}

/// A PEM file of the configuration, under the word that tells it from others.
#[derive(Clone)]
pub struct CertificateFile {
    /// `server`, `client-ca`, `client-crl` or `simple-kbs`.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
    /// For the certificate of a listener: what it shows.
    pub shown: Option<Shown>,
}

impl CertificateFile {
    /// When the certificate that is shown ends, or the first of what is in the file, and whether the file was refused.
    pub(super) fn read(&self) -> Option<(i64, Option<bool>)> {
        match &self.shown {
            Some(shown) => {
                let shown = shown();
                Some((shown.ends.millis().div_euclid(1000), Some(shown.refused)))
            }
            None => self.expiry().map(|end| (end, None)),
        }
    }

    /// The first end of what is in the file now, in seconds since 1970-01-01T00:00:00Z; none where it can't be read.
    fn expiry(&self) -> Option<i64> {
        let pem = std::fs::read(&self.path).map(zeroize::Zeroizing::new).ok()?;
        let certificates = X509::stack_from_pem(&pem).unwrap_or_default();
        let ends = certificates.iter().map(|certificate| certificate.not_after());
        let first = ends.filter_map(|end| seconds(end).ok()).min();
        first.or_else(|| {
            let list = X509Crl::from_pem(&pem).ok()?;
            seconds(list.next_update()?).ok()
        })
    }
}

fn seconds(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_from_1970() {
        for unix in [0, 1, 86_399, 86_400, 1_767_323_045, 4_102_444_800] {
            assert_eq!(seconds(&Asn1Time::from_unix(unix).unwrap()).unwrap(), unix);
        }
    }
}
