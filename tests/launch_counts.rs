//! Releases at launch: counted for policies that look at them, and for the record of whatever is denied.

use serde_json::{Value, json};

use crate::support::host::{ALLOW, WORKLOAD, launch_request, standard};
use crate::support::{App, platform};

/// The usual workload with this rule for launch, after one release.
fn after_a_release(rule: &str) -> App {
    let app = App::new();
    app.apply(standard(json!({})));
    app.bundle(&[("release/any.rego", &format!("{ALLOW}\n{rule}\n"))]);
    let (_, released) = app.run(&platform());
    released.ok();
    app
}

fn launch(app: &App, address: &str) -> crate::support::Reply {
    app.post_from(
        address,
        &format!("/vm/{WORKLOAD}/launch"),
        &launch_request(&platform()),
    )
}

#[test]
fn a_policy_that_looks_at_them_sees_how_many_there_were() {
    let rule =
        "deny_launch contains sprintf(\"used %v times\", [input.releases.total]) if input.releases.total > 1";
    let app = after_a_release(rule);
    launch(&app, "192.0.2.1").ok();
    app.run(&platform()).1.ok();
    let denied = launch(&app, "192.0.2.1").expect(403, "denied");
    assert!(
        app.reason(&denied).contains("used 2 times"),
        "{}",
        app.reason(&denied)
    );
}

#[test]
fn a_denial_by_a_policy_that_does_not_look_records_them_all_the_same() {
    let app =
        after_a_release("deny_launch contains \"not from there\" if input.host.address == \"192.0.2.9\"");
    launch(&app, "192.0.2.1").ok();
    let denied = launch(&app, "192.0.2.9").expect(403, "denied");
    let decision = app.decision(&denied.body["decision"]);
    let once = json!({"total": 1, "last_hour": 1, "last_day": 1});
    assert_eq!(decision["input"]["releases"], once);
    let policies = decision["policies"].as_array().unwrap();
    let of_secret = policies.iter().find(|asked| asked["secret"] == "disk").unwrap();
    assert_eq!(
        of_secret["releases"], once,
        "as replaying it under another policy needs"
    );
    assert_eq!(of_secret["deny"], json!(["not from there"]));
}

#[test]
fn a_policy_without_a_rule_for_launch_is_recorded_as_silent() {
    // Two policies: the workload's has a rule for launch and denies, the secret's has none.
    let app = App::new();
    app.apply(standard(json!({})));
    app.bundle(&[
        ("release/any.rego", ALLOW),
        (
            "release/never.rego",
            "package release.never\n\nallow := true\n\nallow_launch := false\n",
        ),
    ]);
    launch(&app, "192.0.2.1").ok();
    app.apply(json!([workload_with(&["release.never"])]));
    let denied = launch(&app, "192.0.2.1").expect(403, "denied");
    let policies = app.decision(&denied.body["decision"])["policies"].clone();
    let said = |policy: &str| -> Value {
        let all = policies.as_array().unwrap();
        all.iter()
            .find(|asked| asked["policy"] == policy)
            .unwrap()
            .clone()
    };
    assert_eq!(said("release.any")["allow"], true);
    assert_eq!(
        said("release.any")["reason"],
        "allowed: the policy has no rule for launch"
    );
    assert_eq!(said("release.never")["allow"], false);
}

fn workload_with(policies: &[&str]) -> Value {
    let objects = standard(json!({"policies": policies}));
    let all = objects.as_array().unwrap();
    all.iter()
        .find(|object| object["kind"] == "Workload")
        .unwrap()
        .clone()
}
