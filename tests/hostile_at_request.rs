//! Policies that pass every static check and misbehave when a host asks: each is a recorded deny, the server goes
//! on, and another owner's guests have their secrets while it happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use keyward::policy::Limits;
use serde_json::{Value, json};

use crate::support::App;
use crate::support::app::{Options, bundle};
use crate::support::host::{WORKLOAD, standard};
use crate::support::other::{OTHERS_WORKLOAD, Other, run, shared};

/// What a policy may take here.
const TIME: Duration = Duration::from_secs(1);
/// Hosts that ask for the hostile owner's secrets at once: as many as there are workers.
const HOSTS: usize = 3;
/// Guests of the other owner that are launched meanwhile.
const GUESTS: usize = 2;

/// Values that share their parts: forty lines that stand for more than any machine holds.
fn doubled(name: &str, first: &str, step: &str) -> String {
    let mut text = format!("\t{name}0 := {first}\n");
    for n in 0..40 {
        let step = step.replace('X', &format!("{name}{n}"));
        text.push_str(&format!("\t{name}{} := {step}\n", n + 1));
    }
    text
}

fn shared_parts(name: &str) -> String {
    doubled(name, "[input.version]", "[X, X]")
}

/// The usual objects; what the policy does besides is done for their owner only, so that the trial at registration,
/// which is about another, finds nothing.
fn guarded(body: &str) -> Value {
    let mut objects = standard(json!({}));
    let text = format!(
        "package release.any\n\ndefault allow := false\n\nallow if is_string(input.attested.launch_digest)\n\n\
         deny contains \"never\" if {{\n\tinput.owner == \"acme\"\n{body}\n}}\n"
    );
    let numbers: Vec<u32> = (0..64).collect();
    let data = json!({ "n": numbers }).to_string();
    objects[0] = bundle(&[("release/any.rego", &text), ("lists/data.json", &data)]);
    objects
}

/// Registers such a policy; hosts ask for its owner's secrets all the while that the other owner's guests are
/// launched and given theirs. Every hostile request is denied, and recorded with this kind and reason.
fn denied_while_others_are_served(body: &str, kind: &str, reason: &str) {
    denied_within(TIME, HOSTS, body, kind, reason);
}

