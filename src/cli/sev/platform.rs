//! A platform's chain in any of the forms that tools leave it in, and its verification.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize;

use super::files::{decoded, read_text_or_bytes};
use crate::sev::chain::{ChainError, PresentedChain, verify_cek};
use crate::sev::{CaCertificate, Certificate, TrustedRoots, Usage, VerifiedPlatform};

/// A chain, and what is trusted besides AMD's roots.
#[derive(Args)]
pub(super) struct Presented {
    /// The chain: PEK, OCA and CEK, with or without the PDH before and ASK and ARK behind; QEMU's answer to query-sev-capabilities; a folder of certificates; or one file for each
    #[arg(required = true, value_name = "CHAIN")]
    chain: Vec<PathBuf>,
    /// The PDH, where it is not in the chain
    #[arg(long, value_name = "FILE")]
    pdh: Option<PathBuf>,
    /// The CEK as AMD's service signed it, where the one in the chain is not signed
    #[arg(long, value_name = "FILE")]
    cek: Option<PathBuf>,
    /// Trust this ARK besides AMD's. What it signs proves nothing about hardware
    #[arg(long, value_name = "FILE")]
    danger_extra_root: Option<PathBuf>,
}

/// What QEMU answers, and what hosts send to a server: the same members.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Capabilities {
    pdh: String,
    cert_chain: String,
    #[serde(alias = "cpu0-id")]
    cpu_id: Option<String>,
}

/// QEMU's answer as it comes over QMP.
#[derive(Deserialize)]
struct Returned {
    #[serde(rename = "return")]
    returned: Capabilities,
}

/// The parts of a chain, as far as they were found.
#[derive(Default)]
struct Parts {
    /// PEK, OCA and CEK, and what stands before and behind.
    chain: Vec<u8>,
    pdh: Option<Vec<u8>>,
    cpu_id: Option<String>,
}

