//! `restore`: a new data folder from a backup, once all of it was found to be whole; or only the finding.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::MANIFEST;
use super::check::{self, Checked};
use super::files::{self, Digesting, Scratch, private_file, private_folder};
use super::manifest::{self, Manifest};
use crate::cli::Ended;
use crate::cli::keys;
use crate::cli::output::{self, Format};
use crate::domain::sealed::KeyLocation;
use crate::sealing::{Sealer, keys_at};
use crate::store::{SqlStore, sqlite};

#[derive(Args)]
#[command(
    after_help = "A backup is older than what it is a backup of: tokens that were revoked since, and policies that were \
                        replaced, are as they were. With `audit.checkpoint_file` the server does not serve a database \
                        that is behind the checkpoints outside, unless it is told so (`serve --accept-rollback`)"
)]
pub(in crate::cli) struct Restore {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Data folder to make, or one without a database
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    data_dir: Option<PathBuf>,
    /// The key file, to see that every secret in the backup opens with it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Only say whether the backup is whole
    #[arg(long)]
    verify: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Answer<'a> {
    taken: String,
    keyward: &'a str,
    schema: i64,
    key_ids: &'a [String],
    #[serde(flatten)]
    checked: &'a Checked,
    /// The folder that was made; null with `--verify`.
    data_dir: Option<&'a Path>,
}

impl Restore {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.data_dir.as_deref().filter(|_| !self.verify);
        let new = folder.filter(|folder| !folder.exists());
        let made = self.make(folder);
        if let (Err(_), Some(folder)) = (&made, new) {
            // Only if it is empty.
            let _ = std::fs::remove_dir(folder);
        }
        made
    }

    fn make(&self, folder: Option<&Path>) -> anyhow::Result<Ended> {
        let database = folder.map(|folder| folder.join(sqlite::FILE));
        if let Some((folder, database)) = folder.zip(database.as_deref()) {
            if database.symlink_metadata().is_ok() {
                bail!(
                    "{} has a database already and is not overwritten: name a new folder with --data-dir",
                    folder.display()
                );
            }
            private_folder(folder).with_context(|| format!("data folder {}", folder.display()))?;
        }
        if let Some(file) = &self.key_file {
            // Before anything is unpacked.
            keys_at(&KeyLocation::File(file.clone()))?;
        }
        // What is only looked at is put where temporary files are, and gone afterwards.
        let temporary = std::env::temp_dir();
        let scratch = Scratch::within(folder.unwrap_or(&temporary))?;
        let manifest = unpack(&self.from, scratch.path())?;
        let store = Arc::new(SqlStore::open(scratch.path(), false)?);
        let sealer = self.sealer(&manifest, &store, scratch.path())?;
        let checked = check::copy(&store, &manifest, sealer.as_ref())?;
        drop(sealer);
        if let Some(database) = &database {
            store.mark_restored(&manifest.taken.to_string())?;
            drop(store);
            let made = scratch.path().join(sqlite::FILE);
            if scratch.path().join(format!("{}-wal", sqlite::FILE)).exists() {
                bail!("the database could not be completed: try again");
            }
            File::open(&made)?.sync_all()?;
            files::publish(&made, database).with_context(|| database.display().to_string())?;
        }
        let answer = Answer {
            taken: manifest.taken.to_string(),
            keyward: &manifest.keyward,
            schema: manifest.schema,
            key_ids: &manifest.key_ids,
            checked: &checked,
            data_dir: folder,
        };
        if !output::structured(self.output, &answer)? {
            output::line(&text(&answer))?;
        }
        Ok(Ended::Done)
    }

    /// What opens the copy's secrets, where a key file is named.
    fn sealer(
        &self,
        manifest: &Manifest,
        store: &Arc<SqlStore>,
        folder: &Path,
    ) -> anyhow::Result<Option<Sealer>> {
        let sealed = manifest::key_ids(store)?;
        if sealed != manifest.key_ids {
            bail!("the backup's manifest names other keys than its database");
        }
        let Some(file) = &self.key_file else {
            return Ok(None);
        };
        let location = KeyLocation::File(file.clone());
        let held = keys_at(&location)?;
        let held: Vec<_> = held.iter().map(|key| key.id().to_string()).collect();
        if let Some(missing) = sealed.iter().find(|id| !held.contains(id)) {
            bail!(
                "the backup is sealed under the key {missing}, the key file has {}: name the right one with --key-file",
                held.join(", ")
            );
        }
        Ok(Some(keys::sealer(store, folder, Some(&location))?))
    }
}

