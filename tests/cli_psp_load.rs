//! `psp load`: what it does to a server, and what it tells of it.

use std::time::Duration;

use serde_json::Value;

use crate::support::Shell;
use crate::support::cli::Server;
use crate::support::slow::{Scripted, ScriptedServer};

const UUID: &str = "11111111-2222-4333-8444-555555555555";

/// A folder with a platform.
fn with_platform(shell: &Shell) {
    shell.run(&["psp", "new", "one", "--bits", "2048"]).done();
    shell.run(&["psp", "chain", "one", "--out", "chain"]).done();
}

/// A server that trusts the platform's root, with this under `launch`.
fn served(launch: &str) -> (Shell, Server) {
    let mut shell = Shell::initialised();
    with_platform(&shell);
    let root = shell.path("chain/ark.cert");
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\nlaunch: {{{launch}}}\ndanger_extra_roots: [{{name: soft, file: {}}}]\n",
            root.display()
        ),
    );
    let server = shell.served();
    (shell, server)
}

fn load(shell: &Shell, arguments: &[&str]) -> Value {
    let mut all = vec!["psp", "load", "one", "--warm-up", "0", "-o", "json"];
    if !arguments.contains(&"--duration") {
        // It is the number of requests that ends it, on a busy machine too.
        all.extend(["--duration", "600"]);
    }
    all.extend(arguments);
    shell.run(&all).json()
}

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap()
}

