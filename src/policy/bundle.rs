//! A policy bundle: an owner's policy repository, whole, immutable, named by the digest of its content.
//!
//! The layout is OPA's: `*.rego` anywhere, `data.json`, `data.yaml` or `data.yml` in the folder that is its place
//! under `data`, and `.manifest`. Other files are not part of the content.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use openssl::sha::sha256;

use super::archive::{self, ArchiveError};
use super::diagnostic::Diagnostic;
use super::documents::{self, DataFile};
use super::manifest::Manifest;

/// Most files in a bundle.
pub const MAX_FILES: usize = 1_000;
/// Most bytes in one file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Most bytes in one data file.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;
/// Most bytes in a bundle.
pub const MAX_BUNDLE_BYTES: usize = 8 * 1024 * 1024;
/// Longest path of a file, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// Longest line of a Rego file, in bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// An owner's policy repository. Cheap to clone.
#[derive(Clone)]
pub struct Bundle {
    inner: Arc<Inner>,
}

struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    manifest: Manifest,
    data: Vec<DataFile>,
    digest: [u8; 32],
}

/// What a file of a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Policy,
    Test,
    Data,
    Manifest,
}

impl Bundle {
    /// Takes the files of a folder, by their paths relative to it, written with `/`.
    ///
    /// Files that are not part of a bundle (`README.md`) are left out. Modules are not parsed here; see
    /// [`PreparedBundle::prepare`](super::PreparedBundle::prepare).
    ///
    /// # Errors
    /// Everything that is wrong at once: hostile paths, files over their caps, text that is not UTF-8, data or a
    /// manifest that can't be read, two data files that disagree, content outside the manifest's roots.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Result<Bundle, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let mut kept = BTreeMap::new();
        let mut total = 0usize;
        for (path, content) in files {
            if let Err(message) = check_path(&path) {
                found.push(Diagnostic::on_file(path.escape_debug().to_string(), message));
                continue;
            }
            let Some(kind) = kind_of(&path) else { continue };
            total = total.saturating_add(content.len()).saturating_add(path.len());
            let cap = if kind == Kind::Data {
                MAX_DATA_BYTES
            } else {
                MAX_FILE_BYTES
            };
            if content.len() > cap {
                found.push(Diagnostic::on_file(
                    path,
                    format!("the file has {} bytes; at most {cap} are taken", content.len()),
                ));
                continue;
            }
            kept.insert(path, content);
        }
        if kept.len() > MAX_FILES {
            found.push(Diagnostic::on_file(
                "",
                format!("{} files; at most {MAX_FILES} are taken", kept.len()),
            ));
        }
        if total > MAX_BUNDLE_BYTES {
            found.push(Diagnostic::on_file(
                "",
                format!("{total} bytes; at most {MAX_BUNDLE_BYTES} are taken"),
            ));
        }
        if !kept.keys().any(|path| kind_of(path) == Some(Kind::Policy)) {
            found.push(
                Diagnostic::on_file("", "the bundle holds no policy")
                    .with_hint("a bundle needs at least one .rego file that is not a test"),
            );
        }
        if !found.is_empty() {
            return Err(found);
        }
        Bundle::assemble(kept)
    }

    fn assemble(files: BTreeMap<String, Vec<u8>>) -> Result<Bundle, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let mut data = Vec::new();
        let mut manifest = Manifest::default();
        for (path, content) in &files {
            let text = match std::str::from_utf8(content) {
                Ok(text) => text,
                Err(error) => {
                    let valid = content.get(..error.valid_up_to()).unwrap_or_default();
                    let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let mut diagnostic = Diagnostic::on_file(path, "the file is not UTF-8 text");
                    diagnostic.line = u32::try_from(line).unwrap_or(u32::MAX);
                    diagnostic.column = 1;
                    found.push(diagnostic);
                    continue;
                }
            };
            match kind_of(path) {
                Some(Kind::Data) => match documents::parse(path, text) {
                    Ok(file) => data.push(file),
                    Err(diagnostic) => found.push(diagnostic),
                },
                Some(Kind::Manifest) => match Manifest::parse(path, text) {
                    Ok(parsed) => manifest = parsed,
                    Err(diagnostic) => found.push(diagnostic),
                },
                _ => {}
            }
        }
        if found.is_empty() {
            if let Err(diagnostic) = documents::merge(&data) {
                found.push(diagnostic);
            }
            found.extend(
                data.iter()
                    .filter_map(|file| manifest.check_place(&file.path, &file.place, &file.value)),
            );
        }
        if !found.is_empty() {
            return Err(found);
        }
        let digest = sha256(&archive::write(&files));
        Ok(Bundle {
            inner: Arc::new(Inner {
                files,
                manifest,
                data,
                digest,
            }),
        })
    }

    /// SHA-256 of the canonical archive: the bundle's name.
    pub fn digest(&self) -> [u8; 32] {
        self.inner.digest
    }

    /// The digest as 64 lower-case hex digits.
    pub fn digest_hex(&self) -> String {
        hex::encode(self.inner.digest)
    }

    /// The canonical bytes: what is stored and what the digest covers. The module `archive` has the format.
    pub fn to_archive(&self) -> Vec<u8> {
        archive::write(&self.inner.files)
    }

    /// Reads what [`to_archive`](Self::to_archive) wrote. Only the canonical form is accepted, so a digest names
    /// exactly one content.
    ///
    /// # Errors
    /// [`ArchiveError`] where the bytes are not a canonical archive or their content is not a bundle.
    pub fn from_archive(bytes: &[u8]) -> Result<Bundle, ArchiveError> {
        let files = archive::read(bytes)?;
        if let Some(path) = files.keys().find(|path| kind_of(path).is_none()) {
            return Err(ArchiveError::ForeignFile {
                path: path.escape_debug().to_string(),
            });
        }
        Bundle::from_files(files).map_err(ArchiveError::Content)
    }

    /// The manifest; an empty one where the bundle has none.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Paths and bytes of all files of the content, tests included, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.inner
            .files
            .iter()
            .map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// The modules to evaluate: every `.rego` file that is not a test, as path and text.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rego(Kind::Policy)
    }

    /// The test modules (`*_test.rego`), as path and text. They are kept but never loaded for evaluation.
    pub fn test_modules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rego(Kind::Test)
    }

    fn rego(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        self.files()
            .filter(move |(path, _)| kind_of(path) == Some(kind))
            .filter_map(|(path, content)| {
                // INVARIANT: `assemble` refused what is not UTF-8.
                std::str::from_utf8(content).ok().map(|text| (path, text))
            })
    }

    /// The data files, parsed.
    pub(crate) fn data_files(&self) -> &[DataFile] {
        &self.inner.data
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bundle")
            .field("digest", &self.digest_hex())
            .finish_non_exhaustive()
    }
}

/// What a path is, or nothing where it is no part of a bundle.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        _ if path == ".manifest" => Some(Kind::Manifest),
        "data.json" | "data.yaml" | "data.yml" => Some(Kind::Data),
        _ if name.ends_with("_test.rego") => Some(Kind::Test),
        _ if name.ends_with(".rego") => Some(Kind::Policy),
        _ => None,
    }
}

/// A path that names one file inside the folder, on every system.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return Err("a path has 1 to 512 bytes");
    }
    if path.starts_with('/') {
        return Err("an absolute path; paths are relative to the bundle");
    }
    if path.contains('\\') || path.chars().any(char::is_control) || path.contains(':') {
        return Err("a path must not contain a backslash, a colon or a control character");
    }
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err("a path must not contain `..`, `.` or empty parts");
    }
    Ok(())
}
