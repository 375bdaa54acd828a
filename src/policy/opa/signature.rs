//! `.signatures.json`: one token that lists every file of the bundle with its digest (OPA's `bundle/sign.go` and
//! `bundle/verify.go`).

use std::collections::BTreeMap;

use openssl::hash::MessageDigest;
use serde::{Deserialize, Serialize};

use super::jws::{self, Token};
use super::keys::{SigningKey, VerificationKey};
use super::{SIGNATURES, content};
use crate::policy::bundle::{Bundle, MAX_DATA_BYTES, MAX_FILES};
use crate::policy::diagnostic::{Diagnostic, nearest};

/// The digest that is written. Others are read.
const DIGEST: &str = "SHA-256";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signatures {
    signatures: Vec<String>,
    /// OPA's name of who verifies by other means; nothing but the default is understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
}

/// What the token says.
#[derive(Serialize, Deserialize)]
struct Payload {
    files: Vec<File>,
    /// Where old tokens name their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    hash: String,
    algorithm: String,
}

/// What a signature says besides the files.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// What the signature is for.
    pub scope: Option<String>,
    /// Who made it.
    pub issuer: Option<String>,
    /// When it was made, in seconds since 1970.
    pub issued_at: Option<i64>,
}

/// Signs a bundle: the text of `.signatures.json`.
///
/// # Errors
/// The engine fails, or a file can't be read as what it is.
pub fn sign(bundle: &Bundle, key_id: &str, key: &SigningKey, claims: &Claims) -> Result<String, Diagnostic> {
    let digest = |(path, bytes): (&str, &[u8])| {
        let hash = content::digest(path, bytes, MessageDigest::sha256());
        hash.map_err(|why| Diagnostic::on_file(path, why))
            .map(|hash| File {
                name: path.to_owned(),
                hash: hex::encode(hash),
                algorithm: DIGEST.to_owned(),
            })
    };
    let payload = Payload {
        files: bundle.files().map(digest).collect::<Result<_, _>>()?,
        keyid: Some(key_id.to_owned()),
        scope: claims.scope.clone(),
        iat: claims.issued_at,
        iss: claims.issuer.clone(),
        exp: None,
        nbf: None,
    };
    let failed = |why: String| Diagnostic::on_file(SIGNATURES, format!("can't be made: {why}"));
    let payload = serde_json::to_vec(&payload).map_err(|error| failed(error.to_string()))?;
    let token = jws::signed(&payload, key_id, key).map_err(|error| failed(error.to_string()))?;
    let file = Signatures {
        signatures: vec![token],
        plugin: None,
    };
    let mut text = serde_json::to_string_pretty(&file).map_err(|error| failed(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// Verifies that one of these keys, by id, signed the bundle: every file of it, and no other. The id of the key.
///
/// `now` is in seconds since 1970.
///
/// # Errors
/// What is wrong, with the key's id or the file.
pub fn verify(
    bundle: &Bundle,
    signatures: &[u8],
    keys: &BTreeMap<String, &VerificationKey>,
    now: i64,
) -> Result<String, Diagnostic> {
    let refused = |why: String| Diagnostic::on_file(SIGNATURES, why);
    if signatures.len() > MAX_DATA_BYTES {
        return Err(refused(format!("longer than {MAX_DATA_BYTES} bytes")));
    }
    let file: Signatures = serde_json::from_slice(signatures)
        .map_err(|error| refused(format!("is not what OPA writes: {error}")))?;
    if let Some(plugin) = file.plugin {
        return Err(refused(format!(
            "is for the plugin {plugin:?}; none is known here"
        )));
    }
    let [token] = file.signatures.as_slice() else {
        return Err(refused(format!(
            "holds {} tokens; expected one",
            file.signatures.len()
        )));
    };
    let token = Token::parse(token).map_err(refused)?;
    // Read before it is believed, to know which key to ask: the scope and the files count only after that.
    let payload: Payload = serde_json::from_slice(&token.payload)
        .map_err(|error| refused(format!("the token's payload is not understood: {error}")))?;
    let id = match (&token.header.kid, &payload.keyid) {
        (Some(kid), Some(keyid)) if kid != keyid => {
            return Err(refused(format!(
                "names two keys: `kid` is {kid:?}, `keyid` is {keyid:?}"
            )));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            return Err(refused("names no key: neither `kid` nor `keyid`".to_owned())
                .with_hint("sign with --key-id, or `opa sign` with a claims file that has `keyid`"));
        }
    };
    let Some(key) = keys.get(id) else {
        let registered = keys.keys().map(String::as_str);
        let hint = match nearest(id, registered.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("registered are: {}", registered.collect::<Vec<_>>().join(", ")),
        };
        return Err(refused(format!("no key {id:?} is registered")).with_hint(hint));
    };
    let by = |why: String| refused(format!("key {id:?}: {why}"));
    token.verify(key).map_err(by)?;
    let (expected, found) = (
        key.scope.as_deref().unwrap_or_default(),
        payload.scope.as_deref().unwrap_or_default(),
    );
    if expected != found {
        return Err(by(format!(
            "the signature's scope is {found:?}, the key's is {expected:?}"
        )));
    }
    if payload.exp.is_some_and(|until| now >= until) {
        return Err(by("the signature has expired".to_owned()));
    }
    if payload.nbf.is_some_and(|from| now < from) {
        return Err(by("the signature is not valid yet".to_owned()));
    }
    covers(bundle, payload.files, id)?;
    Ok(id.clone())
}

/// Every file of the bundle is listed with its digest, and nothing else is.
fn covers(bundle: &Bundle, listed: Vec<File>, id: &str) -> Result<(), Diagnostic> {
    let refused = |file: &str, why: &str| {
        Diagnostic::on_file(
            file.escape_debug().to_string(),
            format!("{why} (signed by key {id:?})"),
        )
    };
    if listed.len() > MAX_FILES {
        return Err(refused(SIGNATURES, "lists more files than a bundle has"));
    }
    let mut left = BTreeMap::new();
    for file in listed {
        if let Some(twice) = left.insert(file.name.clone(), file) {
            return Err(refused(&twice.name, "the signature lists this file twice"));
        }
    }
    for (path, bytes) in bundle.files() {
        let Some(file) = left.remove(path) else {
            return Err(refused(path, "the signature does not cover this file"));
        };
        let algorithm = match file.algorithm.as_str() {
            "SHA-256" => MessageDigest::sha256(),
            "SHA-384" => MessageDigest::sha384(),
            "SHA-512" => MessageDigest::sha512(),
            other => {
                let why = format!("its digest is by {other:?}; expected SHA-256, SHA-384 or SHA-512");
                return Err(refused(path, &why));
            }
        };
        let digest = content::digest(path, bytes, algorithm).map_err(|why| refused(path, &why))?;
        if hex::decode(&file.hash).ok().as_deref() != Some(digest.as_slice()) {
            return Err(refused(
                path,
                "the file is not the one that was signed: its digest differs",
            ));
        }
    }
    match left.keys().next() {
        Some(missing) => Err(refused(
            missing,
            "the signature covers this file, which is not in the bundle",
        )),
        None => Ok(()),
    }
}
