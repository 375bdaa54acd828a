//! Decisions in a file: JSON Lines, or one JSON array, read one by one.

use std::fmt;
use std::io::{BufRead, Read as _};

use anyhow::{Context as _, anyhow, bail};
use serde::de::{Deserializer as _, SeqAccess, Visitor};

use crate::domain::decision::Decision;

/// The longest line, in bytes: a decision is a few thousand.
const LONGEST: u64 = 16 << 20;

/// Takes one decision.
pub(super) type Sink<'a> = dyn FnMut(Decision) -> anyhow::Result<()> + 'a;

/// Reads decisions until the end; memory holds one of them.
pub(super) fn read(mut input: impl BufRead, sink: &mut Sink<'_>) -> anyhow::Result<()> {
    let mut skipped = 0;
    loop {
        let at_hand = input.fill_buf()?;
        match at_hand.first() {
            None => return Ok(()),
            Some(b'[') => return array(input, skipped, sink),
            Some(byte) if byte.is_ascii_whitespace() => {
                skipped += usize::from(*byte == b'\n');
                input.consume(1);
            }
            Some(_) => return lines(input, skipped, sink),
        }
    }
}

fn lines(mut input: impl BufRead, skipped: usize, sink: &mut Sink<'_>) -> anyhow::Result<()> {
    let (mut number, mut line) = (skipped, Vec::new());
    loop {
        line.clear();
        number += 1;
        let read = input.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if u64::try_from(read).unwrap_or(u64::MAX) >= LONGEST {
            bail!("line {number} is longer than {LONGEST} bytes: a decision is one line of a few thousand");
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let mut json = serde_json::Deserializer::from_slice(&line);
        let decision = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| {
                let path = error.path().to_string();
                let error = error.into_inner();
                // The reader's own «line 1» is this line.
                let text = error.to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                anyhow!(
                    "line {number}, column {} is no decision: `{path}`: {text}",
                    error.column()
                )
            })
            .and_then(|decision| {
                json.end()
                    .map(|()| decision)
                    .with_context(|| format!("line {number} goes on after its decision"))
            })?;
        sink(decision)?;
    }
}

fn array(input: impl BufRead, skipped: usize, sink: &mut Sink<'_>) -> anyhow::Result<()> {
    let mut failed = None;
    let elements = Elements {
        sink,
        failed: &mut failed,
    };
    let mut json = serde_json::Deserializer::from_reader(input);
    let read = json.deserialize_seq(elements).and_then(|()| json.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(anyhow!(
            "line {} is not what a list of decisions has there: {error}",
            error.line() + skipped
        )),
    }
}

struct Elements<'a, 'b> {
    sink: &'a mut Sink<'b>,
    /// What the sink said; the reader's own errors are all about the text.
    failed: &'a mut Option<anyhow::Error>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of decisions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(decision) = elements.next_element::<Decision>()? {
            if let Err(error) = (self.sink)(decision) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