fn denied_within(time: Duration, hosts: usize, body: &str, kind: &str, reason: &str) {
    let app = App::with(Options {
        policy: Limits {
            time,
            ..Limits::default()
        },
        workers: HOSTS,
        ..shared()
    });
    let other = Other::of(&app);
    let theirs = standard(json!({"uuid": OTHERS_WORKLOAD}));
    other
        .send("POST", "/v1/apply", &json!({ "objects": theirs }))
        .ok();
    app.apply(guarded(body));

    let (asked, begun) = channel();
    let (served, unanswered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let overlapping = std::thread::scope(|scope| {
        for _ in 0..hosts {
            let (app, asked) = (&app, asked.clone());
            let (served, unanswered) = (&served, &unanswered);
            scope.spawn(move || {
                while !served.load(Ordering::SeqCst) {
                    unanswered.fetch_add(1, Ordering::SeqCst);
                    let _ = asked.send(());
                    let reply = run(app, WORKLOAD).1;
                    unanswered.fetch_sub(1, Ordering::SeqCst);
                    // A host that found every worker of its owner taken is told to come back.
                    if reply.status != 503 {
                        reply.expect(403, "denied");
                    }
                }
            });
        }
        drop(asked);
        // Ends the hosts' loops, whatever becomes of a guest.
        let _ended = OnDrop(&served);
        let mut overlapping = 0;
        // Every host has begun before the first guest; an error means that all of them have failed.
        for _ in 0..hosts {
            begun.recv().expect("a host that asks");
        }
        for _ in 0..GUESTS {
            let (vm, reply) = run(&app, OTHERS_WORKLOAD);
            overlapping += unanswered.load(Ordering::SeqCst).min(1);
            assert_eq!(vm.unwrap(&reply.ok())[0].1, b"hunter2");
        }
        overlapping
    });
    assert!(overlapping > 0, "no guest was served while another's policy ran");

    let decisions = app.decisions();
    assert!(!decisions.is_empty());
    for decision in &decisions {
        assert_eq!(decision["outcome"], "denied", "{decision}");
        let said = decision["reason"].as_str().unwrap();
        let policies = decision["policies"].as_array().unwrap();
        let own = policies.iter().find(|verdict| verdict["policy"] == "release.any");
        let own = own.expect("its verdict");
        assert_eq!(own["error"]["kind"], kind, "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let released = other.items("/v1/decisions");
    assert_eq!(released.len(), GUESTS);
    assert!(released.iter().all(|decision| decision["outcome"] == "released"));
    // The same owner is served again as soon as its policy is better.
    app.apply(guarded("\tfalse"));
    run(&app, WORKLOAD).1.ok();
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_loop_without_end_is_ended_by_the_engine() {
    let walk = "\tsome a in data.lists.n\n\tsome b in data.lists.n\n\tsome c in data.lists.n\n\t\
                some d in data.lists.n\n\ta + b + c + d < 0";
    denied_while_others_are_served(walk, "time-limit", "not decided within 1s");
}

#[test]
fn a_cross_product_of_sets_is_ended_by_the_engine() {
    let product = "\tx := {[a, b, c, d] |\n\t\tsome a in data.lists.n\n\t\tsome b in data.lists.n\n\t\t\
                   some c in data.lists.n\n\t\tsome d in data.lists.n\n\t}\n\tcount(x) == 0";
    denied_while_others_are_served(product, "time-limit", "not decided within 1s");
}

#[test]
fn a_comparison_without_end_is_ended_with_its_worker() {
    let compare = format!("{}{}\tx40 == y40", shared_parts("x"), shared_parts("y"));
    denied_while_others_are_served(&compare, "time-limit", "not decided within 1s");
}

#[test]
fn a_value_that_no_memory_holds_ends_its_worker_only() {
    let print = format!("{}\tprint(x40)", shared_parts("x"));
    // One host, as memory takes a while to fill, and time enough for that.
    denied_within(
        Duration::from_secs(20),
        1,
        &print,
        "crashed",
        "its worker died of it (signal ",
    );
}

#[test]
fn a_value_that_no_memory_holds_is_refused_by_the_built_ins_that_would_write_it() {
    let marshal = format!("{}\tjson.marshal(x40) == \"\"", shared_parts("x"));
    denied_while_others_are_served(&marshal, "evaluation-error", "more than");
}

#[test]
fn a_text_that_is_doubled_forty_times_is_refused_by_the_built_in_that_would_make_it() {
    for step in ["concat(\"\", [X, X])", "replace(X, \"a\", \"aa\")"] {
        let text = format!("{}\tx40 == \"\"", doubled("x", "\"a\"", step));
        denied_while_others_are_served(&text, "evaluation-error", "more than");
    }
}

#[test]
fn arguments_that_the_engine_panics_or_allocates_without_bound_on_are_refused() {
    for (call, reason) in [
        (
            "\tsprintf(\"%2000000000d\", [input.version]) == \"\"",
            "plain verbs",
        ),
        ("\tstrings.count(input.owner, \"\") == 0", "empty"),
    ] {
        denied_while_others_are_served(call, "evaluation-error", reason);
    }
}

#[test]
fn a_result_that_is_too_large_is_a_deny_before_it_is_looked_at() {
    let app = App::with(Options {
        policy: Limits {
            time: TIME,
            ..Limits::default()
        },
        ..shared()
    });
    // The messages themselves are what is shared.
    let mut objects = guarded("\tfalse");
    let text = format!(
        "package release.any\n\nallow if is_string(input.attested.launch_digest)\n\n\
         deny contains x40 if {{\n\tinput.owner == \"acme\"\n{}}}\n",
        shared_parts("x")
    );
    objects[0] = bundle(&[("release/any.rego", &text)]);
    app.apply(objects);
    let begun = Instant::now();
    let reply = run(&app, WORKLOAD).1.expect(403, "denied");
    // Twice the limit, and what a busy machine adds to the request around it.
    assert!(begun.elapsed() < 4 * TIME, "{:?}", begun.elapsed());
    let policies = app.decision(&reply.body["decision"])["policies"].clone();
    let kinds: Vec<_> = policies
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["error"]["kind"].clone())
        .collect();
    assert!(kinds.contains(&json!("too-large")), "{kinds:?}");
}
