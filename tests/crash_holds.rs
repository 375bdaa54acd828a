//! kill -9 while two people confirm: as much is released as the limit and their words allow, exactly.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use keyward::domain::hold::{Hold, HoldState};
use keyward::psp::Platform;
use keyward::store::{HoldQuery, HoldStore as _};
use keyward::store::{SqlStore, sqlite::FILE};
use serde_json::{Value, json};

use crate::crash::{Waiting, prepare};
use crate::support::people::token_row;
use crate::support::platform;
use crate::support::server::{Host, Server};

const LIMIT: usize = 5;
/// What one confirmation gives.
const ADDITIONAL: u64 = 10;
/// Confirmations that are enough: fewer releases than there are guests.
const ENOUGH: usize = 4;

/// The holds as they are in the database.
fn holds(folder: &Path) -> (Vec<Hold>, u64) {
    let store = SqlStore::open(&folder.join("data"), false).unwrap();
    let owner = "acme".parse().unwrap();
    let query = HoldQuery {
        limit: 1000,
        ..HoldQuery::default()
    };
    let page = store.holds(&owner, query).unwrap();
    let now = keyward::domain::Clock::now(&keyward::domain::SystemClock);
    let counts = store.limits(&owner, 1, now).unwrap().counts;
    let limited = counts.iter().find(|count| count.limit == Some(LIMIT as u64));
    (page.holds, limited.map_or(0, |count| count.released))
}

/// What was confirmed, after checking that the books balance.
fn confirmed(holds: &[Hold], released: u64) -> u64 {
    let confirmed = holds.iter().filter(|hold| hold.state == HoldState::Confirmed);
    let (mut additional, mut used) = (0, 0);
    for hold in confirmed {
        assert_eq!(hold.approvals.len(), 2, "{hold:?}");
        assert_ne!(hold.approvals[0].word.by.name, hold.approvals[1].word.by.name);
        assert_eq!(hold.allowances.len(), 1, "{hold:?}");
        assert_eq!(hold.allowances[0].additional, ADDITIONAL);
        additional += hold.allowances[0].additional;
        used += hold.allowances[0].used;
    }
    for hold in holds.iter().filter(|hold| hold.state != HoldState::Confirmed) {
        assert_eq!(
            (hold.allowances.len(), hold.approvals.len() < 2),
            (0, true),
            "{hold:?}"
        );
    }
    assert!(released <= LIMIT as u64 + additional);
    assert_eq!(released.saturating_sub(LIMIT as u64), used);
    additional
}

/// Confirms whatever waits until enough was confirmed or the server is gone; `begins` hears of each attempt
/// just before it is made.
fn approve(person: &Host, base: &str, begins: &mpsc::Sender<()>) {
    let word = json!({"additional": ADDITIONAL, "any": true, "reason": "a test"});
    loop {
        let Some(list) = person.get(&format!("{base}/v1/holds?limit=1000")) else {
            return;
        };
        let items = list.ok().body["items"].as_array().unwrap().clone();
        let done = items.iter().filter(|hold| hold["state"] == "confirmed").count();
        if done >= ENOUGH {
            return;
        }
        let waits = |hold: &&Value| hold["state"] == "open" || hold["state"] == "pending";
        for hold in items.iter().filter(waits) {
            let _ = begins.send(());
            let url = format!("{base}/v1/holds/{}/confirm", hold["id"].as_str().unwrap());
            match person.say("POST", &url, &word) {
                // Decided meanwhile, or by the same person before.
                Some(reply) => assert!([200, 409].contains(&reply.status), "{}", reply.body),
                None => return,
            }
        }
    }
}

/// One life of the server, which ends in the middle of the confirmation attempt of this number, if there are so many.
fn life(folder: &Path, people: &[Host], guests: &[Waiting], kill_at: usize, told: &Mutex<BTreeSet<String>>) {
    let mut server = Server::start(&folder.join("data"));
    let base = server.base.clone();
    let (begins, begun) = mpsc::channel();
    let approved = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let approvers: Vec<_> = people
            .iter()
            .map(|person| {
                let (begins, base) = (begins.clone(), &base);
                scope.spawn(move || approve(person, base, &begins))
            })
            .collect();
        drop(begins);
        for part in guests.chunks(guests.len().div_ceil(6)) {
            let (base, host, approved) = (&base, &people[0], &approved);
            scope.spawn(move || {
                loop {
                    // Asked before the round: the round after the last word is a whole one.
                    let last = approved.load(Ordering::SeqCst);
                    for guest in part {
                        let Some(reply) = guest.validate(host, base) else {
                            return;
                        };
                        if reply.status == 200 {
                            assert_eq!(guest.vm.unwrap(&reply)[0].1, b"hunter2");
                            told.lock().unwrap().insert(reply.body["decision"].to_string());
                        } else {
                            reply.expect(403, "confirmation-required");
                        }
                    }
                    if last {
                        return;
                    }
                }
            });
        }
        if begun.iter().take(kill_at).count() == kill_at {
            server.kill();
        }
        for approver in approvers {
            approver.join().unwrap();
        }
        approved.store(true, Ordering::SeqCst);
    });
}

#[test]
fn as_much_is_released_as_limit_and_confirmations_allow_however_often_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let token = prepare(folder.path(), LIMIT);
    let (row, other) = token_row("bob");
    let connection = rusqlite::Connection::open(folder.path().join("data").join(FILE)).unwrap();
    assert_eq!(connection.execute(&row, []).unwrap(), 1);
    drop(connection);
    let people = [Host::new(&token), Host::new(&other)];

    let guests: Vec<Waiting> = {
        let server = Server::start(&folder.path().join("data"));
        let two = json!({"approvals_required": 2, "reason": "a test"});
        let url = format!("{}/v1/approvals", server.base);
        people[0].say("PUT", &url, &two).unwrap().ok();
        let platforms: Vec<Platform> = (0..2).map(|_| platform()).collect();
        let start = |n: usize| Waiting::start(&people[0], &server.base, &platforms[n % 2]).unwrap();
        (0..LIMIT + 100).map(start).collect()
    };
    let told = Mutex::new(BTreeSet::new());
    for kill_at in [1, 2, 3, 1, 5, 4] {
        life(folder.path(), &people, &guests, kill_at, &told);
        let (holds, released) = holds(folder.path());
        confirmed(&holds, released);
        assert!(told.lock().unwrap().len() as u64 <= released);
    }
    life(folder.path(), &people, &guests, usize::MAX, &told);
    let (holds, released) = holds(folder.path());
    let additional = confirmed(&holds, released);
    assert!(
        additional >= ENOUGH as u64 * ADDITIONAL && additional < 100,
        "{additional}"
    );
    assert_eq!(released, LIMIT as u64 + additional);
    assert_eq!(
        told.into_inner().unwrap().len() as u64,
        released,
        "every one of them was answered"
    );
}
