//! Metrics: what the documentation says of each, counts that move with what happens, and nothing of anybody in them.

use std::collections::BTreeSet;
use std::time::Instant;

use openssl::asn1::Asn1Time;
use openssl::x509::X509;
use serde_json::{Value, json};

use crate::support::certificates::{Pair, Says};
use crate::support::cli::golden;
use crate::support::exposition::Exposition;
use crate::support::host::{IMAGE, WORKLOAD, digest, launch_request};
use crate::support::watched::{ANY, Watched, agent, busy, policy};
use crate::support::{Shell, platform};

const OTHER: &[u8] = b"an image that nobody has reviewed, of 48 bytes..";
const BEGIN: &str = "<!-- The table is written by the tests. -->\n";

/// One line for each metric: its name as it is asked for, its type, its labels and its help.
fn table(exposition: &Exposition) -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, family) in &exposition.families {
        let ending = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: BTreeSet<_> = family.samples.iter().flat_map(|s| s.labels.keys()).collect();
        let labels: Vec<_> = labels
            .iter()
            .filter(|label| **label != "le")
            .map(|l| format!("`{l}`"))
            .collect();
        if let Some(unit) = &family.unit {
            assert!(name.ends_with(&format!("_{unit}")), "{name} is in {unit}");
        }
        let help = family.help.trim_end_matches('.');
        table.push_str(&format!(
            "| `{name}{ending}` | {} | {} | {help} |\n",
            family.kind,
            labels.join(", ")
        ));
    }
    table
}

#[test]
fn the_documentation_names_every_metric_with_its_type_labels_and_meaning() {
    let exposition = busy().scrape();
    for name in exposition.families.keys() {
        let own = name.starts_with("keyward_") || name.starts_with("process_");
        assert!(own, "{name} is nobody's");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    golden(
        "docs/metrics.md",
        &format!("{before}{BEGIN}{}\n{after}", table(&exposition)),
    );
}

/// How much the decisions of this phase, outcome and class rose.
fn decided(before: &Exposition, after: &Exposition, of: (&str, &str, &str)) -> f64 {
    let labels = [("phase", of.0), ("outcome", of.1), ("reason", of.2)];
    let sum = |exposition: &Exposition| exposition.sum("keyward_decisions_total", &labels);
    sum(after) - sum(before)
}

#[test]
fn each_decision_is_counted_once_under_its_class_whatever_came_of_it() {
    let watched = Watched::with("policy: {time_limit_ms: 300}\n");
    let platform = platform();
    let run = |image: &[u8]| watched.run(&platform, image);
    watched.registers(&policy(&format!("{ANY}\n\nrelease_limit := 2")));
    let freeze = json!({"target": {"type": "workload", "name": "web"}, "reason": "a drill"});
    // Values that share their parts take all the time there is.
    let mut endless = "deny contains \"never\" if {\n\tinput.owner == \"acme\"\n".to_owned();
    for name in ["x", "y"] {
        endless.push_str(&format!("\t{name}0 := [input.version]\n"));
        for n in 0..40 {
            endless.push_str(&format!("\t{name}{} := [{name}{n}, {name}{n}]\n", n + 1));
        }
    }
    let endless = policy(&format!("{ANY}\n\n{endless}\tx40 == y40\n}}"));
    let fails = policy(&format!(
        "{ANY}\n\ndeny contains \"never\" if {{\n\tinput.owner == \"acme\"\n\tto_number(input.owner) > 1\n}}"
    ));
    let denies = policy(&format!("{ANY}\n\ndeny contains \"never\""));
    let launches = policy(&format!("{ANY}\n\ndefault allow_launch := false"));
    type Case<'a> = (
        &'a str,
        Box<dyn Fn() + 'a>,
        &'a dyn Fn() -> u16,
        u16,
        (&'a str, &'a str, &'a str),
    );
    let nothing = || Box::new(|| {}) as Box<dyn Fn()>;
    let registers = |text: &str| {
        let text = text.to_owned();
        let watched = &watched;
        Box::new(move || watched.registers(&text)) as Box<dyn Fn()>
    };
    let reviewed = || run(IMAGE).status;
    let unreviewed = || run(OTHER).status;
    let launch = |request: Value| watched.post(&format!("/vm/{WORKLOAD}/launch"), &request).status;
    let asks = || launch(launch_request(&platform));
    let tampered = || {
        let mut request = launch_request(&platform);
        let stranger = launch_request(&crate::support::platform());
        request["pdh"] = stranger["pdh"].clone();
        launch(request)
    };
    let disagrees = || {
        let mut request = launch_request(&platform);
        request["policy"] = json!(7);
        launch(request)
    };
    let frozen = || {
        let status = watched.owner("POST", "/v1/freezes", &freeze).status;
        assert!((200..300).contains(&status), "{status}");
    };
    let cases: Vec<Case<'_>> = vec![
        (
            "released",
            nothing(),
            &reviewed,
            200,
            ("release", "released", "allowed"),
        ),
        (
            "released again",
            nothing(),
            &reviewed,
            200,
            ("release", "released", "allowed"),
        ),
        (
            "beyond its limit",
            nothing(),
            &reviewed,
            403,
            ("release", "held", "limit"),
        ),
        (
            "another image",
            nothing(),
            &unreviewed,
            422,
            ("release", "refused", "measurement"),
        ),
        (
            "a foreign key",
            nothing(),
            &tampered,
            422,
            ("launch", "refused", "chain"),
        ),
        (
            "another SEV policy",
            nothing(),
            &disagrees,
            403,
            ("launch", "refused", "agreement"),
        ),
        (
            "denied",
            registers(&denies),
            &reviewed,
            403,
            ("release", "denied", "policy"),
        ),
        (
            "an error",
            registers(&fails),
            &reviewed,
            403,
            ("release", "denied", "evaluation"),
        ),
        (
            "endless",
            registers(&endless),
            &reviewed,
            403,
            ("release", "denied", "time-limit"),
        ),
        (
            "no launch",
            registers(&launches),
            &asks,
            403,
            ("launch", "refused", "policy"),
        ),
        (
            "frozen",
            Box::new(frozen),
            &asks,
            403,
            ("launch", "refused", "stopped"),
        ),
    ];
    for (name, prepare, act, status, class) in &cases {
        prepare();
        let before = watched.scrape();
        assert_eq!(act(), *status, "{name}");
        let after = watched.scrape();
        assert_eq!(decided(&before, &after, *class), 1.0, "{name}");
        let all = |exposition: &Exposition| exposition.sum("keyward_decisions_total", &[]);
        assert_eq!(
            all(&after) - all(&before),
            1.0,
            "{name} counts once\n{}",
            after.text
        );
    }
    let last = watched.scrape();
    let lost = |reason| last.sum("keyward_policy_workers_lost_total", &[("reason", reason)]);
    assert_eq!(lost("time-limit"), 1.0);
    assert_eq!(
        last.sum("keyward_policy_verdicts_total", &[("result", "evaluation-error")]),
        1.0
    );
    assert!(last.value("keyward_policy_workers_started_total") >= 2.0);
    for step in ["chain", "session", "measurement", "packet"] {
        let count = last.sum("keyward_crypto_duration_seconds_count", &[("step", step)]);
        assert!(count >= 1.0, "{step}");
    }
}

