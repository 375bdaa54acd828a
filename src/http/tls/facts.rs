//! What TLS files say of themselves, for who looks after them.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::x509::X509;

use super::files::{TlsError, TlsFiles, crls, read, time};
use crate::domain::Time;

/// What the files of a listener say, given that they can be used.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// Since when, and until when, the server's certificate is valid.
    pub validity: (Time, Time),
    /// For whom it is: DNS names and IP addresses. Clients look at nothing else.
    pub names: Vec<String>,
    /// The authorities of clients, by name, and until when each is valid.
    pub authorities: Vec<(String, Time)>,
    /// When the first of the revocation lists has expired.
    pub lists_until: Option<Time>,
}

impl TlsFiles {
    /// Reads the files, and says what is in them.
    ///
    /// # Errors
    /// When a server could not use them.
    pub fn facts(&self) -> Result<TlsFacts, TlsError> {
        let validity = super::LiveTls::read(self.clone())?.validity();
        let own = X509::from_pem(&read("certificate", self.certificate())?)?;
        let mut names = Vec::new();
        for name in own.subject_alt_names().iter().flatten() {
            names.extend(name.dnsname().map(str::to_owned));
            names.extend(name.ipaddress().and_then(address));
        }
        let (client_ca, client_crl) = self.clients();
        let authorities = match client_ca {
            Some(path) => authorities(path)?,
            None => Vec::new(),
        };
        let lists_until = match client_crl {
            Some(path) => lists_until(path)?,
            None => None,
        };
        Ok(TlsFacts {
            validity,
            names,
            authorities,
            lists_until,
        })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    v4.or_else(v6).map(|address| address.to_string())
}

fn authorities(path: &Path) -> Result<Vec<(String, Time)>, TlsError> {
    let all = X509::stack_from_pem(&read("client CA", path)?)?;
    let told = |authority: &X509| {
        let entries = authority.subject_name().entries();
        let name = entries.map(|entry| entry.data().to_string());
        let name = name.collect::<Result<Vec<_>, ErrorStack>>()?.join(", ");
        Ok((name, time(authority.not_after())?))
    };
    Ok(all.iter().map(told).collect::<Result<_, ErrorStack>>()?)
}

fn lists_until(path: &Path) -> Result<Option<Time>, TlsError> {
    let lists = crls(&read("client CRL", path)?).unwrap_or_default();
    let ends = lists.iter().filter_map(|list| list.next_update().map(time));
    let ends = ends.collect::<Result<Vec<_>, ErrorStack>>()?;
    Ok(ends.into_iter().min())
}
