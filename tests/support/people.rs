//! More people of the owner `acme`, each with a token of their own.

use keyward::domain::token::Token;
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, Reply};

/// Somebody with a token of the owner's.
pub(crate) struct Person<'a> {
    app: &'a App,
    bearer: String,
}

/// The row of a new token by this name, and the token.
pub(crate) fn token_row(name: &str) -> (String, String) {
    let token = Token::from_random(&new_key(&SystemRandom).unwrap());
    let row = format!(
        "INSERT INTO tokens (hash, id, owner, name, role, created) VALUES (x'{}', x'{}', 'acme', '{name}', 'approver', 0)",
        hex::encode(token.hash().0),
        Uuid::new_v4().simple()
    );
    (row, token.expose().to_owned())
}

impl App {
    /// Somebody else with a token by this name.
    pub(crate) fn person(&self, name: &str) -> Person<'_> {
        let (row, token) = token_row(name);
        assert_eq!(self.sql(&row), 1);
        Person {
            app: self,
            bearer: format!("Bearer {token}"),
        }
    }

    /// Says something of a hold with the first token.
    pub(crate) fn say(&self, hold: &Value, verb: &str, body: &Value) -> Reply {
        self.owner("POST", &path(hold, verb), body)
    }

    /// Confirms a hold with the first token.
    pub(crate) fn confirm(&self, hold: &Value, additional: u64) -> Reply {
        self.say(
            hold,
            "confirm",
            &json!({"additional": additional, "reason": "a test"}),
        )
    }

    /// A hold as it is.
    #[track_caller]
    pub(crate) fn hold(&self, hold: &Value) -> Value {
        let path = format!("/v1/holds/{}", hold.as_str().unwrap());
        self.owner("GET", &path, &Value::Null).ok().body
    }

    /// What was counted for the secret within its own binding: released, and confirmed beyond the limit and not used.
    pub(crate) fn counted(&self, secret: &str) -> (u64, u64) {
        let limits = self.owner("GET", "/v1/limits", &Value::Null).ok().body;
        let items = limits["items"].as_array().unwrap();
        let own = |item: &&Value| item["binding"] == json!({"kind": "secret", "name": secret});
        let item = items.iter().find(own).unwrap();
        (
            item["released"].as_u64().unwrap(),
            item["confirmed"].as_u64().unwrap(),
        )
    }
}

impl Person<'_> {
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("content-type", "application/json"),
        ];
        self.app
            .request(method, path, &headers, body.to_string().as_bytes())
    }

    pub(crate) fn say(&self, hold: &Value, verb: &str, body: &Value) -> Reply {
        self.send("POST", &path(hold, verb), body)
    }

    pub(crate) fn confirm(&self, hold: &Value, additional: u64) -> Reply {
        self.say(
            hold,
            "confirm",
            &json!({"additional": additional, "reason": "a test"}),
        )
    }
}

fn path(hold: &Value, verb: &str) -> String {
    format!("/v1/holds/{}/{verb}", hold.as_str().unwrap())
}
