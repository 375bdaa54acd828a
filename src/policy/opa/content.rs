//! What OPA hashes of a file: of Rego the bytes, of data and the manifest what they say, so that a signature
//! outlives another layout of the same JSON.
//!
//! The form is that of OPA's `bundle/hash.go`: objects with their keys in byte order, no space, text as Go's
//! encoder writes it without escaping HTML, and numbers as they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use openssl::hash::{MessageDigest, hash};
use serde_json::Value;
use serde_json::value::RawValue;

use super::MANIFEST;
use crate::policy::documents;

/// Deepest nesting that is followed; a bundle's data is less deep.
const MAX_DEPTH: u32 = 64;

/// The digest of a file, over what its name says is hashed.
///
/// # Errors
/// A document that can't be read; says why.
pub(super) fn digest(path: &str, bytes: &[u8], algorithm: MessageDigest) -> Result<Vec<u8>, String> {
    let digest = if is_structured(path) {
        hash(algorithm, canonical(path, bytes)?.as_bytes())
    } else {
        hash(algorithm, bytes)
    };
    Ok(digest.map_err(|error| error.to_string())?.to_vec())
}

/// OPA counts `data.yml` among the files whose bytes are hashed.
fn is_structured(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["data.json", "data.yaml", MANIFEST].contains(&name)
}

fn canonical(path: &str, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let mut out = String::with_capacity(text.len());
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => json(raw.get(), 0, &mut out)?,
        Err(error) if !path.ends_with(".yaml") => return Err(error.to_string()),
        Err(_) => {
            let file = documents::parse(path, text).map_err(|found| found.message)?;
            yaml(&file.value, &mut out);
        }
    }
    Ok(out)
}

/// JSON text, one level at a time: that keeps numbers as they are written.
fn json(text: &str, depth: u32, out: &mut String) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    let unreadable = |error: serde_json::Error| error.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            out.push('{');
            for (number, (name, value)) in members.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                string(&name, out);
                out.push(':');
                json(value.get(), depth + 1, out)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            out.push('[');
            for (number, item) in items.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                json(item.get(), depth + 1, out)?;
            }
            out.push(']');
        }
        Some(b'"') => string(&serde_json::from_str::<String>(text).map_err(unreadable)?, out),
        _ => out.push_str(text),
    }
    Ok(())
}

/// YAML's values; OPA turns them into JSON first, with numbers as Go writes them.
fn yaml(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (number, (name, value)) in sorted.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                yaml(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                yaml(item, out);
            }
            out.push(']');
        }
        Value::String(text) => string(text, out),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => self::float(float, out),
            None => out.push_str(&number.to_string()),
        },
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

/// The shortest digits that name the number, with an exponent where Go's encoder has one.
fn float(float: f64, out: &mut String) {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        out.push_str(&match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        });
    } else {
        let _ = write!(out, "{float}");
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
