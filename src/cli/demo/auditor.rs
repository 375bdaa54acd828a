//! The demo's last chapter: the audit log leaves the server, and is verified by whoever has its public key.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::say;
use crate::audit::verify::Verifier;
use crate::cli::audit::{export, source::Source, verify};
use crate::cli::checkpoints::notes;
use crate::cli::database;

/// What the auditor keeps from one visit to the next: the file that checkpoints were appended to.
pub(super) const SEEN: &str = "checkpoints";

/// Exports the log of the server that has ended, verifies it, then changes one record of the copy.
pub(super) fn visit(folder: &Path) -> anyhow::Result<()> {
    let source = Source::Folder(database::open(&folder.join("data"))?);
    let key = source.key()?;
    let mut exported = Vec::new();
    let written = export::write(&source, &mut exported)?;
    say(&format!(
        "owner      exported {} records of the audit log, and {} signed checkpoints",
        written.records, written.checkpoints
    ))?;
    let seen = notes(&fs::read_to_string(folder.join(SEEN))?)?;
    let verifier = || Verifier::new(key.clone(), &seen);
    let verified = verify::lines(exported.as_slice(), verifier()?)?
        .context("the export of the audit log does not verify")?;
    let head = verified.checkpoint.head();
    say(&format!(
        "auditor    verified it offline, with the log's public key and {} checkpoints kept elsewhere:",
        verified.seen
    ))?;
    say(&format!("           {} records, root {}", head.size, head.root))?;

    let text = String::from_utf8(exported)?;
    let changed = text.replacen(r#""outcome":"denied""#, r#""outcome":"released""#, 1);
    if changed == text {
        bail!("the audit log has no denied launch");
    }
    say("somebody   changes «denied» to «released» in one record")?;
    let Err(error) = verify::lines(changed.as_bytes(), verifier()?)? else {
        bail!("a changed record was not noticed");
    };
    error.first().context("the changed record was not named")?;
    let told = error.to_string();
    let told = told.split(": ").next().unwrap_or_default();
    say(&format!("auditor    sees it: {told}; its hash is another"))
}
