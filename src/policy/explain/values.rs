//! Values as Rego text: whole, to be asked with again, or shortened, to be read.

use regorus::Value;

/// Most bytes of a value that is written whole.
const MAX_WHOLE: usize = 64 * 1024;
/// Most items of a list that are shown.
const SHOWN: usize = 6;
/// Longest text that is shown, in characters; a SHA-384 in hex fits.
const LONGEST: usize = 130;
/// Most bytes of a value that is shown, about.
const MAX_SHOWN: usize = 1_200;

/// A value as a Rego term; none where it is too large, or has no term.
pub(super) fn whole(value: &Value) -> Option<String> {
    let mut text = String::new();
    write(value, &mut text, (usize::MAX, usize::MAX), MAX_WHOLE)?;
    Some(text)
}

/// A value for people.
pub(super) fn short(value: &Value) -> String {
    let mut text = String::new();
    match write(value, &mut text, (SHOWN, LONGEST), MAX_SHOWN) {
        Some(()) => text,
        None => "a large value".to_owned(),
    }
}

/// Writes a value with at most so many items a list and characters a text; none where it takes more than `most` bytes.
fn write(value: &Value, out: &mut String, shown: (usize, usize), most: usize) -> Option<()> {
    let (items, longest) = shown;
    if out.len() > most {
        return None;
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(_) => out.push_str(&serde_json::to_string(value).ok()?),
        Value::String(text) => {
            let cut: String = text.chars().take(longest).collect();
            out.push_str(&serde_json::to_string(&cut).ok()?);
            if cut.len() < text.len() {
                out.push('…');
            }
        }
        Value::Array(array) => list(array.iter(), array.len(), ('[', ']'), out, shown, most)?,
        Value::Set(set) if set.is_empty() => out.push_str("set()"),
        Value::Set(set) => list(set.iter(), set.len(), ('{', '}'), out, shown, most)?,
        Value::Object(object) => {
            out.push('{');
            for (at, (key, value)) in object.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                if at >= items {
                    out.push_str(&format!("… {} more", object.len().saturating_sub(at)));
                    break;
                }
                write(key, out, shown, most)?;
                out.push_str(": ");
                write(value, out, shown, most)?;
            }
            out.push('}');
        }
        Value::Undefined => return None,
    }
    Some(())
}

fn list<'v>(
    values: impl Iterator<Item = &'v Value>,
    count: usize,
    (open, close): (char, char),
    out: &mut String,
    shown: (usize, usize),
    most: usize,
) -> Option<()> {
    let (items, _) = shown;
    out.push(open);
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        if at >= items {
            out.push_str(&format!("… {} more", count.saturating_sub(at)));
            break;
        }
        write(value, out, shown, most)?;
    }
    out.push(close);
    Some(())
}
