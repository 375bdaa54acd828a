//! What a command shows to a server to say who calls.

use std::path::Path;

use anyhow::{Context as _, bail};
use openssl::pkey::PKey;
use ureq::RequestBuilder;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};
use zeroize::Zeroizing;

use crate::domain::token::Token;
use crate::identity::Identities;

/// A token, in each request; or a certificate, when the connection is made.
pub(super) enum Credential {
    Token(Zeroizing<String>),
    Certificate(ClientCert),
    /// Nothing: a host where no workload asks who it is.
    Nobody,
}

impl Credential {
    /// The token of a file: this program's, or one of an identity provider, which only a server can tell from a bad one.
    pub(super) fn token(path: &Path) -> anyhow::Result<Self> {
        let file = || format!("token file {}", path.display());
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(file)?);
        let text = text.trim();
        let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if Identities::is_jwt(text) && text.bytes().all(inside) {
            return Ok(Self::Token(Zeroizing::new(text.to_owned())));
        }
        let token: Token = text.parse().with_context(file)?;
        Ok(Self::of(&token))
    }

    /// A token of this program.
    pub(super) fn of(token: &Token) -> Self {
        Self::Token(Zeroizing::new(token.expose().to_owned()))
    }

    /// The certificate, with its chain, and the private key of a file.
    pub(super) fn certificate(path: &Path) -> anyhow::Result<Self> {
        let file = format!("client certificate {}", path.display());
        let pem = Zeroizing::new(std::fs::read(path).with_context(|| file.clone())?);
        let chain: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if chain.is_empty() {
            bail!("{file} holds no certificate in PEM form");
        }
        // A callback that knows no passphrase keeps OpenSSL from asking the terminal.
        let Ok(key) = PKey::private_key_from_pem_callback(&pem, |_| Ok(0)) else {
            bail!(
                "{file} holds no private key in PEM form without a passphrase: append it to the certificate"
            );
        };
        // The form that the TLS library takes, whichever it is in.
        let key = Zeroizing::new(key.private_key_to_pem_pkcs8()?);
        let key = PrivateKey::from_pem(&key).with_context(|| file.clone())?;
        Ok(Self::Certificate(ClientCert::new_with_certs(&chain, key)))
    }

    /// What is shown while a connection is made.
    pub(super) fn at_connection(&self) -> Option<ClientCert> {
        match self {
            Self::Token(_) | Self::Nobody => None,
            Self::Certificate(certificate) => Some(certificate.clone()),
        }
    }

    /// What is shown in a request.
    pub(super) fn in_request<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match self {
            Self::Token(token) => request.header("authorization", format!("Bearer {}", token.as_str())),
            Self::Certificate(_) | Self::Nobody => request,
        }
    }
}
