//! A new folder, which only its owner may read, as it holds secrets in clear; and files of a folder that is there.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

/// A folder that is being written.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it; one that is there is left alone.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = fs::create_dir_all(parent);
            made.with_context(|| parent.display().to_string())?;
        }
        // Made by this call or not at all, so that nobody else can have made it, or lead it elsewhere.
        match make(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "{} exists already: name a folder that is to be made",
                    path.display()
                )
            }
            made => made.with_context(|| path.display().to_string())?,
        }
        Ok(Self(path.to_owned()))
    }

    /// Writes a file below it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.with_context(|| parent.display().to_string())?;
        }
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.with_context(|| path.display().to_string())
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// The bytes of a file in a folder, of which no link leads out, if there are not more than so many.
pub(super) fn read_within(folder: &Path, path: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    if Path::new(path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err(format!("its path {path:?} leads out of the folder"));
    }
    let named = folder.join(path.trim_start_matches('/'));
    let failed = |error: std::io::Error| format!("{}: {error}", named.display());
    let found = named.canonicalize().map_err(failed)?;
    if !found.starts_with(folder.canonicalize().map_err(failed)?) {
        return Err(format!(
            "{} is a link that leads out of the folder",
            named.display()
        ));
    }
    // Looked at before it is opened: a pipe would be waited for.
    if !found.metadata().map_err(failed)?.is_file() {
        return Err(format!("{} is no file", named.display()));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.saturating_add(1)));
    let file = fs::File::open(&found).map_err(failed)?;
    let bound = u64::try_from(most).unwrap_or(u64::MAX);
    let read = file.take(bound.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(failed)?;
    if bytes.len() > most {
        return Err(format!("{} has more than {most} bytes", named.display()));
    }
    Ok(bytes)
}
