//! A store that fails: nothing is released that is not recorded, and nothing is answered that failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyward::store::ReleaseScope;
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, platform};

fn server() -> (Hook, App) {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard();
    (hook, app)
}

fn released(app: &App) -> u64 {
    let owner = "acme".parse().unwrap();
    let scope = ReleaseScope::Workload(WORKLOAD.parse().unwrap());
    let now = keyward::domain::Clock::now(app.clock.as_ref());
    app.service
        .store()
        .release_counts(&owner, &scope, now)
        .unwrap()
        .total
}

/// Said to come back, and told nothing else.
#[track_caller]
fn unavailable(reply: Reply) {
    let reply = reply.expect(503, "unavailable");
    assert!(reply.headers.contains_key("retry-after"));
    for member in ["secret-header", "secret-payload", "session", "decision"] {
        assert_eq!(reply.body.get(member), None, "{}", reply.body);
    }
    assert!(
        !reply.body.to_string().contains("as the test says"),
        "{}",
        reply.body
    );
}

#[test]
fn a_commit_that_failed_and_did_not_persist_leaves_the_launch_as_it_was() {
    let ((hook, app), platform) = (server(), platform());
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    for _ in 0..10 {
        hook.once("commit_release", Fate::FailsUndone);
        unavailable(app.post_once("key", &vm.path(), &request));
    }
    hook.clear();
    assert_eq!((released(&app), app.decisions().len()), (0, 0));

    let reply = app.post_once("key", &vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    assert_eq!((released(&app), app.decisions().len()), (1, 1));
}

#[test]
fn a_commit_that_failed_but_did_persist_is_counted_and_answered_to_the_same_key_only() {
    let ((hook, app), platform) = (server(), platform());
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    hook.once("commit_release", Fate::FailsDone);
    unavailable(app.post_once("key", &vm.path(), &request));
    hook.clear();
    let decisions = app.decisions();
    assert_eq!((released(&app), decisions.len()), (1, 1));
    assert_eq!(decisions[0]["outcome"], "released");

    app.post(&vm.path(), &request).expect(409, "launch-used");
    app.post_once("another", &vm.path(), &request)
        .expect(409, "launch-used");
    let reply = app.post_once("key", &vm.path(), &request).ok();
    assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    assert_eq!(reply.body["decision"], decisions[0]["id"]);
    assert_eq!((released(&app), app.decisions().len()), (1, 1));
}

#[test]
fn without_a_key_an_answer_that_was_lost_is_lost_but_counted() {
    let ((hook, app), platform) = (server(), platform());
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    hook.once("commit_release", Fate::FailsDone);
    unavailable(app.post(&vm.path(), &request));
    hook.clear();
    app.post(&vm.path(), &request).expect(409, "launch-used");
    assert_eq!(released(&app), 1);
}

/// Fails the first call of a request, then the second of the next, and so on until a request needs fewer calls:
/// how many those were. Each request is prepared while nothing fails.
pub(crate) fn each_call_fails<P>(
    hook: &Hook,
    fate: Fate,
    mut prepare: impl FnMut() -> P,
    mut request: impl FnMut(&P) -> Reply,
    at_last: &str,
) -> usize {
    for failing in 0..100 {
        let prepared = prepare();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let failed = Arc::new(Mutex::new(String::new()));
        let name = failed.clone();
        hook.set(move |called| {
            if counted.fetch_add(1, Ordering::SeqCst) == failing {
                called.clone_into(&mut name.lock().unwrap());
                fate
            } else {
                Fate::Done
            }
        });
        let reply = request(&prepared);
        hook.clear();
        if calls.load(Ordering::SeqCst) <= failing {
            assert_eq!(reply.problem(), at_last, "{}", reply.body);
            return failing;
        }
        if *failed.lock().unwrap() == "counts" {
            // Counts tell what another policy would have done; a denial is told without them.
            assert_eq!(reply.problem(), at_last, "{}", reply.body);
            continue;
        }
        unavailable(reply);
    }
    panic!("a request that never passes");
}

#[test]
fn whichever_call_fails_on_the_way_to_a_release_nothing_is_released() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        for by_workload in [false, true] {
            let ((hook, app), platform) = (server(), platform());
            let prepare = || {
                let mut vm = app.start(&platform);
                let request = vm.measure(IMAGE);
                let path = if by_workload {
                    format!("/vm/{WORKLOAD}/validate")
                } else {
                    vm.path()
                };
                (path, vm.id.to_string(), request)
            };
            let needed = each_call_fails(
                &hook,
                fate,
                prepare,
                |(path, key, request)| app.post_once(key, path, request),
                "ok",
            );
            // An earlier answer, the launch, the workload, both counts, the secret, the commit.
            assert!(needed >= 7, "{needed}");
            // The commit that failed but was done, and the request that passed.
            let expected = if fate == Fate::FailsDone { 2 } else { 1 };
            assert_eq!(released(&app), expected, "{fate:?}");
        }
    }
}

#[test]
fn whichever_call_fails_on_the_way_to_a_session_there_is_none() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        let ((hook, app), platform) = (server(), platform());
        let path = format!("/vm/{WORKLOAD}/launch");
        let request = launch_request(&platform);
        let needed = each_call_fails(&hook, fate, || (), |()| app.post(&path, &request), "ok");
        // The workload, the chip, both counts, the launch.
        assert!(needed >= 5, "{needed}");
    }
}

