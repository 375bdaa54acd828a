//! Bounds around built-ins that are useful and not safe as they are.
//!
//! Each guard checks its arguments and then calls the engine's own built-in: the results are the engine's, but for
//! arguments that would make it allocate without bound, panic, or accept what OPA refuses.

use anyhow::{Result, bail};
use regorus::unstable::{BUILTINS, Expr, Ref, Source, Span};
use regorus::{Engine, Value};

use super::builtins;

/// Most bytes (of strings) or items (of arrays) that one call may take or make.
const MAX_SIZE: usize = 256 * 1024;

type Check = fn(&[Value]) -> Result<()>;

const GUARDS: &[(&str, Check)] = &[
    ("array.concat", small_arguments),
    ("bits.lsh", small_shift),
    ("bits.rsh", small_shift),
    ("concat", bounded_concat),
    ("json.marshal", small_arguments),
    ("object.subset", no_empty_array),
    ("replace", bounded_replace),
    ("sprintf", plain_format),
    ("strings.count", some_needle),
    ("time.parse_rfc3339_ns", strict_time),
    ("to_number", strict_number),
];

/// Puts the guards in front of the engine's built-ins.
pub(super) fn install(engine: &mut Engine) -> Result<()> {
    let source = Source::from_contents("built-in".to_owned(), String::new())?;
    let span = Span {
        source,
        line: 0,
        col: 0,
        start: 0,
        end: 0,
    };
    for (name, check) in GUARDS {
        let (Some((call, _)), Some(arity)) = (BUILTINS.get(name).copied(), builtins::arity(name)) else {
            bail!("the engine has no built-in {name}");
        };
        let span = span.clone();
        // The engine's built-ins take their arguments' expressions only to name a place in an error.
        let places: Vec<Ref<Expr>> = (0..arity)
            .map(|_| {
                Ref::new(Expr::Null {
                    span: span.clone(),
                    value: Value::Null,
                    eidx: 0,
                })
            })
            .collect();
        let guarded = move |arguments: Vec<Value>| {
            check(&arguments)?;
            call(&span, &places, &arguments, true)
                .map_err(|error| anyhow::anyhow!(last_part(&error.to_string())))
        };
        let arity = u8::try_from(arity)?;
        engine.add_extension((*name).to_owned(), arity, Box::new(guarded))?;
    }
    Ok(())
}

/// An engine's error without the place in it, which here is no place of the policy's.
fn last_part(text: &str) -> String {
    text.rsplit_once("error: ")
        .map_or(text, |(_, message)| message)
        .trim()
        .to_owned()
}

/// The size of a value, counted no further than past the bound; shared parts count each time, as they would be
/// written out.
pub(super) fn size_within(value: &Value, bound: usize) -> Option<usize> {
    fn count(value: &Value, left: &mut usize, depth: u32) -> Option<()> {
        let own = match value {
            Value::String(text) => text.len() + 1,
            _ => 1,
        };
        *left = left.checked_sub(own)?;
        let depth = depth.checked_sub(1)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| count(item, left, depth)),
            Value::Set(items) => items.iter().try_for_each(|item| count(item, left, depth)),
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                count(name, left, depth)?;
                count(member, left, depth)
            }),
            _ => Some(()),
        }
    }
    let mut left = bound;
    count(value, &mut left, 64)?;
    Some(bound - left)
}

fn small_arguments(arguments: &[Value]) -> Result<()> {
    let mut total = 0;
    for argument in arguments {
        match size_within(argument, MAX_SIZE - total) {
            Some(size) => total += size,
            None => bail!("more than {MAX_SIZE} bytes or items"),
        }
    }
    Ok(())
}

fn small_shift(arguments: &[Value]) -> Result<()> {
    match arguments.get(1).map(Value::as_u8) {
        Some(Ok(0..=63)) => small_arguments(arguments),
        _ => bail!("the shift must be a whole number from 0 to 63"),
    }
}

