//! Policies that end or hold up the process that evaluates them: one denied request of their owner, nothing more.

use std::time::{Duration, Instant};

use keyward::policy::Limits;
use serde_json::{Value, json};

use crate::support::app::{Options, bundle};
use crate::support::host::{IMAGE, standard};
use crate::support::{App, platform};

/// A server whose policies have half a second.
fn app() -> App {
    App::with(Options {
        policy: Limits {
            time: Duration::from_millis(500),
            ..Limits::default()
        },
        ..Options::default()
    })
}

/// A guard on the owner, so that the trial at registration, about another owner, finds nothing.
fn guarded(body: &str) -> Value {
    let mut objects = standard(json!({}));
    let text = format!(
        "package release.any\n\ndefault allow := false\n\nallow if is_string(input.attested.launch_digest)\n\n\
         deny contains \"never\" if {{\n\tinput.owner == \"acme\"\n{body}\n}}\n"
    );
    objects[0] = bundle(&[("release/any.rego", &text)]);
    objects
}

/// Values that share their parts: forty lines that stand for more than any machine holds.
fn shared(name: &str) -> String {
    let mut text = format!("\t{name}0 := [input.version]\n");
    for n in 0..40 {
        text.push_str(&format!("\t{name}{} := [{name}{n}, {name}{n}]\n", n + 1));
    }
    text
}

#[test]
fn a_policy_that_hangs_in_one_step_is_a_deny_within_twice_its_time() {
    let (app, platform) = (app(), platform());
    app.apply(guarded(&format!("{}{}\tx40 == y40", shared("x"), shared("y"))));
    for _ in 0..3 {
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let begun = Instant::now();
        let reply = app.post(&vm.path(), &request).expect(403, "denied");
        // Twice 500 ms, and what a busy machine adds to the request around it.
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let reason = app.reason(&reply);
        assert!(reason.contains("not decided within 500ms"), "{reason}");
    }
    // The server is as well as before.
    app.apply(guarded("\tfalse"));
    app.run(&platform).1.ok();
}

#[test]
fn a_policy_that_exhausts_its_worker_s_memory_is_a_deny_and_says_so() {
    let app = App::with(Options {
        policy: Limits {
            time: Duration::from_secs(20),
            ..Limits::default()
        },
        ..Options::default()
    });
    let platform = platform();
    app.apply(guarded(&format!("{}\tprint(x40)", shared("x"))));
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let reply = app.post(&vm.path(), &request).expect(403, "denied");
    let reason = app.reason(&reply);
    assert!(reason.contains("its worker died of it (signal "), "{reason}");
    let decision = app.decision(&reply.body["decision"]);
    let kinds: Vec<_> = decision["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["error"]["kind"].clone())
        .collect();
    assert!(kinds.contains(&json!("crashed")), "{kinds:?}");
    app.apply(guarded("\tfalse"));
    app.run(&platform).1.ok();
}

#[test]
fn a_bundle_that_ends_its_worker_when_it_is_tried_is_refused_and_nothing_is_registered() {
    let app = app();
    let mut objects = standard(json!({}));
    let text = format!(
        "package release.any\n\nallow if {{\n{}\tprint(x40)\n}}\n",
        shared("x")
    );
    objects[0] = bundle(&[("release/any.rego", &text)]);
    let refused = app.try_apply(objects).expect(422, "invalid");
    assert!(
        refused.detail().contains("the bundle can't be loaded"),
        "{}",
        refused.detail()
    );
    let active = app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    assert_eq!(active, Value::Null);
}

#[test]
fn a_worker_that_is_killed_while_it_is_idle_costs_nobody_anything() {
    let (app, platform) = (app(), platform());
    app.standard();
    app.run(&platform).1.ok();
    for id in workers() {
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &id])
            .status()
            .unwrap();
        assert!(killed.success());
        while alive(&id) {
            std::thread::yield_now();
        }
    }
    app.run(&platform).1.ok();
}

/// Whether a process still runs; one that has ended and was not waited for is a zombie.
fn alive(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("State:")
            .is_some_and(|state| !state.trim().starts_with(['Z', 'X']))
    })
}

/// Process ids of the workers that this test's server started.
fn workers() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let parent = read("status").lines().any(|line| {
            line.strip_prefix("PPid:")
                .is_some_and(|parent| parent.trim() == own)
        });
        if parent && read("cmdline").contains("policy\0worker") {
            found.push(id);
        }
    }
    assert!(!found.is_empty(), "there are no workers");
    found
}

#[test]
fn workers_have_nothing_of_the_server_s_open_and_no_environment() {
    let (app, platform) = (app(), platform());
    app.standard();
    app.run(&platform).1.ok();
    for id in workers() {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap();
        assert_eq!(environment, b"", "an environment");
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{id}/fd"))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
            .filter(|open| open.starts_with(app.folder.path()))
            .collect();
        assert!(
            open.is_empty(),
            "the server's files are open in a worker: {open:?}"
        );
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let address_space = limits
            .lines()
            .find(|line| line.starts_with("Max address space"))
            .unwrap();
        assert!(
            address_space.contains(&(512_u64 << 20).to_string()),
            "{address_space}"
        );
    }
}

#[test]
fn a_worker_ends_when_its_server_is_gone() {
    let program = env!("CARGO_BIN_EXE_keyward");
    let mut worker = std::process::Command::new(program)
        .args(["policy", "worker", "--memory-mib", "512"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}
