//! Files as other tools write them: bytes as they are, or base64 text; and files that are made together or not
//! at all.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The most that is read of a file that holds certificates, keys, a packet or a secret, in bytes.
const SMALL: u64 = 1 << 20;

/// A small file's bytes. What never ends, such as a device, is refused.
pub(super) fn small(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let what = || path.display().to_string();
    let file = fs::File::open(path).with_context(what)?;
    // Room from the start: growing would leave copies of a key behind.
    let length = file.metadata().map_or(0, |found| found.len()).min(SMALL);
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(length).unwrap_or_default() + 1,
    ));
    file.take(SMALL + 1).read_to_end(&mut bytes).with_context(what)?;
    if bytes.len() as u64 > SMALL {
        bail!(
            "{}: has more than {SMALL} bytes, which nothing of this kind has",
            path.display()
        );
    }
    Ok(bytes)
}

/// What a file holds: the bytes that its base64 text stands for, or, where it is no such text, its own.
pub(in crate::cli) fn read_text_or_bytes(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = small(path)?;
    Ok(decoded(&bytes).unwrap_or(bytes))
}

/// The bytes that base64 text stands for, whatever white space is in it; none if it is no base64.
pub(super) fn decoded(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bare = Zeroizing::new(Vec::with_capacity(text.len()));
    bare.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    if bare.is_empty() {
        return None;
    }
    STANDARD.decode(bare.as_slice()).ok().map(Zeroizing::new)
}

/// Base64 without a newline, which is how QEMU's and libvirt's files are.
pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// For everybody whom the folder lets in.
pub(super) const PUBLIC: u32 = 0o644;
/// For its owner's eyes only.
pub(super) const PRIVATE: u32 = 0o600;

/// Writes files that belong together, each with its mode: none of them overwritten, and on a failure none left.
pub(super) fn write_together(files: &[(&PathBuf, &[u8], u32)]) -> anyhow::Result<()> {
    for (done, (path, bytes, mode)) in files.iter().enumerate() {
        if let Err(error) = write_new(path, bytes, *mode) {
            for (made, _, _) in files.iter().take(done) {
                let _ = fs::remove_file(made);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Writes public files that belong together, over earlier ones: all are whole before the first takes its place. What is no
/// file, such as a pipe, is written to after them.
pub(super) fn replace_together(files: &[(&PathBuf, &[u8])]) -> anyhow::Result<()> {
    let is_file = |path: &PathBuf| fs::metadata(path).map_or(true, |found| found.is_file());
    let (files, others): (Vec<_>, Vec<_>) = files.iter().copied().partition(|(path, _)| is_file(path));
    let mut beside = Vec::new();
    for (path, bytes) in &files {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        beside.push((PathBuf::from(name), *bytes, PUBLIC));
    }
    let all: Vec<_> = beside
        .iter()
        .map(|(path, bytes, mode)| (path, *bytes, *mode))
        .collect();
    write_together(&all)?;
    for (at, ((path, _), (new, _, _))) in files.iter().zip(&beside).enumerate() {
        if let Err(error) = fs::rename(new, path) {
            for (left, _, _) in beside.iter().skip(at) {
                let _ = fs::remove_file(left);
            }
            return Err(error).with_context(|| path.display().to_string());
        }
    }
    for (path, bytes) in others {
        fs::write(path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists already; name another or remove it", path.display())
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    if let Err(error) = file.write_all(bytes) {
        let _ = fs::remove_file(path);
        return Err(error).with_context(|| path.display().to_string());
    }
    Ok(())
}
