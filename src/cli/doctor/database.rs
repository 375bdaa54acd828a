//! The database, by a copy: its schema and pages, the keys that open it, its audit log, and its last moment.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::report::Report;
use crate::audit::record::AuditRecord;
use crate::cli::backup::check::log_of;
use crate::cli::backup::files::{Scratch, private_file};
use crate::cli::backup::manifest::Log;
use crate::cli::{audit, checkpoints, database, keys, serve};
use crate::config::{Config, KdsConfig};
use crate::domain::sealed::{KeyLocation, KeyState};
use crate::domain::{Clock as _, SystemClock, Time};
use crate::release::Standing;
use crate::sealing::{Sealer, keys_at};
use crate::store::keys::Keys as _;
use crate::store::{AuditLog as _, Recovery as _, SqlStore, sqlite};

/// Where SQLite's file has the schema's version, as a number of four bytes, most significant first (SQLite, file
/// format, section 1.3).
const VERSION_AT: u64 = 60;
/// How far a record may be ahead of the clock: clocks are set.
const AHEAD: Duration = Duration::from_secs(60);

pub(super) fn check(report: &mut Report, folder: &Path, config: Option<&Config>) {
    if let Some(postgres) = config.and_then(|config| config.store.postgres.as_ref()) {
        return match database::connect(postgres, false) {
            Ok(store) => shared(report, &Arc::new(store), folder, config),
            Err(error) => report.error("database", &error),
        };
    }
    let scratch = match copied(folder) {
        Ok(scratch) => scratch,
        Err(error) => {
            report.error("database", &error);
            return;
        }
    };
    match schema(scratch.path()) {
        Ok(found) if found < SqlStore::schema() => report.warn(
            "schema",
            format!("{found}, this keyward writes {}", SqlStore::schema()),
            "take a backup: the next start brings it up to date, and an older keyward does not read it then",
        ),
        Ok(found) => report.ok("schema", found.to_string()),
        Err(error) => report.error("schema", &error),
    }
    let store = match SqlStore::open(scratch.path(), false) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            report.error("database", &error.into());
            return;
        }
    };
    whole(report, &store);
    restored(report, &store);
    let opened = open(report, &store, folder, config);
    log(report, &store);
    clock(report, &store);
    if let (Some((sealer, place)), Some(config)) = (opened, config) {
        drop(sealer);
        outside(report, scratch.path(), config, place);
    }
}

/// A database that other servers share: what its engine looks after is the engine's.
fn shared(report: &mut Report, store: &Arc<SqlStore>, folder: &Path, config: Option<&Config>) {
    match store.unsafe_settings() {
        Ok(off) if off.is_empty() => report.ok(
            "database",
            "PostgreSQL, and what it commits is durable".to_owned(),
        ),
        Ok(off) => report.warn(
            "database",
            format!("PostgreSQL with {}", off.join(", ")),
            "turn it on: what was answered may be lost with the machine's power",
        ),
        Err(error) => report.error("database", &error.into()),
    }
    restored(report, store);
    report.ok("schema", "this keyward's, as it could be opened");
    let opened = open(report, store, folder, config);
    log(report, store);
    clock(report, store);
    if let (Some((sealer, place)), Some(config)) = (opened, config) {
        drop(sealer);
        outside(report, folder, config, place);
    }
}

/// A copy of the database in a folder that is nobody else's.
fn copied(folder: &Path) -> anyhow::Result<Scratch> {
    let temporary = std::env::temp_dir();
    let wal = std::fs::metadata(folder.join(format!("{}-wal", sqlite::FILE)));
    let size = std::fs::metadata(folder.join(sqlite::FILE))?.len() + wal.map_or(0, |wal| wal.len());
    if let Ok(disk) = rustix::fs::statvfs(&temporary) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        anyhow::ensure!(
            free > size.saturating_mul(2),
            "the database has {} MiB and there are {} MiB free in {} to look at a copy: name another folder with TMPDIR",
            size >> 20,
            free >> 20,
            temporary.display()
        );
    }
    let scratch = Scratch::within(&temporary)?;
    let database = scratch.path().join(sqlite::FILE);
    private_file(&database)?;
    sqlite::snapshot(folder, &database)?;
    Ok(scratch)
}

