//! Key-encryption keys in a file that only the server's user may read.
//!
//! A line a key: `keyward-key-v1` and the key in base64. There is one but while keys are rotated; which of them is
//! active is for the database to say. A change replaces the file as a whole, so that whoever reads it, and whatever
//! kills the program, finds the old or the new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What each line begins with.
pub const PREFIX: &str = "keyward-key-v1 ";
/// The largest key file.
const MAX: u64 = 64 << 10;

/// A key of a file: AES-256.
pub type FileKeyBytes = Zeroizing<[u8; 32]>;

/// Why a key file can't be used; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error(
        "key file {0} is missing: put it back from your escrow (`keyward keys recover`), or name it with --key-file; without it no sealed secret can be opened"
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
    #[error("{0} is not a Keyward key file (a line for each key: `keyward-key-v1` and the key in base64)")]
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
pub fn create(path: &Path, key: &FileKeyBytes) -> Result<(), KeyFileError> {
    let file = new_file(path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            KeyFileError::Exists(path.to_owned())
        } else {
            io_error(path, source)
        }
    })?;
    write(file, std::slice::from_ref(key))
        .and_then(|()| folder_of(path)?.sync_all())
        .map_err(|e| io_error(path, e))
}

/// Replaces the keys of a key file, all at once and durably. It stays whose it was.
///
/// # Errors
/// When there is no such file, or it can't be written.
pub fn replace(path: &Path, keys: &[FileKeyBytes]) -> Result<(), KeyFileError> {
    // Through a link, the file that it names is replaced.
    let path = &fs::canonicalize(path).map_err(|e| io_error(path, e))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let next = path.with_file_name(name);
    let replaced = || {
        // What a program that was killed left there was never in use.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = new_file(&next)?;
        let old = fs::metadata(path)?;
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        write(file, keys)?;
        fs::rename(&next, path)?;
        folder_of(path)?.sync_all()
    };
    replaced().map_err(|e| io_error(path, e))
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn write(mut file: File, keys: &[FileKeyBytes]) -> io::Result<()> {
    file.write_all(text(keys).as_bytes())?;
    file.sync_all()
}

/// The text of a key file with these keys.
#[must_use]
pub fn text(keys: &[FileKeyBytes]) -> Zeroizing<String> {
    // Room for all of it at once: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(keys.len() * (PREFIX.len() + 45)));
    for key in keys {
        let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
        text.push_str(PREFIX);
        text.push_str(&encoded);
        text.push('\n');
    }
    text
}

fn folder_of(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
}

/// The text of a file that only its owner may read or write.
///
/// # Errors
/// When it is missing, open to others (but for a group that root lets read root's file), or no text.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let mut file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            KeyFileError::Missing(path.to_owned())
        } else {
            io_error(path, source)
        }
    })?;
    let found = file.metadata().map_err(|e| io_error(path, e))?;
    let mode = found.mode() & 0o7777;
    // Root's own file that the group may read is a Secret's, as Kubernetes mounts it: root says who is in the group.
    let of_root = found.uid() == 0 && mode & 0o037 == 0 && !rustix::process::geteuid().is_root();
    if mode & 0o077 != 0 && !of_root {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for all that is read at once, as what grows leaves copies behind; a pipe does not say how much that will be.
    let room = usize::try_from(MAX).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let read = (&mut file).take(MAX).read_to_string(&mut text);
    read.map_err(|_| KeyFileError::Malformed(path.to_owned()))?;
    Ok(text)
}

/// The keys of a key file that only its owner may read or write; at least one.
///
/// # Errors
/// When it is missing, open to others, or not a key file.
pub fn read(path: &Path) -> Result<Vec<FileKeyBytes>, KeyFileError> {
    let text = read_private(path)?;
    parse(&text).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
}

/// The keys in the text of a key file: at least one, and none twice.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<FileKeyBytes>> {
    // Room for all of them at once: what grows leaves copies behind.
    let mut keys: Vec<FileKeyBytes> = Vec::with_capacity(text.lines().count());
    for line in text.lines() {
        let body = line.trim_end().strip_prefix(PREFIX)?;
        let bytes = Zeroizing::new(STANDARD.decode(body).ok()?);
        keys.push(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?));
    }
    let twice = |(at, key)| keys.iter().take(at).any(|other| other == key);
    (!keys.is_empty() && !keys.iter().enumerate().any(twice)).then_some(keys)
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io {
        path: path.to_owned(),
        source,
    }
}
