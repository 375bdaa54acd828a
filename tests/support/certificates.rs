//! Certificate authorities, certificates of servers and clients, and clients that show them.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

/// What a certificate is to say.
#[derive(Default, Clone, Copy)]
pub(crate) struct Says<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) dns: Option<&'a str>,
    pub(crate) uri: Option<&'a str>,
    pub(crate) ip: Option<&'a str>,
    /// Days from now until it ends; may be past.
    pub(crate) days: i64,
    pub(crate) server: bool,
}

impl<'a> Says<'a> {
    /// A client's, for a day.
    pub(crate) fn client(common_name: &'a str) -> Self {
        Self {
            common_name,
            days: 1,
            ..Self::default()
        }
    }
}

impl Pair {
    /// An authority.
    pub(crate) fn authority(name: &str) -> Self {
        issue(
            &Says {
                days: 2,
                ..Says::client(name)
            },
            None,
        )
    }

    /// A certificate by this authority.
    pub(crate) fn issue(&self, says: &Says<'_>) -> Self {
        issue(says, Some(self))
    }

    /// Writes both as PEM; their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = ["pem", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
        std::fs::write(&paths[0], self.certificate.to_pem().unwrap()).unwrap();
        std::fs::write(&paths[1], self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let [certificate, key] = paths;
        (certificate, key)
    }

    pub(crate) fn fingerprint(&self) -> String {
        hex::encode(self.certificate.digest(MessageDigest::sha256()).unwrap())
    }
}

fn issue(says: &Says<'_>, by: Option<&Pair>) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("O", "Example").unwrap();
    name.append_entry_by_text("CN", says.common_name).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = u32::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap()) >> 1;
    let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    let issuer = by.map_or(name.as_ref(), |by| by.certificate.subject_name());
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(&key).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let at = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    builder.set_not_before(&at(says.days.min(0) - 1)).unwrap();
    builder.set_not_after(&at(says.days)).unwrap();
    if by.is_none() {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
        let usage = KeyUsage::new().key_cert_sign().crl_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
    } else {
        let mut usage = ExtendedKeyUsage::new();
        let usage = if says.server {
            usage.server_auth()
        } else {
            usage.client_auth()
        };
        builder.append_extension(usage.build().unwrap()).unwrap();
    }
    let mut names = SubjectAlternativeName::new();
    if let Some(dns) = says.dns {
        names.dns(dns);
    }
    if let Some(uri) = says.uri {
        names.uri(uri);
    }
    if let Some(ip) = says.ip {
        names.ip(ip);
    }
    if says.dns.or(says.uri).or(says.ip).is_some() {
        let context = builder.x509v3_context(None, None);
        let names = names.build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder
        .sign(by.map_or(&key, |by| &by.key), MessageDigest::sha256())
        .unwrap();
    let certificate = builder.build();
    Pair { certificate, key }
}

/// A client that trusts one authority for servers, and shows a certificate, or none.
pub(crate) struct TlsClient {
    agent: Agent,
    base: String,
}

impl TlsClient {
    pub(crate) fn new(base: &str, trusted: &Pair, shown: Option<&Pair>) -> Self {
        let certificate = |pair: &Pair| Certificate::from_pem(&pair.certificate.to_pem().unwrap()).unwrap();
        let shown = shown.map(|pair| {
            let key = PrivateKey::from_pem(&pair.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
            ClientCert::new_with_certs(&[certificate(pair)], key)
        });
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .root_certs(RootCerts::from(vec![certificate(trusted)]))
            .client_cert(shown)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .tls_config(tls);
        Self {
            agent: config.build().new_agent(),
            base: base.to_owned(),
        }
    }

    /// Status and body of an answer; none where there was no connection.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = match body {
            Value::Null => self.agent.run(request.body(()).unwrap()),
            body => self.agent.run(request.body(body.to_string()).unwrap()),
        };
        let mut answer = answer.ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some((answer.status().as_u16(), body))
    }

    pub(crate) fn get(&self, path: &str) -> Option<u16> {
        self.send("GET", path, None, &Value::Null)
            .map(|(status, _)| status)
    }
}