#[test]
fn requests_calls_and_figures_are_those_of_what_happened() {
    let watched = busy();
    let exposition = watched.scrape_until(|scraped| {
        scraped.value("keyward_holds_open") == 1.0 && scraped.value("keyward_audit_records_unsigned") == 0.0
    });
    let requests = |labels: &[(&str, &str)]| exposition.sum("keyward_http_requests_total", labels);
    let validate = "/vm/{uuid}/validate";
    assert_eq!(requests(&[("route", validate), ("method", "POST")]), 6.0);
    assert_eq!(requests(&[("route", validate), ("status", "2xx")]), 1.0);
    assert_eq!(
        requests(&[("route", "/vm/{uuid}/launch"), ("status", "5xx")]),
        1.0
    );
    assert_eq!(requests(&[("route", "/v1/apply"), ("status", "2xx")]), 2.0);
    let timed = exposition.sum(
        "keyward_http_request_duration_seconds_count",
        &[("route", validate)],
    );
    assert_eq!(timed, 6.0);
    let limited = exposition.sum("keyward_http_rate_limited_total", &[("route", validate)]);
    assert_eq!(limited, 1.0);
    assert_eq!(exposition.value("keyward_http_requests_in_flight"), 0.0);
    let open = exposition.value("keyward_http_connections_open");
    let made = exposition.value("keyward_http_connections_total");
    assert!(open >= 0.0 && open <= made && made >= 1.0, "{open} of {made}");

    let calls = [("call", "GetBundle"), ("code", "OK")];
    assert_eq!(exposition.sum("keyward_grpc_calls_total", &calls), 1.0);
    let accepted = [("result", "accepted")];
    assert_eq!(exposition.sum("keyward_grpc_connections_total", &accepted), 1.0);
    // Of six launches one was used, and one more has no try left of those that denials take.
    assert_eq!(exposition.value("keyward_launches_begun_total"), 6.0);
    assert_eq!(exposition.value("keyward_launches_pending"), 5.0);
    assert_eq!(exposition.value("keyward_ready"), 1.0);
    assert!(exposition.value("keyward_audit_log_size") >= 5.0);
    assert_eq!(exposition.value("keyward_audit_records_pending"), 0.0);
    assert_eq!(exposition.value("keyward_audit_sequencer_lag_seconds"), 0.0);
    for (result, count) in [
        ("found", 0.0),
        ("unknown-chip", 1.0),
        ("failed", 1.0),
        ("wait", 0.0),
    ] {
        assert_eq!(
            exposition.sum("keyward_kds_requests_total", &[("result", result)]),
            count
        );
    }
    assert_eq!(exposition.value("keyward_kds_queue_length"), 0.0);
    let commits = [("operation", "commit_release")];
    assert_eq!(
        exposition.sum("keyward_store_duration_seconds_count", &commits),
        2.0
    );
    assert_eq!(exposition.sum("keyward_store_errors_total", &[]), 0.0);
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(exposition.value(name) > 0.0, "{name}");
    }

    let pem = std::fs::read(watched.shell.path("data/server.pem")).unwrap();
    let end = exposition.sum(
        "keyward_certificate_expiry_timestamp_seconds",
        &[("certificate", "server")],
    );
    let expected = Asn1Time::from_unix(end as i64).unwrap();
    assert!(*X509::from_pem(&pem).unwrap().not_after() == expected, "{end}");
}

