//! Identity providers and client certificates configured wrong: one sentence each, before anything is served.

use keyward::config::Config;
use serde_json::{Value, json};

use crate::support::Shell;
use crate::support::idp::{Key, jwks, provider};

#[track_caller]
fn refused(shell: &Shell, config: &Value) -> String {
    let mut all = json!({"listen": "127.0.0.1:0", "kds": {"url": ""}});
    all.as_object_mut()
        .unwrap()
        .extend(config.as_object().unwrap().clone());
    shell.write("data/keyward.yaml", all.to_string());
    let said = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().to_owned()
}

#[test]
fn a_provider_that_could_let_nobody_or_anybody_in_is_refused() {
    let shell = Shell::initialised();
    shell.write("data/jwks.json", jwks(&[Key::shared_rsa()]));
    let good = serde_json::to_value(provider(json!({"file": "jwks.json"}))).unwrap();
    let rule = |change: Value| json!([change]);
    for (member, value, expected) in [
        (
            "name",
            json!("Corp"),
            "Corp: `name`: expected 1 to 64 lower-case letters, digits and hyphens",
        ),
        ("name", json!("token"), "token: `name`: taken"),
        (
            "issuer",
            json!("corp"),
            "corp: `issuer`: \"corp\" is not a URL: expected https://…",
        ),
        (
            "issuer",
            json!("http://login.example.com"),
            "corp: `issuer`: \"http://login.example.com\" is not a URL",
        ),
        (
            "audience",
            json!(""),
            "corp: `audience`: expected what the tokens' `aud` has for this server",
        ),
        ("jwks", json!({}), "corp: `jwks`: expected either `file` or `url`"),
        (
            "jwks",
            json!({"file": "a", "url": "https://b.example"}),
            "corp: `jwks`: expected either `file` or `url`",
        ),
        (
            "jwks",
            json!({"url": "http://login.example.com/jwks"}),
            "corp: `jwks.url`: must be https://…; http:// is for a loopback address only",
        ),
        (
            "jwks",
            json!({"file": "a", "refresh_seconds": 1}),
            "corp: `jwks.refresh_seconds`: must be 10 to 86400",
        ),
        (
            "leeway_seconds",
            json!(301),
            "corp: `leeway_seconds`: must be 0 to 300",
        ),
        (
            "max_lifetime_seconds",
            json!(0),
            "corp: `max_lifetime_seconds`: must be 60 to 31622400",
        ),
        (
            "algorithms",
            json!([]),
            "corp: `algorithms`: is empty, so that no token could be valid",
        ),
        (
            "rules",
            json!([]),
            "corp: `rules`: is empty, so that nobody would have a role",
        ),
        (
            "rules",
            rule(json!({"claim": "groups", "value": "a", "role": "owner"})),
            "corp: rule 1: role owner is an owner's: whose? Expected `owner` or `owner_claim`",
        ),
        (
            "rules",
            rule(json!({"claim": "groups", "value": "a", "role": "admin", "owner": "acme"})),
            "corp: rule 1: role admin belongs to no owner: leave `owner` or `owner_claim` out",
        ),
        (
            "rules",
            rule(
                json!({"claim": "groups", "value": "a", "role": "owner", "owner": "acme", "owner_claim": "t"}),
            ),
            "corp: rule 1: expected `owner` or `owner_claim`, not both",
        ),
        (
            "rules",
            rule(json!({"claim": "", "value": "a", "role": "host"})),
            "corp: rule 1: `claim`: expected the name of a claim",
        ),
        (
            "rules",
            rule(json!({"claim": "groups", "value": "", "role": "host"})),
            "corp: rule 1: `value`: expected what the claim must be",
        ),
    ] {
        let mut provider = good.clone();
        provider[member] = value;
        let said = refused(&shell, &json!({"identity_providers": [provider]}));
        let expected = format!("error: configuration key `identity_providers`: {expected}");
        assert!(said.starts_with(&expected), "{said}");
    }
    let said = refused(&shell, &json!({"identity_providers": [good, good]}));
    assert_eq!(
        said,
        "error: configuration key `identity_providers`: corp: there are two of this name"
    );
    for (member, value, expected) in [
        (
            "algorithms",
            json!(["HS256"]),
            "unknown variant `HS256`, expected one of `RS256`",
        ),
        (
            "algorithms",
            json!(["none"]),
            "unknown variant `none`, expected one of `RS256`",
        ),
        (
            "rules",
            rule(json!({"claim": "groups", "value": "a", "role": "root"})),
            "unknown variant `root`, expected one of `admin`",
        ),
        ("secret", json!("x"), "unknown key `secret`"),
    ] {
        let mut provider = good.clone();
        provider[member] = value;
        let said = refused(&shell, &json!({"identity_providers": [provider]}));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_file_of_keys_that_is_missing_or_holds_none_is_named() {
    let shell = Shell::initialised();
    let weak = openssl::rsa::Rsa::generate(1024).unwrap();
    let weak = Key {
        id: "weak".to_owned(),
        algorithm: "RS256",
        private: openssl::pkey::PKey::from_rsa(weak).unwrap(),
    };
    let private = json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}]}).to_string();
    let no_key = "the set has no key that verifies signatures: expected RSA of 2048 to 8192 bits, EC on P-256 or \
                  P-384, or Ed25519";
    for (content, expected) in [
        (None, "JWKS file data/jwks.json: No such file or directory (os error 2)".to_owned()),
        (
            Some("-----BEGIN PUBLIC KEY-----".to_owned()),
            "JWKS data/jwks.json: not a JSON Web Key Set: expected {\"keys\": […]}".to_owned(),
        ),
        (Some("{\"keys\": []}".to_owned()), format!("JWKS data/jwks.json: {no_key}")),
        (Some(jwks(&[&weak])), format!("JWKS data/jwks.json: {no_key}")),
        (
            Some(private),
            "JWKS data/jwks.json: the set has a private key in it: whoever could read it can sign; make a new key and \
             publish its public half only"
                .to_owned(),
        ),
        (Some("x".repeat(300 << 10)), "JWKS data/jwks.json: longer than 256 KiB".to_owned()),
    ] {
        if let Some(content) = content {
            shell.write("data/jwks.json", content);
        }
        let said = refused(&shell, &json!({"identity_providers": [provider(json!({"file": "jwks.json"}))]}));
        assert_eq!(said, format!("error: identity_providers: corp: {expected}"));
    }
}

