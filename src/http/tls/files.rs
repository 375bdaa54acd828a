//! Certificate, key, and the authorities of clients: read from files, all of them at once, or not used at all.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Crl, X509PurposeId};
use zeroize::Zeroizing;

use crate::config::{SimpleKbsTls, Tls};
use crate::domain::Time;

/// How large a file may be.
const MOST: u64 = 1 << 20;

/// Why the TLS files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("TLS {what} {path}: {source}", path = .path.display())]
    Unreadable {
        /// Which of them.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not PEM of what it should be.
    #[error("TLS {what} {path}: holds no {what} in PEM form", path = .path.display())]
    Malformed {
        /// Which of them.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What a file holds can't be used.
    #[error("TLS {what} {path}: {source}", path = .path.display())]
    Unusable {
        /// Which of them.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: ErrorStack,
    },
    /// Certificate and key are not a pair.
    #[error("TLS certificate {certificate} and key {key} do not belong together: name the key that the certificate was made for", certificate = .certificate.display(), key = .key.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate that ended already would take the place of one that is valid.
    #[error("TLS certificate {path}: expired at {not_after}", path = .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its end.
        not_after: Time,
    },
    /// The library failed.
    #[error("TLS: {0}")]
    Library(#[from] ErrorStack),
}

/// The files that a listener's TLS is made of, and which protocols are spoken over it.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    /// As ALPN has them (RFC 7301, section 3.1): each with its length before it.
    protocols: &'static [u8],
}

impl From<&Tls> for TlsFiles {
    fn from(tls: &Tls) -> Self {
        Self {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
            // Of authorities that nobody is held to there is nothing to revoke.
            client_crl: tls.client_ca.as_ref().and(tls.client_crl.clone()),
            protocols: b"\x08http/1.1",
        }
    }
}

impl From<&SimpleKbsTls> for TlsFiles {
    fn from(tls: &SimpleKbsTls) -> Self {
        Self {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: None,
            client_crl: None,
            protocols: b"\x02h2",
        }
    }
}

/// What tells one state of a file from another; none: it can't be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i128; 5]>);

impl TlsFiles {
    /// The certificate's file.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The authorities of clients, and their revocation lists.
    pub(super) fn clients(&self) -> (Option<&Path>, Option<&Path>) {
        (self.client_ca.as_deref(), self.client_crl.as_deref())
    }

    /// How the files are now: a new content, or another file in the place of one, is another stamp.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let asked = [&self.client_ca, &self.client_crl];
        let all = [&self.certificate, &self.key].into_iter();
        let all = all.chain(asked.into_iter().flatten());
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            let changed = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
            let renamed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
            let (device, inode) = (found.dev().into(), found.ino().into());
            Some([changed, renamed, found.size().into(), device, inode])
        };
        all.map(|path| Stamp(stamp(path))).collect()
    }
}

/// What connections are made with.
pub(super) struct Material {
    pub(super) acceptor: SslAcceptor,
    /// Whom clients' certificates must be by; none: clients are not asked.
    pub(super) authorities: Option<X509Store>,
    /// Since when, and until when, the certificate is valid.
    pub(super) validity: (Time, Time),
    /// When the first of all certificates that are shown ends.
    pub(super) first_end: Time,
    /// Counts up with each time that the files are read.
    pub(super) generation: u64,
}

impl Material {
    /// Reads all files.
    ///
    /// # Errors
    /// When one of them can't be used, or they don't fit together.
    pub(super) fn read(files: &TlsFiles, generation: u64) -> Result<Self, TlsError> {
        let mut builder = bare()?;
        let protocols = files.protocols;
        builder.set_alpn_select_callback(move |_, offered| {
            select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
        });
        let (validity, first_end) = identify(&mut builder, files)?;
        let authorities = match &files.client_ca {
            Some(path) => Some(ask_clients(&mut builder, path, files.client_crl.as_deref())?),
            None => None,
        };
        Ok(Self {
            acceptor: builder.build(),
            authorities,
            validity,
            first_end,
            generation,
        })
    }
}

/// What holds for every connection, whatever the files say.
pub(super) fn bare() -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // Mozilla's list also has finite-field DHE, whose cost is the server's.
    builder.set_cipher_list(
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
         ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
    )?;
    // The hybrid with ML-KEM where the library knows it.
    let hybrid = builder.set_groups_list("X25519MLKEM768:X25519:P-256:P-384");
    hybrid.or_else(|_| builder.set_groups_list("X25519:P-256:P-384"))?;
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION);
    // A session that is taken up again brings along, unverified, what was trusted when it began.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_num_tickets(0)?;
    Ok(builder)
}

