//! When certificates end that the server shows, or goes by.

use std::path::PathBuf;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{X509, X509Crl};

/// A PEM file of the configuration, under the word that tells it from others.
#[derive(Clone, Debug)]
pub struct CertificateFile {
    /// `server`, `client-ca`, `client-crl` or `simple-kbs`.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
}

impl CertificateFile {
    /// The first end of what is in the file now, in seconds since 1970-01-01T00:00:00Z; none where it can't be read.
    pub(super) fn expiry(&self) -> Option<i64> {
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