#[test]
fn cert_files_without_an_authority_or_a_meaning_are_refused() {
    let shell = Shell::initialised();
    let with = |change: Value| {
        let mut tls = json!({"certificate": "server.pem", "key": "server.key"});
        tls.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        refused(&shell, &json!({"tls": tls}))
    };
    let rules = |rule: Value| json!({"client_ca": "ca.pem", "clients": [rule]});
    for (change, expected) in [
        (
            json!({"clients": [{"common_name": "a", "role": "admin"}]}),
            "`tls.clients`: needs `client_ca`: whose certificates count?",
        ),
        (
            json!({"client_ca": "ca.pem"}),
            "`tls.client_ca`: needs `clients`: which certificate has which role?",
        ),
        (
            json!({"client_crl": "crl.pem"}),
            "`tls.client_crl`: needs `client_ca`, whose list it is",
        ),
        (
            rules(json!({"role": "admin"})),
            "`tls.clients`: rule 1: expected one of `common_name`, `dns`, `uri` and `sha256`",
        ),
        (
            rules(json!({"common_name": "a", "dns": "a", "role": "admin"})),
            "`tls.clients`: rule 1: expected one of `common_name`, `dns`, `uri` and `sha256`",
        ),
        (
            rules(json!({"dns": "", "role": "host"})),
            "`tls.clients`: rule 1: the name is empty",
        ),
        (
            rules(json!({"dns": "node-*.example.com", "role": "host"})),
            "`tls.clients`: rule 1: a star stands for one name at the begin of `dns`",
        ),
        (
            rules(json!({"uri": "spiffe://*/node", "role": "host"})),
            "`tls.clients`: rule 1: a star stands for one name at the begin of `dns`",
        ),
        (
            rules(json!({"common_name": "a", "role": "auditor"})),
            "`tls.clients`: rule 1: role auditor is an owner's: whose? Expected `owner`",
        ),
        (
            rules(json!({"common_name": "a", "role": "admin", "owner": "acme"})),
            "`tls.clients`: rule 1: role admin belongs to no owner: leave `owner` out",
        ),
    ] {
        let said = with(change);
        assert!(
            said.starts_with(&format!("error: configuration key {expected}")),
            "{said}"
        );
    }
}

#[test]
fn the_example_is_a_configuration_that_is_understood() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/identities/keyward.yaml");
    let config = Config::load(Some(&path), std::iter::empty()).unwrap();
    let names: Vec<&str> = config
        .identity_providers
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["corp", "nodes"]);
    assert_eq!(config.identity_providers[0].rules.len(), 3);
    // Paths are relative to the file.
    let keys = config.identity_providers[1].jwks.file.as_ref().unwrap();
    assert_eq!(keys, &path.with_file_name("nodes-jwks.json"));
    let tls = config.tls.unwrap();
    assert_eq!(
        (tls.clients.len(), tls.client_crl),
        (4, Some(path.with_file_name("clients.crl")))
    );
}
