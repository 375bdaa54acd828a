//! The end of a server: requests under way are answered, the last checkpoint is signed, and nobody holds it up.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use keyward::store::AuditLog as _;
use keyward::store::SqlStore;

use crate::support::Shell;
use crate::support::cli::Server;
use crate::support::manager::Manager;

/// A shell whose server drains for so many seconds, and who it tells of it.
fn shell(seconds: u32) -> (Shell, Manager) {
    let mut shell = Shell::initialised();
    let manager = Manager::of(&mut shell);
    shell.write(
        "data/keyward.yaml",
        format!("listen: 127.0.0.1:0\nkds: {{url: ''}}\nshutdown_seconds: {seconds}\n"),
    );
    (shell, manager)
}

/// A request of which half was sent, and read by the server: it has said that it may go on.
fn half(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let path = "/vm/4b3e1a7c-0000-4000-8000-000000000000/launch";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut going = [0; 25];
    stream.read_exact(&mut going).unwrap();
    assert_eq!(&going, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    stream
}

/// The end is in the log, and the log's last checkpoint is of all of it.
#[track_caller]
fn signed(shell: &Shell) {
    let store = SqlStore::open(&shell.path("data"), false).unwrap();
    let size = store.log_head().unwrap().size;
    assert_eq!(store.log_checkpoint().unwrap().unwrap().size, size);
    let last = store.log_entries(size - 1, 1).unwrap().remove(0);
    assert!(last.record.unwrap().contains("\"server-stopped\""));
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let (shell, manager) = shell(60);
    let server = shell.serve(&[]);
    let mut stream = half(&server);
    server.signal("TERM");
    manager.until("STOPPING=1");
    stream.write_all(b"  ").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("/problems/malformed"), "{answer}");
    let (code, text) = server.ended();
    assert_eq!(code, 0, "{text}");
    signed(&shell);
}

#[test]
fn a_client_that_never_finishes_its_request_holds_up_the_end_for_so_long_and_no_longer() {
    let (shell, _manager) = shell(1);
    let server = shell.serve(&[]);
    let mut stream = half(&server);
    let (code, text) = server.stop();
    assert_eq!(code, 0, "{text}");
    let mut answer = Vec::new();
    // Cut off, in whatever way; what it got is no answer.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    signed(&shell);
}

#[test]
fn an_idle_connection_and_one_without_a_request_hold_up_nothing() {
    let (shell, _manager) = shell(600);
    let server = shell.serve(&[]);
    let _silent = TcpStream::connect(server.address()).unwrap();
    let mut idle = TcpStream::connect(server.address()).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n")
        .unwrap();
    let mut first = [0; 1];
    idle.read_exact(&mut first).unwrap();
    // It would wait for ten minutes, and the test's runner for less.
    assert_eq!(server.stop().0, 0);
    signed(&shell);
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_a_folder_that_is_whole() {
    let (shell, manager) = shell(600);
    let server = shell.serve(&[]);
    let mut stream = half(&server);
    server.signal("TERM");
    manager.until("STOPPING=1");
    server.signal("INT");
    let (code, text) = server.ended();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("a second signal: ended at once"), "{text}");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    let (code, _) = shell.serve(&[]).stop();
    assert_eq!(code, 0);
    signed(&shell);
}

#[test]
fn a_reload_while_it_drains_is_no_second_signal() {
    let (shell, manager) = shell(600);
    let server = shell.serve(&[]);
    let mut stream = half(&server);
    server.signal("TERM");
    manager.until("STOPPING=1");
    server.signal("HUP");
    stream.write_all(b"  ").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.ended().0, 0);
}

#[test]
fn how_long_it_drains_is_bounded() {
    let shell = Shell::initialised();
    shell.write("data/keyward.yaml", "shutdown_seconds: 601\n");
    let error = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert_eq!(
        error,
        "error: configuration key `shutdown_seconds`: must be 0 to 600\n"
    );
}

#[test]
fn a_store_that_nobody_can_write_to_does_not_hold_up_the_end_for_ever() {
    let (shell, manager) = shell(0);
    let server = shell.serve(&[]);
    let other = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    server.signal("TERM");
    manager.until("STOPPING=1");
    let (code, text) = server.ended();
    assert_eq!(code, 1, "{text}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(shell.serve(&[]).stop().0, 0);
    signed(&shell);
}
