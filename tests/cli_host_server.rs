//! `host run` while the server is away, holds, denies, or its answers are lost.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::cli_host_run::House;
use crate::support::cli::KEYWARD;
use crate::support::faulty::{Fate, Network};
use crate::support::host::WORKLOAD;
use crate::support::qemu::{Fault, Script};

/// The command under way, its words on standard error line by line.
struct Running {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Running {
    fn start(house: &House, options: &[&str]) -> Self {
        let mut command = house.shell.command(KEYWARD);
        let mut child = command
            .args(house.words(options))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines: Box::new(lines.map(Result::unwrap)),
        }
    }

    /// Reads on to the line that has this.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let mut before = String::new();
        for line in self.lines.by_ref() {
            if line.contains(text) {
                return line;
            }
            before.push_str(&format!("{line}\n"));
        }
        panic!("it never said {text}:\n{before}");
    }

    fn ended(mut self) -> (i32, String) {
        let rest: Vec<_> = self.lines.by_ref().collect();
        (self.child.wait().unwrap().code().unwrap(), rest.join("\n"))
    }
}

fn hold(line: &str) -> String {
    let id = line.split("hold ").nth(1).unwrap();
    id[..36].to_owned()
}

#[test]
fn a_held_release_is_waited_for_until_it_is_confirmed() {
    let house = House::with(Script::default(), "release_limit := 0");
    let mut running = Running::start(&house, &[]);
    let held = hold(&running.until("the release is held"));
    assert!(house.injected().is_none());
    let confirm = [
        "hold",
        "confirm",
        &held,
        "--additional",
        "1",
        "--reason",
        "ticket 4711",
    ];
    house.shell.run(&confirm).done();
    let (code, said) = running.ended();
    assert_eq!(code, 0, "{said}");
    assert_eq!(house.injected().unwrap(), b"hunter2");
    assert!(house.running());
    house.nothing_left();
}

#[test]
fn a_held_release_that_is_rejected_or_not_confirmed_in_time_ends_without_secrets() {
    let house = House::with(Script::default(), "release_limit := 0");
    let mut running = Running::start(&house, &[]);
    let held = hold(&running.until("the release is held"));
    house
        .shell
        .run(&["hold", "reject", &held, "--reason", "no"])
        .done();
    let (code, said) = running.ended();
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("error: the release was denied, decision "),
        "{said}"
    );

    let house_of_nobody = House::with(Script::default(), "release_limit := 0");
    let ran = house_of_nobody.run(&["--timeout", "0s"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("error: the release is held, hold ")
            && ran
                .err
                .contains("its owner must confirm it; gave up, as --timeout is 0 s"),
        "{}",
        ran.err
    );
    for house in [&house, &house_of_nobody] {
        assert!(house.injected().is_none() && !house.running());
        house.nothing_left();
    }
}

#[test]
fn a_qemu_that_ends_or_is_resumed_during_a_hold_is_noticed_at_once() {
    let house = House::with(Script::default(), "release_limit := 0");
    let mut running = Running::start(&house, &[]);
    running.until("the release is held");
    house.machine.unplug();
    let (code, said) = running.ended();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("error: waiting: QEMU closed the connection, so it has ended"),
        "{said}"
    );
    house.nothing_left();

    let house = House::with(
        Script::with("query-sev-launch-measure", Fault::Resumed),
        "release_limit := 0",
    );
    let mut running = Running::start(&house, &[]);
    running.until("the release is held");
    let (code, said) = running.ended();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("somebody resumed the guest"), "{said}");
    assert!(house.injected().is_none());
    house.nothing_left();
}

