//! `Trust`: what an owner says of platforms as one object, in the transaction of all others.

use keyward::domain::Role;
use serde_json::{Value, json};

use crate::cli_declare::{GOOD, run, served};
use crate::support::app::Options;
use crate::support::hooked::Hook;
use crate::support::host::launch_request;
use crate::support::{App, Reply, platform};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn trust(platforms: &str, enrolled: &[&str], refused: &[&str]) -> Value {
    let listed = |ceks: &[&str]| -> Vec<Value> {
        let one = |cek: &&str| json!({"cek": cek, "reason": "a test"});
        ceks.iter().map(one).collect()
    };
    json!({"kind": "Trust", "platforms": platforms, "enrolled": listed(enrolled), "refused": listed(refused)})
}

fn apply(app: &App, trust: &Value) -> Reply {
    app.owner("POST", "/v1/apply", &json!({"objects": [trust]}))
}

fn action(reply: &Reply) -> &str {
    reply.body["changes"][0]["action"].as_str().unwrap()
}

fn standing(app: &App, cek: &str) -> Value {
    let path = format!("/v1/platforms/{cek}");
    app.owner("GET", &path, &Value::Null).body["standing"].clone()
}

/// The CEK of the platform that a release went to.
fn cek(app: &App, reply: &Reply) -> String {
    let decision = app.decision(&reply.body["decision"]);
    let cek = &decision["input"]["platform"]["fingerprints"]["cek"];
    cek.as_str().unwrap().to_owned()
}

#[test]
fn what_is_said_of_platforms_decides_over_the_next_release() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let own = cek(&app, &app.run(&platform).1.ok());

    assert_eq!(
        action(&apply(&app, &trust("enrolled", &[A], &[])).ok()),
        "created"
    );
    let denied = app.run(&platform).1.expect(403, "denied");
    assert!(
        app.reason(&denied).contains("is not enrolled"),
        "{}",
        app.reason(&denied)
    );

    assert_eq!(
        action(&apply(&app, &trust("enrolled", &[&own], &[])).ok()),
        "updated"
    );
    app.run(&platform).1.ok();
    assert_eq!(standing(&app, A), Value::Null, "what is not listed is withdrawn");
    let again = apply(&app, &trust("enrolled", &[&own], &[])).ok();
    assert_eq!(action(&again), "unchanged");

    apply(&app, &trust("any", &[], &[&own])).ok();
    app.ask_launch(&launch_request(&platform)).expect(403, "denied");
}

#[test]
fn each_platform_is_a_record_and_what_is_the_same_is_none() {
    let app = App::new();
    let log = |app: &App| -> Vec<String> {
        let page = app
            .owner("GET", "/v1/audit/entries?limit=1000", &Value::Null)
            .ok();
        let entries = page.body["items"].as_array().unwrap().iter();
        let events = entries.map(|entry| entry["record"]["event"].clone());
        let told = events.filter(|event| event["kind"].as_str().unwrap().starts_with("platform"));
        told.map(|event| {
            let of = event["fingerprint"]
                .as_str()
                .or(event["accepted"].as_str())
                .unwrap();
            format!("{} {}", event["kind"].as_str().unwrap(), &of[..3])
        })
        .collect()
    };
    apply(&app, &trust("enrolled", &[A], &[B])).ok();
    assert_eq!(
        log(&app),
        [
            "platforms-accepted enr",
            "platform-enrolled aaa",
            "platform-refused bbb"
        ]
    );
    apply(&app, &trust("enrolled", &[A], &[B])).ok();
    assert_eq!(log(&app).len(), 3);
    apply(&app, &trust("enrolled", &[], &[B])).ok();
    assert_eq!(log(&app)[3..], ["platform-withdrawn aaa"]);
}

#[test]
fn a_refusal_that_was_said_by_itself_is_not_taken_back_by_a_manifest() {
    let app = App::new();
    app.owner(
        "POST",
        &format!("/v1/platforms/{A}/refuse"),
        &json!({"reason": "stolen"}),
    )
    .ok();
    for said in [trust("any", &[], &[]), trust("enrolled", &[A, B], &[])] {
        let applied = apply(&app, &said).ok().body;
        let warning = applied["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("stays refused") && warning.contains(A),
            "{warning}"
        );
        assert_eq!(standing(&app, A), "refused");
    }
    assert_eq!(standing(&app, B), "enrolled");
    app.owner(
        "POST",
        &format!("/v1/platforms/{A}/enrol"),
        &json!({"reason": "found again"}),
    )
    .ok();
    let applied = apply(&app, &trust("enrolled", &[A, B], &[])).ok().body;
    assert_eq!(applied["warnings"], json!([]));
}

