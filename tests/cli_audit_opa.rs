//! `audit export --opa`: decisions as OPA's decision logs have them.

use serde_json::{Value, json};

use crate::support::{App, platform};

/// The events that the command writes of a server's data folder.
fn events(app: &App, more: &[&str]) -> Vec<Value> {
    let folder = app.folder.path().to_str().unwrap();
    let mut arguments = vec!["audit", "export", "--opa", "--data-dir", folder];
    arguments.extend(more);
    let out = crate::support::command::keyward(arguments).ok().stdout;
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_policys_answer_is_an_event_with_what_it_saw() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let id = app.run(&platform).1.ok().body["decision"].clone();
    let decision = app.decision(&id);
    let events = events(&app, &[]);
    let paths: Vec<_> = events.iter().map(|event| event["path"].clone()).collect();
    assert_eq!(paths, ["keyward/workload", "release/any"]);
    for event in &events {
        assert_eq!(event["decision_id"], id);
        assert_eq!(event["input"], decision["input"]);
        assert_eq!(event["timestamp"], decision["time"]);
        assert_eq!(event["requested_by"], "127.0.0.1");
        assert_eq!(event["result"]["allow"], true);
        assert_eq!(event["labels"]["owner"], "acme");
        assert_eq!(event["labels"]["outcome"], "released");
        assert_eq!(event.get("erased"), None);
    }
    let bundle = &decision["policies"][1]["bundle"];
    assert_eq!(events[0]["bundles"], json!({}));
    assert_eq!(events[1]["bundles"], json!({"acme": {"revision": bundle}}));
    assert!(bundle.is_string());
    assert!(!json!(events).to_string().contains("hunter2"));
}

#[test]
fn what_is_masked_is_left_out_and_said_to_be() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    app.run(&platform).1.ok();
    let masks = [
        "/input/host/address",
        "/requested_by",
        "/input/nothing",
        "/result/reason",
    ];
    let arguments: Vec<_> = masks.iter().flat_map(|mask| ["--mask", mask]).collect();
    let events = events(&app, &arguments);
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(
            event["erased"],
            json!(["/input/host/address", "/requested_by", "/result/reason"])
        );
        assert!(!event.to_string().contains("127.0.0.1"), "{event}");
        assert_eq!(event["result"].get("reason"), None);
        assert!(event["input"]["platform"].is_object());
    }
    for wrong in ["input", "/labels/owner", "", "/decision_id"] {
        let arguments = ["audit", "export", "--opa", "--data-dir", ".", "--mask", wrong];
        let ended = crate::support::command::keyward(arguments).expect(64);
        assert!(ended.stderr.contains("/input/host/address"), "{}", ended.stderr);
    }
}

#[test]
fn a_refusal_that_no_policy_was_asked_for_is_an_event_too() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(b"0123456789abcdef");
    app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
    let decision = app.decisions()[0].clone();
    let events = events(&app, &[]);
    assert_eq!(
        events.len(),
        decision["policies"].as_array().unwrap().len().max(1)
    );
    assert_eq!(events[0]["decision_id"], decision["id"]);
    assert_eq!(events[0]["result"]["allow"], false);
}
