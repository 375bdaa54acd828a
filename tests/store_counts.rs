//! Counts: exact, all or none, and of longer life than what they count.

use keyward::store::{ReleaseCounts, ReleaseScope};
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, WORKLOAD, digest, standard};
use crate::support::{App, Reply, Vm, platform};

const WIDE: &str = "package release.wide\n\nallow := true\n";
/// One release in all.
const ONCE: &str = "package release.once\n\nallow := true\n\nrelease_limit := 1\n";

/// Two secrets: `tight`, which is released once, and `wide`, which has this policy.
fn two_secrets(app: &App, wide: &str) {
    let secret = |name: &str, guid: &str, policy: &str| {
        json!({
            "kind": "Secret", "name": name, "type": "opaque", "guid": guid,
            "value": {"base64": "aHVudGVyMg=="}, "policies": [policy],
        })
    };
    let mut objects = standard(json!({"secrets": ["tight", "wide"]}));
    objects[0] = bundle(&[("release/once.rego", ONCE), ("release/wide.rego", WIDE)]);
    objects[1] = secret("tight", "00000000-0000-4000-8000-000000000001", "release.once");
    let objects = objects.as_array_mut().unwrap();
    objects.insert(2, secret("wide", "00000000-0000-4000-8000-000000000002", wide));
    app.apply(json!(objects));
}

/// A new guest that asks for these secrets.
fn ask(app: &App, secrets: &[&str]) -> Reply {
    let platform = platform();
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    request["secrets"] = json!(secrets);
    app.post(&vm.path(), &request)
}

fn total(app: &App, scope: &ReleaseScope) -> u64 {
    let owner = "acme".parse().unwrap();
    let now = keyward::domain::Clock::now(app.clock.as_ref());
    app.service
        .store()
        .release_counts(&owner, scope, now)
        .unwrap()
        .total
}

fn of_secret(app: &App, name: &str) -> u64 {
    total(app, &ReleaseScope::Secret(name.parse().unwrap()))
}

fn of_workload(app: &App) -> u64 {
    total(app, &ReleaseScope::Workload(WORKLOAD.parse().unwrap()))
}

#[test]
fn when_one_secret_is_at_its_limit_none_of_the_others_is_counted() {
    let app = App::new();
    two_secrets(&app, "release.once");
    ask(&app, &["tight"]).ok();
    for secrets in [["tight", "wide"], ["wide", "tight"]] {
        ask(&app, &secrets).expect(403, "confirmation-required");
    }
    assert_eq!(
        (
            of_secret(&app, "tight"),
            of_secret(&app, "wide"),
            of_workload(&app)
        ),
        (1, 0, 1)
    );
    ask(&app, &["wide"]).ok();
    ask(&app, &["wide"]).expect(403, "confirmation-required");
    assert_eq!(
        (
            of_secret(&app, "tight"),
            of_secret(&app, "wide"),
            of_workload(&app)
        ),
        (1, 1, 2)
    );
}

#[test]
fn a_held_launch_is_neither_spent_nor_charged_and_passes_once_the_limit_has_room() {
    let (app, platform) = (App::new(), platform());
    two_secrets(&app, "release.wide");
    ask(&app, &["tight"]).ok();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    for _ in 0..20 {
        app.post(&vm.path(), &request)
            .expect(403, "confirmation-required");
    }
    let twice = ONCE.replace(":= 1", ":= 2");
    app.bundle(&[("release/once.rego", &twice), ("release/wide.rego", WIDE)]);
    app.post(&vm.path(), &request).ok();
    assert_eq!((of_secret(&app, "tight"), of_secret(&app, "wide")), (2, 1));
}

#[test]
fn a_denied_release_counts_nothing() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.bundle(&[("release/any.rego", "package release.any\n\nallow := false\n")]);
    app.run(&platform).1.expect(403, "denied");
    assert_eq!((of_secret(&app, "disk"), of_workload(&app)), (0, 0));
}

