//! simple-kbs's clients get what they ask for: every type, in every format, for the guest that was measured.

use openssl::hash::MessageDigest;
use openssl::sign::Verifier;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::host::{ALLOW, IMAGE, POLICY, digest};
use crate::support::kbs::{Client, Kbs, asked, decision, denied, guid, objects, refused, report_key};
use crate::support::{App, platform};

const OFFLINE: &str = "e6f5a162-d67f-4750-a67c-5d065f2a9910";

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn one_table_holds_an_entry_for_each_request_at_its_guid() {
    let (app, platform) = (App::new(), platform());
    let public = app.standard_kbs();
    let kbs = Kbs::of(&app);
    let wanted = [
        asked(&guid(1), "binary", "key", "k1"),
        asked(&guid(2), "JSON", "key", "k2"),
        asked(OFFLINE, "json", "bundle", "set"),
        asked(&guid(4), "Json", "report", "reports"),
        asked(&guid(5), "json", "connection", ""),
        asked(&guid(6), "BINARY", "resource", "motd"),
        asked(&guid(7), "json", "Resource", "motd"),
    ];
    let (vm, answer) = kbs.run(&platform, &wanted);
    let entries = vm.unwrap(&answer.unwrap());
    let guids: Vec<_> = entries.iter().map(|(guid, _)| guid.as_str()).collect();
    assert_eq!(
        guids,
        wanted.iter().map(|one| one.guid.as_str()).collect::<Vec<_>>()
    );
    assert_eq!(entries[0].1, b"first key");
    assert_eq!(
        json_of(&entries[1].1),
        json!({"id": "k2", "payload": base64(&[0, 255, 7])})
    );
    // As CoCo's offline key broker client reads it: a map of ids to base64.
    let offline: std::collections::HashMap<String, String> = serde_json::from_slice(&entries[2].1).unwrap();
    assert_eq!(offline["k1"], base64(b"first key"));
    assert_eq!(offline["k2"], base64(&[0, 255, 7]));
    assert_eq!(offline.len(), 2);

    let report = json_of(&entries[3].1);
    let facts = report["connection"].as_str().unwrap();
    use base64::Engine as _;
    let signature = base64::engine::general_purpose::STANDARD
        .decode(report["signature"].as_str().unwrap())
        .unwrap();
    let mut verifier = Verifier::new(MessageDigest::sha256(), &public).unwrap();
    assert!(verifier.verify_oneshot(&signature, facts.as_bytes()).unwrap());
    let facts = json_of(facts.as_bytes());
    assert_eq!(facts["policy"], POLICY);
    assert_eq!(
        (
            &facts["fw_api_major"],
            &facts["fw_api_minor"],
            &facts["fw_build_id"]
        ),
        (&json!(1), &json!(55), &json!(8))
    );
    assert_eq!(facts["fw_digest"], base64(&openssl::sha::sha256(IMAGE)));
    assert_eq!(facts["launch_description"], "a test");
    assert_eq!(
        (&facts["root"], &facts["launch_id"]),
        (&json!("test"), &json!(vm.id))
    );

    assert_eq!(json_of(&entries[4].1).as_object().unwrap().len(), 2);
    assert_eq!(entries[5].1, b"a file\n");
    assert_eq!(
        json_of(&entries[6].1),
        json!({"id": "motd", "payload": base64(b"a file\n")})
    );

    let recorded = &app.decisions()[0];
    assert_eq!(recorded["outcome"], "released");
    assert_eq!(recorded["secrets"], json!(["k1", "k2", "reports", "motd"]));
    assert_eq!(recorded["connection"], Client::read(&entries[4].1).connection());
    assert_eq!(recorded["input"]["claimed"]["description"], "a test");
    assert_eq!(app.counted("k1"), (1, 0), "in two entries and counted once");
    assert_eq!(app.counted("reports"), (1, 0));
}

#[test]
fn the_host_api_gives_the_report_and_never_its_key() {
    let app = App::new();
    let (key, _) = report_key();
    app.apply(objects(&key, ALLOW));
    let (vm, reply) = app.run(&platform());
    let entries = vm.unwrap(&reply.ok());
    assert_eq!(entries.len(), 4);
    assert!(json_of(&entries[3].1)["signature"].is_string());
    for (_, data) in &entries {
        assert!(!String::from_utf8_lossy(data).contains("PRIVATE KEY"));
    }
}

#[test]
fn the_same_request_again_gets_the_same_answer_and_counts_once() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start(&platform);
    let request = vm.measure(IMAGE, &[asked(&guid(1), "binary", "key", "k1")]);
    let first = kbs.secret(&request).unwrap();
    assert_eq!(kbs.secret(&request).unwrap(), first);
    assert_eq!(app.counted("k1"), (1, 0));
    // Another one of the same launch does not.
    let mut other = request.clone();
    other.secret_requests[0].id = "k2".to_owned();
    assert_eq!(refused(kbs.secret(&other)), denied());
    let other = asked(&guid(1), "binary", "key", "motd");
    let mut more = request;
    more.secret_requests.push(other);
    assert_eq!(refused(kbs.secret(&more)), denied());
    assert_eq!(app.decisions().len(), 1);
}

