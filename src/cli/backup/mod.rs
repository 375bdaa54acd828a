//! `backup`: one file that a server's data folder can be made from again, written while the server serves.
//!
//! The file is a tar archive of [`manifest`] and the database. The key file is never in it.

pub(super) mod check;
pub(super) mod files;
pub(super) mod manifest;
pub(super) mod restore;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use super::{Ended, database};
use crate::domain::{Clock as _, HexDigest, SystemClock, Time};
use crate::store::{SqlStore, sqlite};
use files::{Digesting, Scratch, folder_of, private_file};
use manifest::{BACKUP_VERSION, Log, Manifest, Part};

/// The manifest's name in the archive.
const MANIFEST: &str = "manifest.json";

#[derive(Args)]
#[command(
    after_help = "The key file is not in the backup: keep a copy of it elsewhere, as without it no secret can be opened. \
                        Nor is the configuration. `keyward restore --verify` says whether a backup is whole"
)]
pub(super) struct Backup {
    /// Data folder; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// File to make, readable by you only. It must not be there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Answer {
    file: PathBuf,
    bytes: u64,
    sha256: HexDigest,
    taken: Time,
    schema: i64,
    key_ids: Vec<String>,
    records: u64,
    root: HexDigest,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let answer = take(&self.data_dir, &self.out)?;
        if !output::structured(self.output, &answer)? {
            output::line(&format!(
                "{}: {} bytes, taken at {}\n\n\
                 SHA-256      {}\n\
                 Schema       {}\n\
                 Key          {}\n\
                 Audit log    {} records, root {}\n\n\
                 The key file is not in it. Next: keyward restore --verify --from {} --key-file FILE",
                answer.file.display(),
                answer.bytes,
                answer.taken,
                answer.sha256,
                answer.schema,
                answer.key_ids.join(", "),
                answer.records,
                answer.root,
                answer.file.display(),
            ))?;
        }
        Ok(Ended::Done)
    }
}

/// Takes a backup; what was made before something failed is removed.
fn take(folder: &Path, out: &Path) -> anyhow::Result<Answer> {
    let exists = || {
        format!(
            "{} is there already and is not overwritten: name another with --out",
            out.display()
        )
    };
    if out.symlink_metadata().is_ok() {
        bail!(exists());
    }
    if database::postgres_of(folder)?.is_some() {
        bail!(
            "this data folder's database is PostgreSQL: back it up with pg_dump, and the key file beside it (docs/postgresql.md)"
        );
    }
    // Beside the file: on the same disk it can be given its name, and nobody else can read there.
    let scratch = Scratch::within(folder_of(out))?;
    let copied = scratch.path().join(sqlite::FILE);
    // Made here, as SQLite would let everybody read it.
    private_file(&copied)?;
    let taken = SystemClock.now();
    sqlite::snapshot(folder, &copied)?;
    let manifest = describe(scratch.path(), taken)?;
    let archive = scratch.path().join("backup.tar");
    let (bytes, sha256) = write(&archive, &copied, &manifest).with_context(|| out.display().to_string())?;
    files::publish(&archive, out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::anyhow!(exists()),
        _ => anyhow::Error::new(error).context(out.display().to_string()),
    })?;
    Ok(Answer {
        file: out.to_owned(),
        bytes,
        sha256,
        taken,
        schema: manifest.schema,
        key_ids: manifest.key_ids,
        records: manifest.audit.size,
        root: manifest.audit.root,
    })
}

/// What the copy in this folder is. It is brought to the current schema, and must be whole.
fn describe(folder: &Path, taken: Time) -> anyhow::Result<Manifest> {
    let store = SqlStore::open(folder, false)?;
    let faults = store.faults()?;
    if !faults.is_empty() {
        bail!(
            "the database is damaged, and no backup was made: {}; restore the newest one that `keyward restore --verify` finds whole",
            faults.join("; ")
        );
    }
    let (audit, key_ids) = (Log::of(&store)?, manifest::key_ids(&store)?);
    // The last one to close it writes all of it into the one file.
    drop(store);
    if folder.join(format!("{}-wal", sqlite::FILE)).exists() {
        bail!("the copy of the database could not be completed: try again");
    }
    let (bytes, sha256) = files::digest(&folder.join(sqlite::FILE))?;
    Ok(Manifest {
        backup: BACKUP_VERSION,
        taken,
        keyward: env!("CARGO_PKG_VERSION").to_owned(),
        schema: SqlStore::schema(),
        key_ids,
        audit,
        parts: vec![Part {
            name: sqlite::FILE.to_owned(),
            bytes,
            sha256,
        }],
    })
}

/// Writes the archive and makes it durable; its length and SHA-256.
fn write(archive: &Path, database: &Path, manifest: &Manifest) -> anyhow::Result<(u64, HexDigest)> {
    let file = private_file(archive)?;
    let mut tar = tar::Builder::new(Digesting::new(BufWriter::with_capacity(1 << 16, file)));
    let mut append = |name: &str, bytes: u64, data: &mut dyn std::io::Read| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes);
        header.set_mtime(u64::try_from(manifest.taken.millis() / 1000).unwrap_or(0));
        tar.append_data(&mut header, name, data)
    };
    let text = serde_json::to_vec_pretty(manifest)?;
    append(MANIFEST, text.len() as u64, &mut text.as_slice())?;
    for part in &manifest.parts {
        append(&part.name, part.bytes, &mut File::open(database)?)?;
    }
    let mut written = tar.into_inner()?;
    written.flush()?;
    let (inner, bytes, sha256) = written.finish();
    inner
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok((bytes, sha256))
}