#[test]
fn each_mode_makes_its_requests_and_ends_by_itself() {
    let (shell, _server) = served("");
    for (mode, steps) in [
        ("launch", &["launch"][..]),
        ("validate", &["validate"]),
        ("flow", &["launch", "validate", "flow"]),
    ] {
        let report = load(
            &shell,
            &[
                "--mode",
                mode,
                "--requests",
                "6",
                "--platforms",
                "2",
                "--workloads",
                "3",
                "--concurrency",
                "2",
                "--secrets",
                "2",
                "--digests",
                "3",
            ],
        );
        assert_eq!(report["mode"], mode);
        assert_eq!(report["loop"], "closed");
        assert_eq!(
            (&report["platforms"], &report["workloads"]),
            (&2.into(), &3.into())
        );
        let names: Vec<_> = report["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| &s["step"])
            .collect();
        assert_eq!(names, steps);
        for name in steps {
            let step = step(&report, name);
            assert_eq!(step["done"], 6, "{step}");
            assert_eq!(step["errors"], serde_json::json!({}));
            assert!(step["per_second"].as_f64().unwrap() > 0.0);
            let latency = |at: &str| step["latency_ms"][at].as_f64().unwrap();
            assert!(0.0 < latency("p50") && latency("p50") <= latency("p99"));
            assert!(latency("p99") <= latency("p99_9") && latency("p99_9") <= latency("max"));
        }
    }
    // Six validations and six flows were released, to the same three workloads.
    let listed = shell.run(&["decision", "list", "-o", "json"]).json();
    let released = listed.as_array().unwrap().iter();
    assert_eq!(
        released
            .filter(|decision| decision["outcome"] == "released")
            .count(),
        12
    );
    let workloads = shell.run(&["get", "workloads", "-o", "json"]).json();
    assert_eq!(workloads.as_array().unwrap().len(), 3, "{workloads}");
}

#[test]
fn an_open_loop_begins_as_many_as_its_rate_and_duration_say() {
    let (shell, _server) = served("");
    let report = load(
        &shell,
        &["--mode", "launch", "--rate", "200", "--duration", "0.1"],
    );
    assert_eq!(
        (&report["loop"], &report["rate"]),
        (&"open".into(), &200.0.into())
    );
    let (done, unsent) = (&step(&report, "launch")["done"], &report["unsent"]);
    assert_eq!(done.as_u64().unwrap() + unsent.as_u64().unwrap(), 20);
}

#[test]
fn the_budget_is_measured_beside_it() {
    let (shell, _server) = served("");
    let report = load(&shell, &["--requests", "4", "--budget", "--budget-dir", "data"]);
    let budget = &report["budget"];
    for member in [
        "launch_crypto_per_second",
        "validate_crypto_per_second",
        "appends_per_second",
        "launches_of_possible",
        "validations_of_appends",
    ] {
        assert!(budget[member].as_f64().unwrap() > 0.0, "{member}: {budget}");
    }
    let possible = budget["launch_crypto_per_second"].as_f64().unwrap();
    let achieved = step(&report, "flow")["per_second"].as_f64().unwrap();
    let ratio = budget["launches_of_possible"].as_f64().unwrap();
    assert!((ratio - achieved / possible).abs() < 1e-9);
    assert!(shell.list("data").iter().all(|name| !name.contains("psp-load")));
    let text = shell
        .run(&[
            "psp",
            "load",
            "one",
            "--requests",
            "2",
            "--warm-up",
            "0",
            "--budget",
        ])
        .done();
    assert!(text.contains("% of what the cryptography allows"), "{text}");
}

#[test]
fn what_the_server_refuses_is_told_by_status() {
    let (shell, _server) = served("pending_per_address: 5");
    let report = load(
        &shell,
        &["--mode", "launch", "--requests", "12", "--concurrency", "1"],
    );
    let step = step(&report, "launch");
    assert_eq!(step["done"], 5);
    assert_eq!(step["errors"], serde_json::json!({ "429": 7 }));
    let said = shell
        .run(&["psp", "load", "one", "--mode", "validate", "--guests", "3"])
        .failed();
    assert!(said.contains("the server refused the launch: "), "{said}");
    assert!(said.contains(" of 3: "), "{said}");
}

#[test]
fn a_wrong_token_and_a_server_that_is_not_there_are_told_apart() {
    let (shell, server) = served("");
    shell.write("other", "kw_0000000000000000000000000000000000000000000");
    let bad = shell
        .run(&["psp", "load", "one", "--token-file", "other"])
        .failed();
    assert!(bad.contains("token"), "{bad}");
    let url = server.url.clone();
    drop(server);
    let said = shell.run(&["psp", "load", "one", "--server", &url]).failed();
    assert!(said.contains("can't be reached"), "{said}");
    // Without anything to register, the load itself meets it, and ends long before its time.
    let ran = shell.run(&[
        "psp",
        "load",
        "one",
        "--server",
        &url,
        "--workload",
        UUID,
        "--mode",
        "launch",
        "--warm-up",
        "0",
        "--duration",
        "3600",
        "-o",
        "json",
    ]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("the run ended early") && ran.err.contains("can't be reached"),
        "{}",
        ran.err
    );
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(step(&report, "launch")["errors"]["connection"].as_u64().unwrap() > 0);
}

#[test]
fn one_slow_answer_is_slow_for_all_that_should_have_begun_meanwhile() {
    let shell = Shell::new();
    with_platform(&shell);
    let slow = ScriptedServer::start(vec![Scripted {
        after: Duration::from_millis(400),
        status: 200,
    }]);
    let report = load(
        &shell,
        &[
            "--server",
            &slow.url,
            "--workload",
            UUID,
            "--mode",
            "launch",
            "--concurrency",
            "1",
            "--rate",
            "50",
            "--requests",
            "20",
        ],
    );
    let step = step(&report, "launch");
    assert_eq!((&step["done"], &report["unsent"]), (&20.into(), &0.into()));
    let latency = |at: &str| step["latency_ms"][at].as_f64().unwrap();
    // Number n should have begun at 20n ms and began after 400: at least 400 - 20n, so half of them took 200 or more.
    assert!(latency("max") >= 399.0, "{step}");
    assert!(latency("p50") >= 190.0, "{step}");
    assert_eq!(slow.answered(), 20);
}

#[test]
fn a_request_is_tried_again_as_often_as_was_said() {
    let shell = Shell::new();
    with_platform(&shell);
    let busy = Scripted {
        after: Duration::ZERO,
        status: 503,
    };
    let slow = ScriptedServer::start(vec![busy, busy, busy]);
    let report = load(
        &shell,
        &[
            "--server",
            &slow.url,
            "--workload",
            UUID,
            "--mode",
            "launch",
            "--concurrency",
            "1",
            "--requests",
            "3",
            "--retries",
            "1",
        ],
    );
    let step = step(&report, "launch");
    // The first is given up after two, the second succeeds at its second try.
    assert_eq!((&step["done"], &step["retries"]), (&2.into(), &2.into()));
    assert_eq!(step["errors"], serde_json::json!({ "503": 1 }));
    assert_eq!(slow.answered(), 5);
}
