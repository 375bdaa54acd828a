//! Tokens of any role on a test's server.

use keyward::audit::actor::Act;
use keyward::domain::token::{Token, TokenEntry};
use keyward::domain::{Clock as _, Role, Time};
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use keyward::store::TokenCreated;
use serde_json::Value;
use uuid::Uuid;

use super::{App, Reply};

/// A token and its id.
pub(crate) struct Minted {
    pub(crate) id: Uuid,
    pub(crate) text: String,
}

impl App {
    /// A token of this role, of the server's or of this owner, until then.
    pub(crate) fn mint(&self, role: Role, owner: Option<&str>, expires: Option<Time>) -> Minted {
        let token = Token::from_random(&new_key(&SystemRandom).unwrap());
        let entry = TokenEntry {
            id: Uuid::new_v4(),
            name: format!("a-{role}").parse().unwrap(),
            role,
            owner: owner.map(|name| name.parse().unwrap()),
            made_by: None,
            created: self.clock.now(),
            expires,
            last_used: None,
            revoked: None,
        };
        let created = self
            .service
            .store()
            .create_token(&entry, token.hash(), &Act::of_server(entry.created));
        assert_eq!(created.unwrap(), TokenCreated::Created);
        Minted {
            id: entry.id,
            text: token.expose().to_owned(),
        }
    }

    /// A request with this token.
    pub(crate) fn as_token(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.request(method, path, &headers, &body)
    }
}