#[test]
fn whichever_call_fails_a_denial_or_a_hold_is_told_only_once_it_is_recorded() {
    let table = [
        ("allow := false", "denied", "denied"),
        (
            "allow := true\n\nrelease_limit := 0",
            "confirmation-required",
            "held",
        ),
    ];
    for (rules, problem, outcome) in table {
        for fate in [Fate::FailsUndone, Fate::FailsDone] {
            let ((hook, app), platform) = (server(), platform());
            app.bundle(&[("release/any.rego", &format!("package release.any\n\n{rules}\n"))]);
            let prepare = || {
                let mut vm = app.start(&platform);
                (vm.path(), vm.measure(IMAGE))
            };
            each_call_fails(
                &hook,
                fate,
                prepare,
                |(path, request)| app.post(path, request),
                problem,
            );
            // A denial whose counts can't be read is recorded too.
            let recorded = if fate == Fate::FailsDone { 2 } else { 1 } + usize::from(problem == "denied");
            let outcomes: Vec<_> = app.decisions().iter().map(|d| d["outcome"].clone()).collect();
            assert_eq!(outcomes, vec![json!(outcome); recorded], "{fate:?}");
            assert_eq!(released(&app), 0);
        }
    }
}

#[test]
fn whichever_call_fails_on_the_way_to_a_launch_s_denial_it_is_not_allowed() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        let ((hook, app), platform) = (server(), platform());
        app.bundle(&[(
            "release/any.rego",
            "package release.any\n\nallow := true\n\nallow_launch := false\n",
        )]);
        let (path, request) = (format!("/vm/{WORKLOAD}/launch"), launch_request(&platform));
        // A minute later a refusal has a record of its own.
        let prepare = || app.clock.advance(std::time::Duration::from_secs(60));
        each_call_fails(&hook, fate, prepare, |()| app.post(&path, &request), "denied");
    }
}

#[test]
fn a_refusal_that_could_not_be_recorded_is_recorded_later() {
    let ((hook, app), platform) = (server(), platform());
    app.bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n\nallow_launch := false\n",
    )]);
    let path = format!("/vm/{WORKLOAD}/launch");
    hook.set(|method| match method {
        "record_refusals" => Fate::FailsUndone,
        _ => Fate::Done,
    });
    unavailable(app.post(&path, &launch_request(&platform)));
    app.post(&path, &launch_request(&platform)).expect(403, "denied");
    assert!(app.service.tidy().is_err());
    hook.clear();
    assert_eq!(app.decisions().len(), 0);
    app.service.tidy().unwrap();
    let decisions = app.decisions();
    assert_eq!((decisions.len(), &decisions[0]["count"]), (1, &json!(2)));
}

#[test]
fn a_bundle_that_can_not_be_read_is_no_bundle_that_allows() {
    let ((_, app), platform) = (server(), platform());
    let hook = Hook::default();
    // A server that starts has no bundle in memory.
    let cold = app.again(hook.options());
    hook.once("bundle", Fate::FailsUndone);
    unavailable(cold.post(&format!("/vm/{WORKLOAD}/launch"), &launch_request(&platform)));
    hook.clear();
    cold.run(&platform).1.ok();
}

#[test]
fn a_failed_measurement_that_can_not_be_charged_is_not_told() {
    let ((hook, app), platform) = (server(), platform());
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    request["build-id"] = json!(9);
    hook.set(|method| match method {
        "charge_try" => Fate::FailsUndone,
        _ => Fate::Done,
    });
    unavailable(app.post(&vm.path(), &request));
}

#[test]
fn owners_hear_of_a_failing_store_too_and_nothing_is_half_registered() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    for (fate, registered) in [(Fate::FailsUndone, 0), (Fate::FailsDone, 1)] {
        hook.once("apply", fate);
        app.try_apply(standard(json!({}))).expect(503, "unavailable");
        hook.clear();
        for path in ["/v1/workloads", "/v1/secrets", "/v1/bundles"] {
            let list = app.owner("GET", path, &Value::Null).ok().body;
            assert_eq!(list["items"].as_array().unwrap().len(), registered, "{path}");
        }
    }
    app.standard();
    for method in ["caller", "owner_state"] {
        hook.once(method, Fate::FailsUndone);
        app.try_apply(json!([bundle(&[])])).expect(503, "unavailable");
    }
    hook.once("ping", Fate::FailsUndone);
    app.request("GET", "/readyz", &[], b"").expect(503, "unavailable");
    app.request("GET", "/readyz", &[], b"").ok();
}

#[test]
fn a_table_that_is_gone_under_a_running_server_is_not_read_as_empty() {
    let ((_, app), platform) = (server(), platform());
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    {
        let database = rusqlite::Connection::open(app.folder.path().join("keyward.db")).unwrap();
        database
            .execute_batch("ALTER TABLE counts RENAME TO elsewhere")
            .unwrap();
    }
    unavailable(app.post(&vm.path(), &request));
    {
        let database = rusqlite::Connection::open(app.folder.path().join("keyward.db")).unwrap();
        database
            .execute_batch("ALTER TABLE elsewhere RENAME TO counts")
            .unwrap();
    }
    app.post(&vm.path(), &request).ok();
}
