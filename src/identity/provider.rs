//! One identity provider: its keys, its rules, and whom it vouches for.

use super::Unproved;
use super::claims;
use super::jws::Token;
use super::keys::Keys;
use super::source::SourceError;
use crate::config::IdentityProvider;
use crate::domain::Time;
use crate::domain::token::{Identity, Proof};

pub(super) struct Provider {
    config: IdentityProvider,
    keys: Keys,
}

impl Provider {
    pub(super) fn start(config: &IdentityProvider, now: Time) -> Result<Self, SourceError> {
        Ok(Self {
            keys: Keys::start(&config.name, &config.jwks, now)?,
            config: config.clone(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub(super) fn refresh(&self, now: Time) {
        self.keys.refresh(now);
    }

    /// Whom the token is for: signature first, as before it nothing that the token says is so.
    pub(super) fn identify(&self, token: &Token<'_>, now: Time) -> Result<Identity, Unproved> {
        let algorithm = token.algorithm();
        if !self.config.algorithms.contains(&algorithm) {
            let why = format!(
                "the algorithm {} is not among its `algorithms`",
                algorithm.as_str()
            );
            return Err(Unproved(why));
        }
        let set = self
            .keys
            .for_token(token.key_id(), algorithm, now)
            .map_err(Unproved)?;
        let claims = set
            .find(token.key_id(), algorithm)
            .and_then(|key| token.verified(key))
            .ok_or_else(|| Unproved("the signature is not by its key".to_owned()))?;
        claims::check(claims, &self.config, now).map_err(Unproved)?;
        let subject = claims::subject(claims).map_err(Unproved)?;
        let (role, owner) = claims::role(claims, &self.config.rules)
            .map_err(|why| Unproved(format!("subject {subject:?}: {why}")))?;
        let proof = Proof::Jwt {
            issuer: self.config.issuer.clone(),
            subject: subject.to_owned(),
        };
        let name = format!("{}/{subject}", self.config.name);
        Ok(Identity::vouched(owner, name, role, proof))
    }
}
