//! The dashboard and the alerts ask for what there is: a metric or a label that is renamed fails here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::deploy::{file, yaml};
use crate::support::watched::busy;

/// A label's name, how it is compared, and with what.
type Matched = (String, String, String);

/// What an expression asks for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    /// Metrics, each with its matchers: label, operator, value.
    metrics: Vec<(String, Vec<Matched>)>,
    /// Labels that are grouped or joined by.
    grouped: Vec<String>,
}

/// Words, texts (with their quotes) and signs of an expression.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '$');
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => ["=~", "!~", "!=", "==", ">=", "<="]
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(1, |s| s.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

const WORDS: [&str; 8] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "group_left",
    "group_right",
    "inf",
];
const GROUPING: [&str; 4] = ["by", "without", "on", "ignoring"];

fn asked(expression: &str) -> Asked {
    let tokens = tokens(expression);
    let mut asked = Asked::default();
    let mut at = 0;
    let next = |at: usize| tokens.get(at).map(String::as_str);
    while let Some(token) = next(at) {
        let begins = token.chars().next().unwrap();
        at += 1;
        if token == "[" {
            // A duration.
            at += tokens[at..].iter().position(|token| token == "]").unwrap() + 1;
        } else if GROUPING.contains(&token) {
            assert_eq!(next(at), Some("("), "{expression}");
            let end = at + tokens[at..].iter().position(|token| token == ")").unwrap();
            asked
                .grouped
                .extend(tokens[at + 1..end].iter().filter(|token| *token != ",").cloned());
            at = end + 1;
        } else if !(begins.is_ascii_alphabetic() || begins == '_') || WORDS.contains(&token) {
            // A number, a sign, a keyword.
        } else if next(at) == Some("(") || next(at).is_some_and(|next| GROUPING.contains(&next)) {
            // A function, or an aggregation.
        } else {
            let mut matchers = Vec::new();
            if next(at) == Some("{") {
                let end = at + tokens[at..].iter().position(|token| token == "}").unwrap();
                for matcher in tokens[at + 1..end].split(|token| token == ",") {
                    let [label, operator, value] = matcher else {
                        panic!("{matcher:?} of {expression}")
                    };
                    let value = value.trim_matches('"').to_owned();
                    matchers.push((label.clone(), operator.clone(), value));
                }
                at = end + 1;
            }
            asked.metrics.push((token.to_owned(), matchers));
        }
    }
    asked
}

/// Labels that Prometheus itself adds, whose values are its configuration's.
const ADDED: [&str; 2] = ["job", "instance"];

/// What there is: labels of each series' name, and the values of each label of it.
struct There {
    labels: BTreeMap<String, BTreeSet<String>>,
    values: BTreeSet<(String, String, String)>,
}

fn there() -> There {
    let exposition = busy().scrape();
    let mut labels = exposition.labels();
    // Whether it could be scraped.
    labels.insert("up".to_owned(), BTreeSet::new());
    for own in labels.values_mut() {
        own.extend(ADDED.map(str::to_owned));
    }
    let samples = exposition.families.values().flat_map(|family| &family.samples);
    let values = samples.flat_map(|sample| {
        let labels = sample.labels.iter();
        labels.map(|(label, value)| (sample.name.clone(), label.clone(), value.clone()))
    });
    let mut values: BTreeSet<_> = values.collect();
    // The server that is looked at has no revocation list; one that has one says so under this name.
    assert!(include_str!("../src/cli/listeners.rs").contains("(\"client-crl\", tls.client_crl"));
    let expiry = "keyward_certificate_expiry_timestamp_seconds";
    values.insert((
        expiry.to_owned(),
        "certificate".to_owned(),
        "client-crl".to_owned(),
    ));
    There { values, labels }
}

/// What is wrong with an expression.
fn wrong(expression: &str, there: &There) -> Vec<String> {
    let asked = asked(expression);
    let mut wrong = Vec::new();
    if asked.metrics.is_empty() {
        wrong.push("it asks for no metric".to_owned());
    }
    let mut all = BTreeSet::new();
    for (metric, matchers) in &asked.metrics {
        let Some(labels) = there.labels.get(metric) else {
            wrong.push(format!("there is no metric {metric}"));
            continue;
        };
        all.extend(labels);
        for (label, operator, value) in matchers {
            if !labels.contains(label) {
                wrong.push(format!("{metric} has no label {label}"));
            } else if !ADDED.contains(&label.as_str())
                && !value.contains('$')
                && ["=", "=~"].contains(&operator.as_str())
            {
                let known = |value: &str| {
                    let of = (metric.clone(), label.clone(), value.to_owned());
                    there.values.contains(&of)
                };
                wrong.extend(
                    value
                        .split('|')
                        .filter(|value| !known(value))
                        .map(|value| format!("no {metric} has {label}={value}")),
                );
            }
        }
    }
    let of_some = |label: &&String| !all.contains(label) && label.as_str() != "le";
    wrong.extend(
        asked
            .grouped
            .iter()
            .filter(of_some)
            .map(|label| format!("nothing has the label {label}")),
    );
    wrong
}

