//! Recorded decisions say what it takes to take them again, and `policy replay` does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::cli::{masked, transcript};
use crate::support::host::{IMAGE, WORKLOAD, standard};
use crate::support::{App, Shell, platform};

/// A policy for the secret `disk`.
pub(crate) fn policy(allow: &str, limit: u32) -> String {
    format!("package release.any\n\ndefault allow := false\n\nallow if {allow}\n\nrelease_limit := {limit}\n")
}

const GOOD: &str = "is_string(input.attested.launch_digest)";

/// A server on which a release was denied by the owner's policy, two were made, one was held, and a request was
/// refused; a second apart.
pub(crate) fn decided() -> App {
    let (app, platform) = (App::new(), platform());
    let apply = |allow: &str| {
        let mut objects = standard(json!({}));
        objects[0] = bundle(&[("release/any.rego", &policy(allow, 2))]);
        app.apply(objects);
    };
    let next = || app.clock.advance(Duration::from_secs(1));
    apply("input.owner == \"nobody\"");
    app.run(&platform).1.expect(403, "denied");
    apply(GOOD);
    for _ in 0..2 {
        next();
        app.run(&platform).1.ok();
    }
    next();
    app.run(&platform).1.expect(403, "confirmation-required");
    next();
    let mut vm = app.start(&platform);
    let wrong = vm.measure(b"an image that nobody has reviewed, of 48 bytes..");
    app.post(&vm.path(), &wrong).expect(422, "measurement-mismatch");
    app
}

/// A folder with a candidate, the server's decisions in both forms, and its token.
fn desk(app: &App, candidate: &str) -> Shell {
    let shell = Shell::new();
    shell.write("candidate/release/any.rego", candidate);
    let all = app.decisions();
    shell.write("decisions.json", serde_json::to_string_pretty(&all).unwrap());
    shell.write("token", &app.token);
    lines(&shell, "decisions.jsonl", &all);
    shell
}

fn lines(shell: &Shell, name: &str, decisions: &[Value]) {
    let text: String = decisions.iter().map(|decision| format!("{decision}\n")).collect();
    shell.write(name, text);
}

/// What replay says as JSON, and its exit code.
fn replay(shell: &Shell, arguments: &[&str]) -> (Value, i32) {
    let all = [&["policy", "replay", "candidate", "-o", "json"], arguments].concat();
    let ran = shell.run(&all);
    if ran.code != 1 {
        assert_eq!(ran.err, "", "no progress bar where there is no terminal");
    }
    (serde_json::from_str(&ran.out).unwrap(), ran.code)
}

/// The flips as `from to count`, and why others were not taken again.
fn summary(report: &Value) -> (Vec<String>, Value) {
    let flips = report["flips"].as_array().unwrap().iter().map(|flip| {
        let word = |member: &str| flip[member].as_str().unwrap().to_owned();
        format!("{} {} {}", word("from"), word("to"), flip["count"])
    });
    (flips.collect(), report["not_replayed"].clone())
}

