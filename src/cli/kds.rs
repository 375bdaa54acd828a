//! `kds import`: chips' certificates for hosts without a route to AMD's service.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Ended, database, output};
use uuid::Uuid;

use crate::audit::actor::Act;
use crate::audit::record::Event;
use crate::domain::bytes::Flex;
use crate::domain::{Clock as _, SystemClock};
use crate::sev::chain::verify_cek;
use crate::sev::{Certificate, TrustedRoots};
use crate::store::{AuditLog as _, Store as _};

#[derive(Subcommand)]
pub(super) enum KdsVerb {
    /// Remember signed CEK certificates, as AMD's service gives them under /cek/id/{cpu id}
    Import(Import),
}

/// A certificate completes chains whose CEK comes unsigned. It vouches for a chip's id only where the
/// id is given, or is the file's name (128 hexadecimal digits, any ending).
#[derive(Args)]
pub(super) struct Import {
    /// Folder that `init` made; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The chip's id, hexadecimal or base64 of 64 bytes; with one FILE only
    #[arg(long, value_name = "ID")]
    cpu_id: Option<Flex<64>>,
    /// Certificates, 2084 bytes each
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl KdsVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let Self::Import(import) = self;
        if import.cpu_id.is_some() && import.files.len() > 1 {
            let files = import.files.len();
            bail!(output::Misused(format!(
                "--cpu-id names one chip, but {files} files are given"
            )));
        }
        let store = database::open(&import.data_dir)?;
        let roots = TrustedRoots::amd();
        // All are checked before one is remembered.
        let mut certificates = Vec::new();
        for file in &import.files {
            let what = || file.display().to_string();
            let bytes = std::fs::read(file).with_context(what)?;
            let certificate = Certificate::parse(&bytes).with_context(what)?;
            let product = verify_cek(&certificate, &roots).with_context(what)?;
            certificates.push((
                file,
                certificate,
                product,
                import.cpu_id.or_else(|| id_in_name(file)),
            ));
        }
        for (file, certificate, product, id) in certificates {
            let chip = id.map(|id| id.0);
            let fingerprint = certificate.fingerprint();
            // Before it is remembered: what is in the log may not have been done, and not the other way round.
            let event = Event::CekImported {
                fingerprint: fingerprint.into(),
                chip: id.map(|id| id.to_string()),
            };
            let act = Act::of_data_folder(SystemClock.now());
            store.record(act.record(Uuid::new_v4(), None, event))?;
            store.remember_cek(chip.as_ref(), &fingerprint, certificate.as_bytes())?;
            let of = id.map_or_else(|| "known by its key alone".to_owned(), |id| format!("chip {id}"));
            output::line(&format!("{}: CEK of a {product}, {of}", file.display()))?;
        }
        Ok(Ended::Done)
    }
}

fn id_in_name(file: &Path) -> Option<Flex<64>> {
    let stem = file.file_stem()?.to_str()?;
    if stem.len() == 128 {
        stem.parse().ok()
    } else {
        None
    }
}