#[test]
fn what_an_expression_asks_for_is_found_in_it() {
    let found = asked(
        "histogram_quantile(0.99, sum by (le, route) (rate(a_bucket{job=\"$job\", route!~\"x|y\"}[$__rate_interval]))) / on (instance) group_left 3 * time() > 0.5",
    );
    let matcher =
        |label: &str, sign: &str, value: &str| (label.to_owned(), sign.to_owned(), value.to_owned());
    let matchers = vec![matcher("job", "=", "$job"), matcher("route", "!~", "x|y")];
    assert_eq!(found.metrics, [("a_bucket".to_owned(), matchers)]);
    assert_eq!(found.grouped, ["le", "route", "instance"]);
    let there = There {
        labels: [("a_total".to_owned(), ["kind".to_owned()].into())].into(),
        values: [("a_total".to_owned(), "kind".to_owned(), "one".to_owned())].into(),
    };
    for (expression, expected) in [
        ("rate(a_total{kind=\"one\"}[5m])", &[][..]),
        ("sum(rate(b_total[5m]))", &["there is no metric b_total"]),
        ("a_total{sort=\"one\"}", &["a_total has no label sort"]),
        ("a_total{kind=~\"one|two\"}", &["no a_total has kind=two"]),
        ("sum by (sort) (a_total)", &["nothing has the label sort"]),
        ("time() > 1", &["it asks for no metric"]),
    ] {
        assert_eq!(wrong(expression, &there), expected, "{expression}");
    }
}

/// Every `expr` in a dashboard, and its queries for variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_and_labels_that_there_are() {
    let there = there();
    let dashboard: Value = serde_json::from_str(&file("grafana/keyward.json")).unwrap();
    let mut asked_for = Vec::new();
    expressions(&dashboard, &mut asked_for);
    assert!(asked_for.len() >= 25, "{}", asked_for.len());
    let alerts = yaml(&file("prometheus/alerts.yaml"));
    let mut alerting = Vec::new();
    expressions(&alerts, &mut alerting);
    assert!(alerting.len() >= 10, "{}", alerting.len());
    let faults: Vec<_> = asked_for
        .iter()
        .chain(&alerting)
        .flat_map(|expression| {
            wrong(expression, &there)
                .into_iter()
                .map(move |why| format!("{expression}: {why}"))
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");

    // Nothing is measured that nobody looks at, but what tells one process from another.
    let looked: BTreeSet<_> = asked_for
        .iter()
        .chain(&alerting)
        .flat_map(|text| asked(text).metrics)
        .map(|(name, _)| name)
        .collect();
    let unseen: Vec<_> = there
        .labels
        .keys()
        .filter(|name| {
            let base = name
                .trim_end_matches("_sum")
                .trim_end_matches("_count")
                .trim_end_matches("_bucket");
            !looked.iter().any(|looked| looked.starts_with(base))
        })
        .collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn the_dashboard_s_panels_have_places_units_and_a_source_that_is_chosen() {
    let dashboard: Value = serde_json::from_str(&file("grafana/keyward.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").collect();
    let titles: Vec<_> = rows.iter().map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        [
            "Traffic",
            "Decisions",
            "Latency",
            "Holds and launches",
            "Audit log and store",
            "AMD's key distribution service",
            "Process and certificates",
        ]
    );
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
            assert!(!panel["description"].as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn every_alert_says_what_is_wrong_what_to_do_and_how_bad_it_is() {
    let alerts = yaml(&file("prometheus/alerts.yaml"));
    let mut names = BTreeSet::new();
    for group in alerts["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("Keyward"), "{name}");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["warning", "critical"].contains(&severity), "{name}");
            for text in ["summary", "description"] {
                assert!(
                    rule["annotations"][text].as_str().unwrap().len() > 20,
                    "{name}: {text}"
                );
            }
        }
    }
}
