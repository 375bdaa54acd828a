//! JSON Web Signatures in their compact form (RFC 7515), by public keys only.
//!
//! Two well-known crates were looked at for this: one needs a second cryptographic library in C beside OpenSSL,
//! the other changes the order of every JSON object of the program.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};
use serde::{Deserialize, Serialize};

use super::keys::{SignatureAlgorithm, SigningKey, VerificationKey};

/// A token that was taken apart. Nothing of it is true before [`Token::verify`].
pub(super) struct Token<'a> {
    /// What was signed: header and payload as they stand in the token.
    signed: &'a str,
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The header. A member that is not here is not acted on, but `crit` says that some must be.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

impl<'a> Token<'a> {
    /// Takes a compact token apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let shape =
            || "not a signed token: expected three parts in URL-safe base64, with dots between".to_owned();
        let (signed, signature) = text.rsplit_once('.').ok_or_else(shape)?;
        let (header, payload) = signed.split_once('.').ok_or_else(shape)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| shape());
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|error| format!("the token's header is not understood: {error}"))?;
        if header.crit.is_some() {
            return Err("the token's header has `crit`, of which nothing is understood".to_owned());
        }
        Ok(Self {
            signed,
            header,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// Whether this key made the signature, by the key's own algorithm.
    pub(super) fn verify(&self, key: &VerificationKey) -> Result<(), String> {
        let algorithm = key.algorithm;
        if self.header.alg != algorithm.as_str() {
            return Err(format!(
                "the token says {:?} as its algorithm, but the key is registered for {algorithm}",
                self.header.alg
            ));
        }
        let public = key.key().map_err(|error| error.to_string())?;
        let wrong = || "the signature is not by this key".to_owned();
        let verified = || -> Result<bool, ErrorStack> {
            let signature = match algorithm.curve() {
                Some((_, size)) => {
                    let size = usize::try_from(size).unwrap_or_default();
                    let Some((r, s)) = self
                        .signature
                        .split_at_checked(size)
                        .filter(|(_, s)| s.len() == size)
                    else {
                        return Ok(false);
                    };
                    let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
                    EcdsaSig::from_private_components(r, s)?.to_der()?
                }
                None => self.signature.clone(),
            };
            let mut verifier = Verifier::new(algorithm.digest(), &public)?;
            if algorithm.curve().is_none() {
                verifier.set_rsa_padding(padding(algorithm))?;
            }
            if algorithm.is_pss() {
                // While verifying this means: whatever length it is. Go signs with the longest.
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
                verifier.set_rsa_mgf1_md(algorithm.digest())?;
            }
            verifier.verify_oneshot(&signature, self.signed.as_bytes())
        };
        match verified() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(wrong()),
        }
    }
}

fn padding(algorithm: SignatureAlgorithm) -> Padding {
    if algorithm.is_pss() {
        Padding::PKCS1_PSS
    } else {
        Padding::PKCS1
    }
}

/// Signs a payload.
pub(super) fn signed(payload: &[u8], key_id: &str, key: &SigningKey) -> Result<String, ErrorStack> {
    let algorithm = key.algorithm;
    let header = Header {
        alg: algorithm.as_str().to_owned(),
        kid: Some(key_id.to_owned()),
        crit: None,
    };
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let digest: MessageDigest = algorithm.digest();
    let mut signer = Signer::new(digest, &key.key)?;
    if algorithm.curve().is_none() {
        signer.set_rsa_padding(padding(algorithm))?;
    }
    if algorithm.is_pss() {
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        signer.set_rsa_mgf1_md(digest)?;
    }
    let mut signature = signer.sign_oneshot_to_vec(signed.as_bytes())?;
    if let Some((_, size)) = algorithm.curve() {
        // OpenSSL writes a DER sequence of two integers, JWS both at their full length.
        let pair = EcdsaSig::from_der(&signature)?;
        signature = [pair.r().to_vec_padded(size)?, pair.s().to_vec_padded(size)?].concat();
    }
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
