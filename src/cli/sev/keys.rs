//! A launch's keys in files.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use zeroize::Zeroizing;

use super::files;
use crate::sev::LaunchKeys;

/// TIK and TEK, in the files that `sev session`, `sevctl session` and `sev-tool` write.
#[derive(Args)]
pub(super) struct KeyFiles {
    /// The launch's TIK, 16 bytes or base64
    #[arg(long, value_name = "FILE", required_unless_present = "tk")]
    tik: Option<PathBuf>,
    /// The launch's TEK, 16 bytes or base64
    #[arg(long, value_name = "FILE", required_unless_present = "tk")]
    tek: Option<PathBuf>,
    /// Instead of both: TEK and TIK in one file, 32 bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tik", "tek"])]
    tk: Option<PathBuf>,
}

impl KeyFiles {
    pub(super) fn read(&self) -> anyhow::Result<LaunchKeys> {
        let mut both = Zeroizing::new([0; 32]);
        match (&self.tk, &self.tik, &self.tek) {
            (Some(tk), _, _) => *both = *key::<32>(tk, "TEK and TIK together have")?,
            (None, Some(tik), Some(tek)) => {
                let (tek, tik) = (key::<16>(tek, "a TEK has")?, key::<16>(tik, "a TIK has")?);
                both.iter_mut()
                    .zip(tek.iter().chain(tik.iter()))
                    .for_each(|(byte, key)| *byte = *key);
            }
            _ => bail!("give --tik and --tek, or --tk"),
        }
        Ok(LaunchKeys::from_bytes(&both))
    }
}

/// A key of `N` bytes: the file's own, or those that its base64 stands for.
fn key<const N: usize>(path: &Path, what: &str) -> anyhow::Result<Zeroizing<[u8; N]>> {
    let read = |bytes: &[u8]| <[u8; N]>::try_from(bytes).ok().map(Zeroizing::new);
    let bytes = files::small(path)?;
    // A key's bytes may happen to be base64 text, so the length decides first.
    let key = read(&bytes).or_else(|| files::decoded(&bytes).and_then(|bytes| read(&bytes)));
    match key {
        Some(key) => Ok(key),
        None => bail!("{}: {what} {N} bytes, not {}", path.display(), bytes.len()),
    }
}
