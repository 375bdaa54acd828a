//! Signed tokens in their compact form (RFC 7515), verified with the OpenSSL that everything else here uses.
//!
//! `jsonwebtoken` would bring `aws-lc` or RustCrypto as a second set of implementations for what OpenSSL does already.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::JwtAlgorithm;

/// A token that was taken apart. Nothing of it is true before [`Token::verified`].
pub(super) struct Token<'a> {
    /// What was signed: header and payload as they stand in the token.
    signed: &'a str,
    header: Header,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

/// What is acted on of a header. Keys in it (`jwk`, `jku`, `x5c`, `x5u`) never are. Two members of one name are an
/// error.
#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

struct Header {
    algorithm: JwtAlgorithm,
    kid: Option<String>,
}

/// Kinds of tokens (`typ`) that say who calls; a logout token, or a proof of possession, is for something else.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];
/// The longest key id.
const LONGEST_ID: usize = 256;

impl<'a> Token<'a> {
    /// Takes a compact token apart.
    ///
    /// # Errors
    /// It is none, or its header asks for what is not done here.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let shape = || "not a token of three parts in URL-safe base64".to_owned();
        let (signed, signature) = text.rsplit_once('.').ok_or_else(shape)?;
        let (header, payload) = signed.split_once('.').ok_or_else(shape)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| shape());
        // What the parser says of a text can quote it.
        let not_json = |what: &str| format!("the token's {what} is not the JSON object that it must be");
        let raw: RawHeader = serde_json::from_slice(&decode(header)?).map_err(|_| not_json("header"))?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&decode(payload)?).map_err(|_| not_json("payload"))?;
        Ok(Self {
            signed,
            header: Header::checked(raw)?,
            claims,
            signature: decode(signature)?,
        })
    }

    pub(super) fn algorithm(&self) -> JwtAlgorithm {
        self.header.algorithm
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The issuer that the token names, for finding the keys that decide whether it is true.
    pub(super) fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The claims, if this key made the signature with the token's algorithm, which the key must be good for.
    pub(super) fn verified(&self, key: &PKey<Public>) -> Option<&Map<String, Value>> {
        // What OpenSSL can't read is no signature either.
        let good = verify(self.algorithm(), key, &self.signature, self.signed.as_bytes());
        good.unwrap_or(false).then_some(&self.claims)
    }
}

impl Header {
    fn checked(raw: RawHeader) -> Result<Self, String> {
        if raw.crit.is_some() {
            return Err("the token's header has `crit`, of which nothing is understood".to_owned());
        }
        if let Some(typ) = &raw.typ {
            let typ = typ.to_ascii_lowercase();
            if !TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ)) {
                return Err("the token's `typ` is not that of a token that says who calls".to_owned());
            }
        }
        let known = JwtAlgorithm::ALL
            .into_iter()
            .find(|known| known.as_str() == raw.alg);
        let algorithm =
            known.ok_or_else(|| "the token's `alg` is none of those with a public key".to_owned())?;
        if raw.kid.as_ref().is_some_and(|kid| kid.len() > LONGEST_ID) {
            return Err(format!("the token's `kid` has more than {LONGEST_ID} bytes"));
        }
        let kid = raw.kid;
        Ok(Self { algorithm, kid })
    }
}

fn verify(
    algorithm: JwtAlgorithm,
    key: &PKey<Public>,
    signature: &[u8],
    signed: &[u8],
) -> Result<bool, ErrorStack> {
    use JwtAlgorithm as Jwt;
    let (digest, pss, half) = match algorithm {
        Jwt::Rs256 => (MessageDigest::sha256(), false, None),
        Jwt::Rs384 => (MessageDigest::sha384(), false, None),
        Jwt::Rs512 => (MessageDigest::sha512(), false, None),
        Jwt::Ps256 => (MessageDigest::sha256(), true, None),
        Jwt::Ps384 => (MessageDigest::sha384(), true, None),
        Jwt::Ps512 => (MessageDigest::sha512(), true, None),
        Jwt::Es256 => (MessageDigest::sha256(), false, Some(32)),
        Jwt::Es384 => (MessageDigest::sha384(), false, Some(48)),
        Jwt::EdDsa => return Verifier::new_without_digest(key)?.verify_oneshot(signature, signed),
    };
    let mut verifier = Verifier::new(digest, key)?;
    let Some(half) = half else {
        let padding = if pss { Padding::PKCS1_PSS } else { Padding::PKCS1 };
        verifier.set_rsa_padding(padding)?;
        if pss {
            // RFC 7518, section 3.5: the salt is as long as the hash.
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            verifier.set_rsa_mgf1_md(digest)?;
        }
        return verifier.verify_oneshot(signature, signed);
    };
    // Two integers at their full length, where OpenSSL has a DER sequence.
    let halves = signature.split_at_checked(half).filter(|(_, s)| s.len() == half);
    let Some((r, s)) = halves else { return Ok(false) };
    let pair = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    verifier.verify_oneshot(&pair.to_der()?, signed)
}
