//! Tokens of an identity provider: whom they let in, and everything that is not one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::domain::{Role, Time};
use keyward::identity::Identities;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::App;
use crate::support::app::Options;
use crate::support::host::ALLOW;
use crate::support::idp::{AUDIENCE, ISSUER, Key, claims, in_file, jwks, provider, provider_in, unsigned};
use crate::support::other::{Other, shared};

/// A server that knows the provider with the shared key.
pub(crate) fn trusting(options: Options) -> (App, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let providers = vec![provider_in(folder.path(), &[Key::shared_rsa()])];
    (App::with(Options { providers, ..options }), folder)
}

fn get(app: &App, token: &str) -> u16 {
    let reply = app.as_token(token, "GET", "/v1/secrets", &Value::Null);
    if reply.status == 401 {
        assert_eq!(reply.detail(), "there is no valid bearer token in this request");
    }
    reply.status
}

fn now() -> Time {
    Time::from_millis(1_767_323_045_000)
}

/// Why these tokens are refused, or whom they are for, by a provider with these keys.
struct Judge {
    identities: Identities,
    _folder: TempDir,
}

impl Judge {
    fn new(keys: &[&Key]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let providers = [provider_in(folder.path(), keys)];
        let identities = Identities::start(&providers, &[], now()).unwrap();
        Self {
            identities,
            _folder: folder,
        }
    }

    fn says(&self, token: &str) -> String {
        match self.identities.by_jwt(token, now()) {
            Ok(identity) => identity.name,
            Err(why) => why.to_string(),
        }
    }
}

fn owner(changes: Value) -> Value {
    let mut all = json!({"roles": ["owner"]});
    all.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    claims(now(), all)
}

#[test]
fn a_provider_s_token_is_as_good_as_one_of_the_server_for_every_algorithm() {
    let (rsa, ec, ec384, ed) = (
        Key::shared_rsa(),
        Key::ec("p256"),
        Key::ec384("p384"),
        Key::ed("ed"),
    );
    let judge = Judge::new(&[rsa, &ec, &ec384, &ed]);
    for key in [rsa, &ec, &ec384, &ed] {
        assert_eq!(
            judge.says(&key.token(&owner(json!({})))),
            "corp/alice",
            "{}",
            key.id
        );
    }
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token = rsa.token_with(&json!({"alg": algorithm, "kid": "rsa"}), &owner(json!({})));
        assert_eq!(judge.says(&token), "corp/alice", "{algorithm}");
    }
    let alone = Judge::new(&[&ec]);
    let token = ec.token_with(
        &json!({"alg": "ES256", "typ": "at+jwt"}),
        &owner(json!({"aud": ["x", AUDIENCE]})),
    );
    assert_eq!(alone.says(&token), "corp/alice", "the only key needs no id");
    assert_eq!(
        judge.says(&token),
        "corp: there is no key (without an id) for ES256"
    );
}