#[test]
fn what_a_trust_may_not_say_is_told_with_its_place_and_nothing_is_written() {
    let app = App::new();
    let mut nothing_said = trust("any", &[A], &[]);
    nothing_said["enrolled"][0]["reason"] = json!("  ");
    let mut long = trust("any", &[], &[A]);
    long["refused"][0]["reason"] = json!("x".repeat(4097));
    for (said, path, why) in [
        (trust("enrolled", &[A], &[B, A]), "refused[1].cek", "listed twice"),
        (nothing_said, "enrolled[0].reason", "say why"),
        (long, "refused[0].reason", "more than 4096 bytes"),
    ] {
        let refused = apply(&app, &said).expect(422, "invalid");
        assert!(
            refused.body.to_string().contains(path),
            "{path}: {}",
            refused.body
        );
        assert!(refused.detail().contains(why), "{}", refused.body);
    }
    let two = json!({"objects": [trust("any", &[], &[]), trust("enrolled", &[], &[])]});
    let refused = app.owner("POST", "/v1/apply", &two).expect(422, "invalid");
    assert!(refused.detail().contains("said twice"), "{}", refused.body);
    app.owner("PUT", "/v1/trust", &json!({"platforms": "some"}))
        .expect(400, "malformed");
    let now = app.owner("GET", "/v1/trust", &Value::Null).ok().body;
    assert_eq!(now, json!({"platforms": "any", "enrolled": [], "refused": []}));
}

#[test]
fn who_saw_another_trust_does_not_overwrite_it() {
    let app = App::new();
    let get = || app.owner("GET", "/v1/trust", &Value::Null).ok().headers["etag"].clone();
    let put = |tag: &str| {
        let bearer = format!("Bearer {}", app.token);
        let body = json!({"platforms": "enrolled", "enrolled": [{"cek": A, "reason": "a test"}]});
        let headers = [("authorization", &*bearer), ("if-match", tag)];
        app.request("PUT", "/v1/trust", &headers, body.to_string().as_bytes())
    };
    let before = get();
    app.owner(
        "POST",
        &format!("/v1/platforms/{B}/refuse"),
        &json!({"reason": "a test"}),
    )
    .ok();
    put(&before).expect(412, "precondition-failed");
    let put = put(&get()).ok();
    assert_eq!(put.headers["etag"], get());
}

#[test]
fn where_two_people_are_asked_for_no_one_alone_lets_releases_go_where_none_went() {
    let app = App::new();
    app.bundle(&[("release/any.rego", "package release.any\n\nallow := true\n")]);
    let other = app.mint(Role::Owner, Some("acme"), None).text;
    apply(&app, &trust("enrolled", &[], &[])).ok();
    app.owner(
        "PUT",
        "/v1/approvals",
        &json!({"approvals_required": 2, "reason": "a rule"}),
    )
    .ok();
    let as_other = |method: &str, path: &str, body: &Value| app.as_token(&other, method, path, body);

    // By the object.
    let loose = trust("any", &[A], &[]);
    apply(&app, &loose).expect(403, "approval-required");
    apply(&app, &loose).expect(409, "wrong-state");
    assert_eq!(standing(&app, A), Value::Null);
    as_other("POST", "/v1/apply", &json!({"objects": [loose]})).ok();
    assert_eq!(standing(&app, A), "enrolled");

    // To be stricter takes one.
    assert_eq!(
        action(&apply(&app, &trust("enrolled", &[], &[B])).ok()),
        "updated"
    );

    // By themselves.
    let reason = json!({"reason": "a test"});
    let enrol = format!("/v1/platforms/{B}/enrol");
    let waits = app.owner("POST", &enrol, &reason).ok().body;
    assert_eq!(waits["standing"], "refused");
    assert_eq!(waits["proposal"]["change"], json!({"enrol_platform": {"cek": B}}));
    app.owner("POST", &enrol, &reason).expect(409, "wrong-state");
    let done = as_other("POST", &enrol, &reason).ok().body;
    assert_eq!(
        (&done["standing"], &done["proposal"]),
        (&json!("enrolled"), &Value::Null)
    );

    let any = json!({"accepted": "any", "reason": "a test"});
    let accepted = || app.owner("GET", "/v1/platforms", &Value::Null).ok().body["accepted"].clone();
    let waits = app.owner("PUT", "/v1/platforms/accepted", &any).ok().body;
    assert!(waits["proposal"]["expires"].is_string(), "{waits}");
    assert_eq!(accepted(), "enrolled");
    as_other("PUT", "/v1/platforms/accepted", &any).ok();
    assert_eq!(accepted(), "any");
}

