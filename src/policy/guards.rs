//! Bounds around built-ins that are useful and not safe as they are.
//!
//! Each guard checks its arguments and then calls the engine's own built-in: the results are the engine's, but for
//! arguments that would make it allocate or work without bound, panic, or accept what OPA refuses. Every built-in is
//! guarded against huge arguments, as the engine writes what it does not like into its errors, whole.

use anyhow::{Result, bail};
use regorus::unstable::{BUILTINS, Expr, Ref, Source, Span};
use regorus::{Engine, Value};

use super::builtins;

/// Most bytes (of strings) or items (of arrays) that one call may take or make.
const MAX_SIZE: usize = 256 * 1024;

/// Most comparisons that one call may make.
const MAX_PRODUCT: usize = 16 * 1024 * 1024;

type Check = fn(&[Value]) -> Result<()>;

/// What a built-in is guarded against besides huge arguments.
const GUARDS: &[(&str, Check)] = &[
    ("base64.decode", text_in_base64),
    ("bits.lsh", small_shift),
    ("bits.rsh", small_shift),
    ("concat", bounded_concat),
    ("hex.decode", text_in_hex),
    ("indexof", some_needle),
    ("object.subset", no_empty_array),
    ("replace", bounded_replace),
    ("sprintf", plain_format),
    ("strings.any_prefix_match", small_product),
    ("strings.any_suffix_match", small_product),
    ("strings.count", counted_needle),
    ("time.add_date", named_zone),
    ("time.clock", named_zone),
    ("time.date", named_zone),
    ("time.parse_rfc3339_ns", strict_time),
    ("time.weekday", named_zone),
    ("to_number", strict_number),
    ("trim", small_product),
    ("trim_left", small_product),
    ("trim_right", small_product),
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
    for (name, arity) in builtins::ALLOWED {
        let Some((call, _)) = BUILTINS.get(name).copied() else {
            bail!("the engine has no built-in {name}");
        };
        let check = GUARDS
            .iter()
            .find(|(guarded, _)| guarded == name)
            .map(|(_, check)| *check);
        let span = span.clone();
        // The engine's built-ins take their arguments' expressions only to name a place in an error.
        let places: Vec<Ref<Expr>> = (0..*arity)
            .map(|_| {
                Ref::new(Expr::Null {
                    span: span.clone(),
                    value: Value::Null,
                    eidx: 0,
                })
            })
            .collect();
        let guarded = move |arguments: Vec<Value>| {
            small_arguments(&arguments)?;
            if let Some(check) = check {
                check(&arguments)?;
            }
            call(&span, &places, &arguments, true)
                .map_err(|error| anyhow::anyhow!(last_part(&error.to_string())))
        };
        let arity = u8::try_from(*arity)?;
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
        Some(Ok(0..=63)) => Ok(()),
        _ => bail!("the shift must be a whole number from 0 to 63"),
    }
}

fn bounded_concat(arguments: &[Value]) -> Result<()> {
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
    match arguments.get(1) {
        Some(part) if has_empty(part, 64) => bail!("the part to look for holds an empty array"),
        _ => Ok(()),
    }
}

fn bounded_replace(arguments: &[Value]) -> Result<()> {
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
                let unprintable = match (verb, value) {
                    ('t', _) => true,
                    ('s' | 'v', _) | (_, None) => false,
                    ('q', Some(value)) => !matches!(value, Value::String(_)),
                    (_, Some(value)) => !matches!(value, Value::Number(_)),
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
        Some(Value::String(needle)) if needle.is_empty() => bail!("the text to look for is empty"),
        _ => Ok(()),
    }
}

fn counted_needle(arguments: &[Value]) -> Result<()> {
    some_needle(arguments)?;
    small_product(arguments)
}

/// Each part of the one is looked for in each of the other.
fn small_product(arguments: &[Value]) -> Result<()> {
    let sizes = arguments
        .iter()
        .map(|argument| size_within(argument, MAX_SIZE).unwrap_or(MAX_SIZE));
    match sizes.fold(1_usize, usize::saturating_mul) {
        0..=MAX_PRODUCT => Ok(()),
        _ => bail!("more than {MAX_PRODUCT} comparisons"),
    }
}

/// The engine puts a replacement character where bytes are no text, so that different bytes would compare equal.
fn text_in_hex(arguments: &[Value]) -> Result<()> {
    match arguments.first() {
        Some(Value::String(text)) => is_text(hex::decode(text.as_bytes()).ok()),
        _ => Ok(()),
    }
}

fn text_in_base64(arguments: &[Value]) -> Result<()> {
    use base64::Engine as _;
    match arguments.first() {
        Some(Value::String(text)) => is_text(
            base64::engine::general_purpose::STANDARD
                .decode(text.as_bytes())
                .ok(),
        ),
        _ => Ok(()),
    }
}

/// What does not decode at all is the engine's to refuse.
fn is_text(decoded: Option<Vec<u8>>) -> Result<()> {
    match decoded.map(String::from_utf8) {
        Some(Err(_)) => bail!("the decoded bytes are no text; compare them encoded"),
        _ => Ok(()),
    }
}

/// The server's own time zone is nothing that a decision may depend on.
fn named_zone(arguments: &[Value]) -> Result<()> {
    let zone = arguments.first().and_then(|time| time.as_array().ok()?.get(1));
    match zone {
        Some(Value::String(zone)) if zone.eq_ignore_ascii_case("local") => {
            bail!("the time zone must be named; `Local` is whatever the server's is")
        }
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
