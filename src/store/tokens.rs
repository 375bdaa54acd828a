//! Owners and their tokens, as a store keeps them.

use uuid::Uuid;

use super::StoreError;
use crate::audit::actor::Act;
use crate::domain::token::{Identity, TokenEntry, TokenHash};
use crate::domain::{Name, Time};

/// What may come of creating an owner.
#[derive(Debug, PartialEq, Eq)]
pub enum OwnerCreated {
    /// It is there now.
    Created,
    /// There is one of this name already.
    Exists,
}

/// What may come of creating a token.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenCreated {
    /// It is there now.
    Created,
    /// There is no owner of this name.
    NoOwner,
    /// The owner has this many valid ones already, which is the most.
    Full(u32),
}

/// What may come of revoking a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is refused from now on, or was already.
    Done,
    /// There is none of this id, or it is another owner's.
    NotFound,
    /// It is the last with which its owner can do everything. Nothing was written.
    Last,
}

/// Owners and tokens. The contracts are those of [`Store`](super::Store); whoever acts is recorded with what changes.
pub trait Tokens: Send + Sync {
    /// Creates an owner, beside those there are, and its first token, of role `owner`.
    ///
    /// # Errors
    /// When the store fails; then neither is there.
    fn create_owner(&self, owner: &Name, token: TokenHash, act: &Act) -> Result<OwnerCreated, StoreError>;

    /// The owners.
    ///
    /// # Errors
    /// When the store fails.
    fn owners(&self) -> Result<Vec<Name>, StoreError>;

    /// Whose token this is; none where it has expired by `now`, or was revoked.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn caller(&self, token: TokenHash, now: Time) -> Result<Option<Identity>, StoreError>;

    /// Creates a token. Where an owner has very many, those that ended longest ago are forgotten.
    ///
    /// # Errors
    /// When the store fails; then it is not there.
    fn create_token(
        &self,
        entry: &TokenEntry,
        hash: TokenHash,
        act: &Act,
    ) -> Result<TokenCreated, StoreError>;

    /// An owner's tokens, or with none all there are, oldest first.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn tokens(&self, owner: Option<&Name>) -> Result<Vec<TokenEntry>, StoreError>;

    /// Revokes a token, on behalf of its owner, who keeps one of role `owner`; or, with none, of an administrator.
    ///
    /// # Errors
    /// When the store fails; then it may be revoked or not.
    fn revoke_token(&self, owner: Option<&Name>, id: Uuid, act: &Act) -> Result<Revoked, StoreError>;

    /// Writes down when tokens were last used.
    ///
    /// # Errors
    /// When the store fails.
    fn tokens_used(&self, uses: &[(Uuid, Time)]) -> Result<(), StoreError>;
}