#[test]
fn a_denial_is_told_with_its_decision_and_never_why() {
    let house = House::with(Script::default(), "deny contains \"not on a Monday\"");
    let ran = house.run(&[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let said = ran.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        said.starts_with("error: the release was denied, decision ") && !said.contains("Monday"),
        "{said}"
    );
    let id = &said.split("decision ").nth(1).unwrap()[..36];
    let shown = house.shell.run(&["decision", "show", id]).done();
    assert!(shown.contains("not on a Monday"), "{shown}");
    assert!(house.injected().is_none() && !house.running());
    house.nothing_left();

    let house = House::with(Script::default(), "deny_launch contains \"no\"");
    let ran = house.run(&[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err.starts_with("error: the launch was denied, decision "),
        "{}",
        ran.err
    );
    assert!(
        house.machine.seen.lock().unwrap().arguments.is_empty(),
        "no guest was started"
    );
    house.nothing_left();
}

#[test]
fn outages_are_waited_out_and_a_release_whose_answer_was_lost_is_counted_once() {
    let house = House::with(Script::default(), "release_limit := 1");
    let network = Network::to(
        &house.server.url,
        [
            Fate::Lost,
            Fate::Answered(503, &[("retry-after", "1")]),
            Fate::Passes,
            Fate::AnswerLost,
            Fate::Answered(429, &[]),
            Fate::Answered(502, &[]),
            Fate::Passes,
        ],
    );
    let ran = house.run(&["--server", &network.base]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(house.injected().unwrap(), b"hunter2");
    assert_eq!(house.released(), 1);
    let asked = network.asked();
    let (launches, validates) = asked.split_at(3);
    assert!(
        launches
            .iter()
            .all(|(path, key)| path.ends_with("/launch") && key.is_empty()),
        "{asked:?}"
    );
    assert_eq!(validates.len(), 4, "{asked:?}");
    assert!(validates.iter().all(|call| *call == validates[0]), "{asked:?}");
    assert!(validates[0].1.starts_with("keyward-host-"), "{asked:?}");
    for said in [
        "can't be reached",
        "answered with status 503",
        "answered with status 429",
        "asking again in",
    ] {
        assert!(ran.err.contains(said), "{said} is missing: {}", ran.err);
    }
}

#[test]
fn a_server_that_stays_away_is_given_up_before_or_after_the_guest_is_measured() {
    let house = House::new(Script::default());
    for (fates, guest) in [(vec![Fate::Lost], false), (vec![Fate::Passes, Fate::Lost], true)] {
        let network = Network::to(&house.server.url, fates);
        let ran = house.run(&["--server", &network.base, "--timeout", "0s"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let expected = format!("error: {} can't be reached: ", network.base);
        let said = ran.err.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(
            said.starts_with(&expected) && said.ends_with("gave up, as --timeout is 0 s"),
            "{said}"
        );
        assert_eq!(house.machine.seen.lock().unwrap().arguments.is_empty(), !guest);
        assert!(house.injected().is_none() && !house.running());
        house.nothing_left();
    }
    let ran = house.run(&["--server", &house.server.url, "--timeout", "0s"]);
    assert_eq!(
        ran.code, 0,
        "nothing has to wait where nothing is wrong: {}",
        ran.err
    );
}

#[test]
fn what_another_try_does_not_mend_is_not_tried_again() {
    let house = House::new(Script::default());
    for (fate, expected) in [
        (
            Fate::Answered(401, &[]),
            "does not know this host: name the file of a valid token with --token-file",
        ),
        (Fate::Answered(404, &[]), "answered with status 404"),
        (
            Fate::Answered(302, &[("location", "http://127.0.0.1:1/")]),
            "answered with status 302",
        ),
        (Fate::Answered(200, &[]), "answered what is not Keyward's"),
    ] {
        let network = Network::to(&house.server.url, [fate]);
        let ran = house.run(&["--server", &network.base]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
        assert_eq!(network.asked().len(), 1);
    }
    let ran = house.run(&["--server", "http://kbs.example.com"]);
    assert!(
        ran.err
            .ends_with("over https:// only; http:// is for a loopback address\n"),
        "{}",
        ran.err
    );
    house.nothing_left();
}

#[test]
fn a_host_shows_its_token_where_the_workload_asks_who_it_is() {
    let house = House::new(Script::default());
    let manifest = house.shell.read("m.yaml");
    house
        .shell
        .write("m.yaml", format!("{}require_host_identity: true\n", manifest));
    house.shell.run(&["apply", "-f", "m.yaml"]).done();
    let made = [
        "token", "create", "--name", "node-7", "--role", "host", "-o", "json",
    ];
    let made = house.shell.run(&made).json();
    house.shell.write("node.token", made["token"].as_str().unwrap());

    let ran = house.run(&[]);
    assert_eq!(ran.code, 2, "an owner's token is no host's: {}", ran.err);
    let ran = house.run(&["--token-file", "node.token"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(house.injected().unwrap(), b"hunter2");
    let shown = house.shell.run(&["decision", "list", "-o", "json"]).json();
    let last = shown[0]["id"].as_str().unwrap();
    let decision = house.shell.run(&["decision", "show", last, "-o", "json"]).json();
    assert_eq!(decision["input"]["host"]["identity"], "token/node-7");
    assert_eq!(decision["input"]["workload"]["uuid"], WORKLOAD);
}

#[test]
fn a_server_that_says_come_back_at_once_is_not_asked_without_end_and_a_date_is_understood() {
    let house = House::new(Script::default());
    let at_once = || Fate::Answered(503, &[("retry-after", "0")]);
    let network = Network::to(&house.server.url, (0..64).map(|_| at_once()));
    let ran = house.run(&["--server", &network.base, "--timeout", "2s"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.ends_with("gave up, as --timeout is 2 s\n"), "{}", ran.err);
    // At least half a second lies between two of them.
    assert!((2..=5).contains(&network.asked().len()), "{:?}", network.asked());

    let later = Fate::Answered(503, &[("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT")]);
    let network = Network::to(&house.server.url, [later]);
    let ran = house.run(&["--server", &network.base, "--timeout", "1m"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.ends_with("gave up, as --timeout is 60 s\n"),
        "{}",
        ran.err
    );
    assert_eq!(network.asked().len(), 1);
}
