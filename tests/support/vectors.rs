//! Real data of others, read where it is present and never committed: see the README beside it.

use std::path::PathBuf;

/// The file's bytes, or nothing (and a line that says so) where the vectors are absent. The folder is named by
/// `KEYWARD_VECTORS`, else it is `../shared/vectors` beside the crate.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let path = folder().join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            println!("vector {} is absent ({error}): nothing tested", path.display());
            None
        }
    }
}

fn folder() -> PathBuf {
    std::env::var_os("KEYWARD_VECTORS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"))
}