fn schema(folder: &Path) -> anyhow::Result<i64> {
    let mut file = std::fs::File::open(folder.join(sqlite::FILE))?;
    file.seek(SeekFrom::Start(VERSION_AT))?;
    let mut version = [0; 4];
    file.read_exact(&mut version)?;
    Ok(u32::from_be_bytes(version).into())
}

fn whole(report: &mut Report, store: &SqlStore) {
    match store.faults() {
        Ok(faults) if faults.is_empty() => report.ok("database", "pages, indexes and references are whole"),
        Ok(faults) => report.fail(
            "database",
            format!("damaged: {}", faults.join("; ")),
            "stop the server and restore the newest backup that `keyward restore --verify` finds whole",
        ),
        Err(error) => report.error("database", &error.into()),
    }
}

fn restored(report: &mut Report, store: &SqlStore) {
    match store.restored_copy() {
        Ok(None) => {}
        Ok(Some(taken)) => report.warn(
            "restored copy",
            format!("the data folder was restored from a backup of {taken}"),
            "if secrets may have been released since, start once with --accept-rollback",
        ),
        Err(error) => report.error("restored copy", &error.into()),
    }
}

/// What opens the values, with its place, where all can be opened.
fn open(
    report: &mut Report,
    store: &Arc<SqlStore>,
    folder: &Path,
    config: Option<&Config>,
) -> Option<(Sealer, KeyLocation)> {
    let configured = config.and_then(|config| keys::configured(config, None));
    let made = || {
        let all = store.sealing_keys()?;
        let active = all.iter().find(|key| key.state == KeyState::Active);
        let active = active.context("the database names no key that values are sealed under")?;
        let now = keys::recorded(folder, active);
        let named = configured.clone().unwrap_or_else(|| now.clone());
        let sealer = keys::sealer(store, folder, configured.as_ref())?;
        let held = keys_at(&named).is_ok_and(|held| held.iter().any(|key| key.id() == active.id));
        anyhow::Ok((sealer, named, (!held).then_some(now)))
    };
    let (sealer, place) = match made() {
        Ok((sealer, named, None)) => {
            match beside(&named, folder) {
                Some(owners) => report.fail(
                    "keys",
                    format!("{named}: {owners}"),
                    "run `chown` on the key file",
                ),
                None => report.ok("keys", format!("the active one is in {named}")),
            }
            (sealer, named)
        }
        Ok((sealer, named, Some(now))) => {
            let detail = format!("the active one is in {now}, and the configuration names {named}");
            report.warn("keys", detail, "say so in the configuration");
            (sealer, now)
        }
        Err(error) => {
            report.error("keys", &error);
            report.skip("sealed values", "there is no key to open them with");
            return None;
        }
    };
    let mut count = 0_u64;
    match keys::opened(store, &sealer, |_| count += 1) {
        Err(error) => report.error("sealed values", &error),
        Ok(damaged) if damaged.is_empty() => report.ok("sealed values", format!("all {count} open")),
        Ok(damaged) => report.fail(
            "sealed values",
            format!(
                "{} of {count} do not open, such as {}: {}",
                damaged.len(),
                damaged.first().map_or("", |one| one.value.as_str()),
                damaged.first().map_or("", |one| one.why.as_str())
            ),
            "`keyward keys check` lists all: register those secrets anew, or restore a backup",
        ),
    }
    Some((sealer, place))
}

/// That the key file is another user's than the data folder.
fn beside(place: &KeyLocation, folder: &Path) -> Option<String> {
    let KeyLocation::File(file) = place else {
        return None;
    };
    let (key, data) = (std::fs::metadata(file).ok()?, std::fs::metadata(folder).ok()?);
    (key.uid() != data.uid()).then(|| {
        format!(
            "the key file belongs to the user {}, the data folder to {}",
            key.uid(),
            data.uid()
        )
    })
}