#[test]
fn the_certificate_that_is_shown_is_measured_whatever_lies_in_its_file() {
    let watched = Watched::with("");
    let of = |exposition: &Exposition, name: &str| exposition.sum(name, &[("certificate", "server")]);
    let (ends, refused) = (
        "keyward_certificate_expiry_timestamp_seconds",
        "keyward_certificate_reload_refused",
    );
    let first = watched.scrape();
    assert_eq!(of(&first, refused), 0.0);
    watched.shell.write("data/server.pem", "junk");
    watched.server.signal("HUP");
    let kept = watched.scrape_until(|now| of(now, refused) == 1.0);
    assert_eq!(of(&kept, ends), of(&first, ends));
    let next = Pair::authority("the next").issue(&Says {
        ip: Some("127.0.0.1"),
        server: true,
        days: 400,
        ..Says::client("keyward")
    });
    next.write(&watched.shell.path("data"), "server");
    watched.server.signal("HUP");
    let taken = watched.scrape_until(|now| of(now, refused) == 0.0);
    assert!(of(&taken, ends) > of(&first, ends));
}

#[test]
fn a_pending_record_and_an_old_hold_show_how_long_they_wait() {
    use keyward::store::Figures;
    let app = crate::support::App::new();
    app.standard();
    app.bundle(&[(
        "release/any.rego",
        &policy(&format!("{ANY}\n\nrelease_limit := 0")),
    )]);
    app.run(&platform()).1.expect(403, "confirmation-required");
    let began = app.service.now();
    app.clock.advance(std::time::Duration::from_secs(100));
    let figures = |now| app.service.store().figures(now).unwrap();
    let now = app.service.now();
    let read = figures(now);
    assert_eq!((read.open_holds, read.oldest_hold), (1, Some(began)));
    assert_eq!(
        (read.pending_launches, read.log_pending, read.oldest_pending),
        (1, 0, None)
    );
    assert_eq!((read.checkpoint_size, read.checkpoint), (0, None));

    // What a sequencer that hangs leaves: a record that is written and has no place.
    let copied = app.sql(
        "INSERT INTO audit_leaves (id, owner, hash, record) SELECT x'01', owner, hash, record FROM audit_leaves WHERE idx = 0",
    );
    assert_eq!(copied, 1);
    let read = figures(now);
    assert_eq!((read.log_pending, read.oldest_pending), (1, Some(began)));
    let later = figures(now.after(std::time::Duration::from_secs(600)));
    let expected = Figures {
        pending_launches: 0,
        ..read
    };
    assert_eq!(later, expected, "the launch had its time, the rest is as it was");
}

/// What is whose, in the server that the tests have made busy.
fn somebodys(watched: &Watched) -> Vec<String> {
    let token = watched.shell.read("token").trim().to_owned();
    let decisions = watched.owner("GET", "/v1/decisions?limit=100", &Value::Null).body;
    let holds = watched.owner("GET", "/v1/holds", &Value::Null).body;
    let ids = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (decided, held) = (ids(&decisions), ids(&holds));
    assert!(decided.len() >= 4 && held.len() == 1, "{decisions}");
    let mut all = vec![token, WORKLOAD.to_owned(), digest(IMAGE), digest(OTHER)];
    all.extend(["acme", "hunter2", "aHVudGVyMg", "release.any", "127.0.0.1"].map(str::to_owned));
    all.extend(decided.into_iter().chain(held));
    all
}

