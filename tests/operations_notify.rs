//! What `serve` tells a service manager, and what a watchdog hears.

use std::net::TcpStream;

use crate::support::Shell;
use crate::support::manager::Manager;

#[test]
fn a_service_manager_is_told_when_it_serves_reloads_and_stops() {
    let mut shell = Shell::initialised();
    let manager = Manager::of(&mut shell);
    let server = shell.serve(&[]);
    let (before, ready) = manager.until("READY=1");
    assert_eq!(before, [""; 0], "nothing is said before");
    assert_eq!(ready, format!("READY=1\nSTATUS=serving on {}", server.url));
    assert!(TcpStream::connect(server.address()).is_ok());

    server.signal("HUP");
    let reloading = manager.next();
    let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(stamp.parse::<u64>().unwrap() > 0);
    assert_eq!(
        manager.next(),
        format!("READY=1\nSTATUS=serving on {}; reloaded", server.url)
    );

    server.signal("TERM");
    let stopping = manager.next();
    assert!(stopping.starts_with("STOPPING=1\nSTATUS="), "{stopping}");
    let (code, text) = server.ended();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no listener has TLS"), "{text}");
}

#[test]
fn a_watchdog_hears_of_the_server_only_while_its_store_answers() {
    let mut shell = Shell::initialised();
    let manager = Manager::of(&mut shell);
    shell.set("WATCHDOG_USEC", "200000");
    let server = shell.serve(&[]);
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }

    let other = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, fault) = manager.until("STATUS=the store");
    assert!(fault.starts_with("STATUS=the store does not answer: "), "{fault}");
    // A store that does not answer takes its time to say so, each time; between two of them there is silence.
    let (between, _) = manager.until("STATUS=the store");
    assert_eq!(between, [""; 0]);

    other.execute_batch("ROLLBACK").unwrap();
    manager.until("WATCHDOG=1");
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let mut shell = Shell::initialised();
    let manager = Manager::of(&mut shell);
    shell.set("WATCHDOG_USEC", "1000");
    shell.set("WATCHDOG_PID", "1");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    server.signal("HUP");
    let (before, _) = manager.until("reloaded");
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(server.stop().0, 0);
}