fn log(report: &mut Report, store: &SqlStore) {
    let checked = Log::of(store).map_err(anyhow::Error::from).and_then(|log| {
        let (_, checkpoints) = log_of(store, &log)?;
        Ok((log.size, checkpoints))
    });
    match checked {
        Ok((size, checkpoints)) => report.ok(
            "audit log",
            format!("{size} records, which continue each of {checkpoints} signed checkpoints"),
        ),
        Err(error) => report.fail(
            "audit log",
            super::report::chain(&error),
            "a log that does not verify was changed or damaged: keep the data folder as it is, and find out by whom; a backup has the log as it was",
        ),
    }
    if let Err(error) = audit::log_key::public(store) {
        report.error("audit log key", &error);
    }
}

/// Records carry the server's time: a clock that went back since makes launches last and tokens live again.
fn clock(report: &mut Report, store: &SqlStore) {
    let newest = || -> anyhow::Result<Option<Time>> {
        let size = store.log_head()?.size;
        let last = store.log_entries(size.saturating_sub(1), 1)?;
        let record = last.into_iter().find_map(|entry| entry.record);
        let record = record.map(|record| serde_json::from_str::<AuditRecord>(&record));
        Ok(record.transpose()?.map(|record| record.time))
    };
    let now = SystemClock.now();
    match newest() {
        Ok(Some(time)) if time > now.after(AHEAD) => report.fail(
            "clock",
            format!("it is {now} here, and the newest record is of {time}"),
            "set the clock (`timedatectl`, chrony): with it behind, what has expired counts again",
        ),
        Ok(Some(time)) => report.ok("clock", format!("{now}; the newest record is of {time}")),
        Ok(None) => report.skip("clock", format!("{now}; no record to compare it with")),
        Err(error) => report.error("clock", &error),
    }
}

/// Whether the log continues what was written outside, and the rest of what a server does before it serves.
fn outside(report: &mut Report, copy: &Path, config: &Config, place: KeyLocation) {
    // On the copy where there is one, and asking nobody.
    let mut config = config.clone();
    config.identity_providers.clear();
    config.kds = KdsConfig {
        url: String::new(),
        ..config.kds
    };
    (config.key_file, config.key_provider) = match place {
        KeyLocation::File(file) => (Some(file), None),
        other => (None, Some(other)),
    };
    let service = match serve::service(copy, &config, None) {
        Ok(service) => service,
        Err(error) => {
            report.error("start", &error);
            return;
        }
    };
    report.ok("start", "a server can be put together from all of it");
    if let Some(kbs) = &config.simple_kbs {
        let missing = match service.store().owners() {
            Ok(owners) => !owners.contains(&kbs.owner),
            Err(error) => {
                report.error("simple-kbs", &error.into());
                false
            }
        };
        match missing {
            true => report.fail(
                "simple-kbs",
                format!("there is no owner {} in this data folder", kbs.owner),
                "name one of `keyward owner list` in simple_kbs.owner",
            ),
            false => report.ok("simple-kbs", format!("serves {}", kbs.owner)),
        }
    }
    let Some(file) = &config.audit.checkpoint_file else {
        report.warn(
            "checkpoints outside",
            "audit.checkpoint_file is not set: a database that was rolled back can't be told",
            "name a file on another disk",
        );
        return;
    };
    let path = file.display();
    let read = std::fs::read_to_string(file).with_context(|| format!("checkpoint file {path}"));
    let standing = read.and_then(|text| {
        let notes = checkpoints::notes(checkpoints::whole(&text))?;
        Ok((service.standing(&notes)?, notes.len()))
    });
    match standing {
        Ok((Standing::Continues, count)) => report.ok(
            "checkpoints outside",
            format!("the log continues the last of {count} in {path}"),
        ),
        Ok((Standing::Unseen, _)) => report.fail(
            "checkpoints outside",
            format!("{path} is empty"),
            format!("put it back, or its volume; or begin it with `keyward audit checkpoint > {path}`"),
        ),
        Ok((Standing::Behind { seen, size }, _)) => report.fail(
            "checkpoints outside",
            format!("the log has {size} records, and {path} tells of {seen}: the database was rolled back"),
            "put the newest copy of the database in place; if there is none, `keyward serve --accept-rollback`",
        ),
        Err(error) => report.error("checkpoints outside", &error),
    }
}
