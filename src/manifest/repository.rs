//! A policy repository on disk: which of its files are the bundle.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::read::{ManifestError, Result, unreadable};
use crate::domain::Base64Bytes;
use crate::policy::{Diagnostic, opa};

/// Folders below a policy bundle that no policy is in.
const SKIPPED: [&str; 2] = ["node_modules", "target"];

/// The files of the policy repository in a folder, or in a packed bundle, by their paths in the bundle; the
/// signature is among them.
///
/// # Errors
/// When the folder or a file can't be read.
pub fn repository(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    if root.is_file() {
        return unpacked(root);
    }
    let mut files = BTreeMap::new();
    collect(root, root, &mut files)?;
    Ok(files
        .into_iter()
        .map(|(path, content)| (path, content.0))
        .collect())
}

/// The files of a packed bundle. No more of it is read than a bundle may have.
fn unpacked(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| {
            file.take(opa::MAX_PACKED_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(unreadable(path))?;
    opa::unpack(&bytes).map_err(|found| {
        let file = if found.file.is_empty() {
            path.display().to_string()
        } else {
            format!("{}: {}", path.display(), found.file)
        };
        ManifestError::Text(Box::new(Diagnostic { file, ..found }))
    })
}

/// The files of a policy repository that a bundle is made of, and its signature. Other hidden files but `.manifest` are not.
pub(super) fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Base64Bytes>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(unreadable(folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, files)?;
            }
            continue;
        }
        let rego = path.extension().is_some_and(|ending| ending == "rego") && !name.starts_with('.');
        let signature = name == opa::SIGNATURES && folder == root;
        if rego || signature || ["data.json", "data.yaml", "data.yml", ".manifest"].contains(&name.as_str()) {
            let inside = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.insert(inside, Base64Bytes(fs::read(&path).map_err(unreadable(&path))?));
        }
    }
    Ok(())
}
