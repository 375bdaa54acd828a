//! Bundles as OPA exchanges them: a gzip-compressed tar file, and the signature in it.
//!
//! In come files of a policy repository, by path; out come `bundle.tar.gz` and `.signatures.json`, and back. The
//! forms are OPA's own (`v1/bundle` of open-policy-agent/opa), so that either side reads what the other wrote.
//! Tests stay in the bundle, as with `opa build --bundle`: who reviews one can run them.

mod content;
mod jws;
mod keys;
mod signature;
mod tarball;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Diagnostic;

pub use keys::{KeyError, SignatureAlgorithm, SigningKey, VerificationKey};
pub use signature::{Claims, sign, verify};
pub use tarball::{MAX_PACKED_BYTES, pack, unpack};

/// Where the signature of a bundle is. It is no part of what it signs.
pub const SIGNATURES: &str = ".signatures.json";
/// Where a bundle says what it is.
const MANIFEST: &str = ".manifest";

/// Completes the manifest, as OPA writes one into every bundle: `revision`, `roots` and `rego_version`. What the
/// repository's own says is kept; a text that says all of it already stays as it is, byte for byte.
///
/// # Errors
/// The manifest is not a JSON object.
pub fn complete_manifest(
    files: &mut BTreeMap<String, Vec<u8>>,
    revision: Option<&str>,
) -> Result<(), Diagnostic> {
    let mut manifest = match files.get(MANIFEST) {
        Some(text) => serde_json::from_slice(text)
            .map_err(|error| Diagnostic::on_file(MANIFEST, format!("not a manifest: {error}")))?,
        None => json!({}),
    };
    let Value::Object(members) = &mut manifest else {
        return Err(Diagnostic::on_file(
            MANIFEST,
            "not a manifest: expected an object",
        ));
    };
    let before = members.clone();
    if let Some(revision) = revision {
        members.insert("revision".to_owned(), json!(revision));
    }
    for (member, value) in [
        ("revision", json!("")),
        ("roots", json!([""])),
        ("rego_version", json!(1)),
    ] {
        members.entry(member).or_insert(value);
    }
    if *members != before {
        files.insert(MANIFEST.to_owned(), format!("{manifest}\n").into_bytes());
    }
    Ok(())
}