#[test]
fn counts_survive_whatever_happens_to_what_they_count() {
    let objects = |value: &str, policy: &str| {
        let mut objects = standard(json!({}));
        objects[0] = bundle(&[("release/once.rego", policy)]);
        objects[1]["policies"] = json!(["release.once"]);
        objects[1]["value"] = json!({"base64": value});
        objects
    };
    let remade = |app: &App| {
        for path in [&format!("/v1/workloads/{WORKLOAD}"), "/v1/secrets/disk"] {
            let gone = app.owner("DELETE", path, &Value::Null);
            assert_eq!(gone.status, 204, "{path}: {}", gone.body);
        }
        app.apply(objects("aHVudGVyMg==", ONCE));
    };
    let longer = format!("{ONCE}\n# Another revision.\n");
    type Change<'a> = &'a dyn Fn(&App);
    let table: [(&str, Change<'_>); 6] = [
        ("the same again", &|app| {
            drop(app.apply(objects("aHVudGVyMg==", ONCE)))
        }),
        ("another value", &|app| drop(app.apply(objects("Z2VoZWlt", ONCE)))),
        ("another revision", &|app| {
            drop(app.apply(objects("aHVudGVyMg==", &longer)))
        }),
        ("without a limit and back", &|app| {
            app.apply(objects("aHVudGVyMg==", &ONCE.replace("release_limit", "unused")));
            app.apply(objects("aHVudGVyMg==", ONCE));
        }),
        ("deleted and made anew", &remade),
        ("a restart", &|_| {}),
    ];
    for (name, change) in table {
        let (app, platform) = (App::new(), platform());
        app.apply(objects("aHVudGVyMg==", ONCE));
        app.run(&platform).1.ok();
        app.run(&platform).1.expect(403, "confirmation-required");
        change(&app);
        let app = app.again(crate::support::app::Options::default());
        let (_, reply) = app.run(&platform);
        assert_eq!(reply.problem(), "confirmation-required", "{name}: {}", reply.body);
        assert_eq!(of_secret(&app, "disk"), 1, "{name}");
    }
}

#[test]
fn a_secret_made_anew_gets_a_version_that_none_before_had() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.owner("DELETE", &format!("/v1/workloads/{WORKLOAD}"), &Value::Null);
    app.owner("DELETE", "/v1/secrets/disk", &Value::Null);
    app.standard();
    let (_, reply) = app.run(&platform);
    let decision = app.decision(&reply.ok().body["decision"]);
    assert_eq!(decision["released"], json!([{"name": "disk", "version": 2}]));
}

#[test]
fn counts_of_the_last_hour_and_day_forget_and_totals_do_not() {
    use std::time::Duration;
    let (app, platform) = (App::new(), platform());
    app.standard();
    let owner = "acme".parse().unwrap();
    let counts = |app: &App| {
        let now = keyward::domain::Clock::now(app.clock.as_ref());
        let scope = ReleaseScope::Secret("disk".parse().unwrap());
        let ReleaseCounts {
            total,
            last_hour,
            last_day,
        } = app.service.store().release_counts(&owner, &scope, now).unwrap();
        (total, last_hour, last_day)
    };
    app.run(&platform).1.ok();
    app.clock.advance(Duration::from_secs(3599));
    app.run(&platform).1.ok();
    assert_eq!(counts(&app), (2, 2, 2));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(counts(&app), (2, 1, 2));
    app.clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!(counts(&app), (2, 0, 1));
    app.clock.advance(Duration::from_secs(3599));
    assert_eq!(counts(&app), (2, 0, 0));
}

#[test]
fn a_launch_is_spent_once_however_many_ask_at_once() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    for by_workload in [false, true] {
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let path = if by_workload {
            format!("/vm/{WORKLOAD}/validate")
        } else {
            vm.path()
        };
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| app.post(&path, &request)))
                .collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let released = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(released, 1);
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            // By the workload's UUID a spent launch is one more that does not match.
            let expected = [(409, "launch-used"), (422, "measurement-mismatch")];
            assert!(
                expected.contains(&(reply.status, reply.problem())),
                "{}",
                reply.body
            );
            assert!(by_workload || reply.status == 409, "{}", reply.body);
        }
    }
    assert_eq!((of_secret(&app, "disk"), of_workload(&app)), (2, 2));
    let released = app
        .decisions()
        .iter()
        .filter(|d| d["outcome"] == "released")
        .count();
    assert_eq!(released, 2);
}

#[test]
fn one_request_sent_many_times_at_once_with_one_key_is_answered_alike_and_counted_once() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| app.post_once("once", &vm.path(), &request)))
            .collect();
        asking
            .into_iter()
            .map(|asked| asked.join().unwrap().ok())
            .collect()
    });
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
    assert_eq!(vm.unwrap(&replies[0])[0].1, b"hunter2");
    assert_eq!((of_secret(&app, "disk"), app.decisions().len()), (1, 1));
}

#[test]
fn another_workload_s_launch_digest_is_nothing_to_a_launch() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let image = b"an image that another workload names: 48 bytes..";
    app.apply(json!([{
        "kind": "Workload", "name": "other", "uuid": "22222222-2222-4333-8444-555555555555",
        "scheme": "amd-sev", "policy": 3, "launch_digests": [digest(image)], "secrets": ["disk"],
    }]));
    let mut vm: Vm = app.start(&platform);
    let request = vm.measure(image);
    app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
    assert_eq!(of_secret(&app, "disk"), 0);
}
