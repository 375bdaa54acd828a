//! `policy bundle`: a repository as an OPA bundle, signed where a key is given.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::{files, not_done};
use crate::cli::Ended;
use crate::cli::output::{self, Misused};
use crate::domain::{Clock as _, Name, SystemClock};
use crate::policy::Bundle;
use crate::policy::opa::{self, Claims, SignatureAlgorithm, SigningKey};

#[derive(Args)]
pub(in crate::cli) struct Pack {
    /// Folder of the policy repository, or a bundle
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "bundle.tar.gz")]
    output: PathBuf,
    /// `revision` of the bundle's manifest, such as a commit; left out: as the repository's manifest has it
    #[arg(long, value_name = "TEXT")]
    revision: Option<String>,
    /// Sign it with this private key, PEM without a passphrase
    #[arg(long, value_name = "FILE", requires = "key_id")]
    signing_key: Option<PathBuf>,
    /// Algorithm of the signature: ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384 or PS512
    #[arg(long, value_name = "ALG", default_value = "ES256")]
    signing_alg: SignatureAlgorithm,
    /// Name under which the server knows the key
    #[arg(long, value_name = "NAME", requires = "signing_key")]
    key_id: Option<Name>,
    /// Scope of the signature, where the key has one
    #[arg(long, value_name = "TEXT", requires = "signing_key")]
    scope: Option<String>,
}

impl Pack {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        // A policy's file named by mistake is not written over.
        let file = self.output.display();
        if !file.to_string().ends_with(".tar.gz") {
            bail!(Misused(format!("{file}: name a file that ends in .tar.gz")));
        }
        let mut files = files(&self.folder)?;
        let came = files.clone();
        let broken = |found| not_done("no bundle is made", &self.folder, found);
        opa::complete_manifest(&mut files, self.revision.as_deref()).map_err(|found| broken(vec![found]))?;
        // A signature of other content is worth nothing.
        if files != came {
            files.remove(opa::SIGNATURES);
        }
        let bundle = Bundle::from_files(files.clone()).map_err(broken)?;
        if let (Some(path), Some(id)) = (&self.signing_key, &self.key_id) {
            let signature = self.sign(&bundle, path, id)?;
            files.insert(opa::SIGNATURES.to_owned(), signature.into_bytes());
        }
        let packed = opa::pack(&files)?;
        std::fs::write(&self.output, packed).with_context(|| format!("{file}"))?;
        let signed = match &self.key_id {
            Some(id) => format!(", signed by {id}"),
            None if files.contains_key(opa::SIGNATURES) => ", with the signature it had".to_owned(),
            None => String::new(),
        };
        output::line(&format!("{file}: bundle {}{signed}", bundle.digest_hex()))?;
        Ok(Ended::Done)
    }

    fn sign(&self, bundle: &Bundle, path: &PathBuf, id: &Name) -> anyhow::Result<String> {
        let pem = std::fs::read(path).with_context(|| format!("signing key {}", path.display()))?;
        let key = SigningKey::from_pem(&Zeroizing::new(pem), self.signing_alg)
            .with_context(|| format!("signing key {}", path.display()))?;
        let claims = Claims {
            scope: self.scope.clone(),
            issuer: None,
            issued_at: Some(SystemClock.now().millis().div_euclid(1000)),
        };
        match opa::sign(bundle, id.as_str(), &key, &claims) {
            Ok(text) => Ok(text),
            Err(found) => bail!("{found}"),
        }
    }
}
