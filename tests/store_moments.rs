//! What SQLite's store knows without asking its file: never older than the file, whoever writes to it.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::launch::{Launch, LaunchBounds};
use keyward::domain::{LaunchState, Time};
use keyward::store::{LaunchBegun, Store};
use serde_json::json;
use uuid::Uuid;

use crate::support::app::Options;
use crate::support::host::{ALLOW, WORKLOAD, standard};
use crate::support::{App, platform};

fn uuid() -> Uuid {
    WORKLOAD.parse().unwrap()
}

fn generation(store: &dyn Store) -> i64 {
    store.workload(uuid()).unwrap().unwrap().generation
}

#[test]
fn a_workload_is_read_anew_once_its_owner_changed_something() {
    let app = App::new();
    app.standard();
    let (store, beside) = (app.service.store(), app.again(Options::default()));
    let read = || store.workload(uuid()).unwrap().unwrap();
    let first = read();
    assert!(Arc::ptr_eq(&first, &read()), "nothing changed");
    // A server of its own on the same file.
    let other = "00".repeat(32);
    beside.apply(standard(json!({"launch_digests": [other]})));
    let second = read();
    assert!(second.generation > first.generation);
    assert_eq!(second.registered.workload.launch_digests[0].to_string(), other);
    assert!(Arc::ptr_eq(&second, &read()));
    app.owner("DELETE", &format!("/v1/workloads/{WORKLOAD}"), &json!(null));
    assert!(store.workload(uuid()).unwrap().is_none());
    app.standard();
    assert!(read().generation > second.generation);
}

#[test]
fn reads_that_belong_together_are_of_one_moment_until_the_first_change() {
    let app = App::new();
    app.standard();
    let store = app.service.store();
    let before = generation(store);
    let mut changes = 0;
    let mut change = || {
        changes += 1;
        let policy = format!("{ALLOW}\n# the change {changes}\n");
        let bundle = [("release/any.rego", policy.as_str())];
        std::thread::scope(|scope| scope.spawn(|| app.bundle(&bundle)).join().unwrap().ok());
    };
    let mut ran = 0;
    store.together(&mut || {
        ran += 1;
        assert_eq!(generation(store), before);
        change();
        assert_eq!(generation(store), before, "the moment is that of the first read");
        // Within it another begins nothing of its own.
        store.together(&mut || assert_eq!(generation(store), before));
        assert_eq!(generation(store), before);
        store.charge_try(Uuid::nil()).unwrap();
        assert_eq!(generation(store), before + 1, "a change of one's own ends it");
    });
    assert_eq!(ran, 1);
    assert_eq!(generation(store), before + 1);
    // However it ends.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.together(&mut || {
            generation(store);
            panic!("in a moment");
        });
    }));
    assert!(ended.is_err());
    change();
    assert_eq!(generation(store), before + 2);
}

/// A launch like that of a guest that was started, begun at this time.
fn begun(store: &dyn Store, like: &Launch, created: Time) -> LaunchBegun {
    let launch = Launch {
        id: Uuid::new_v4(),
        state: LaunchState::Pending,
        created,
        expires: created.after(Duration::from_secs(60)),
        ..like.clone()
    };
    let bounds = LaunchBounds {
        per_address: 4,
        per_pdh: 100,
        per_workload: 100,
    };
    store.begin_launch(&launch, bounds).unwrap()
}

#[test]
fn bounds_hold_whoever_began_the_launches_and_whatever_the_clock_does() {
    let app = App::new();
    app.standard();
    let vm = app.start(&platform());
    let (store, beside) = (app.service.store(), app.again(Options::default()));
    let other = beside.service.store();
    let like = store.launch(vm.id).unwrap().unwrap();
    let now = like.created;
    while store.charge_try(vm.id).unwrap() > 0 {}
    for store in [store, other, store, other] {
        assert_eq!(begun(store, &like, now), LaunchBegun::Stored);
    }
    let full = |begun| matches!(begun, LaunchBegun::Full { .. });
    assert!(full(begun(store, &like, now)));
    assert!(full(begun(other, &like, now)));
    let later = now.after(Duration::from_secs(61 + 300));
    for store in [other, store, other, store] {
        assert_eq!(begun(store, &like, later), LaunchBegun::Stored);
    }
    assert!(full(begun(other, &like, later)));
    assert!(full(begun(store, &like, later)));
    // Set back, those of before wait again.
    let back = now.after(Duration::from_secs(1));
    assert!(full(begun(other, &like, back)));
    assert!(full(begun(store, &like, back)));
}