fn bounded_concat(arguments: &[Value]) -> Result<()> {
    small_arguments(arguments)?;
    let [Value::String(delimiter), parts] = arguments else {
        return Ok(());
    };
    let count = parts
        .as_array()
        .map(|a| a.len())
        .or_else(|_| parts.as_set().map(|s| s.len()))
        .unwrap_or(0);
    match delimiter.len().checked_mul(count) {
        Some(bytes) if bytes <= MAX_SIZE => Ok(()),
        _ => bail!("the result would have more than {MAX_SIZE} bytes"),
    }
}

/// The engine panics on an empty array to look for.
fn no_empty_array(arguments: &[Value]) -> Result<()> {
    fn has_empty(value: &Value, depth: u32) -> bool {
        match value {
            Value::Array(items) => {
                items.is_empty() || depth == 0 || items.iter().any(|item| has_empty(item, depth - 1))
            }
            Value::Object(members) => {
                depth == 0 || members.values().any(|member| has_empty(member, depth - 1))
            }
            _ => false,
        }
    }
    small_arguments(arguments)?;
    match arguments.get(1) {
        Some(part) if has_empty(part, 64) => bail!("the part to look for holds an empty array"),
        _ => Ok(()),
    }
}

fn bounded_replace(arguments: &[Value]) -> Result<()> {
    small_arguments(arguments)?;
    let [Value::String(text), Value::String(old), Value::String(new)] = arguments else {
        return Ok(());
    };
    if old.is_empty() {
        bail!("the text to replace is empty");
    }
    let times = text.len() / old.len();
    match times.checked_mul(new.len()) {
        Some(bytes) if bytes <= MAX_SIZE => Ok(()),
        _ => bail!("the result could have more than {MAX_SIZE} bytes"),
    }
}

/// Verbs without widths, precisions or indices: the engine ignores most of them, and a width alone can ask for
/// gigabytes.
fn plain_format(arguments: &[Value]) -> Result<()> {
    small_arguments(arguments)?;
    let [Value::String(format), Value::Array(values)] = arguments else {
        return Ok(());
    };
    let mut verbs = 0;
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            continue;
        }
        match rest.next() {
            Some('%') => {}
            Some(verb @ ('s' | 'v' | 'd' | 'x' | 'X' | 'o' | 'b' | 'c' | 'q' | 'f' | 'g' | 'e' | 't')) => {
                let value = values.get(verbs);
                // The engine prints nothing here, where OPA prints the value or a complaint.
                let unprintable = match verb {
                    't' => true,
                    'd' => value.is_some_and(|value| !matches!(value, Value::Number(_))),
                    _ => false,
                };
                if unprintable {
                    bail!("%{verb} can't print this value; use %v");
                }
                verbs += 1;
            }
            other => bail!(
                "sprintf takes plain verbs such as %s, %d and %v, not %{}",
                other.map(String::from).unwrap_or_default()
            ),
        }
    }
    if verbs != values.len() {
        bail!("the format has {verbs} verbs and {} values follow", values.len());
    }
    Ok(())
}

fn some_needle(arguments: &[Value]) -> Result<()> {
    match arguments.get(1) {
        Some(Value::String(needle)) if needle.is_empty() => bail!("the text to count is empty"),
        _ => Ok(()),
    }
}

/// RFC 3339 as OPA reads it: `T` between date and time, no 60th second.
fn strict_time(arguments: &[Value]) -> Result<()> {
    let Some(Value::String(text)) = arguments.first() else {
        return Ok(());
    };
    let bytes = text.as_bytes();
    let shape = bytes.get(10) == Some(&b'T')
        && bytes
            .get(17..19)
            .is_some_and(|seconds| seconds < b"60".as_slice())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '-' | '+' | '.'));
    if shape {
        Ok(())
    } else {
        bail!("not a time of RFC 3339: {text:?}")
    }
}

/// Numbers as JSON writes them; the engine takes more.
fn strict_number(arguments: &[Value]) -> Result<()> {
    let Some(Value::String(text)) = arguments.first() else {
        return Ok(());
    };
    let plain = text.len() <= 64 && serde_json::from_str::<serde_json::Number>(text).is_ok();
    if plain && text.trim().len() == text.len() {
        Ok(())
    } else {
        bail!("not a number")
    }
}
