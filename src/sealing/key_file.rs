//! The key-encryption key as a file that only the server's user may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const PREFIX: &str = "keyward-key-v1 ";

/// Why a key file can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error(
        "key file {0} is missing: put it back from your escrow, or name it with --key-file; without it no sealed secret can be opened"
    )]
    Missing(PathBuf),
    /// It is there already.
    #[error("key file {0} exists already and is not overwritten: name another with --key-file")]
    Exists(PathBuf),
    /// Others than its owner may read or write it.
    #[error("key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key file.
    #[error("{0} is not a Keyward key file (one line, `keyward-key-v1` and a key in base64)")]
    Malformed(PathBuf),
    /// The system refused.
    #[error("key file {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes a new key file with mode 0600 and makes it durable; never overwrites.
///
/// # Errors
/// When the file exists, or can't be written.
pub fn create(path: &Path, key: &Zeroizing<[u8; 32]>) -> Result<(), KeyFileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                KeyFileError::Exists(path.to_owned())
            } else {
                io_error(path, source)
            }
        })?;
    let text = Zeroizing::new(format!("{PREFIX}{}\n", STANDARD.encode(key.as_slice())));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| io_error(path, e))
}

/// Reads a key file that only its owner may read or write.
///
/// # Errors
/// When it is missing, open to others, or not a key file.
pub fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            KeyFileError::Missing(path.to_owned())
        } else {
            io_error(path, source)
        }
    })?;
    let mode = file.metadata().map_err(|e| io_error(path, e))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(128));
    let limited = (&mut file).take(128).read_to_string(&mut text);
    limited.map_err(|_| KeyFileError::Malformed(path.to_owned()))?;
    let malformed = || KeyFileError::Malformed(path.to_owned());
    let body = text.trim_end().strip_prefix(PREFIX).ok_or_else(malformed)?;
    let bytes = Zeroizing::new(STANDARD.decode(body).map_err(|_| malformed())?);
    Ok(Zeroizing::new(
        <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| malformed())?,
    ))
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io {
        path: path.to_owned(),
        source,
    }
}
