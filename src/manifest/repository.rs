//! A policy repository on disk: which of its files are the bundle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::read::{Result, unreadable};
use crate::domain::Base64Bytes;

/// Folders below a policy bundle that no policy is in.
const SKIPPED: [&str; 2] = ["node_modules", "target"];

/// The files of the policy repository in a folder, by their paths in the bundle.
///
/// # Errors
/// When the folder or a file can't be read.
pub fn repository(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    collect(root, root, &mut files)?;
    Ok(files
        .into_iter()
        .map(|(path, content)| (path, content.0))
        .collect())
}

/// The files of a policy repository that a bundle is made of. Hidden files but `.manifest` are not.
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
        if rego || ["data.json", "data.yaml", "data.yml", ".manifest"].contains(&name.as_str()) {
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