impl Presented {
    /// The verified platform; an inner error where the chain is refused, an outer one where there is none.
    pub(super) fn verify(&self) -> anyhow::Result<Result<VerifiedPlatform, ChainError>> {
        let mut parts = self.parts()?;
        if let Some(path) = &self.pdh {
            let said = bytes(path)?;
            if parts.pdh.as_ref().is_some_and(|other| *other != said) {
                bail!("--pdh {}: is another PDH than the chain's", path.display());
            }
            parts.pdh = Some(said);
        }
        let mut chain = match PresentedChain::parse(parts.pdh.as_deref(), &parts.chain) {
            Ok(chain) => chain,
            // No chain at all, or a part not given, is a mistake; a chain with a bad part is refused.
            Err(error @ (ChainError::Length(_) | ChainError::NoPdh)) => {
                return Err(anyhow::Error::new(error).context(self.what()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let mut roots = TrustedRoots::amd();
        if let Some(path) = &self.danger_extra_root {
            let ark = CaCertificate::parse(&bytes(path)?).with_context(|| path.display().to_string())?;
            roots = roots.with_extra("extra", ark)?;
        }
        if let Some(path) = &self.cek {
            let cek = Certificate::parse(&bytes(path)?).with_context(|| path.display().to_string())?;
            if self.danger_extra_root.is_none() {
                verify_cek(&cek, &roots).with_context(|| path.display().to_string())?;
            }
            chain = chain.with_signed_cek(&cek)?;
        } else if !chain.cek_is_signed() {
            if let Err(error) = chain.verify_without_authority() {
                return Ok(Err(error));
            }
            let place = parts.cpu_id.as_deref().and_then(address);
            let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
            bail!(
                "the chain holds together, but its CEK is not signed: get it from AMD's service by the cpu-id{place} and give it with --cek"
            );
        }
        Ok(chain.verify(&roots))
    }

    fn what(&self) -> String {
        let names: Vec<String> = self.chain.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }

    fn parts(&self) -> anyhow::Result<Parts> {
        match self.chain.as_slice() {
            [folder] if folder.is_dir() => from_folder(folder),
            [file] => from_file(file),
            files => from_certificates(files),
        }
    }
}

/// A file's bytes, or those that its base64 stands for.
fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(read_text_or_bytes(path)?.to_vec())
}

fn from_file(path: &Path) -> anyhow::Result<Parts> {
    let bytes = bytes(path)?;
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Ok(Parts {
            chain: bytes,
            ..Parts::default()
        });
    }
    let what = || path.display().to_string();
    let capabilities = match serde_json::from_slice::<Returned>(&bytes) {
        Ok(answer) => answer.returned,
        Err(_) => serde_json::from_slice::<Capabilities>(&bytes)
            .context("expected QEMU's answer to query-sev-capabilities, with `pdh` and `cert-chain`")
            .with_context(what)?,
    };
    let part = |name: &str, text: &str| {
        decoded(text.as_bytes())
            .map(|part| part.to_vec())
            .with_context(|| format!("{}: {name}: not base64", path.display()))
    };
    Ok(Parts {
        chain: part("cert-chain", &capabilities.cert_chain)?,
        pdh: Some(part("pdh", &capabilities.pdh)?),
        cpu_id: capabilities.cpu_id,
    })
}

/// Where AMD's service has the CEK of a chip whose id came in base64, as from QEMU.
fn address(cpu_id: &str) -> Option<String> {
    let id = decoded(cpu_id.as_bytes()).filter(|id| id.len() == 64)?;
    Some(format!(
        "https://kdsintf.amd.com/cek/id/{}",
        hex::encode(id.as_slice())
    ))
}

/// A folder as `sev-tool` leaves it: one file for each certificate.
fn from_folder(folder: &Path) -> anyhow::Result<Parts> {
    let names = [
        "pdh.cert", "pek.cert", "oca.cert", "cek.cert", "ask.cert", "ark.cert",
    ];
    let files: Vec<PathBuf> = names
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_file())
        .collect();
    if files.is_empty() {
        bail!(
            "{}: a folder of certificates has {}",
            folder.display(),
            names.join(", ")
        );
    }
    from_certificates(&files).with_context(|| folder.display().to_string())
}

/// One file for each certificate, or ASK and ARK in one, in any order: each says itself which it is.
fn from_certificates(files: &[PathBuf]) -> anyhow::Result<Parts> {
    let mut found: Vec<(Usage, Vec<u8>)> = Vec::new();
    for path in files {
        let what = || path.display().to_string();
        let bytes = bytes(path)?;
        let pieces: &[&[u8]] = match pair(&bytes) {
            Some((ask, ark)) => &[ask, ark],
            None => &[bytes.as_slice()],
        };
        for piece in pieces {
            let usage = if piece.len() == Certificate::SIZE {
                Certificate::parse(piece).with_context(what)?.usage()
            } else {
                CaCertificate::parse(piece).with_context(what)?.usage()
            };
            if found.iter().any(|(other, _)| *other == usage) {
                bail!("{}: a second {usage}", path.display());
            }
            found.push((usage, piece.to_vec()));
        }
    }
    let take = |usage: Usage| {
        found
            .iter()
            .find(|(other, _)| *other == usage)
            .map(|(_, bytes)| bytes)
    };
    let mut chain = Vec::new();
    for usage in [Usage::Pek, Usage::Oca, Usage::Cek] {
        let bytes = take(usage).with_context(|| {
            format!("no {usage} among the certificates: a chain has PDH, PEK, OCA and CEK, and may have ASK and ARK")
        })?;
        chain.extend_from_slice(bytes);
    }
    match (take(Usage::Ask), take(Usage::Ark)) {
        (Some(ask), Some(ark)) => chain.extend(ask.iter().chain(ark)),
        (None, None) => {}
        (Some(_), None) => bail!("an ASK without its ARK: give both, or none to have AMD's own"),
        (None, Some(_)) => bail!("an ARK without its ASK: give both, or none to have AMD's own"),
    }
    Ok(Parts {
        chain,
        pdh: take(Usage::Pdh).cloned(),
        cpu_id: None,
    })
}

/// ASK and ARK, where they are in one file.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const SHORT: usize = CaCertificate::SIZE_2048;
    const LONG: usize = CaCertificate::SIZE_4096;
    const UNSIGNED: usize = CaCertificate::SIZE_2048_UNSIGNED;
    [(SHORT, SHORT), (SHORT, UNSIGNED), (LONG, LONG)]
        .into_iter()
        .find(|(ask, ark)| ask + ark == bytes.len())
        .and_then(|(ask, _)| bytes.split_at_checked(ask))
}
