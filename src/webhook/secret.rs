//! What calls are signed with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";

/// A shared secret of 24 to 64 bytes. No `Debug`; wiped when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a text is no secret. It never says anything of the text.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected `whsec_` and the base64 of 24 to 64 bytes, such as `echo whsec_$(openssl rand -base64 32)` makes"
)]
pub struct SecretError;

impl Secret {
    /// Reads one, as Standard Webhooks writes it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = Zeroizing::new(STANDARD.decode(body).map_err(|_| SecretError)?);
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SecretError)
        }
    }

    /// The signature, with its version.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, content: &[u8]) -> Result<String, ErrorStack> {
        let key = PKey::hmac(&self.0)?;
        let signature = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(content)?;
        Ok(format!("v1,{}", STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_reference() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let content = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        assert_eq!(
            secret.sign(content).unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn what_is_too_short_or_not_base64_is_none() {
        for text in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
            "whsec_!!",
        ] {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
    }
}
