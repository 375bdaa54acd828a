//! A provider's keys: fetched anew when they change, kept when they can't be had, never asked for without end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::config::IdentityProvider;
use keyward::domain::{Clock as _, Role};
use serde_json::{Value, json};

use crate::support::App;
use crate::support::app::Options;
use crate::support::idp::{Key, claims, jwks, provider};
use crate::support::kds::{Answer, Kds};

fn trusting(provider: IdentityProvider) -> App {
    App::with(Options {
        providers: vec![provider],
        ..Options::default()
    })
}

fn get(app: &App, key: &Key) -> u16 {
    let token = key.token(&claims(app.clock.now(), json!({"roles": [Role::Auditor]})));
    app.as_token(&token, "GET", "/v1/secrets", &Value::Null).status
}

/// A provider on loopback that answers what it is told to.
struct Idp {
    kds: Kds,
    says: Arc<Mutex<Says>>,
}

#[derive(Clone)]
enum Says {
    Set(String),
    Status(u16),
    Redirect(String),
    Broken,
}

impl Idp {
    fn start(says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let answers = says.clone();
        let kds = Kds::start(move |path| match answers.lock().unwrap().clone() {
            _ if path != "/jwks?p=policy" => Answer::new(200, &[], b"{}"),
            Says::Set(text) => Answer::new(200, &[], text.as_bytes()),
            Says::Status(status) => Answer::new(status, &[], b"{}"),
            Says::Redirect(to) => Answer::new(302, &[("location", &to)], b""),
            Says::Broken => Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_vec()),
        });
        Self { kds, says }
    }

    fn provider(&self) -> IdentityProvider {
        provider(json!({"url": format!("{}/jwks?p=policy", self.kds.base)}))
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.kds.asked().len()
    }
}

#[test]
fn a_file_that_changed_is_read_again_and_a_key_that_went_counts_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let app = trusting(provider(json!({"file": path})));
    assert_eq!((get(&app, &old), get(&app, &new)), (200, 401));

    std::fs::write(&path, jwks(&[&old, &new])).unwrap();
    app.service.tidy().unwrap();
    assert_eq!((get(&app, &old), get(&app, &new)), (200, 200));

    std::fs::write(&path, jwks(&[&new])).unwrap();
    app.service.tidy().unwrap();
    assert_eq!((get(&app, &old), get(&app, &new)), (401, 200));
}

#[test]
fn a_set_that_can_t_be_read_leaves_the_last_good_one_until_that_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let key = Key::ec("one");
    let private = json!({"keys": [{"kty": "EC", "kid": "x", "d": "c2VjcmV0"}]}).to_string();
    for broken in [Some("{"), Some("{\"keys\": []}"), Some(&private), None] {
        std::fs::write(&path, jwks(&[&key])).unwrap();
        let app = trusting(provider(json!({"file": path, "max_age_seconds": 3600})));
        match broken {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        app.service.tidy().unwrap();
        assert_eq!(get(&app, &key), 200, "{broken:?}");
        app.clock.advance(Duration::from_secs(3599));
        app.service.tidy().unwrap();
        assert_eq!(get(&app, &key), 200, "{broken:?}");
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(get(&app, &key), 401, "{broken:?}");
        std::fs::write(&path, jwks(&[&key])).unwrap();
        app.service.tidy().unwrap();
        assert_eq!(get(&app, &key), 200, "{broken:?}");
    }
}

#[test]
fn a_url_is_asked_anew_in_its_time_and_for_a_key_that_is_not_known() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let idp = Idp::start(Says::Set(jwks(&[&old])));
    let app = trusting(idp.provider());
    assert_eq!((get(&app, &old), idp.asked()), (200, 1));

    // Rotated: the first token with the new key brings it.
    idp.say(Says::Set(jwks(&[&old, &new])));
    app.clock.advance(Duration::from_secs(10));
    assert_eq!((get(&app, &new), idp.asked()), (200, 2));

    // Withdrawn: gone when it is asked the next time.
    idp.say(Says::Set(jwks(&[&new])));
    app.clock.advance(Duration::from_secs(299));
    app.service.tidy().unwrap();
    assert_eq!((get(&app, &old), idp.asked()), (200, 2));
    app.clock.advance(Duration::from_secs(1));
    app.service.tidy().unwrap();
    assert_eq!((get(&app, &old), get(&app, &new), idp.asked()), (401, 200, 3));
}

#[test]
fn tokens_with_keys_that_nobody_knows_do_not_make_the_server_ask_without_end() {
    let key = Key::ec("one");
    let idp = Idp::start(Says::Set(jwks(&[&key])));
    let app = trusting(idp.provider());
    for round in 1..=3 {
        for n in 0..20 {
            assert_eq!(get(&app, &Key::ec(&format!("{n}"))), 401);
        }
        assert_eq!((get(&app, &key), idp.asked()), (200, round));
        app.clock.advance(Duration::from_secs(10));
    }
}

#[test]
fn a_provider_that_is_down_redirects_or_sends_too_much_lets_nobody_in_and_stops_nothing() {
    let key = Key::ec("one");
    let good = jwks(&[&key]);
    let elsewhere = Idp::start(Says::Set(good.clone()));
    let mut huge: Value = serde_json::from_str(&good).unwrap();
    huge["padding"] = json!("x".repeat(300 << 10));
    let mut many: Value = serde_json::from_str(&good).unwrap();
    many["keys"] = json!(vec![key.jwk(); 101]);
    for (what, says) in [
        ("an error", Says::Status(500)),
        ("nothing there", Says::Status(404)),
        (
            "a redirect",
            Says::Redirect(format!("{}/jwks?p=policy", elsewhere.kds.base)),
        ),
        ("a huge set", Says::Set(huge.to_string())),
        ("many keys", Says::Set(many.to_string())),
        ("a page", Says::Set("<html>".to_owned())),
        ("a broken answer", Says::Broken),
    ] {
        let idp = Idp::start(says.clone());
        // The server starts without, and the provider is asked again.
        let app = trusting(idp.provider());
        assert_eq!(get(&app, &key), 401, "{what}");
        app.owner("GET", "/v1/secrets", &Value::Null).ok();
        app.clock.advance(Duration::from_secs(10));
        assert_eq!(get(&app, &key), 401, "{what}");
        assert_eq!(idp.asked(), 2, "{what}");
        idp.say(Says::Set(good.clone()));
        app.clock.advance(Duration::from_secs(10));
        app.service.tidy().unwrap();
        assert_eq!(get(&app, &key), 200, "{what}");
        // Once there were keys, they stay.
        idp.say(says);
        app.clock.advance(Duration::from_secs(300));
        app.service.tidy().unwrap();
        assert_eq!((get(&app, &key), idp.asked()), (200, 4), "{what}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");

    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let app = trusting(provider(json!({"url": format!("http://{nobody}/jwks")})));
    assert_eq!(get(&app, &key), 401);
    app.owner("GET", "/v1/secrets", &Value::Null).ok();
}
