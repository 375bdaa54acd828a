//! The data folder on its disk: who may read it, whose it is, how much room there is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::report::Report;
use crate::config::Config;
use crate::store::sqlite;

/// Below this much room a database that is written to is about to stop.
const LITTLE: u64 = 64 << 20;
/// Below this much somebody should look.
const SOON: u64 = 1 << 30;

/// Whether there is a database to look at.
pub(super) fn check(report: &mut Report, folder: &Path, config: Option<&Config>) -> bool {
    let found = match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            report.fail(
                "data folder",
                format!("{} is no folder", folder.display()),
                "name it with --data-dir",
            );
            return false;
        }
        Err(error) => {
            report.fail(
                "data folder",
                format!("{}: {error}", folder.display()),
                "name it with --data-dir, or make it with `keyward init`; run this as the server's user",
            );
            return false;
        }
    };
    access(report, folder, &found);
    room(report, folder);
    if config.is_some_and(|config| config.store.postgres.is_some()) {
        report.skip("owner", "the database is PostgreSQL's, not a file here");
        return true;
    }
    let database = folder.join(sqlite::FILE);
    match std::fs::metadata(&database) {
        Ok(of) => {
            owner(report, folder, &found, &of);
            true
        }
        Err(error) => {
            report.fail(
                "database",
                format!("{}: {error}", database.display()),
                format!(
                    "run `keyward init --data-dir {} --owner NAME`, or put a backup in place with `keyward restore`",
                    folder.display()
                ),
            );
            false
        }
    }
}

fn access(report: &mut Report, folder: &Path, found: &Metadata) {
    let (path, mode) = (folder.display(), found.mode() & 0o7777);
    let advice = format!("run `chmod 700 {path}`");
    if mode & 0o022 != 0 {
        // Who may rename files in it can put another database in place.
        report.fail(
            "data folder",
            format!("{path} is writable by others (mode {mode:04o})"),
            advice,
        );
    } else if mode & 0o077 != 0 {
        report.warn(
            "data folder",
            format!("{path} is open to others (mode {mode:04o})"),
            advice,
        );
    } else {
        report.ok("data folder", format!("{path}, mode {mode:04o}"));
    }
}

fn owner(report: &mut Report, folder: &Path, of_folder: &Metadata, of_database: &Metadata) {
    let me = rustix::process::geteuid().as_raw();
    let owner = of_folder.uid();
    let path = folder.display();
    if of_database.uid() != owner {
        report.fail(
            "owner",
            format!(
                "{path} belongs to the user {owner}, the database in it to {}",
                of_database.uid()
            ),
            format!("run `chown -R` on {path} with the server's user, while the server is stopped"),
        );
    } else if me != owner && me != 0 {
        report.warn(
            "owner",
            format!("{path} belongs to the user {owner}, and this is run as {me}"),
            "run it as the server's user: what can be read here may differ",
        );
    } else {
        report.ok("owner", format!("all of it belongs to the user {owner}"));
    }
}

fn room(report: &mut Report, folder: &Path) {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        report.skip("disk", "the system does not say how much room there is");
        return;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = format!("{} MiB free for the data folder", free >> 20);
    let advice = "make room: with a full disk nothing is recorded, so nothing is released; `audit.retention_days` and \
                  `decisions.retention_days` bound what is kept";
    match free {
        free if free < LITTLE => report.fail("disk", detail, advice),
        free if free < SOON => report.warn("disk", detail, advice),
        _ => report.ok("disk", detail),
    }
}
