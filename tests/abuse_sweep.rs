//! What a flood left behind is swept a part at a time, between which launches go on.

use std::time::Duration;

use crate::support::{App, platform};

/// Launches that have expired with their keys in them. A million is the same steps more often.
const EXPIRED: usize = 20_000;
/// The most that one step may touch of them.
const STEP: usize = 500;

#[test]
fn many_expired_launches_are_swept_in_bounded_steps_while_launches_go_on() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.start(&platform);
    let columns = "SELECT group_concat(name) FROM pragma_table_info('launches') WHERE name <> 'id'";
    let columns: String = {
        let file = app.folder.path().join(keyward::store::sqlite::FILE);
        let database = rusqlite::Connection::open(file).unwrap();
        database.query_row(columns, [], |row| row.get(0)).unwrap()
    };
    let made = app.sql(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {EXPIRED})
         INSERT INTO launches (id, {columns}) SELECT randomblob(16), {columns} FROM launches, n"
    ));
    assert_eq!(made, EXPIRED);
    app.clock.advance(Duration::from_secs(600));

    let store = app.service.store();
    let now = || keyward::domain::Clock::now(app.clock.as_ref());
    // Nothing is changed by it: how many still have their keys.
    let left = || app.sql("UPDATE launches SET keys = keys WHERE length(keys) > 0");
    let (mut steps, mut before) = (0, left());
    assert_eq!(before, EXPIRED + 1);
    loop {
        let more = store.sweep(now()).unwrap();
        steps += 1;
        if steps % 10 == 0 {
            // One of them is begun, measured, proved and spent between two steps.
            app.run(&platform).1.ok();
        }
        let after = left();
        assert!(before - after <= STEP, "{before} and then {after}");
        before = after;
        if !more {
            break;
        }
        assert!(steps <= 4 * EXPIRED / STEP, "it comes to no end");
    }
    assert!(steps >= EXPIRED / STEP, "{steps} steps");
    // What waits or was released just now is still there, without its keys where it is spent.
    assert_eq!(left(), 0);
    let mut waiting = app.start(&platform);
    let request = waiting.measure(crate::support::host::IMAGE);
    assert!(!store.sweep(now()).unwrap());
    app.post(&waiting.path(), &request).ok();
}
