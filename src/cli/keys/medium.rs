//! The files of an escrow: made whole or not at all, never over another, and told apart by what they say they are.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use zeroize::Zeroizing;

use super::super::backup::files::{folder_of, private_file, publish};
use super::super::output;
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
            told_if_open(path);
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
    // Room for all that is read at once, as what grows leaves copies behind; a pipe does not say how much that will be.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX)? + 1));
    let read = (&mut file).take(MAX).read_to_string(&mut text);
    read.with_context(|| path.display().to_string())?;
    Ok(text)
}

/// A small text that opens an escrow: said of it is when others may read it.
pub(super) fn secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    told_if_open(path);
    text(path)
}

/// What anybody may know, as far as it is small.
pub(super) fn public(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (file, mut bytes) = (File::open(path), Vec::new());
    let read = file.and_then(|file| file.take(MAX).read_to_end(&mut bytes));
    read.with_context(|| path.display().to_string())?;
    Ok(bytes)
}

fn told_if_open(path: &Path) {
    let Ok(found) = path.metadata() else { return };
    let mode = found.mode() & 0o7777;
    if found.is_file() && mode & 0o044 != 0 {
        output::note(&format!(
            "{} can be read by others (mode {mode:04o}): `chmod 600` it, or `shred -u` it when this is done",
            path.display()
        ));
    }
}

/// User and group that a file is of.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// Of this file.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let found = path.metadata().with_context(|| path.display().to_string())?;
        let (user, group) = (found.uid(), found.gid());
        Ok(Self { user, group })
    }

    /// Gives it a file that is another user's.
    fn give(self, file: &File) -> std::io::Result<()> {
        if file.metadata()?.uid() == self.user {
            return Ok(());
        }
        fchown(file, Some(self.user), Some(self.group)).map_err(|error| {
            let user = self.user;
            let told = format!(
                "it has to be of the user {user}, as the database is: run this as that user ({error})"
            );
            Error::new(error.kind(), told)
        })
    }
}

/// Makes a file that only its owner may read, all at once and durably; never in the place of another.
/// It is the owner's, or else of who runs this.
pub(super) fn write(path: &Path, text: &str, owner: Option<Owner>) -> anyhow::Result<()> {
    absent(path)?;
    let next = folder_of(path).join(format!(".keyward-{}", uuid::Uuid::new_v4().simple()));
    let written = || {
        let mut file = private_file(&next)?;
        if let Some(owner) = owner {
            owner.give(&file)?;
        }
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

/// Takes away what was written, as far as it goes: what failed before is what is reported.
pub(super) fn remove(files: &[PathBuf]) {
    for file in files {
        let _ = std::fs::remove_file(file);
    }
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