pub(super) fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    bounded(path).map_err(|source| TlsError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

/// A regular file's content. Of a pipe there may never be an end, and it is not even opened.
fn bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(
        usize::try_from(found.len().min(MOST)).unwrap_or(0),
    ));
    std::fs::File::open(path)?
        .take(MOST + 1)
        .read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > MOST {
        return Err(io::Error::other(format!("expected at most {} KiB", MOST >> 10)));
    }
    Ok(content)
}

fn malformed(what: &'static str, path: &Path) -> TlsError {
    TlsError::Malformed {
        what,
        path: path.to_owned(),
    }
}

/// Certificate and key; the certificate's validity, and when the first of those that are shown ends.
fn identify(builder: &mut SslAcceptorBuilder, files: &TlsFiles) -> Result<((Time, Time), Time), TlsError> {
    let (what, path) = ("certificate", files.certificate.as_path());
    let pem = read(what, path)?;
    let mut chain = X509::stack_from_pem(&pem).unwrap_or_default().into_iter();
    let own = chain.next().ok_or_else(|| malformed(what, path))?;
    let unusable = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Unusable { what, path, source }
    };
    builder.set_certificate(&own).map_err(unusable(what, path))?;
    let (since, until) = (time(own.not_before())?, time(own.not_after())?);
    let mut first = until;
    for above in chain {
        first = first.min(time(above.not_after())?);
        builder.add_extra_chain_cert(above)?;
    }
    let (what, path) = ("key", files.key.as_path());
    let pem = read(what, path)?;
    // Of a key under a passphrase the library would ask the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| Ok(0)).map_err(|_| malformed(what, path))?;
    if !own.public_key().is_ok_and(|public| public.public_eq(&key)) {
        return Err(TlsError::NoPair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
        });
    }
    builder.set_private_key(&key).map_err(unusable(what, path))?;
    builder.check_private_key().map_err(unusable(what, path))?;
    Ok(((since, until), first))
}

/// Asks clients for certificates: who has none comes in without one, who has a bad one does not come in. What they are
/// verified with, for who looks again later.
fn ask_clients(
    builder: &mut SslAcceptorBuilder,
    authorities: &Path,
    revoked: Option<&Path>,
) -> Result<X509Store, TlsError> {
    let what = "client CA";
    let pem = read(what, authorities)?;
    let trusted = X509::stack_from_pem(&pem).unwrap_or_default();
    if trusted.is_empty() {
        return Err(malformed(what, authorities));
    }
    if let Some(path) = revoked {
        let what = "client CRL";
        let lists = crls(&read(what, path)?).filter(|lists| !lists.is_empty());
        // The library takes a name in UTF-8 only.
        if lists.is_none() || path.to_str().is_none() {
            return Err(malformed(what, path));
        }
    }
    for authority in &trusted {
        builder.add_client_ca(authority)?;
    }
    builder.set_verify_cert_store(store(&trusted, revoked)?.build())?;
    builder.set_verify(SslVerifyMode::PEER);
    let mut again = store(&trusted, revoked)?;
    again.set_purpose(X509PurposeId::SSL_CLIENT)?;
    Ok(again.build())
}

/// None but these: the system's authorities vouch for servers, not for who may call this one.
fn store(trusted: &[X509], revoked: Option<&Path>) -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for authority in trusted {
        store.add_cert(authority.clone())?;
    }
    if let Some(path) = revoked {
        let lookup = store.add_lookup(X509Lookup::file())?;
        lookup.load_crl_file(path, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
    }
    Ok(store)
}

/// The revocation lists of a file; none where one of them is not understood.
pub(super) fn crls(pem: &[u8]) -> Option<Vec<X509Crl>> {
    const END: &str = "-----END X509 CRL-----";
    let text = std::str::from_utf8(pem).ok()?;
    let parts = text.split_inclusive(END).filter(|part| part.contains(END));
    parts
        .map(|part| X509Crl::from_pem(part.as_bytes()).ok())
        .collect()
}

pub(super) fn time(time: &Asn1TimeRef) -> Result<Time, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Ok(Time::from_millis(seconds.saturating_mul(1000)))
}