#[test]
fn a_manifest_says_it_diff_sees_it_and_get_gives_it_back() {
    let (shell, _server) = served();
    let said = format!(
        "{GOOD}---\nkind: Trust\nplatforms: enrolled\nenrolled:\n- cek: {A}\n  reason: rack 7\nrefused:\n- {{cek: {B}, reason: stolen}}\n"
    );
    shell.write("m.yaml", &said);
    assert_eq!(run(&shell, "diff -f m.yaml").code, 2);
    let applied = run(&shell, "apply -f m.yaml");
    assert!(
        applied.out.contains("enrolled platforms, 1 enrolled, 1 refused"),
        "{}",
        applied.out
    );
    assert_eq!(run(&shell, "diff -f m.yaml").code, 0);

    let got = run(&shell, "get trust -o yaml").out;
    shell.write("got.yaml", &got);
    assert_eq!(run(&shell, "diff -f got.yaml").code, 0, "{got}");
    assert!(got.contains("reason: rack 7"), "{got}");

    shell.write(
        "m.yaml",
        said.replace("platforms: enrolled", "platforms: any")
            .replace("rack 7", "rack 8"),
    );
    let differs = run(&shell, "diff -f m.yaml").out;
    assert!(
        differs.contains("rack 7") && differs.contains("rack 8"),
        "{differs}"
    );
    shell.write("m.yaml", said.replace(&format!("cek: {A}"), "cek: abc"));
    let wrong = run(&shell, "apply -f m.yaml");
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.err.contains("m.yaml:") && wrong.err.contains("cek"),
        "{}",
        wrong.err
    );
    assert_eq!(run(&shell, "delete trust acme").code, 64);
}

#[test]
fn an_emergency_refusal_while_a_trust_is_applied_is_kept() {
    let hook = Hook::default();
    let app = App::with(hook.options());
    // Between what the registration read and what it writes, the owner refuses the platform that it enrols.
    let beside = app.again(Options::default());
    hook.before("apply", move || {
        let path = format!("/v1/platforms/{A}/refuse");
        beside.owner("POST", &path, &json!({"reason": "stolen"})).ok();
    });
    let applied = apply(&app, &trust("enrolled", &[A], &[])).ok().body;
    assert_eq!(standing(&app, A), "refused", "{applied}");
}

#[test]
fn who_wanted_it_before_it_was_refused_has_no_word_any_more() {
    let app = App::new();
    let other = app.mint(Role::Owner, Some("acme"), None).text;
    app.owner(
        "PUT",
        "/v1/platforms/accepted",
        &json!({"accepted": "enrolled", "reason": "a rule"}),
    )
    .ok();
    app.owner(
        "PUT",
        "/v1/approvals",
        &json!({"approvals_required": 2, "reason": "a rule"}),
    )
    .ok();
    let as_other =
        |method: &str, path: &str, body: &Value| app.as_token(&other, method, path, body).ok().body;
    let reason = json!({"reason": "a test"});
    let (enrol, refuse) = (
        format!("/v1/platforms/{A}/enrol"),
        format!("/v1/platforms/{A}/refuse"),
    );
    let accepted = |which: &str| json!({"accepted": which, "reason": "a test"});
    let path = "/v1/platforms/accepted";

    assert!(app.owner("POST", &enrol, &reason).ok().body["proposal"].is_object());
    app.owner("POST", &refuse, &reason).ok();
    assert!(as_other("POST", &enrol, &reason)["proposal"].is_object());
    assert_eq!(standing(&app, A), "refused");

    assert!(app.owner("PUT", path, &accepted("any")).ok().body["proposal"].is_object());
    app.owner("PUT", path, &accepted("enrolled")).ok();
    assert!(as_other("PUT", path, &accepted("any"))["proposal"].is_object());

    // The same said by the object.
    apply(&app, &trust("enrolled", &[], &[A, B])).ok();
    assert!(
        app.owner("POST", &format!("/v1/platforms/{B}/enrol"), &reason)
            .ok()
            .body["proposal"]
            .is_object()
    );
    let mut again = trust("enrolled", &[], &[A, B]);
    again["refused"][1]["reason"] = json!("again");
    apply(&app, &again).ok();
    assert!(as_other("POST", &format!("/v1/platforms/{B}/enrol"), &reason)["proposal"].is_object());
    assert_eq!(standing(&app, B), "refused");
}

#[test]
fn where_one_person_is_enough_no_record_speaks_of_two() {
    let app = App::new();
    apply(&app, &trust("enrolled", &[A], &[])).ok();
    let log = app
        .owner("GET", "/v1/audit/entries?limit=1000", &Value::Null)
        .ok()
        .body;
    assert!(!log.to_string().contains("registration-"), "{log}");
    let said = json!({"kind": "Trust", "platforms": "any",
        "refused": (0..300).map(|n| json!({"cek": format!("{n:064x}"), "reason": "x".repeat(4000)})).collect::<Vec<_>>()});
    let refused = apply(&app, &said).expect(422, "invalid");
    assert!(
        refused.detail().contains("all reasons together"),
        "{}",
        refused.detail()
    );
}