#[test]
fn a_token_that_is_not_for_this_server_and_now_is_refused_and_the_log_says_why() {
    let judge = Judge::new(&[Key::shared_rsa()]);
    let at = now().millis() / 1000;
    for (changes, expected) in [
        (
            json!({"exp": at - 30}),
            "corp: the token has expired: 2026-01-02T03:03:35.000Z",
        ),
        (json!({"exp": null}), "corp: the token has no `exp`"),
        (
            json!({"exp": "never"}),
            "corp: the token's `exp` is not a time in seconds since 1970",
        ),
        (
            json!({"exp": 1e300}),
            "corp: the token's `exp` is not a time in seconds since 1970",
        ),
        (
            json!({"exp": -1}),
            "corp: the token's `exp` is not a time in seconds since 1970",
        ),
        (
            json!({"nbf": at + 31}),
            "corp: the token is not valid before 2026-01-02T03:04:36.000Z",
        ),
        (
            json!({"nbf": true}),
            "corp: the token's `nbf` is not a time in seconds since 1970",
        ),
        (
            json!({"iat": at + 31}),
            "corp: the token was issued later than now: 2026-01-02T03:04:36.000Z",
        ),
        (
            json!({"exp": at + 86_401}),
            "corp: the token is valid for longer than 86400 seconds: until 2026-01-03T03:04:06.000Z",
        ),
        (
            json!({"exp": at + 86_431, "iat": null}),
            "corp: the token is valid for longer than 86400 seconds: until 2026-01-03T03:04:36.000Z",
        ),
        (
            json!({"aud": "others"}),
            "corp: the token's `aud` is not \"keyward\"",
        ),
        (
            json!({"aud": ["others", "keyward2"]}),
            "corp: the token's `aud` is not \"keyward\"",
        ),
        (
            json!({"aud": {"keyward": 1}}),
            "corp: the token's `aud` is not \"keyward\"",
        ),
        (json!({"aud": null}), "corp: the token's `aud` is not \"keyward\""),
        (
            json!({"iss": "https://login.example.com/realms/corp/"}),
            "no provider has the token's issuer",
        ),
        (json!({"iss": null}), "no provider has the token's issuer"),
        (json!({"iss": [ISSUER]}), "no provider has the token's issuer"),
        (
            json!({"sub": null}),
            "corp: the token's `sub` is not a text of 1 to 255 printable ASCII characters",
        ),
        (
            json!({"sub": ""}),
            "corp: the token's `sub` is not a text of 1 to 255 printable ASCII characters",
        ),
        (
            json!({"sub": "a\nb"}),
            "corp: the token's `sub` is not a text of 1 to 255 printable ASCII characters",
        ),
        (
            json!({"roles": ["guest"]}),
            "corp: subject \"alice\": no rule gives it a role",
        ),
        (
            json!({"roles": null}),
            "corp: subject \"alice\": no rule gives it a role",
        ),
        (
            json!({"roles": "owners"}),
            "corp: subject \"alice\": no rule gives it a role",
        ),
        (
            json!({"roles": null, "scope": "tenant-owner"}),
            "corp: subject \"alice\": it has no text as its claim `tenant`, which names the owner",
        ),
        (
            json!({"roles": null, "scope": "tenant-owner", "tenant": "../acme"}),
            "corp: subject \"alice\": its claim `tenant` is no owner's name",
        ),
    ] {
        let mut all = owner(json!({}));
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
                value => all[name] = value.clone(),
            }
        }
        assert_eq!(judge.says(&Key::shared_rsa().token(&all)), expected, "{changes}");
    }
    for changes in [
        json!({"exp": at - 29}),
        json!({"nbf": at + 30}),
        json!({"iat": at + 30}),
        json!({"exp": at + 86_400}),
        json!({"exp": at as f64 + 0.5}),
    ] {
        let token = Key::shared_rsa().token(&owner(changes.clone()));
        assert_eq!(judge.says(&token), "corp/alice", "{changes}");
    }
}

#[test]
fn a_signature_that_is_none_or_by_another_key_or_algorithm_is_refused() {
    let (rsa, ec) = (Key::shared_rsa(), Key::ec("p256"));
    let judge = Judge::new(&[rsa, &ec]);
    let all = owner(json!({}));
    let none = "the token's `alg` is none of those with a public key";
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES256K", "ES512", "rs256",
    ] {
        let header = json!({"alg": alg, "kid": "rsa"});
        assert_eq!(
            judge.says(&format!("{}.", unsigned(&header, &all))),
            none,
            "{alg}"
        );
    }
    // The public key as an HMAC's secret, in each form in which a server could have it.
    let public = rsa.private.public_key_to_pem().unwrap();
    let der = rsa.private.public_key_to_der().unwrap();
    for secret in [public, der, rsa.private.rsa().unwrap().n().to_vec()] {
        let text = unsigned(&json!({"alg": "HS256", "kid": "rsa"}), &all);
        let secret = PKey::hmac(&secret).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &secret).unwrap();
        let mac = signer.sign_oneshot_to_vec(text.as_bytes()).unwrap();
        assert_eq!(
            judge.says(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))),
            none
        );
    }
    // A key's id with an algorithm that is not the key's.
    let confused = ec.token_with(&json!({"alg": "ES256", "kid": "rsa"}), &all);
    assert_eq!(
        judge.says(&confused),
        "corp: the key \"rsa\" is not one for ES256"
    );
    let confused = rsa.token_with(&json!({"alg": "RS256", "kid": "p256"}), &all);
    assert_eq!(
        judge.says(&confused),
        "corp: the key \"p256\" is not one for RS256"
    );
    // Another's key under this one's id, also where the header brings the key along.
    let other = Key::rsa("rsa");
    let wrong = "corp: the signature is not by its key";
    assert_eq!(judge.says(&other.token(&all)), wrong);
    let brought = json!({"alg": "RS256", "kid": "rsa", "jwk": other.jwk(), "jku": "http://127.0.0.1:9/jwks"});
    assert_eq!(judge.says(&other.token_with(&brought, &all)), wrong);
    // What was signed is the text as it stands, and the signature is all of the third part.
    let token = rsa.token(&all);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let better = unsigned(
        &json!({"alg": "RS256", "kid": "rsa"}),
        &owner(json!({"sub": "bob"})),
    );
    let payload = better.split_once('.').unwrap().1;
    assert_eq!(judge.says(&format!("{header}.{payload}.{signature}")), wrong);
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for cut in ["", &URL_SAFE_NO_PAD.encode(&bytes[1..])] {
        assert_eq!(judge.says(&format!("{signed}.{cut}")), wrong);
    }
    let text = unsigned(&json!({"alg": "ES256", "kid": "p256"}), &all);
    for signature in [vec![0; 64], vec![0; 63], vec![0xff; 64], vec![]] {
        assert_eq!(
            judge.says(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))),
            wrong
        );
    }
    assert_eq!(judge.says(&token), "corp/alice");
}

