//! The two files that QEMU reads when it starts a guest.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::domain::Base64Bytes;

/// The guest owner's certificate, for `dh-cert-file`.
const DH_CERT: &str = "dh-cert.b64";
/// The session, for `session-file`.
const SESSION: &str = "session.b64";

/// The owner's certificate and the session of one launch, in base64 as QEMU reads them. They are good for one launch on
/// one platform. Removed when this goes, unless they are [kept](Self::keep).
pub struct LaunchFiles {
    dh_cert: PathBuf,
    session: PathBuf,
    /// What is to be removed; emptied where the files are to stay.
    remove: Mutex<Vec<PathBuf>>,
}

impl LaunchFiles {
    /// Where they will be in a folder. A launch's files replace those of an earlier one.
    #[must_use]
    pub fn paths(folder: &Path) -> (PathBuf, PathBuf) {
        (folder.join(DH_CERT), folder.join(SESSION))
    }

    /// Writes both or none, each whole from the moment at which it is there. `mode` is 0600, or 0640 where QEMU runs as
    /// another user of the folder's group.
    ///
    /// # Errors
    /// What the file system says, and of which file.
    pub fn write(
        folder: &Path,
        dh_cert: &[u8],
        session: &[u8],
        mode: u32,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let (dh_cert_path, session_path) = Self::paths(folder);
        let mut done = Partial(Vec::new());
        let mut placed = Vec::new();
        for (path, bytes) in [(&dh_cert_path, dh_cert), (&session_path, session)] {
            let temporary = folder.join(format!(".keyward-{}", Uuid::new_v4()));
            done.0.push(temporary.clone());
            write(&temporary, bytes, mode).map_err(|error| (path.clone(), error))?;
            placed.push((temporary, path));
        }
        for (temporary, path) in placed {
            fs::rename(&temporary, path).map_err(|error| (path.clone(), error))?;
            done.0.push(path.clone());
        }
        done.0.clear();
        Ok(Self {
            remove: Mutex::new(vec![dh_cert_path.clone(), session_path.clone()]),
            dh_cert: dh_cert_path,
            session: session_path,
        })
    }

    /// The owner's certificate.
    #[must_use]
    pub fn dh_cert(&self) -> &Path {
        &self.dh_cert
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Path {
        &self.session
    }

    /// Leaves them where they are.
    pub fn keep(&self) {
        self.taken();
    }

    /// Removes them now. QEMU has read them once its guest is measured.
    pub fn remove(&self) {
        for path in self.taken() {
            // Somebody else may have removed it, or its folder.
            let _ = fs::remove_file(path);
        }
    }

    fn taken(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.remove.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for LaunchFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Files of a set that is not whole yet.
struct Partial(Vec<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o600)
        .open(path)?;
    // Whatever the process's mask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(Base64Bytes(bytes.to_vec()).to_string().as_bytes())?;
    file.sync_all()
}
