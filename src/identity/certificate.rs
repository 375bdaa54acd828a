//! Client certificates: which names they have, and whose they are.

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::X509Ref;

use crate::config::ClientRule;
use crate::domain::token::{Identity, Proof};
use crate::domain::{HexDigest, Time};

/// What a certificate says that was presented and verified when a connection was made.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    common_name: Option<String>,
    dns: Vec<String>,
    uris: Vec<String>,
    subject: String,
    fingerprint: HexDigest,
    expires: Time,
}

impl ClientCertificate {
    /// Reads the names of a certificate. That an authority has signed it was for the handshake to find out.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        let subject = certificate.subject_name();
        let text = |entry: &openssl::x509::X509NameEntryRef| entry.data().to_string();
        let mut names = subject.entries_by_nid(Nid::COMMONNAME);
        // Of two, nobody knows which one is meant.
        let common_name = names
            .next()
            .filter(|_| names.next().is_none())
            .map(text)
            .transpose()?;
        let whole = subject.entries().map(|entry| {
            let kind = entry.object().nid().short_name().unwrap_or("?");
            Ok(format!("{kind}={}", text(entry)?))
        });
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        for name in certificate.subject_alt_names().iter().flatten() {
            dns.extend(name.dnsname().map(str::to_owned));
            uris.extend(name.uri().map(str::to_owned));
        }
        let mut fingerprint = [0; 32];
        let digest = certificate.digest(MessageDigest::sha256())?;
        fingerprint
            .iter_mut()
            .zip(digest.iter())
            .for_each(|(to, from)| *to = *from);
        let since = Asn1Time::from_unix(0)?.diff(certificate.not_after())?;
        let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
        Ok(Self {
            common_name,
            dns,
            uris,
            subject: whole.collect::<Result<Vec<_>, ErrorStack>>()?.join(", "),
            fingerprint: HexDigest::from(fingerprint),
            expires: Time::from_millis(seconds.saturating_mul(1000)),
        })
    }

    /// The name by which a rule means this certificate.
    fn named(&self, rule: &ClientRule) -> Option<String> {
        if let Some(wanted) = &rule.common_name {
            return self.common_name.clone().filter(|name| name == wanted);
        }
        if let Some(wanted) = &rule.dns {
            let fits = |name: &&String| match wanted.strip_prefix("*.") {
                None => name.eq_ignore_ascii_case(wanted),
                Some(domain) => name.split_once('.').is_some_and(|(host, rest)| {
                    !host.is_empty() && host != "*" && rest.eq_ignore_ascii_case(domain)
                }),
            };
            return self.dns.iter().find(fits).map(|name| name.to_ascii_lowercase());
        }
        if let Some(wanted) = &rule.uri {
            let fits = |name: &&String| match wanted.strip_suffix('*') {
                Some(above) if above.ends_with('/') => {
                    name.strip_prefix(above).is_some_and(|below| !below.is_empty())
                }
                _ => *name == wanted,
            };
            return self.uris.iter().find(fits).cloned();
        }
        let wanted = rule.sha256?;
        (wanted == self.fingerprint).then(|| wanted.to_string())
    }
}

/// Whose a certificate is, by the first rule that means it.
///
/// # Errors
/// Why nobody's, for the log.
pub(super) fn identify(
    rules: &[ClientRule],
    shown: &ClientCertificate,
    now: Time,
) -> Result<Identity, String> {
    let subject = &shown.subject;
    // A connection may last longer than the certificate with which it was made.
    if now >= shown.expires {
        return Err(format!(
            "the certificate of {subject:?} has expired: {}",
            shown.expires
        ));
    }
    let found = rules.iter().find_map(|rule| Some((rule, shown.named(rule)?)));
    let (rule, name) = found.ok_or_else(|| {
        format!(
            "no rule of `tls.clients` means the certificate of {subject:?}, SHA-256 {}",
            shown.fingerprint
        )
    })?;
    let printable = name.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if name.len() > 255 || !printable {
        return Err(format!(
            "the certificate of {subject:?} has a name that is not 1 to 255 printable ASCII characters"
        ));
    }
    let proof = Proof::Certificate {
        fingerprint: shown.fingerprint,
        subject: subject.clone(),
    };
    let name = format!("certificate/{name}");
    Ok(Identity::vouched(rule.owner.clone(), name, rule.role, proof))
}
