//! A data folder with a long past: nothing that a start does grows with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use keyward::audit::actor::Act;
use keyward::audit::record::{Event, Target};
use keyward::domain::{Clock as _, SystemClock};
use keyward::store::{AuditLog as _, SqlStore};
use uuid::Uuid;

use crate::crash::prepare;
use crate::support::server::Server;

/// Records that are written; more by `LARGE_RECORDS`.
fn records() -> usize {
    std::env::var("LARGE_RECORDS").map_or(5000, |records| records.parse().unwrap())
}

/// Writes so many records, as quickly as the disk takes them in groups.
fn fill(store: &SqlStore, records: usize) {
    let left = AtomicUsize::new(records);
    let act = Act::of_server(SystemClock.now());
    let owner = Some("acme".parse().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..128 {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let event = Event::Frozen {
                        target: Target::Server,
                        reason: "as many as there may be in some years".to_owned(),
                    };
                    store
                        .record(act.record(Uuid::new_v4(), owner.clone(), event))
                        .unwrap();
                }
            });
        }
    });
}

#[test]
fn a_server_that_was_killed_starts_again_whatever_its_log_holds() {
    // To be looked at, or measured, afterwards.
    let kept = std::env::var_os("LARGE_FOLDER").map(std::path::PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let place = kept.as_deref().unwrap_or(folder.path());
    std::fs::create_dir_all(place).unwrap();
    prepare(place, 10);
    let data = place.join("data");
    let store = SqlStore::open(&data, false).unwrap();
    fill(&store, records());
    let size = store.log_head().unwrap().size;
    drop(store);
    // The first signs a checkpoint of what is new.
    let mut server = Server::start(&data);
    server.kill();
    let began = Instant::now();
    let mut server = Server::start(&data);
    println!("{size} records: started in {:?}", began.elapsed());
    server.kill();
    let store = SqlStore::open(&data, false).unwrap();
    assert!(store.log_head().unwrap().size >= size);
    assert!(store.log_checkpoint().unwrap().unwrap().size >= size);
}
