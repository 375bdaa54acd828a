//! How `host run`, `launch` and `validate` end before their time: by a signal, without a reader, at somebody else's QEMU.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::process::{ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::cli_host_run::House;
use crate::support::cli::{KEYWARD, Ran, ran};
use crate::support::faulty::{Fate, Network};
use crate::support::host::WORKLOAD;
use crate::support::qemu::{Fault, Script};

fn send(signal: &str, id: u32) {
    let kill = ran(Command::new("kill").args([signal, &id.to_string()]));
    assert_eq!(kill.code, 0, "{}", kill.err);
}

/// Reads on to the line that has this, which is what a signal waits for.
#[track_caller]
fn until(lines: &mut std::io::Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let line = lines.map(Result::unwrap).find(|line| line.contains(text));
    line.unwrap_or_else(|| panic!("it never said {text}"))
}

#[test]
fn a_signal_takes_the_files_and_the_started_qemu_with_it() {
    // It says nothing before it is measured: the files are there, and nothing but a signal ends it.
    let house = House::new(Script::with("query-sev", Fault::Silence));
    let mut command = house.shell.command(KEYWARD);
    let mut child = command
        .args(house.words(&[]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    until(&mut lines, "listens on");
    let folder = format!("run/{}", house.shell.list("run")[0]);
    assert_eq!(house.shell.list(&folder), ["dh-cert.b64", "qmp", "session.b64"]);
    send("-TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, [""; 0], "whoever ended it knows that it ended");
    assert_eq!(house.shell.read("qemu.ended"), "TERM\n");
    assert!(house.injected().is_none() && !house.running());
    house.nothing_left();
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let house = House::with(Script::default(), "release_limit := 0");
    let mut child = house
        .shell
        .command("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh", KEYWARD])
        .args(house.words(&[]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let held = until(&mut lines, "the release is held");
    send("-HUP", child.id());
    let id = &held.split("hold ").nth(1).unwrap()[..36];
    let confirm = [
        "hold",
        "confirm",
        id,
        "--additional",
        "1",
        "--reason",
        "ticket 4711",
    ];
    house.shell.run(&confirm).done();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(house.running());
}

#[test]
fn a_guest_that_is_resumed_while_the_server_is_waited_for_is_noticed_at_once() {
    let house = House::new(Script::default());
    let away = Fate::Answered(503, &[("retry-after", "3600")]);
    let network = Network::to(&house.server.url, [Fate::Passes, away]);
    let mut command = house.shell.command(KEYWARD);
    let mut child = command
        .args(house.words(&["--server", &network.base, "--timeout", "3h"]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    until(&mut lines, "answered with status 503");
    house.machine.resumed();
    until(
        &mut lines,
        "error: somebody resumed the guest while its secrets were waited for",
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(house.injected().is_none());
    house.nothing_left();
}

/// `host run` for a QEMU of somebody else's, which is to be ended if it gets no secrets.
fn follow(house: &House, socket: &str) -> Command {
    house.shell.write("chain", house.machine.platform().full_chain());
    let mut command = house.shell.command(KEYWARD);
    command.args(["host", "run", "--workload", WORKLOAD, "--cert-chain", "chain"]);
    command.args(["--out", "run", "--qmp", socket, "--on-failure", "quit"]);
    command
}

#[test]
fn a_qemu_that_listens_before_the_launch_is_refused_and_left_alone() {
    let house = House::new(Script::default());
    let socket = house.shell.path("vm.qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    let said = ran(&mut follow(&house, "vm.qmp")).failed();
    assert_eq!(
        said,
        "error: a QEMU already listens on vm.qmp; it can't have read this launch's files: end it first\n"
    );
    // It was connected to, and told nothing.
    let (mut stream, _) = listener.accept().unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "once is enough");
    house.nothing_left();
}

#[test]
fn a_qemu_that_appears_later_but_runs_already_is_never_told_to_quit() {
    for (script, expected) in [
        (
            Script {
                runs: true,
                ..Script::default()
            },
            "the guest is running",
        ),
        (
            Script::with("query-sev", Fault::Returns(serde_json::json!({"enabled": false}))),
            "the guest is not protected by SEV",
        ),
    ] {
        let house = House::new(script);
        let mut child = follow(&house, "vm.qmp").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        until(&mut lines, "wrote run/dh-cert.b64");
        let machine = house.machine.clone();
        let socket = house.shell.path("vm.qmp");
        let files = ["dh-cert.b64", "session.b64"].map(|name| house.shell.path(&format!("run/{name}")));
        let guest = std::thread::spawn(move || machine.guest(&socket, &files, 3));
        until(
            &mut lines,
            "QEMU is left as it is: it runs, or is not the one that this launch is for",
        );
        until(&mut lines, expected);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        guest.join().unwrap();
        let seen = house.machine.seen.lock().unwrap();
        assert!(!seen.commands.contains(&"quit".to_owned()), "{:?}", seen.commands);
        house.nothing_left();
    }
}

/// Starts a QEMU of somebody else's, once `host run` has written its files.
fn appears(house: &House, lines: &mut std::io::Lines<BufReader<ChildStderr>>) -> std::thread::JoinHandle<()> {
    until(lines, "wrote run/dh-cert.b64");
    let (machine, socket) = (house.machine.clone(), house.shell.path("vm.qmp"));
    let files = ["dh-cert.b64", "session.b64"].map(|name| house.shell.path(&format!("run/{name}")));
    std::thread::spawn(move || machine.guest(&socket, &files, 3))
}

#[test]
fn a_guest_that_another_resumed_during_a_hold_is_not_told_to_quit() {
    let house = House::with(Script::default(), "release_limit := 0");
    let mut child = follow(&house, "vm.qmp").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let guest = appears(&house, &mut lines);
    until(&mut lines, "the release is held");
    house.machine.resumed();
    until(
        &mut lines,
        "QEMU is left as it is: it runs, or is not the one that this launch is for",
    );
    until(
        &mut lines,
        "error: somebody resumed the guest while its secrets were waited for",
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
    guest.join().unwrap();
    let seen = house.machine.seen.lock().unwrap();
    assert!(
        seen.running && !seen.commands.contains(&"quit".to_owned()),
        "{:?}",
        seen.commands
    );
    assert!(seen.injected.is_none());
    house.nothing_left();
}

#[test]
fn a_guest_that_is_denied_is_told_to_quit_only_while_it_still_waits() {
    for (script, quits, expected) in [
        (Script::default(), true, "QEMU was told to quit"),
        // Paused when it was measured; later it runs.
        (
            Script::with(
                "query-status",
                Fault::Later(serde_json::json!({"status": "running"})),
            ),
            false,
            "QEMU is left as it is: it is not known to be paused: the guest is running",
        ),
    ] {
        let house = House::with(script, "deny contains \"no\"");
        let mut child = follow(&house, "vm.qmp").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let guest = appears(&house, &mut lines);
        until(&mut lines, expected);
        assert_eq!(child.wait().unwrap().code(), Some(2));
        guest.join().unwrap();
        let seen = house.machine.seen.lock().unwrap();
        assert_eq!(
            seen.commands.contains(&"quit".to_owned()),
            quits,
            "{:?}",
            seen.commands
        );
        assert!(seen.injected.is_none());
        house.nothing_left();
    }
}

/// Runs it with a standard output that nobody reads: a pipe whose reader has gone, and a full disk.
fn unread(mut command: impl FnMut() -> Command) -> [Ran; 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    [Stdio::from(writer), Stdio::from(full)].map(|stdout| {
        let child = command().stdout(stdout).stderr(Stdio::piped()).spawn();
        let ended = child.unwrap().wait_with_output().unwrap();
        Ran {
            code: ended.status.code().unwrap(),
            out: String::new(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    })
}

#[test]
fn a_guest_that_runs_is_watched_to_its_end_though_nobody_reads_what_is_printed() {
    let house = House::new(Script::default());
    let run = || {
        let mut command = house.shell.command(KEYWARD);
        command.args(house.words(&["-o", "json"]));
        command
    };
    for ran in unread(run) {
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.err.contains("keyward: standard output: "), "{}", ran.err);
        assert!(house.running());
        house.nothing_left();
    }
}

#[test]
fn a_launch_that_nobody_could_be_told_of_leaves_no_files() {
    let house = House::new(Script::default());
    house.shell.write("chain", house.machine.platform().full_chain());
    let launch = |options: &[&str]| {
        let mut command = house.shell.command(KEYWARD);
        command
            .args(["host", "launch", "--workload", WORKLOAD, "--cert-chain", "chain"])
            .args(options);
        command
    };
    for options in [&["--out", "run"][..], &["--out", "run", "-o", "json"]] {
        for ran in unread(|| launch(options)) {
            assert_eq!(ran.code, 1, "{}", ran.err);
            assert!(ran.err.starts_with("error: standard output: "), "{}", ran.err);
            house.nothing_left();
        }
    }
}

#[test]
fn files_that_another_launch_has_put_in_their_place_are_not_removed() {
    let house = House::new(Script::default());
    let socket = house.shell.path("vm.qmp");
    let mut child = follow(&house, socket.to_str().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    until(&mut lines, "wrote run/dh-cert.b64");
    let first = std::fs::metadata(house.shell.path("run/session.b64"))
        .unwrap()
        .ino();
    let again = ["host", "launch", "--workload", WORKLOAD, "--cert-chain", "chain"];
    let made: Value = house
        .shell
        .run(&[&again[..], &["--out", "run", "-o", "json"]].concat())
        .json();
    send("-TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(house.shell.list("run"), ["dh-cert.b64", "session.b64"]);
    assert_ne!(
        std::fs::metadata(house.shell.path("run/session.b64"))
            .unwrap()
            .ino(),
        first
    );
    assert_eq!(made["session"], house.shell.read("run/session.b64"));
}
