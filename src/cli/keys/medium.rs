//! The files of an escrow: made whole or not at all, never over another, and told apart by what they say they are.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use zeroize::Zeroizing;

use super::super::backup::files::{folder_of, private_file, publish};
use crate::sealing::escrow::sealed::{self, SealedKeys};
use crate::sealing::escrow::share::{self, Share};
use crate::sealing::key_file::{self, FileKeyBytes};

/// The largest file of an escrow.
const MAX: u64 = 64 << 10;

/// What a file of an escrow is. No `Debug`.
pub(super) enum Medium {
    /// Keys that are sealed to an offline key.
    Sealed(SealedKeys),
    /// A share of keys that were split.
    Share(Share),
    /// Keys in clear: a key file, such as what an HSM made of a sealed escrow.
    Clear(Vec<FileKeyBytes>),
}

/// Reads one.
pub(super) fn read(path: &Path) -> anyhow::Result<Medium> {
    let text = text(path)?;
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let medium = match first {
        Some(sealed::HEAD) => SealedKeys::parse(&text).map(Medium::Sealed),
        Some(share::HEAD) => Share::parse(&text).map(Medium::Share),
        Some(line) if line.starts_with(key_file::PREFIX) => {
            let keys = key_file::parse(&text);
            let keys = keys.with_context(|| format!("{} is no whole key file", path.display()))?;
            return Ok(Medium::Clear(keys));
        }
        _ => bail!(
            "{} is no escrow: expected a file that begins with `{}`, `{}` or `{}`",
            path.display(),
            sealed::HEAD,
            share::HEAD,
            key_file::PREFIX.trim_end()
        ),
    };
    medium.with_context(|| path.display().to_string())
}

/// A small text. It comes from media whose permissions say nothing, such as a USB stick's.
pub(super) fn text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata().map_or(0, |found| found.len());
    // Room for all of it at once: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(length.min(MAX))? + 1));
    let read = (&mut file).take(MAX).read_to_string(&mut text);
    read.with_context(|| path.display().to_string())?;
    Ok(text)
}

/// Makes a file that only its owner may read, all at once and durably; never in the place of another.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    absent(path)?;
    let next = folder_of(path).join(format!(".keyward-{}", uuid::Uuid::new_v4().simple()));
    let written = || {
        let mut file = private_file(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        publish(&next, path)
    };
    written().map_err(|error| {
        // As far as it goes: what failed first is what is reported.
        let _ = std::fs::remove_file(&next);
        match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => anyhow::Error::new(error).context(path.display().to_string()),
        }
    })
}

/// Refuses a place where something is.
pub(super) fn absent(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path)),
        Err(_) => Ok(()),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow!("{} exists already and is not overwritten", path.display())
}
