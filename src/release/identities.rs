//! Who calls, where somebody else vouches for it.

use super::Service;
use crate::domain::token::Identity;
use crate::identity::{ClientCertificate, Unproved};
use crate::store::StoreError;

/// A caller, or why it is refused, for the log.
type Known = Result<Identity, Unproved>;

impl Service {
    /// Whom an identity provider vouches for with this token.
    ///
    /// # Errors
    /// When the store fails.
    pub fn identify_jwt(&self, text: &str) -> Result<Known, StoreError> {
        let now = self.parts.clock.now();
        self.with_owner(self.parts.identities.by_jwt(text, now))
    }

    /// Whose this client certificate is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn identify_certificate(&self, shown: &ClientCertificate) -> Result<Known, StoreError> {
        let now = self.parts.clock.now();
        self.with_owner(self.parts.identities.by_certificate(shown, now))
    }

    /// A caller whose owner exists: the configuration, or a provider, can name any.
    fn with_owner(&self, known: Known) -> Result<Known, StoreError> {
        let Ok(Identity {
            owner: Some(owner),
            name,
            ..
        }) = &known
        else {
            return Ok(known);
        };
        if self.store().owners()?.contains(owner) {
            return Ok(known);
        }
        Ok(Err(Unproved(format!("{name:?}: there is no owner {owner}"))))
    }
}