/// Takes the backup apart into a folder, and holds its parts against its manifest.
fn unpack(from: &Path, folder: &Path) -> anyhow::Result<Manifest> {
    let what = || format!("backup {}", from.display());
    let file = File::open(from).with_context(what)?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 16, file));
    parts(&mut archive, folder).with_context(what)
}

fn parts(archive: &mut tar::Archive<impl Read>, folder: &Path) -> anyhow::Result<Manifest> {
    let none = "it is no backup of Keyward's: expected a tar archive of manifest.json and keyward.db";
    let mut entries = archive.entries().context(none)?;
    let first = entries.next().context(none)?.context(none)?;
    if first.path().context(none)? != Path::new(MANIFEST) {
        bail!(none);
    }
    let mut text = Vec::new();
    first.take(manifest::MAX).read_to_end(&mut text)?;
    let manifest = Manifest::parse(&text)?;
    for part in &manifest.parts {
        // Nothing but the database is known, and no name leads out of the folder.
        if part.name != sqlite::FILE {
            bail!(
                "it has a part {:?} that this keyward does not know: use the newer keyward that made it",
                part.name
            );
        }
        let cut = || format!("it was cut: {} is missing or not whole", part.name);
        let entry = entries.next().with_context(cut)?.with_context(cut)?;
        if entry.path()? != Path::new(&part.name) || !entry.header().entry_type().is_file() {
            bail!(cut());
        }
        let path = folder.join(&part.name);
        let mut out = Digesting::new(private_file(&path).with_context(|| path.display().to_string())?);
        io::copy(&mut entry.take(part.bytes.saturating_add(1)), &mut out).with_context(cut)?;
        let (file, bytes, sha256) = out.finish();
        file.sync_all()?;
        if bytes != part.bytes {
            bail!(
                "{}: {} has {bytes} bytes, its manifest says {}",
                cut(),
                part.name,
                part.bytes
            );
        }
        if sha256 != part.sha256 {
            bail!(
                "{} was changed: its SHA-256 is {sha256}, the manifest says {}",
                part.name,
                part.sha256
            );
        }
    }
    if manifest.parts.is_empty() || entries.next().is_some() {
        bail!("its parts are not those that its manifest tells of");
    }
    Ok(manifest)
}

fn text(answer: &Answer<'_>) -> String {
    let checked = answer.checked;
    let opened = match checked.opened {
        Some(count) => format!("all {count} open"),
        None => "not looked at: name the key file with --key-file".to_owned(),
    };
    let mut text = format!(
        "The backup is whole.\n\n\
         Taken        {} by keyward {}, schema {}\n\
         Database     no faults\n\
         Audit log    {} records, {} of them as their hashes only; {} checkpoints; root {}\n\
         Key          {}\n\
         Sealed       {opened}",
        answer.taken,
        answer.keyward,
        answer.schema,
        checked.records,
        checked.bare,
        checked.checkpoints,
        checked.root,
        answer.key_ids.join(", "),
    );
    if let Some(folder) = answer.data_dir {
        let folder = folder.display();
        text.push_str(&format!(
            "\n\nMade {folder}. Launches that waited when it was taken are ended.\n\
             Put the key file back where it was (`{folder}/keyward.key`, if it was in the data folder), and the configuration.\n\
             What was released, revoked or replaced since {} is not in it.\n\
             Next: keyward serve --data-dir {folder}",
            answer.taken
        ));
    }
    text
}
