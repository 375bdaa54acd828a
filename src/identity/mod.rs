//! Callers whom somebody else vouches for: an identity provider by a signed token (JWT), or a certificate
//! authority by a client certificate.
//!
//! What comes in was sent by anybody: a token's text, a certificate's names. What leaves is an
//! [`Identity`] with the role that the server's configuration gives to it, or a reason for the log. Whether its
//! owner exists is for whoever asks. Keys are fetched here, and nowhere while somebody waits but for a key
//! that is not known yet.

mod certificate;
mod claims;
mod jwk;
mod jws;
mod keys;
mod provider;
mod source;

use crate::config::{ClientRule, IdentityProvider};
use crate::domain::Time;
use crate::domain::token::Identity;

pub use certificate::ClientCertificate;
pub use source::SourceError;

use provider::Provider;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8192;

/// All who are trusted to vouch.
#[derive(Default)]
pub struct Identities {
    providers: Vec<Provider>,
    clients: Vec<ClientRule>,
}

/// The configuration names keys that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("identity_providers: {provider}: {source}")]
pub struct IdentityError {
    provider: String,
    source: SourceError,
}

/// Why a caller is refused, for the server's log. Nothing of a token is in it that was not verified, but for its
/// key's id, shortened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unproved(pub(crate) String);

impl Identities {
    /// Those that the configuration names, with their keys as of now.
    ///
    /// # Errors
    /// When a file of keys can't be used. A URL that does not answer is asked again later; until it does, nobody
    /// gets in by that provider.
    pub fn start(
        providers: &[IdentityProvider],
        clients: &[ClientRule],
        now: Time,
    ) -> Result<Self, IdentityError> {
        let started = |config: &IdentityProvider| {
            Provider::start(config, now).map_err(|source| IdentityError {
                provider: config.name.clone(),
                source,
            })
        };
        Ok(Self {
            providers: providers.iter().map(started).collect::<Result<_, _>>()?,
            clients: clients.to_vec(),
        })
    }

    /// Whether a text is meant as a provider's token: three parts. Tokens of this server have no dots.
    #[must_use]
    pub fn is_jwt(text: &str) -> bool {
        text.matches('.').count() == 2
    }

    /// Whom a provider vouches for with this token.
    ///
    /// # Errors
    /// Why nobody, for the log.
    pub fn by_jwt(&self, text: &str, now: Time) -> Result<Identity, Unproved> {
        if text.len() > LONGEST {
            let length = text.len();
            return Err(Unproved(format!(
                "the token has {length} bytes, at most {LONGEST} are looked at"
            )));
        }
        let token = jws::Token::parse(text).map_err(Unproved)?;
        // Not believed yet: it says which provider's keys and rules the token is held to.
        let issuer = token.claimed_issuer();
        let found = self
            .providers
            .iter()
            .filter(|provider| Some(provider.issuer()) == issuer);
        let mut why = "no provider has the token's issuer".to_owned();
        // Two may share an issuer, with audiences of their own.
        for provider in found {
            match provider.identify(&token, now) {
                Ok(identity) => return Ok(identity),
                Err(Unproved(reason)) => why = format!("{}: {reason}", provider.name()),
            }
        }
        Err(Unproved(why))
    }

    /// Whom the configuration knows by this certificate, which a trusted authority has signed.
    ///
    /// # Errors
    /// Why nobody, for the log.
    pub fn by_certificate(&self, shown: &ClientCertificate, now: Time) -> Result<Identity, Unproved> {
        certificate::identify(&self.clients, shown, now).map_err(Unproved)
    }

    /// Asks for keys anew where it is time to.
    pub fn refresh(&self, now: Time) {
        for provider in &self.providers {
            provider.refresh(now);
        }
    }
}