#[test]
fn a_key_is_used_only_for_what_its_set_says_it_is_for() {
    let (rsa, ec) = (Key::shared_rsa(), Key::ec("p256"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let all = owner(json!({}));
    let pss = rsa.token_with(&json!({"alg": "PS256", "kid": "rsa"}), &all);
    let with = |change: Value| {
        let mut jwk = rsa.jwk();
        for (name, value) in change.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        std::fs::write(&path, json!({"keys": [ec.jwk(), jwk]}).to_string()).unwrap();
        let providers = [provider(serde_json::to_value(in_file(&path)).unwrap())];
        let identities = Identities::start(&providers, &[], now()).unwrap();
        [rsa.token(&all), pss.clone()].map(|token| identities.by_jwt(&token, now()).is_ok())
    };
    assert_eq!(with(json!({})), [true, true]);
    assert_eq!(with(json!({"alg": "RS256"})), [true, false]);
    assert_eq!(with(json!({"alg": "RSA-OAEP"})), [false, false]);
    assert_eq!(with(json!({"use": "enc"})), [false, false]);
    assert_eq!(with(json!({"key_ops": ["encrypt"]})), [false, false]);
    assert_eq!(with(json!({"key_ops": ["verify"]})), [true, true]);
    assert_eq!(with(json!({"kty": "oct", "k": "c2VjcmV0"})), [false, false]);

    // Two keys of one id that both could be meant are none.
    let twin = Key::rsa("rsa");
    std::fs::write(&path, jwks(&[rsa, &twin])).unwrap();
    let providers = [provider(serde_json::to_value(in_file(&path)).unwrap())];
    let identities = Identities::start(&providers, &[], now()).unwrap();
    for key in [rsa, &twin] {
        assert!(identities.by_jwt(&key.token(&all), now()).is_err());
    }
}

#[test]
fn what_is_no_token_is_refused_before_it_costs_anything() {
    let judge = Judge::new(&[Key::shared_rsa()]);
    let all = owner(json!({}));
    let long = Key::shared_rsa().token(&owner(json!({"filler": "x".repeat(9000)})));
    assert!(
        judge.says(&long).starts_with("the token has 1"),
        "{}",
        judge.says(&long)
    );
    assert!(judge.says(&long).ends_with(" bytes, at most 8192 are looked at"));
    let shape = "not a token of three parts in URL-safe base64";
    let header = "the token's header is not the JSON object that it must be";
    for (text, expected) in [
        ("..", header),
        ("a.b", shape),
        ("a.b.c.d", shape),
        ("§.§.§", shape),
        ("e30=.e30=.", shape),
        ("e30.e30.!", header),
        ("W10.e30.", header),
    ] {
        assert_eq!(judge.says(text), expected, "{text}");
    }
    let signed = |header: Value| Key::shared_rsa().token_with(&header, &all);
    for (header, expected) in [
        (
            json!({"kid": "rsa"}),
            "the token's header is not the JSON object that it must be",
        ),
        (
            json!({"alg": 1, "kid": "rsa"}),
            "the token's header is not the JSON object that it must be",
        ),
        (
            json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}),
            "the token's header has `crit`, of which nothing is understood",
        ),
        (
            json!({"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}),
            "the token's `typ` is not that of a token that says who calls",
        ),
        (
            json!({"alg": "RS256", "kid": "k".repeat(257)}),
            "the token's `kid` has more than 256 bytes",
        ),
        (
            json!({"alg": "RS256", "kid": "other"}),
            "corp: there is no key \"other\" for RS256",
        ),
    ] {
        assert_eq!(judge.says(&signed(header)), expected);
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"rsa","alg":"none"}"#);
    let payload = unsigned(&json!({}), &all);
    let text = format!("{twice}.{}.", payload.split_once('.').unwrap().1);
    assert_eq!(
        judge.says(&text),
        "the token's header is not the JSON object that it must be"
    );
}

#[test]
fn one_provider_s_key_does_not_sign_for_another_provider() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Key::ec("one"), Key::ec("one"));
    let first = provider_in(folder.path(), &[&ours]);
    let path = folder.path().join("theirs.json");
    std::fs::write(&path, jwks(&[&theirs])).unwrap();
    let mut second = provider(serde_json::to_value(in_file(&path)).unwrap());
    second.name = "partner".to_owned();
    second.issuer = "https://partner.example".to_owned();
    let identities = Identities::start(&[first, second], &[], now()).unwrap();
    let whose = |token: String| identities.by_jwt(&token, now()).map(|identity| identity.name);
    let partner = owner(json!({"iss": "https://partner.example"}));
    assert_eq!(whose(ours.token(&owner(json!({})))), Ok("corp/alice".to_owned()));
    assert_eq!(whose(theirs.token(&partner)), Ok("partner/alice".to_owned()));
    for token in [theirs.token(&owner(json!({}))), ours.token(&partner)] {
        let why = whose(token).unwrap_err().to_string();
        assert!(why.ends_with(": the signature is not by its key"), "{why}");
    }
}

