//! `bundle.tar.gz`: written so that the same files make the same bytes, read within bounds.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::SIGNATURES;
use crate::policy::bundle::{MAX_BUNDLE_BYTES, MAX_FILES, check_path, kind_of};
use crate::policy::diagnostic::Diagnostic;

/// Most bytes of a compressed bundle that are read.
pub const MAX_PACKED_BYTES: usize = 2 * MAX_BUNDLE_BYTES;
/// Most bytes that they may decompress to: a bundle's, and what tar puts around them.
const MAX_UNPACKED_BYTES: usize = 2 * MAX_BUNDLE_BYTES;
/// Most entries, folders and what is no part of a bundle included.
const MAX_ENTRIES: usize = 4 * MAX_FILES;
/// A name that fits a tar header as it is.
const SHORT_NAME: usize = 100;

/// Packs files, by path. Paths begin with `/`, as OPA writes them; times, owners and modes are always the same.
///
/// # Errors
/// Memory can't be written to, which does not happen.
pub fn pack(files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in files {
        let name = format!("/{path}");
        if name.len() > SHORT_NAME {
            // GNU tar's way of long names: an entry before, that holds the name and a NUL.
            let mut long = name.clone().into_bytes();
            long.push(0);
            tar.append(
                &header(b"././@LongLink", EntryType::GNULongName, long.len()),
                long.as_slice(),
            )?;
        }
        tar.append(
            &header(name.as_bytes(), EntryType::Regular, content.len()),
            content.as_slice(),
        )?;
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&tar.into_inner()?)?;
    gzip.finish()
}

fn header(name: &[u8], kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    // The crate's own setter refuses a leading `/`.
    let field = &mut header.as_old_mut().name;
    for (to, from) in field.iter_mut().zip(name) {
        *to = *from;
    }
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    header
}

/// Unpacks a bundle: the files that are part of one, and the signature, by path without a leading `/`.
///
/// # Errors
/// Not such a file, larger than a bundle may be, or with an entry that is a link, a device or nothing inside
/// the bundle's folder.
pub fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Diagnostic> {
    let broken = |error: std::io::Error| {
        Diagnostic::on_file("", format!("not a gzip-compressed tar file: {error}"))
            .with_hint("`keyward policy bundle` and `opa build` write them")
    };
    let too_large = || {
        Diagnostic::on_file(
            "",
            format!("larger than a bundle: at most {MAX_BUNDLE_BYTES} bytes in {MAX_FILES} files are taken"),
        )
    };
    if bytes.len() > MAX_PACKED_BYTES {
        return Err(too_large());
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(broken)?;
    if unpacked.len() > MAX_UNPACKED_BYTES {
        return Err(too_large());
    }
    let mut files = BTreeMap::new();
    let mut archive = Archive::new(unpacked.as_slice());
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(too_large());
        }
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => {
                return Err(Diagnostic::on_file(
                    name.escape_debug().to_string(),
                    "neither a file nor a folder: links and devices are not taken",
                ));
            }
        }
        let path = name.strip_prefix('/').or_else(|| name.strip_prefix("./"));
        let path = path.unwrap_or(&name);
        check_path(path).map_err(|why| Diagnostic::on_file(name.escape_debug().to_string(), why))?;
        if kind_of(path).is_none() && path != SIGNATURES {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if files.insert(path.to_owned(), content).is_some() {
            return Err(Diagnostic::on_file(path, "the archive holds this file twice"));
        }
    }
    Ok(files)
}
