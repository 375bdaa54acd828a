//! Who may call besides those with a token: identity providers, client certificates, and which role each has.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::load::ConfigError;
use crate::domain::{HexDigest, Name, Role};

/// An identity provider whose tokens (JWT) are as good as tokens of this server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProvider {
    /// What records and policies call it: a caller is `NAME/SUBJECT`. Lower-case letters, digits and hyphens.
    pub name: String,
    /// `iss` of its tokens, exactly: a URL.
    pub issuer: String,
    /// `aud` that its tokens must have for this server.
    pub audience: String,
    /// Its public keys.
    pub jwks: Jwks,
    /// Which claims mean which role. The first that a token fulfils counts; who fulfils none is refused.
    pub rules: Vec<ClaimRule>,
    /// Signature algorithms that are accepted.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far the provider's clock may be from this server's; at most 300.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u32,
    /// Tokens that are valid for longer than this, from when they were issued, are refused.
    #[serde(default = "default_lifetime")]
    pub max_lifetime_seconds: u32,
}

/// Where a provider's keys (JSON Web Key Set) are: `file` or `url`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// A file, which is read again when it has changed.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// A URL; plain HTTP on loopback only. Redirects are not followed.
    #[serde(default)]
    pub url: Option<String>,
    /// How often the URL is asked anew. It is asked as well for a key that is not known, at most every ten seconds.
    #[serde(default = "default_refresh")]
    pub refresh_seconds: u32,
    /// Keys that could not be had anew for this long count no more.
    #[serde(default = "default_age")]
    pub max_age_seconds: u32,
}

/// A claim, and the role of those who have it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim's name, or a JSON pointer to one inside of another (`/realm_access/roles`).
    pub claim: String,
    /// What it must be, or, where it is a list, contain.
    pub value: String,
    /// The role.
    pub role: Role,
    /// Whose.
    #[serde(default)]
    pub owner: Option<Name>,
    /// The claim that names whose, in place of `owner`: a name, or a JSON pointer.
    #[serde(default)]
    pub owner_claim: Option<String>,
}

/// A client certificate by one of its names, and the role of its holder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientRule {
    /// The subject's common name.
    #[serde(default)]
    pub common_name: Option<String>,
    /// A DNS name of the certificate; `*.example.com` stands for any one name before the first dot.
    #[serde(default)]
    pub dns: Option<String>,
    /// A URI of the certificate, such as `spiffe://example.com/node/7`; with `/*` at its end, any below it.
    #[serde(default)]
    pub uri: Option<String>,
    /// SHA-256 of the certificate, in hex.
    #[serde(default)]
    pub sha256: Option<HexDigest>,
    /// The role.
    pub role: Role,
    /// Whose.
    #[serde(default)]
    pub owner: Option<Name>,
}

/// A signature algorithm with a public key (RFC 7518, section 3.1, and RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the RFCs'")]
pub enum JwtAlgorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name, as in a token's header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

fn all_algorithms() -> Vec<JwtAlgorithm> {
    JwtAlgorithm::ALL.to_vec()
}

fn default_leeway() -> u32 {
    30
}

fn default_lifetime() -> u32 {
    86_400
}

fn default_refresh() -> u32 {
    300
}

fn default_age() -> u32 {
    86_400
}

/// Names that callers have whom no provider vouches for.
const TAKEN: [&str; 2] = ["token", "certificate"];

impl Config {
    pub(super) fn check_identities(&self) -> Result<(), ConfigError> {
        let mut names = Vec::new();
        for provider in &self.identity_providers {
            let wrong = |why: String| {
                let key = "identity_providers";
                let message = format!("{}: {why}", provider.name);
                Err(ConfigError::Value { key, message })
            };
            if names.contains(&&provider.name) {
                return wrong("there are two of this name".to_owned());
            }
            names.push(&provider.name);
            if let Err(why) = provider.check() {
                return wrong(why);
            }
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        let wrong = |key: &'static str, message: &str| {
            let message = message.to_owned();
            Err(ConfigError::Value { key, message })
        };
        if tls.client_ca.is_none() && !tls.clients.is_empty() {
            let message = "needs `client_ca`: whose certificates count?";
            return wrong("tls.clients", message);
        }
        if tls.client_ca.is_none() && tls.client_crl.is_some() {
            return wrong("tls.client_crl", "needs `client_ca`, whose list it is");
        }
        if tls.client_ca.is_some() && tls.clients.is_empty() {
            let message = "needs `clients`: which certificate has which role?";
            return wrong("tls.client_ca", message);
        }
        for (number, rule) in tls.clients.iter().enumerate() {
            if let Err(why) = rule.check() {
                return wrong("tls.clients", &format!("rule {}: {why}", number + 1));
            }
        }
        Ok(())
    }
}

