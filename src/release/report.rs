//! Reports: the facts of a launch, signed with a key of the owner's, for a guest to show to others.
//!
//! The first six members are those of simple-kbs's, under its names; the others say which launch it was and under which
//! root. A report proves that some guest was measured like this, not that whoever shows it is that guest.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde::Serialize;
use uuid::Uuid;

use super::facts::Attested;
use crate::domain::launch::LaunchFacts;
use crate::domain::{Base64, HexDigest};

/// What is signed.
#[derive(Serialize)]
pub(super) struct Facts {
    policy: u32,
    fw_api_major: u8,
    fw_api_minor: u8,
    fw_build_id: u8,
    launch_description: String,
    fw_digest: Base64<32>,
    launch_id: Uuid,
    workload: Uuid,
    root: String,
    cek: HexDigest,
}

/// As it is given to the guest.
#[derive(Serialize)]
struct Report {
    connection: String,
    signature: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error("the stored report key is no P-256 key any more")]
    Key,
    #[error("{0}")]
    Library(#[from] ErrorStack),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Facts {
    pub(super) fn new(
        launch: Uuid,
        workload: Uuid,
        facts: &LaunchFacts,
        attested: &Attested<'_>,
        description: Option<&str>,
    ) -> Self {
        let proved = &attested.launch;
        let build = proved.build();
        Self {
            policy: proved.policy().bits(),
            fw_api_major: build.api_major,
            fw_api_minor: build.api_minor,
            fw_build_id: build.build_id,
            launch_description: description.unwrap_or_default().to_owned(),
            fw_digest: Base64(*proved.launch_digest()),
            launch_id: launch,
            workload,
            root: facts.platform.root().to_owned(),
            cek: facts.platform.fingerprints().cek.into(),
        }
    }

    /// JSON `{"connection", "signature"}`: the facts as text, and base64 of an ECDSA signature (SHA-256, DER) over it.
    pub(super) fn signed(&self, key: &[u8]) -> Result<Vec<u8>, ReportError> {
        use base64::Engine as _;
        let key = read_key(key).ok_or(ReportError::Key)?;
        let connection = serde_json::to_string(self)?;
        let signature =
            Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(connection.as_bytes())?;
        Ok(serde_json::to_vec(&Report {
            connection,
            signature: base64::engine::general_purpose::STANDARD.encode(signature),
        })?)
    }
}

/// A private key on P-256, as PKCS#8 in PEM or DER; none: it is something else.
pub(super) fn read_key(bytes: &[u8]) -> Option<PKey<Private>> {
    let key = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        // One under a passphrase is refused; without a callback the library would ask for it on the terminal.
        PKey::private_key_from_pem_callback(bytes, |_| Ok(0)).ok()?
    } else {
        PKey::private_key_from_der(bytes).ok()?
    };
    let curve = key.ec_key().ok()?;
    let good = curve.group().curve_name() == Some(Nid::X9_62_PRIME256V1) && curve.check_key().is_ok();
    good.then_some(key)
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};

    use super::*;

    fn key(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    #[test]
    fn a_report_key_is_on_p256_in_pem_or_der() {
        let good = key(Nid::X9_62_PRIME256V1);
        assert!(read_key(&good.private_key_to_pem_pkcs8().unwrap()).is_some());
        assert!(read_key(&good.private_key_to_pkcs8().unwrap()).is_some());
        assert!(read_key(&good.public_key_to_pem().unwrap()).is_none());
        let other = key(Nid::SECP384R1);
        assert!(read_key(&other.private_key_to_pem_pkcs8().unwrap()).is_none());
        let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        assert!(read_key(&rsa.private_key_to_pkcs8().unwrap()).is_none());
        let cipher = openssl::symm::Cipher::aes_128_cbc();
        let under_a_passphrase = good.private_key_to_pem_pkcs8_passphrase(cipher, b"word").unwrap();
        assert!(read_key(&under_a_passphrase).is_none());
        for junk in [&b""[..], b"-----BEGIN", b"hunter2"] {
            assert!(read_key(junk).is_none());
        }
    }
}
