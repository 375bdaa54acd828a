//! Who calls, and the use cases of owners and administrators about owners and tokens.

use uuid::Uuid;

use super::Service;
use crate::domain::token::{Identity, Token, TokenEntry};
use crate::domain::{Name, Role, Time};
use crate::sealing::new_key;
use crate::sev::RandomError;
use crate::store::{OwnerCreated, Revoked, StoreError, TokenCreated};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What to call it.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Whose it is to be; none: the caller's own, or the server's for an administrator's.
    pub owner: Option<Name>,
    /// From when on it is refused.
    pub expires: Option<Time>,
}

/// Why nothing was done about an owner or a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The caller's role does not allow it.
    #[error("a token of role {has} can't make one of role {wanted}")]
    TooMuch {
        /// The caller's.
        has: Role,
        /// The new token's.
        wanted: Role,
    },
    /// The request contradicts itself.
    #[error("`{member}`: {why}")]
    Malformed {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such owner, or it is not the caller.
    #[error("there is no such owner")]
    NoOwner,
    /// There is no such token, or it is another owner's.
    #[error("there is no such token")]
    NoToken,
    /// There is one of this name.
    #[error("there is an owner {0} already; nothing was changed")]
    Exists(Name),
    /// It is the last with which its owner can do everything.
    #[error(
        "this is the last valid token of role owner: make another first, or let an administrator revoke it; nothing was changed"
    )]
    Last,
    /// There are very many already.
    #[error("there are {0} valid tokens already, the most that are kept: revoke those that nobody needs")]
    Full(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl NewToken {
    /// What is listed of it, made now by one of this role and owner.
    ///
    /// # Errors
    /// When that one may not make it, or it contradicts itself.
    pub fn entry(self, by: Role, own: Option<&Name>, now: Time) -> Result<TokenEntry, TokenError> {
        if !by.grants(self.role) {
            let (has, wanted) = (by, self.role);
            return Err(TokenError::TooMuch { has, wanted });
        }
        let owner = match (own, self.owner) {
            (Some(own), Some(named)) if *own != named => return Err(TokenError::NoOwner),
            (Some(own), _) => Some(own.clone()),
            (None, named) => named,
        };
        let why = match (self.role, &owner) {
            (Role::Admin, Some(_)) => Some("a token of role admin belongs to no owner: leave it out"),
            (Role::Admin, None) | (_, Some(_)) => None,
            (_, None) => Some("whose token is it? Expected the name of an owner"),
        };
        if let Some(why) = why {
            let (member, why) = ("owner", why.to_owned());
            return Err(TokenError::Malformed { member, why });
        }
        if let Some(expires) = self.expires.filter(|expires| *expires <= now) {
            let why = format!("{expires} is not in the future: it is {now} now");
            let member = "expires";
            return Err(TokenError::Malformed { member, why });
        }
        Ok(TokenEntry {
            id: Uuid::new_v4(),
            name: self.name,
            role: self.role,
            owner,
            made_by: None,
            created: now,
            expires: self.expires,
            last_used: None,
            revoked: None,
        })
    }
}

impl Service {
    /// Whose token this is, if it is valid; that it was used is noted.
    ///
    /// # Errors
    /// When the store fails.
    pub fn identify(&self, token: &Token) -> Result<Option<Identity>, StoreError> {
        let now = self.parts.clock.now();
        let found = self.store().caller(token.hash(), now)?;
        if let Some(identity) = &found {
            self.uses.note(identity.token, now);
        }
        Ok(found)
    }

    /// Makes a token: its text, which is nowhere else, and what is listed of it.
    ///
    /// # Errors
    /// See [`TokenError`]; nothing was made.
    pub fn create_token(&self, by: &Identity, new: NewToken) -> Result<(Token, TokenEntry), TokenError> {
        let mut entry = new.entry(by.role, by.owner.as_ref(), self.parts.clock.now())?;
        entry.made_by = (by.role != Role::Admin).then_some(by.token);
        let token = Token::from_random(&new_key(self.parts.random.as_ref())?);
        match self.store().create_token(&entry, token.hash(), &self.act(by))? {
            TokenCreated::Created => Ok((token, entry)),
            TokenCreated::NoOwner => Err(TokenError::NoOwner),
            TokenCreated::Full(most) => Err(TokenError::Full(most)),
        }
    }

    /// The caller's owner's tokens; for an administrator those of this owner, or all.
    ///
    /// # Errors
    /// [`TokenError::NoOwner`] for another owner than the caller's.
    pub fn tokens(&self, by: &Identity, of: Option<Name>) -> Result<Vec<TokenEntry>, TokenError> {
        let of = match (&by.owner, of) {
            (Some(own), None) => Some(own.clone()),
            (Some(own), Some(named)) if *own != named => return Err(TokenError::NoOwner),
            (None, Some(named)) if !self.store().owners()?.contains(&named) => {
                return Err(TokenError::NoOwner);
            }
            (_, named) => named,
        };
        Ok(self.store().tokens(of.as_ref())?)
    }

    /// Revokes a token, from the next request on.
    ///
    /// # Errors
    /// [`TokenError::NoToken`] also where it is another owner's; [`TokenError::Last`] where an owner would lock
    /// itself out.
    pub fn revoke_token(&self, by: &Identity, id: Uuid) -> Result<(), TokenError> {
        match self.store().revoke_token(by.owner.as_ref(), id, &self.act(by))? {
            Revoked::Done => Ok(()),
            Revoked::NotFound => Err(TokenError::NoToken),
            Revoked::Last => Err(TokenError::Last),
        }
    }

    /// Makes an owner, and its first token.
    ///
    /// # Errors
    /// [`TokenError::Exists`] where there is one of this name.
    pub fn create_owner(&self, by: &Identity, name: &Name) -> Result<Token, TokenError> {
        let token = Token::from_random(&new_key(self.parts.random.as_ref())?);
        match self.store().create_owner(name, token.hash(), &self.act(by))? {
            OwnerCreated::Created => Ok(token),
            OwnerCreated::Exists => Err(TokenError::Exists(name.clone())),
        }
    }
}