#[test]
fn nothing_of_owners_hosts_and_guests_is_in_them() {
    let watched = busy();
    let exposition = watched.scrape();
    for what in somebodys(&watched) {
        assert!(!exposition.text.contains(&what), "{what}");
    }
    let words = exposition.label_values();
    for name in ["web", "disk", "test"] {
        assert!(!words.contains(name), "{name}");
    }
    assert!(
        words.iter().all(|word| word.parse::<uuid::Uuid>().is_err()),
        "{words:?}"
    );
}

#[test]
fn no_flood_of_paths_methods_and_names_makes_more_series() {
    let watched = Watched::with("");
    let flood = |round: usize| {
        for number in 0..60 {
            let id = uuid::Uuid::new_v4();
            let method = format!("M{round}X{number}");
            let secret = format!("/v1/secrets/s{id}");
            for (method, path) in [
                ("GET", format!("/{id}/{number}")),
                ("GET", format!("/v1/{id}")),
                ("GET", format!("/v1/secrets/s{id}/a/b")),
                ("GET", format!("/problems/{id}?x={id}")),
                ("POST", format!("/vm/{id}/launch")),
                ("POST", format!("/vm/{id}/validate")),
                ("PUT", format!("/vm/not-a-uuid-{number}")),
                (method.as_str(), "/livez".to_owned()),
                (method.as_str(), secret),
            ] {
                let token = format!("kw_{id}");
                let body = if method == "GET" { Value::Null } else { json!({}) };
                let answer = watched.send(method, &path, Some(&token), &body);
                assert!(
                    (400..500).contains(&answer.status),
                    "{method} {path}: {}",
                    answer.status
                );
            }
        }
    };
    flood(0);
    let first = watched.scrape();
    flood(1);
    let second = watched.scrape();
    // What the server does by itself meanwhile are use cases of the store, of which there are few.
    assert_eq!(second.series("keyward_http_"), first.series("keyward_http_"));
    let of_store = |exposition: &Exposition| exposition.series("keyward_store_");
    assert_eq!(
        second.series("") - first.series(""),
        of_store(&second) - of_store(&first)
    );
    let count = |exposition: &Exposition| exposition.sum("keyward_http_requests_total", &[]);
    assert_eq!(count(&second) - count(&first), 540.0);
    assert_eq!(
        second.sum(
            "keyward_http_requests_total",
            &[("route", "none"), ("status", "4xx")]
        ),
        240.0
    );
}

#[test]
fn whoever_scrapes_often_does_not_ask_the_store_more_often() {
    let watched = Watched::with("");
    let begun = Instant::now();
    for _ in 0..40 {
        watched.scrape();
    }
    let scraped = watched.scrape();
    let asked = scraped.sum(
        "keyward_store_duration_seconds_count",
        &[("operation", "figures")],
    );
    // Kept for five seconds each.
    let most = 1 + begun.elapsed().as_secs() / 5;
    assert!(asked >= 1.0 && asked <= most as f64, "{asked} of at most {most}");
}

#[test]
fn a_store_that_fails_is_counted_and_what_it_does_not_say_is_left_out() {
    let watched = Watched::with("");
    assert_eq!(watched.scrape().value("keyward_holds_open"), 0.0);
    let file = watched.shell.path("data").join(keyward::store::sqlite::FILE);
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    connection
        .execute_batch("ALTER TABLE connections RENAME TO elsewhere")
        .unwrap();
    let failing = watched.scrape_until(|scraped| !scraped.families.contains_key("keyward_holds_open"));
    let failed =
        |exposition: &Exposition| exposition.sum("keyward_store_errors_total", &[("operation", "figures")]);
    // The error is counted by the time of the next scrape, as that one was being written when it came.
    assert!(failed(&watched.scrape()) >= 1.0);
    assert!(failing.families.contains_key("keyward_http_requests_in_flight"));
    connection
        .execute_batch("ALTER TABLE elsewhere RENAME TO connections")
        .unwrap();
    watched.scrape_until(|scraped| scraped.families.contains_key("keyward_holds_open"));
}

#[test]
fn they_are_on_their_own_listener_alone_and_only_where_they_are_asked_for() {
    let watched = Watched::with("");
    let status =
        |answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>| answer.unwrap().status().as_u16();
    for path in [
        "/livez",
        "/readyz",
        "/v1/secrets",
        "/",
        "/metrics/",
        "/openapi.json",
    ] {
        let base = watched.metrics.strip_suffix("/metrics").unwrap();
        assert_eq!(status(agent().get(format!("{base}{path}")).call()), 404, "{path}");
    }
    assert_eq!(status(agent().head(&watched.metrics).call()), 200);
    assert!(status(agent().post(&watched.metrics).send("x")) >= 400);
    watched
        .send("GET", "/metrics", None, &Value::Null)
        .expect(404, "not-found");
    let (code, _) = watched.server.stop();
    assert_eq!(code, 0);

    let server = Shell::initialised().serve(&[]);
    assert_eq!(server.before, "");
}
