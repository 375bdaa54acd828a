//! The log: one line for each event, in text or in JSON, with the request that it is of.
//!
//! What came from outside may be in a message or a value. It can't begin a line, end one, or write to a terminal:
//! control characters are escaped in both forms, and a value in the text form is quoted where it has a blank in it.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::json;

use crate::config::{Config, LogFormat};
use crate::domain::{Clock as _, SystemClock};
use crate::http::request_id;

/// The member and value by which lines of one request are found.
const REQUEST: &str = "request_id";

/// A server's log on standard error, from now on.
///
/// # Errors
/// When there is one already.
pub(super) fn serving(config: &Config) -> anyhow::Result<()> {
    let write = match config.log_format {
        LogFormat::Text => text,
        LogFormat::Json => as_json,
    };
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&config.log);
    builder.format(move |out, record| {
        let line = write(record);
        writeln!(out, "{line}")
    });
    builder.try_init().context("logging")?;
    // Who panics has a line as any other, with the request that it was for.
    std::panic::set_hook(Box::new(|panic| log::error!("a defect: {panic}")));
    Ok(())
}

/// What commands warn of, on standard error.
pub(super) fn warnings() {
    let mut builder = env_logger::Builder::new();
    builder.filter_module("keyward", LevelFilter::Warn);
    builder.format(|out, record| {
        let word = match record.level() {
            log::Level::Error => "error",
            _ => "warning",
        };
        writeln!(out, "{word}: {}", escaped(&record.args().to_string()))
    });
    // Only a second one could fail, and would find the first.
    let _ = builder.try_init();
}

fn text(record: &Record<'_>) -> String {
    let mut line = format!(
        "[{} {:<5} {}] {}",
        SystemClock.now(),
        record.level(),
        record.target(),
        escaped(&record.args().to_string())
    );
    for (key, value) in pairs(record) {
        let value = match value {
            serde_json::Value::String(text) => quoted(&text),
            other => other.to_string(),
        };
        let _ = write!(line, " {key}={value}");
    }
    line
}

fn as_json(record: &Record<'_>) -> String {
    let own = [
        ("time", SystemClock.now().to_string()),
        ("level", record.level().as_str().to_ascii_lowercase()),
        ("target", record.target().to_owned()),
        ("message", record.args().to_string()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), json!(value)));
    let more = pairs(record)
        .into_iter()
        .filter(|(key, _)| own.iter().all(|(other, _)| other != key));
    // In this order, as people read it too.
    let members = own.iter().cloned().chain(more);
    let members: Vec<_> = members
        .map(|(key, value)| format!("{}:{value}", json!(key)))
        .collect();
    // JSON leaves some control characters as they are (RFC 8259, section 7); all of them stand inside of strings.
    let mut line = String::new();
    for c in format!("{{{}}}", members.join(",")).chars() {
        match unprintable(c) {
            true => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            false => line.push(c),
        }
    }
    line
}

/// Keys and values of a line, with the request's id where the line does not have it itself.
fn pairs(record: &Record<'_>) -> Vec<(String, serde_json::Value)> {
    struct Visit(Vec<(String, serde_json::Value)>);
    impl<'kvs> VisitSource<'kvs> for Visit {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
            let value = if let Some(number) = value.to_u64() {
                json!(number)
            } else if let Some(number) = value.to_i64() {
                json!(number)
            } else if let Some(number) = value.to_f64() {
                json!(number)
            } else if let Some(truth) = value.to_bool() {
                json!(truth)
            } else {
                json!(value.to_string())
            };
            self.0.push((key.to_string(), value));
            Ok(())
        }
    }
    let mut visit = Visit(Vec::new());
    // Only a visit fails, and this one does not.
    let _ = record.key_values().visit(&mut visit);
    if let Some(id) = request_id::current()
        && visit.0.iter().all(|(key, _)| key != REQUEST)
    {
        visit.0.insert(0, (REQUEST.to_owned(), json!(id.to_string())));
    }
    visit.0
}

/// What would not stay where it is written: control characters, other ends of lines, and what turns a line around.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match unprintable(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

fn quoted(text: &str) -> String {
    let plain = |c: char| !(c.is_whitespace() || matches!(c, '"' | '='));
    match !text.is_empty() && text.chars().all(plain) {
        true => escaped(text),
        false => format!(
            "\"{}\"",
            escaped(&text.replace('\\', "\\\\").replace('"', "\\\""))
        ),
    }
}