#[test]
fn what_a_guest_may_not_have_is_denied_with_the_decision_that_says_why() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    app.apply(objects(&key, ALLOW));
    let hidden = json!([{
        "kind": "Secret", "name": "hidden", "type": "opaque", "guid": guid(2000),
        "value": {"base64": "AAAA"}, "policies": ["release.any"],
    }, {"kind": "KeySet", "name": "wider", "secrets": ["k1", "hidden"]}]);
    app.apply(hidden);
    let kbs = Kbs::of(&app);
    for (one, reason) in [
        (
            asked(&guid(1), "json", "key", "hidden"),
            "the workload has no secret hidden",
        ),
        (
            asked(&guid(1), "json", "key", "nobody-s"),
            "the workload has no secret nobody-s",
        ),
        (asked(&guid(1), "json", "key", ""), "no secret can be named \"\""),
        (
            asked(&guid(1), "json", "bundle", "unknown"),
            "there is no key set \"unknown\" with a secret of the workload",
        ),
        (
            asked(&guid(1), "json", "bundle", "wider"),
            "the workload has no secret hidden",
        ),
        (
            asked(&guid(1), "json", "key", "reports"),
            "the report key reports was asked for as a secret",
        ),
        (
            asked(&guid(1), "json", "report", "k1"),
            "a report was asked for with the secret k1, which is no report-key",
        ),
    ] {
        let (vm, answer) = kbs.run(&platform, &[asked(&guid(9), "json", "key", "k1"), one.clone()]);
        let recorded = app.decision(&decision(answer));
        assert_eq!(recorded["reason"], reason, "{one:?}");
        assert_eq!(recorded["launch"], json!(vm.id));
        // All or nothing: k1 alone would have been released.
        assert_eq!(recorded["outcome"], "denied");
    }
    let twice = [
        asked(&guid(1), "binary", "key", "k1"),
        asked(&guid(1).to_uppercase(), "binary", "key", "k2"),
    ];
    let reason = format!("two entries were asked for at the GUID {}", guid(1));
    for (some, reason) in [
        (&twice[..], reason.as_str()),
        (&[], "no secret was asked for"),
        (
            &[
                asked(&guid(1), "json", "connection", ""),
                asked(&guid(2), "json", "connection", ""),
            ],
            "two connections were asked for",
        ),
    ] {
        let (_, answer) = kbs.run(&platform, some);
        assert_eq!(app.decision(&decision(answer))["reason"], reason);
    }
    // And nothing was released to anybody.
    let limits = app.owner("GET", "/v1/limits", &Value::Null).ok().body;
    assert_eq!(limits["items"], json!([]));
}

#[test]
fn a_used_up_count_waits_for_its_owner() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    let limited = "package release.any\n\nallow := true\n\nrelease_limit := 1\n";
    app.apply(objects(&key, limited));
    let kbs = Kbs::of(&app);
    let wanted = [asked(&guid(1), "binary", "key", "k1")];
    kbs.run(&platform, &wanted).1.unwrap();
    let mut vm = kbs.start(&platform);
    let request = vm.measure(IMAGE, &wanted);
    let (code, text) = refused(kbs.secret(&request));
    assert_eq!(code, Code::FailedPrecondition);
    let hold = text
        .split("(hold ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    assert!(text.contains("come back in 30 s"), "{text}");
    app.confirm(&json!(hold), 1).ok();
    let entries = vm.unwrap(&kbs.secret(&request).unwrap());
    assert_eq!(entries[0].1, b"first key");
    assert_eq!(app.counted("k1"), (2, 0));
}

#[test]
fn workloads_are_served_by_their_sev_policy() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    app.apply(objects(&key, ALLOW));
    let workload = |name: &str, scheme: &str, policy: u32| {
        json!([{
            "kind": "Workload", "name": name, "scheme": scheme, "policy": policy,
            "launch_digests": [digest(IMAGE)], "secrets": ["k2"],
        }])
    };
    app.apply(workload("es", "amd-sev-es", 7));
    app.apply(workload("elsewhere", "amd-sev", 11));
    let kbs = Kbs::of(&app);
    let wanted = [asked(&guid(1), "binary", "key", "k2")];
    let mut vm = kbs.start_with(&platform, 7);
    let answer = kbs.secret(&vm.measure(IMAGE, &wanted)).unwrap();
    assert_eq!(vm.unwrap(&answer)[0].1, [0, 255, 7]);
    assert_eq!(app.decisions()[0]["workload"]["name"], "es");
    // One that is not served is not there, and a launch of it begun by a host is not known here.
    assert_eq!(refused(kbs.bundle(&platform.full_chain(), 11)), denied());
    let both = Kbs::serving(&app, &["elsewhere"]);
    let mut foreign = both.start_with(&platform, 11);
    let request = foreign.measure(IMAGE, &wanted);
    assert_eq!(refused(kbs.secret(&request)), denied());
    both.secret(&request).unwrap();
}
