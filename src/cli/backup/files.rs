//! Files and folders that only their owner may read, that are never written over, and that are gone unless they are kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use openssl::sha::Sha256;

use crate::domain::{Hex, HexDigest};

/// A new folder of ours, removed with all that is in it when it is dropped.
pub(in crate::cli) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`.
    pub(in crate::cli) fn within(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!(".keyward-{}", uuid::Uuid::new_v4().simple()));
        private_folder(&path).with_context(|| format!("folder {}", path.display()))?;
        Ok(Self(path))
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // As far as it goes: what failed first is what is reported.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a folder that is only its owner's, with those above it that are missing.
pub(in crate::cli) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Makes a file that only its owner may read.
pub(in crate::cli) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// The folder that a file is in, or is to be in.
pub(in crate::cli) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Gives a file that is written and durable its name, if nothing has that name, and makes that durable too.
pub(in crate::cli) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    // A rename would replace what somebody else put there meanwhile; a link does not.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // Some file systems have no links; there a moment is left in which somebody else may take the name.
        Err(_) if to.symlink_metadata().is_err() => fs::rename(from, to)?,
        Err(_) => return Err(io::ErrorKind::AlreadyExists.into()),
    }
    File::open(folder_of(to))?.sync_all()
}

/// Hands bytes on and takes their digest.
pub(super) struct Digesting<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Digesting<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            count: 0,
        }
    }

    /// What the bytes went to or came from, how many there were, and their SHA-256.
    pub(super) fn finish(self) -> (T, u64, HexDigest) {
        (self.inner, self.count, Hex(self.hash.finish()))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count = self.count.saturating_add(bytes.len() as u64);
    }
}

impl<T: Read> Read for Digesting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.take(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<T: Write> Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.take(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Length and SHA-256 of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, HexDigest)> {
    let mut reading = Digesting::new(File::open(path)?);
    io::copy(&mut reading, &mut io::sink())?;
    let (_, bytes, sha256) = reading.finish();
    Ok((bytes, sha256))
}