#[test]
fn an_owner_that_a_token_names_must_exist() {
    let (app, _folder) = trusting(shared());
    let other = Other::of(&app);
    app.standard();
    let tenant = |name: &str| app.jwt(json!({"scope": "tenant-owner", "tenant": name}));
    assert_eq!(get(&app, &tenant("acme")), 200);
    assert_eq!(get(&app, &tenant("umbra")), 200);
    assert_eq!(get(&app, &tenant("nobody")), 401);
    assert_eq!(get(&app, &app.jwt(json!({"roles": ["guest"]}))), 401);
    let list =
        |token: &str| app.as_token(token, "GET", "/v1/secrets", &Value::Null).ok().body["items"].clone();
    assert_eq!(list(&tenant("umbra")), json!(other.items("/v1/secrets")));
    app.as_token(&tenant("umbra"), "GET", "/v1/secrets/disk", &Value::Null)
        .expect(404, "not-found");
}

#[test]
fn a_token_ends_when_it_says_and_who_lacks_a_role_learns_which_it_takes() {
    let (app, _folder) = trusting(Options::default());
    let token = app.jwt_of(Role::Auditor);
    assert_eq!(get(&app, &token), 200);
    let reply = app.as_token(&token, "GET", "/v1/owners", &Value::Null);
    assert_eq!(
        reply.expect(403, "forbidden").detail(),
        "this needs the role admin; the token corp/alice has the role auditor"
    );
    app.clock.advance(std::time::Duration::from_secs(629));
    assert_eq!(get(&app, &token), 200);
    app.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(get(&app, &token), 401);
}

#[test]
fn records_name_the_provider_and_the_subject_and_are_of_one_caller() {
    let (app, _folder) = trusting(Options::default());
    app.standard();
    let mut callers = Vec::new();
    for (subject, n) in [("alice", 1), ("alice", 2), ("bob", 3)] {
        let token = app.jwt(json!({"roles": ["policy-author"], "sub": subject}));
        let text = format!("{ALLOW}\n# {n}\n");
        let files = json!({"release/any.rego": keyward::domain::Base64Bytes(text.into_bytes())});
        app.as_token(&token, "POST", "/v1/bundles", &json!({"files": files}))
            .expect(201, "ok");
        let newest = app.owner("GET", "/v1/revisions", &Value::Null).ok().body["items"][0]["by"].clone();
        assert_eq!(newest["name"], format!("corp/{subject}"));
        callers.push(newest["token"].clone());
    }
    assert_eq!(callers[0], callers[1]);
    assert_ne!(callers[1], callers[2]);
}

#[test]
fn the_audit_log_says_who_vouched_for_a_caller() {
    let (app, _folder) = trusting(Options::default());
    app.standard();
    let token = app.jwt_of(Role::SecretWriter);
    let secret = json!({"name": "spare", "type": "luks-passphrase", "value": {"base64": "aHVudGVyMg=="},
                        "policies": ["release.any"]});
    app.as_token(&token, "PUT", "/v1/secrets/spare", &secret).ok();
    let entries = app.owner("GET", "/v1/audit/entries", &Value::Null).ok().body["items"].clone();
    let last = &entries.as_array().unwrap().last().unwrap()["record"];
    assert_eq!(last["event"]["object"]["name"], "spare");
    assert_eq!(
        last["actor"],
        json!({"type": "identity", "name": "corp/alice", "issuer": ISSUER, "subject": "alice", "role": "secret-writer"})
    );
}