impl IdentityProvider {
    fn check(&self) -> Result<(), String> {
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(inside) {
            return Err(
                "`name`: expected 1 to 64 lower-case letters, digits and hyphens, as it is in records and policies"
                    .to_owned(),
            );
        }
        if TAKEN.contains(&self.name.as_str()) {
            return Err("`name`: taken, as callers with a token or a certificate are called so".to_owned());
        }
        if !acceptable(&self.issuer) {
            return Err(format!(
                "`issuer`: {:?} is not a URL: expected https://…, exactly as the tokens' `iss` has it",
                self.issuer
            ));
        }
        if self.audience.is_empty() {
            return Err("`audience`: expected what the tokens' `aud` has for this server".to_owned());
        }
        match (&self.jwks.file, &self.jwks.url) {
            (Some(_), Some(_)) | (None, None) => {
                return Err("`jwks`: expected either `file` or `url`".to_owned());
            }
            (None, Some(url)) if !acceptable(url) => {
                return Err(
                    "`jwks.url`: must be https://…; http:// is for a loopback address only".to_owned(),
                );
            }
            _ => {}
        }
        let within = [
            ("leeway_seconds", self.leeway_seconds, 0, 300),
            ("max_lifetime_seconds", self.max_lifetime_seconds, 60, 31_622_400),
            ("jwks.refresh_seconds", self.jwks.refresh_seconds, 10, 86_400),
            ("jwks.max_age_seconds", self.jwks.max_age_seconds, 60, 31_622_400),
        ];
        for (key, value, least, most) in within {
            if !(least..=most).contains(&value) {
                return Err(format!("`{key}`: must be {least} to {most}"));
            }
        }
        if self.jwks.max_age_seconds < self.jwks.refresh_seconds {
            return Err("`jwks.max_age_seconds`: must not be less than `refresh_seconds`".to_owned());
        }
        if self.algorithms.is_empty() {
            return Err(
                "`algorithms`: is empty, so that no token could be valid; leave it out for all".to_owned(),
            );
        }
        if self.rules.is_empty() {
            return Err(
                "`rules`: is empty, so that nobody would have a role; expected such as {claim: groups, value: kbs-admins, role: admin}"
                    .to_owned(),
            );
        }
        for (number, rule) in self.rules.iter().enumerate() {
            rule.check()
                .map_err(|why| format!("rule {}: {why}", number + 1))?;
        }
        Ok(())
    }
}

impl ClaimRule {
    fn check(&self) -> Result<(), String> {
        if self.claim.is_empty() || self.owner_claim.as_ref().is_some_and(String::is_empty) {
            return Err("`claim`: expected the name of a claim".to_owned());
        }
        if self.value.is_empty() {
            return Err("`value`: expected what the claim must be".to_owned());
        }
        if self.owner.is_some() && self.owner_claim.is_some() {
            return Err("expected `owner` or `owner_claim`, not both".to_owned());
        }
        owned(
            self.role,
            self.owner.is_some() || self.owner_claim.is_some(),
            "`owner` or `owner_claim`",
        )
    }
}

impl ClientRule {
    fn check(&self) -> Result<(), String> {
        let named = [
            self.common_name.is_some(),
            self.dns.is_some(),
            self.uri.is_some(),
            self.sha256.is_some(),
        ];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err("expected one of `common_name`, `dns`, `uri` and `sha256`".to_owned());
        }
        let texts = [&self.common_name, &self.dns, &self.uri];
        let texts: Vec<&str> = texts.into_iter().flatten().map(String::as_str).collect();
        if texts.contains(&"") {
            return Err("the name is empty".to_owned());
        }
        let fixed = |text: &str| match (&self.dns, &self.uri) {
            (Some(_), _) => text.strip_prefix("*.").unwrap_or(text).to_owned(),
            (_, Some(_)) => text.strip_suffix("/*").unwrap_or(text).to_owned(),
            _ => String::new(),
        };
        if texts.iter().any(|text| fixed(text).contains('*')) {
            return Err("a star stands for one name at the begin of `dns` (*.example.com), or for what is below a `uri` (spiffe://example.com/node/*)".to_owned());
        }
        owned(self.role, self.owner.is_some(), "`owner`")
    }
}

/// Whether a role and an owner go together.
fn owned(role: Role, named: bool, member: &str) -> Result<(), String> {
    match (role, named) {
        (Role::Admin, true) => Err(format!("role admin belongs to no owner: leave {member} out")),
        // One without is a host for every owner's workloads.
        (Role::Host, _) | (Role::Admin, false) | (_, true) => Ok(()),
        (role, false) => Err(format!("role {role} is an owner's: whose? Expected {member}")),
    }
}

/// HTTPS anywhere, plain HTTP on loopback; a query is part of some providers' URLs.
fn acceptable(url: &str) -> bool {
    let base = url.split('?').next().unwrap_or_default();
    !url.contains('#') && crate::outward::is_acceptable_url(base)
}
