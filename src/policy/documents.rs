//! Data files of a bundle: JSON and YAML, bounded while they are read.
//!
//! YAML aliases may stand for more than the file holds, so what counts is the number of values that come out.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::diagnostic::Diagnostic;

/// Deepest nesting of a data file.
const MAX_DEPTH: u32 = 32;
/// Most values (scalars, arrays and objects) in a data file.
const MAX_VALUES: u32 = 200_000;
/// Most bytes of text that come out of a data file: an alias may stand for a long one many times.
const MAX_TEXT: usize = 4 * 1024 * 1024;
/// Most brackets that a YAML file opens, in all and at once: its parser's work is the square of what is open.
const MAX_BRACKETS: (usize, usize) = (20_000, 1_000);
/// Integers up to this magnitude survive a detour over a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A data file and its place under `data`.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    /// The file's path in the bundle.
    pub(crate) path: String,
    /// The path under `data` that its folder names.
    pub(crate) place: Vec<String>,
    /// Its content.
    pub(crate) value: Value,
}

/// Reads one data file.
pub(super) fn parse(path: &str, text: &str) -> Result<DataFile, Diagnostic> {
    let (budget, text_budget) = (Cell::new(MAX_VALUES), Cell::new(MAX_TEXT));
    let seed = Bounded {
        depth: 0,
        budget: &budget,
        text: &text_budget,
    };
    if !path.ends_with(".json") {
        few_brackets(path, text)?;
    }
    let read = if path.ends_with(".json") {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        seed.deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value))
            .map_err(|error| (error.line(), error.column(), error.to_string()))
    } else {
        let documents = serde_yaml::Deserializer::from_str(text);
        seed.deserialize(documents).map_err(|error| {
            let place = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            (place.0, place.1, error.to_string())
        })
    };
    let value = read.map_err(|(line, column, message)| {
        Diagnostic::at_line(
            path,
            text,
            line.max(1),
            column.max(1),
            format!("can't be read as data: {message}"),
        )
    })?;
    let mut place: Vec<String> = path.split('/').map(str::to_owned).collect();
    place.pop();
    if place.is_empty() && !value.is_object() {
        return Err(Diagnostic::at_line(
            path,
            text,
            1,
            1,
            "data at the bundle's root must be an object",
        ));
    }
    if place.first().map(String::as_str) == Some("keyward") || value_at(&place, &value, "keyward") {
        return Err(Diagnostic::at_line(
            path,
            text,
            1,
            1,
            "`data.keyward` is reserved for the server's library",
        )
        .with_hint("choose another name for this data"));
    }
    Ok(DataFile {
        path: path.to_owned(),
        place,
        value,
    })
}

/// Refuses YAML text that its parser would be busy with for long, before the parser sees it.
fn few_brackets(path: &str, text: &str) -> Result<(), Diagnostic> {
    let (mut all, mut open) = (0_usize, 0_usize);
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => {
                all += 1;
                open += 1;
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if all > MAX_BRACKETS.0 || open > MAX_BRACKETS.1 {
            return Err(
                Diagnostic::at_offset(path, text, offset, "too many brackets for a YAML file")
                    .with_hint("write it as JSON, or its lists with a dash on each line"),
            );
        }
    }
    Ok(())
}

fn value_at(place: &[String], value: &Value, name: &str) -> bool {
    place.is_empty() && value.get(name).is_some()
}

/// All data files as one document.
pub(super) fn merge(files: &[DataFile]) -> Result<Value, Diagnostic> {
    let mut merged = Value::Object(Map::new());
    for file in files {
        let placed = file.place.iter().rev().fold(file.value.clone(), |value, name| {
            Value::Object(Map::from_iter([(name.clone(), value)]))
        });
        let mut at = Vec::new();
        merge_into(&mut merged, placed, &mut at).map_err(|()| {
            let files: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            Diagnostic::on_file(
                &file.path,
                format!("data.{} is already defined by another data file", at.join(".")),
            )
            .with_hint(format!("the bundle's data files: {}", files.join(", ")))
        })?;
    }
    Ok(merged)
}

fn merge_into(target: &mut Value, source: Value, at: &mut Vec<String>) -> Result<(), ()> {
    match (target, source) {
        (Value::Object(target), Value::Object(source)) => {
            for (name, value) in source {
                match target.get_mut(&name) {
                    None => {
                        target.insert(name, value);
                    }
                    Some(existing) => {
                        at.push(name);
                        merge_into(existing, value, at)?;
                        at.pop();
                    }
                }
            }
            Ok(())
        }
        _ => Err(()),
    }
}

/// Reads any value while counting depth and values, refusing duplicate keys and numbers that can't be kept exactly.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    depth: u32,
    budget: &'a Cell<u32>,
    text: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn spend<E: Error>(self) -> Result<Self, E> {
        let left = self.budget.get().checked_sub(1);
        self.budget
            .set(left.ok_or_else(|| E::custom(format!("more than {MAX_VALUES} values")))?);
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Bounded {
            depth: self.depth + 1,
            budget: self.budget,
            text: self.text,
        })
    }

    /// Pays for a text before it is copied.
    fn pay<E: Error>(self, text: &str) -> Result<(), E> {
        let left = self.text.get().checked_sub(text.len());
        self.text
            .set(left.ok_or_else(|| E::custom(format!("more than {MAX_TEXT} bytes of text")))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend().map(|_| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend().map(|_| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend().map(|_| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend()?;
        if value.fract() == 0.0 && value.abs() > EXACT {
            return Err(E::custom(
                "a number that can't be kept exactly; write it as a string",
            ));
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is not finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.pay(value)?;
        self.spend().map(|_| value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend().map(|_| Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.spend()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.spend()?;
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.pay(&name)?;
            let value = members.next_value_seed(inner)?;
            if out.contains_key(&name) {
                return Err(A::Error::custom(format!("the key {name:?} appears twice")));
            }
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}
