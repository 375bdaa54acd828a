//! A new folder, which only its owner may read: it holds secrets in clear.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A folder that is being written.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it; one that is there is left alone.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let what = path.display();
        if path.exists() {
            bail!("{what} exists already: name a folder that is to be made");
        }
        make(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Writes a file below it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            make(parent)?;
        }
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.with_context(|| path.display().to_string())
    }
}

fn make(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| path.display().to_string())
}
