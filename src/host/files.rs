//! Files of which all are there or none: the two that QEMU reads when it starts a guest, the two parts of a packet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::domain::Base64Bytes;

/// The guest owner's certificate, for `dh-cert-file`.
const DH_CERT: &str = "dh-cert.b64";
/// The session, for `session-file`.
const SESSION: &str = "session.b64";

/// Which file it is, whatever its name: device and inode.
type Identity = (u64, u64);

/// Files that were written and are to go again, shared with whoever clears up at a signal.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<(PathBuf, Identity)>>>);

impl Written {
    /// Leaves them where they are.
    pub fn keep(&self) {
        self.taken();
    }

    /// Removes them now; not what somebody else has put in their place.
    pub fn remove(&self) {
        for (path, identity) in self.taken() {
            // Somebody else may have removed it, or its folder.
            if fs::symlink_metadata(&path).is_ok_and(|is| (is.dev(), is.ino()) == identity) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn taken(&self) -> Vec<(PathBuf, Identity)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, path: &Path, file: &File) -> io::Result<()> {
        let is = file.metadata()?;
        let entry = (path.to_owned(), (is.dev(), is.ino()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    fn renamed(&self, from: &Path, to: &Path) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, _) in files.iter_mut().filter(|(path, _)| path == from) {
            to.clone_into(path);
        }
    }
}

/// Files that were written together. Removed when this goes, unless they are [kept](Written::keep).
pub struct FileSet(Written);

impl FileSet {
    /// Writes bytes in base64 to each of these files, all or none, each whole from the moment at which it is there.
    /// `mode` holds whatever the process's mask is.
    ///
    /// # Errors
    /// What the file system says, and of which file.
    pub fn write(files: &[(&Path, &[u8])], mode: u32) -> Result<Self, (PathBuf, io::Error)> {
        let set = Self(Written::default());
        let mut placed = Vec::new();
        for (path, bytes) in files {
            let temporary = path.with_file_name(format!(".keyward-{}", Uuid::new_v4()));
            set.whole(&temporary, bytes, mode)
                .map_err(|error| (path.to_path_buf(), error))?;
            placed.push((temporary, path));
        }
        for (temporary, path) in placed {
            fs::rename(&temporary, path).map_err(|error| (path.to_path_buf(), error))?;
            set.0.renamed(&temporary, path);
        }
        Ok(set)
    }

    /// The files, for whoever else may have to remove them.
    #[must_use]
    pub fn written(&self) -> &Written {
        &self.0
    }

    fn whole(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o600)
            .open(path)?;
        self.0.add(path, &file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(Base64Bytes(bytes.to_vec()).to_string().as_bytes())?;
        file.sync_all()
    }
}

impl Drop for FileSet {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// The owner's certificate and the session of one launch, in base64 as QEMU reads them. They are good for one launch on
/// one platform. Removed when this goes, unless they are [kept](Written::keep).
pub struct LaunchFiles {
    dh_cert: PathBuf,
    session: PathBuf,
    files: FileSet,
}

impl LaunchFiles {
    /// Writes both or none into a folder. A launch's files replace those of an earlier one. `mode` is 0600, or 0640
    /// where QEMU runs as another user of the folder's group.
    ///
    /// # Errors
    /// What the file system says, and of which file.
    pub fn write(
        folder: &Path,
        dh_cert: &[u8],
        session: &[u8],
        mode: u32,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let (dh_cert_path, session_path) = (folder.join(DH_CERT), folder.join(SESSION));
        let files = FileSet::write(
            &[
                (dh_cert_path.as_path(), dh_cert),
                (session_path.as_path(), session),
            ],
            mode,
        )?;
        Ok(Self {
            dh_cert: dh_cert_path,
            session: session_path,
            files,
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

    /// Both, for whoever else may have to remove them. QEMU has read them once its guest is measured.
    #[must_use]
    pub fn written(&self) -> &Written {
        self.files.written()
    }
}