#[test]
fn a_record_has_the_releases_that_each_policy_saw_and_every_count() {
    let app = decided();
    let all = app.decisions();
    let outcomes: Vec<_> = all.iter().map(|d| d["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "held", "released", "released", "denied"]);
    for (decision, before) in all.iter().skip(1).zip([2, 1, 0, 0]) {
        for said in decision["policies"].as_array().unwrap() {
            let expected = match said["secret"].as_str() {
                Some(_) => json!({"total": before, "last_hour": before, "last_day": before}),
                None => Value::Null,
            };
            assert_eq!(said["releases"], expected, "{said}");
        }
        let counts = decision["counts"].as_array().unwrap();
        let seen: Vec<_> = counts
            .iter()
            .map(|count| {
                let kind = count["binding"]["kind"].as_str().unwrap();
                (kind, count["released"].as_u64().unwrap(), count["limit"].as_u64())
            })
            .collect();
        // The workload's own policy says by the highest number that it sets no limit.
        let none = Some(1 << 53);
        assert_eq!(
            seen,
            [
                ("owner", before, None),
                ("workload", before, none),
                ("secret", before, Some(2))
            ],
            "{}",
            decision["outcome"]
        );
    }
    assert_eq!(
        all[0]["counts"],
        Value::Null,
        "nothing was counted where nothing was asked"
    );
}

#[test]
fn a_denial_is_recorded_though_its_counts_can_t_be_read() {
    let hook = crate::support::hooked::Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    let mut objects = standard(json!({}));
    objects[0] = bundle(&[("release/any.rego", &policy("input.owner == \"nobody\"", 2))]);
    app.apply(objects);
    hook.once("counts", crate::support::hooked::Fate::FailsUndone);
    let reply = app.run(&platform).1.expect(403, "denied");
    hook.clear();
    let decision = app.decision(&reply.body["decision"]);
    assert_eq!(
        (&decision["outcome"], &decision["counts"]),
        (&json!("denied"), &Value::Null)
    );
}

#[test]
fn under_the_same_rules_nothing_flips_whichever_way_decisions_come() {
    let app = decided();
    let shell = desk(&app, &policy(GOOD, 2));
    // The first was denied by a bundle that was replaced since.
    let expected = (
        vec!["denied released 1".to_owned()],
        json!({"refused or denied before any policy was asked": 1}),
    );
    let server = ["--server", app.base.as_str(), "--token-file", "token"];
    for source in [
        &["--decisions", "decisions.json"][..],
        &["--decisions", "decisions.jsonl"],
        &server,
    ] {
        let (report, code) = replay(&shell, source);
        assert_eq!((summary(&report), code), (expected.clone(), 2), "{source:?}");
        assert_eq!(
            (&report["decisions"], &report["evaluated"], &report["unchanged"]),
            (&json!(5), &json!(4), &json!(3))
        );
        let (report, code) = replay(&shell, &[source, &["--since", "2026-01-02T03:04:06Z"]].concat());
        assert_eq!((summary(&report).0, code), (vec![], 0));
        assert_eq!(report["decisions"], 4);
        let (report, _) = replay(&shell, &[source, &["--until", "2026-01-02T03:04:06Z"]].concat());
        assert_eq!(report["decisions"], 1);
        for (workload, count) in [(WORKLOAD, 5), ("00000000-0000-4000-8000-000000000000", 0)] {
            let (report, _) = replay(&shell, &[source, &["--workload", workload]].concat());
            assert_eq!(report["decisions"], count, "{source:?}");
        }
        // All of it was long ago by the machine's clock.
        let (report, _) = replay(&shell, &[source, &["--since", "1h"]].concat());
        assert_eq!(report["decisions"], 0, "{source:?}");
    }
}

#[test]
fn a_candidate_s_rules_limits_and_gaps_flip_what_they_would_have_changed() {
    let app = decided();
    let seen = "input.releases.total < 1; input.secret == \"disk\"";
    let table: [(String, &[&str]); 5] = [
        (policy(GOOD, 1), &["denied released 1", "released held 1"]),
        (policy(GOOD, 3), &["denied released 1", "held released 1"]),
        (policy("false", 2), &["held denied 1", "released denied 2"]),
        (
            policy(&format!("{{ {seen} }}"), 9),
            &["denied released 1", "held denied 1", "released denied 1"],
        ),
        (
            policy(GOOD, 2).replace("release.any", "release.other"),
            &["held denied 1", "released denied 2"],
        ),
    ];
    for (candidate, expected) in table {
        let shell = desk(&app, &candidate);
        let (report, code) = replay(&shell, &["--decisions", "decisions.json"]);
        let flips = summary(&report).0;
        assert_eq!(
            (flips.iter().map(String::as_str).collect::<Vec<_>>(), code),
            (expected.to_vec(), 2),
            "{candidate}"
        );
        let times: Vec<_> = report["flipped"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["time"].as_str().unwrap())
            .collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[test]
fn records_without_counts_or_releases_are_taken_again_where_that_tells_enough() {
    let app = decided();
    let mut all = app.decisions();
    for decision in &mut all {
        decision.as_object_mut().unwrap().remove("counts");
        for said in decision["policies"].as_array_mut().unwrap() {
            said.as_object_mut().unwrap().remove("releases");
        }
    }
    let limit = "the record does not say how much of a limit was used up";
    let releases = "the record does not say how many releases of the secret there were";
    let table = [
        // Limits are as they were; for the denial nobody knows.
        (policy(GOOD, 2), 3, vec![], json!({limit: 1})),
        (policy(GOOD, 3), 0, vec![], json!({limit: 4})),
        (
            policy("false", 3),
            4,
            vec!["held denied 1", "released denied 2"],
            json!({}),
        ),
        (
            policy("input.releases.total < 9", 2),
            0,
            vec![],
            json!({releases: 4}),
        ),
    ];
    for (candidate, evaluated, flips, mut why) in table {
        let shell = desk(&app, &candidate);
        lines(&shell, "old.jsonl", &all);
        let (report, _) = replay(&shell, &["--decisions", "old.jsonl"]);
        why["refused or denied before any policy was asked"] = json!(1);
        let flips: Vec<_> = flips.into_iter().map(str::to_owned).collect();
        assert_eq!(summary(&report), (flips, why), "{candidate}");
        assert_eq!(report["evaluated"], evaluated);
    }
}

#[test]
fn what_people_read_and_the_likely_mistakes() {
    let app = decided();
    let shell = desk(&app, &policy(GOOD, 1));
    let all = app.decisions();
    let damaged = format!("{}\n\n{{\"id\": 3}}\n", all[0]);
    shell.write("damaged.jsonl", damaged);
    shell.write("cut.jsonl", format!("{}\n{}", all[0], &all[1].to_string()[..100]));
    shell.write("damaged.json", "[\n{\"id\": \"nobody\"}\n]\n");
    shell.write("empty.jsonl", "");
    shell.write("broken/a.rego", "package a\nallow if {\n");
    let mut text = String::new();
    let mut run = |line: &str, code: i32| {
        let ran = shell.run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, code, "{line}: {}{}", ran.out, ran.err);
        text.push_str(&masked(&format!("$ keyward {line}\n{}{}\n", ran.out, ran.err)));
    };
    run("policy replay candidate --decisions decisions.json", 2);
    run("policy replay candidate --decisions empty.jsonl", 1);
    run(
        "policy replay candidate --decisions decisions.json -o yaml --until 2026-01-02T03:04:06Z",
        2,
    );
    run("policy replay candidate --decisions damaged.jsonl", 1);
    run("policy replay candidate --decisions cut.jsonl", 1);
    run("policy replay candidate --decisions damaged.json", 1);
    run("policy replay candidate --decisions nowhere.json", 1);
    run("policy replay broken --decisions decisions.json", 1);
    run("policy replay candidate", 64);
    run(
        "policy replay candidate --decisions decisions.json --since yesterday",
        64,
    );
    run(
        "policy replay candidate --decisions decisions.json --server http://127.0.0.1:1",
        64,
    );
    run("policy replay candidate --server http://127.0.0.1:1", 64);
    transcript("policy-replay.txt", &text);
}

#[test]
fn people_are_shown_the_latest_flips_and_programs_all() {
    let app = decided();
    let shell = desk(&app, &policy("false", 1));
    let released = app
        .decisions()
        .into_iter()
        .find(|d| d["outcome"] == "released")
        .unwrap();
    let many: Vec<_> = (0..120)
        .map(|n| {
            let mut decision = released.clone();
            decision["id"] = json!(format!("00000000-0000-4000-8000-{n:012}"));
            decision["time"] = json!(format!("2026-01-02T03:{:02}:{:02}.000Z", n / 60, n % 60));
            decision
        })
        .collect();
    lines(&shell, "many.jsonl", &many);
    let ran = shell.run(&["policy", "replay", "candidate", "--decisions", "many.jsonl"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert_eq!(ran.out.matches("released → denied  2026").count(), 50);
    assert!(
        ran.out.contains("00000119") && !ran.out.contains("00000069\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .ends_with("These are the latest 50 of 120; -o json has all of them\n"),
        "{}",
        ran.out
    );
    assert_eq!(
        replay(&shell, &["--decisions", "many.jsonl"]).0["flipped"]
            .as_array()
            .unwrap()
            .len(),
        120
    );
}

#[test]
fn eval_takes_its_input_from_a_recorded_decision() {
    let app = decided();
    let reads = policy("input.releases.total == 1; input.secret == \"disk\"", 2);
    let shell = desk(
        &app,
        &reads
            .replace("allow if", "allow if {")
            .replace("\n\nrelease_limit", "\n}\n\nrelease_limit"),
    );
    let all = app.decisions();
    let eval = |decision: &Value, more: &[&str]| {
        let id = decision["id"].as_str().unwrap();
        let given = [
            "policy",
            "eval",
            "candidate",
            "--policy",
            "release.any",
            "--decision",
            id,
        ];
        let server = ["--server", app.base.as_str(), "--token-file", "token"];
        shell.run(&[&given[..], &server, more].concat())
    };
    // The second release saw one; the first saw none.
    assert_eq!(eval(&all[2], &[]).code, 0);
    assert_eq!(eval(&all[2], &["--secret", "disk"]).code, 0);
    assert_eq!(eval(&all[3], &[]).code, 2);
    for (ran, why) in [
        (eval(&all[0], &[]), "the record has no input"),
        (
            eval(&all[2], &["--secret", "other"]),
            "the secret other was not asked for: disk",
        ),
        (
            eval(&all[2], &["--phase", "launch"]),
            "the input is of phase release",
        ),
        (
            eval(&json!({"id": "00000000-0000-4000-8000-000000000000"}), &[]),
            "there is no such object",
        ),
    ] {
        assert!(ran.code == 1 && ran.err.contains(why), "{why}: {}", ran.err);
    }
    let both = eval(&all[2], &["--input", "decisions.json"]);
    assert_eq!(both.code, 64, "{}", both.err);
}

#[test]
fn a_secret_that_a_release_asked_for_beside_others_is_named() {
    let (app, platform) = (App::new(), platform());
    let mut objects = standard(json!({"secrets": ["disk", "key"]}));
    objects[0] = bundle(&[("release/any.rego", &policy(GOOD, 2))]);
    let mut key = objects[1].clone();
    key["name"] = json!("key");
    key["type"] = json!("opaque");
    key["guid"] = json!("00000000-0000-4000-8000-000000000001");
    objects.as_array_mut().unwrap().insert(2, key);
    app.apply(objects);
    let mut vm = app.start(&platform);
    let reply = app.post(&vm.path(), &{ vm.measure(IMAGE) }).ok();
    let shell = desk(&app, &policy("input.secret == \"key\"", 2));
    let id = reply.body["decision"].as_str().unwrap();
    let eval = |more: &[&str]| {
        let given = [
            "policy",
            "eval",
            "candidate",
            "--policy",
            "release.any",
            "--decision",
            id,
        ];
        let server = ["--server", app.base.as_str(), "--token-file", "token"];
        shell.run(&[&given[..], &server, more].concat())
    };
    assert_eq!(eval(&["--secret", "key"]).code, 0);
    assert_eq!(eval(&["--secret", "disk"]).code, 2);
    let which = eval(&[]);
    assert!(
        which.code == 1 && which.err.contains("name one with --secret: disk, key"),
        "{}",
        which.err
    );
    // Replay asks for each, and one that denies is enough.
    let (report, _) = replay(&shell, &["--decisions", "decisions.json"]);
    assert_eq!(summary(&report).0, ["released denied 1"]);
    let reason = report["flipped"][0]["reason_after"].as_str().unwrap();
    assert!(reason.starts_with("release.any for disk: "), "{reason}");
}
