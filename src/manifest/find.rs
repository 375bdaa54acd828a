//! Where in a YAML document a member is, by its path: the parser itself is led there and told to fail.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step of a path.
#[derive(Clone, Copy, PartialEq)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Line and column, from 1, of a member such as `images[1].vcpus[0]` in one of a file's documents; of the nearest
/// that is there, where the document leaves it out. A list or a map is where its key is.
pub(super) fn place(text: &str, document: usize, path: &str) -> Option<(usize, usize)> {
    let mut steps = steps(path);
    while !steps.is_empty() {
        if let Some(place) = at(text, document, &steps) {
            return Some(place);
        }
        steps.pop();
    }
    None
}

fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|key| !key.is_empty()).map(Step::Key));
        let indices = pieces.filter_map(|piece| piece.strip_suffix(']')?.parse().ok());
        steps.extend(indices.map(Step::Index));
    }
    steps
}

fn at(text: &str, document: usize, steps: &[Step<'_>]) -> Option<(usize, usize)> {
    let found = Cell::new(Found::Nothing);
    let led = |keys| {
        found.set(Found::Nothing);
        let source = serde_yaml::Deserializer::from_str(text).nth(document)?;
        let guide = Guide {
            steps,
            keys,
            found: &found,
        };
        let place = guide.deserialize(source).err()?.location();
        place
            .filter(|_| found.get() != Found::Nothing)
            .map(|at| (at.line(), at.column()))
    };
    let place = led(false)?;
    match (found.get(), steps.last()) {
        (Found::Container, Some(Step::Key(_))) => led(true).or(Some(place)),
        _ => Some(place),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Found {
    Nothing,
    Scalar,
    Container,
}

/// Leads to what the steps say, and fails there.
#[derive(Clone, Copy)]
struct Guide<'a> {
    steps: &'a [Step<'a>],
    /// Fail at the key of the last step, not at its value.
    keys: bool,
    found: &'a Cell<Found>,
}

impl Guide<'_> {
    fn end<T, E: serde::de::Error>(self, what: Found) -> Result<Option<T>, E> {
        if self.steps.is_empty() {
            self.found.set(what);
            return Err(E::custom("here"));
        }
        Ok(None)
    }

    fn scalar<E: serde::de::Error>(self) -> Result<(), E> {
        self.end::<(), E>(Found::Scalar).map(|_| ())
    }
}

impl<'de> DeserializeSeed<'de> for Guide<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Guide<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.end::<(), _>(Found::Container)?;
        let wanted = match self.steps.first() {
            Some(Step::Index(wanted)) => Some(*wanted),
            _ => None,
        };
        let inner = Guide {
            steps: self.steps.get(1..).unwrap_or_default(),
            ..self
        };
        for number in 0.. {
            let more = if Some(number) == wanted {
                list.next_element_seed(inner)?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.end::<(), _>(Found::Container)?;
        let inner = Guide {
            steps: self.steps.get(1..).unwrap_or_default(),
            ..self
        };
        let wanted = match self.steps.first() {
            Some(Step::Key(wanted)) => Some(*wanted),
            _ => None,
        };
        let fail = (self.keys && inner.steps.is_empty()).then_some(self.found);
        while let Some(is_wanted) = map.next_key_seed(KeyGuide { wanted, fail })? {
            if is_wanted {
                map.next_value_seed(inner)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Knows one key, and fails there where that is wanted.
struct KeyGuide<'a> {
    wanted: Option<&'a str>,
    fail: Option<&'a Cell<Found>>,
}

impl<'de> DeserializeSeed<'de> for KeyGuide<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyGuide<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let found = Some(key) == self.wanted;
        match self.fail {
            Some(mark) if found => {
                mark.set(Found::Container);
                Err(E::custom("here"))
            }
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_in_every_style() {
        let block = "kind: Secret\n---\nkind: Workload\nimages:\n- name: one\n  vcpus:\n  - 1\n  - 2\n- {name: two, \"vcpus\": [1, 99]}\n";
        for (path, expected) in [
            ("kind", (3, 7)),
            ("images", (4, 1)),
            ("images[0]", (5, 3)),
            ("images[0].name", (5, 9)),
            ("images[0].vcpus", (6, 3)),
            ("images[0].vcpus[1]", (8, 5)),
            ("images[1]", (9, 3)),
            ("images[1].vcpus[1]", (9, 28)),
            // Left out: the nearest that is there.
            ("images[1].vcpu_type", (9, 3)),
            ("images[7].name", (4, 1)),
        ] {
            assert_eq!(place(block, 1, path), Some(expected), "{path}");
        }
        assert_eq!(place(block, 1, "secrets[0]"), None);
        assert_eq!(place(block, 0, "kind"), Some((1, 7)));
    }
}
