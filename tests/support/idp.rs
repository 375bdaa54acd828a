//! An identity provider: keys, tokens signed with them, and its place in a server's configuration.

use std::path::Path;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::config::{IdentityProvider, Jwks};
use keyward::domain::{Clock as _, Role, Time};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::{Value, json};

use super::App;

pub(crate) const ISSUER: &str = "https://login.example.com/realms/corp";
pub(crate) const AUDIENCE: &str = "keyward";

/// A provider's key, and the algorithm that it usually signs with.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: &'static str,
    pub(crate) private: PKey<Private>,
}

impl Key {
    pub(crate) fn rsa(id: &str) -> Self {
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        Self::new(id, "RS256", private)
    }

    pub(crate) fn ec(id: &str) -> Self {
        Self::new(id, "ES256", ec(Nid::X9_62_PRIME256V1))
    }

    pub(crate) fn ec384(id: &str) -> Self {
        Self::new(id, "ES384", ec(Nid::SECP384R1))
    }

    pub(crate) fn ed(id: &str) -> Self {
        Self::new(id, "EdDSA", PKey::generate_ed25519().unwrap())
    }

    fn new(id: &str, algorithm: &'static str, private: PKey<Private>) -> Self {
        let id = id.to_owned();
        Self {
            id,
            algorithm,
            private,
        }
    }

    /// One that all tests share, as making one takes a while.
    pub(crate) fn shared_rsa() -> &'static Self {
        static KEY: OnceLock<Key> = OnceLock::new();
        KEY.get_or_init(|| Self::rsa("rsa"))
    }

    /// Its public half.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = json!({"kid": self.id, "use": "sig"});
        let mut put = |name: &str, value: String| jwk[name] = json!(value);
        if let Ok(rsa) = self.private.rsa() {
            put("kty", "RSA".to_owned());
            put("n", text(rsa.n().to_vec()));
            put("e", text(rsa.e().to_vec()));
        } else if let Ok(key) = self.private.ec_key() {
            let mut context = openssl::bn::BigNumContext::new().unwrap();
            let (mut x, mut y) = (
                openssl::bn::BigNum::new().unwrap(),
                openssl::bn::BigNum::new().unwrap(),
            );
            let point = key.public_key();
            point
                .affine_coordinates(key.group(), &mut x, &mut y, &mut context)
                .unwrap();
            let size = if self.algorithm == "ES256" { 32 } else { 48 };
            put("kty", "EC".to_owned());
            put("crv", if size == 32 { "P-256" } else { "P-384" }.to_owned());
            put("x", text(x.to_vec_padded(size).unwrap()));
            put("y", text(y.to_vec_padded(size).unwrap()));
        } else {
            put("kty", "OKP".to_owned());
            put("crv", "Ed25519".to_owned());
            put("x", text(self.private.raw_public_key().unwrap()));
        }
        jwk
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm, "kid": self.id, "typ": "JWT"});
        self.token_with(&header, claims)
    }

    /// A token with this header, signed as its `alg` says, where this key can.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let algorithm = header["alg"].as_str().unwrap_or(self.algorithm);
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, algorithm: &str, bytes: &[u8]) -> Vec<u8> {
        if self.algorithm == "EdDSA" {
            let mut signer = Signer::new_without_digest(&self.private).unwrap();
            return signer.sign_oneshot_to_vec(bytes).unwrap();
        }
        let digest = match algorithm.get(2..) {
            Some("384") => MessageDigest::sha384(),
            Some("512") => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        let mut signer = Signer::new(digest, &self.private).unwrap();
        if algorithm.starts_with("PS") {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
        }
        let signature = signer.sign_oneshot_to_vec(bytes).unwrap();
        if !self.algorithm.starts_with("ES") {
            return signature;
        }
        let size = if self.algorithm == "ES256" { 32 } else { 48 };
        let pair = EcdsaSig::from_der(&signature).unwrap();
        let [r, s] = [pair.r(), pair.s()].map(|n| n.to_vec_padded(size).unwrap());
        [r, s].concat()
    }
}

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// Header and claims, as they are signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The set that a provider publishes.
pub(crate) fn jwks(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// Claims of a token that is valid for ten minutes from then on, with some changed; null removes one.
pub(crate) fn claims(now: Time, changes: Value) -> Value {
    let seconds = now.millis() / 1000;
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": seconds, "nbf": seconds, "exp": seconds + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// A provider `corp` whose keys are here. Its claim `roles` gives roles of the owner `acme`, `keyward-admin` the
/// server's, and `tenant` names the owner of those with `tenant-owner`.
pub(crate) fn provider(jwks: Value) -> IdentityProvider {
    let mut rules: Vec<Value> = Role::ALL
        .into_iter()
        .filter(|role| *role != Role::Admin)
        .map(|role| json!({"claim": "roles", "value": role, "role": role, "owner": "acme"}))
        .collect();
    rules.push(json!({"claim": "/realm/groups", "value": "keyward-admin", "role": "admin"}));
    rules.push(json!({"claim": "scope", "value": "tenant-owner", "role": "owner", "owner_claim": "tenant"}));
    rules.push(json!({"claim": "scope", "value": "node", "role": "host"}));
    serde_json::from_value(json!({
        "name": "corp", "issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks, "rules": rules,
    }))
    .unwrap()
}

/// Keys in a file.
pub(crate) fn in_file(path: &Path) -> Jwks {
    serde_json::from_value(json!({"file": path})).unwrap()
}

/// A provider with these keys, in a file of this folder.
pub(crate) fn provider_in(folder: &Path, keys: &[&Key]) -> IdentityProvider {
    let path = folder.join("jwks.json");
    std::fs::write(&path, jwks(keys)).unwrap();
    provider(json!({"file": path}))
}

impl App {
    /// A token of the shared RSA key for somebody with these claims.
    pub(crate) fn jwt(&self, changes: Value) -> String {
        Key::shared_rsa().token(&claims(self.clock.now(), changes))
    }

    /// One that gives this role; roles but the server's are the owner `acme`'s.
    pub(crate) fn jwt_of(&self, role: Role) -> String {
        self.jwt(match role {
            Role::Admin => json!({"realm": {"groups": ["users", "keyward-admin"]}}),
            role => json!({"roles": ["users", role]}),
        })
    }
}
