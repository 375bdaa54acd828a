//! A look at a module's text before any parser sees it.
//!
//! The parser tries several readings of what a bracket opens, so its work doubles or triples with each level:
//! fifty bytes keep it busy for a minute, and a few kilobytes overflow its stack, neither of which a timer can stop.
//! This scan is one pass, without recursion, and bounds what the parser may be given. It knows just enough of the
//! language (strings, raw strings, comments) not to be fooled by a bracket that is none.

use super::bundle::{MAX_FILE_BYTES, MAX_LINE_BYTES};
use super::diagnostic::Diagnostic;

/// Deepest nesting of brackets.
pub(super) const MAX_DEPTH: usize = 8;
/// Most lines in a module.
const MAX_LINES: usize = 10_000;
/// Most operators in one expression: each is a level of the tree, and evaluation recurses on it.
const MAX_OPERATORS: u32 = 100;
/// Bound of the parser's work: tokens, each counted threefold per level of brackets around it.
const MAX_WORK: u64 = 10_000_000;
/// Most prefix minuses in a row: the parser recurses on each.
const MAX_MINUSES: u32 = 3;

/// Refuses text that the parser might not finish with.
pub(super) fn scan(file: &str, text: &str) -> Result<(), Diagnostic> {
    let refuse = |offset: usize, message: String| Diagnostic::at_offset(file, text, offset, message);
    if text.len() > MAX_FILE_BYTES {
        return Err(Diagnostic::on_file(
            file,
            format!("{} bytes; at most {MAX_FILE_BYTES} are taken", text.len()),
        ));
    }
    let mut start = 0;
    for (number, line) in text.split('\n').enumerate() {
        if number >= MAX_LINES {
            return Err(refuse(start, format!("more than {MAX_LINES} lines")));
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(refuse(
                start,
                format!(
                    "a line of {} bytes; at most {MAX_LINE_BYTES} are taken",
                    line.len()
                ),
            ));
        }
        start += line.len() + 1;
    }
    let mut shape = Shape::default();
    let mut rest = text.char_indices().peekable();
    while let Some((offset, character)) = rest.next() {
        match character {
            '#' => {
                while let Some((at, c)) = rest.next_if(|(_, c)| *c != '\n') {
                    let ends_line = c == '\r' && rest.peek().is_none_or(|(_, next)| *next == '\n');
                    // The engine takes some of them for the end of the file, or of the line.
                    if c.is_control() && c != '\t' && !ends_line {
                        return Err(refuse(at, control(c)));
                    }
                }
            }
            '"' => {
                shape.value(false);
                loop {
                    match rest.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => {
                            rest.next();
                        }
                        Some((_, '\n')) | None => {
                            return Err(refuse(offset, "this string has no end".to_owned()));
                        }
                        Some(_) => {}
                    }
                }
            }
            '`' => {
                shape.value(false);
                loop {
                    match rest.next() {
                        Some((_, '`')) => break,
                        Some((at, c)) if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => {
                            return Err(refuse(at, control(c)));
                        }
                        Some(_) => {}
                        None => {
                            return Err(refuse(offset, "this raw string has no end".to_owned()));
                        }
                    }
                }
            }
            '\n' | '\t' | ' ' => {}
            '\r' if rest.peek().is_some_and(|(_, c)| *c == '\n') => {}
            _ if character.is_control() => {
                return Err(refuse(offset, control(character)));
            }
            _ if is_word(character) => {
                let mut end = offset + character.len_utf8();
                while let Some((at, c)) = rest.next_if(|(_, c)| is_word(*c)) {
                    end = at + c.len_utf8();
                }
                shape.value(text.get(offset..end) == Some("in"));
            }
            _ => shape
                .symbol(offset, character, rest.peek().map(|(_, c)| *c))
                .map_err(|message| refuse(offset, message))?,
        }
        if shape.work > MAX_WORK {
            return Err(refuse(offset, "too much text within nested brackets".to_owned())
                .with_hint("move large tables into data.json or data.yaml"));
        }
        if shape.operators > MAX_OPERATORS {
            return Err(refuse(
                offset,
                format!("an expression of more than {MAX_OPERATORS} operators"),
            ));
        }
    }
    match shape.open.last() {
        None => Ok(()),
        Some(open) => Err(refuse(open.offset, format!("`{}` is never closed", open.bracket))),
    }
}

fn control(character: char) -> String {
    format!("a control character, U+{:04X}", u32::from(character))
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// An open bracket.
struct Open {
    bracket: char,
    offset: usize,
    /// The operators counted before it.
    operators: u32,
}

/// What matters of the text read so far.
#[derive(Default)]
struct Shape {
    open: Vec<Open>,
    /// The parser's work, estimated.
    work: u64,
    /// Operators in the current expression at this level.
    operators: u32,
    /// Whether the last token ends a value, so that another value begins another statement.
    after_value: bool,
    /// Prefix minuses in a row.
    minuses: u32,
}

impl Shape {
    fn token(&mut self) {
        let depth = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        self.work = self.work.saturating_add(3u64.saturating_pow(depth));
    }

    /// A name, number or string; `in` is an operator that looks like a name.
    fn value(&mut self, is_in: bool) {
        self.token();
        self.minuses = 0;
        if is_in {
            self.operators += 1;
        } else if self.after_value {
            self.operators = 0;
        }
        self.after_value = !is_in;
    }

    fn symbol(&mut self, offset: usize, character: char, next: Option<char>) -> Result<(), String> {
        self.token();
        self.minuses = if character == '-' { self.minuses + 1 } else { 0 };
        if self.minuses > MAX_MINUSES {
            return Err("too many `-` in a row".to_owned());
        }
        match character {
            '(' | '[' | '{' => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(format!("brackets nested deeper than {MAX_DEPTH}"));
                }
                self.open.push(Open {
                    bracket: character,
                    offset,
                    operators: self.operators,
                });
                self.operators = 0;
                self.after_value = false;
            }
            ')' | ']' | '}' => {
                let expected = match character {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                match self.open.pop() {
                    Some(open) if open.bracket == expected => self.operators = open.operators,
                    Some(open) => return Err(format!("`{character}` closes `{}`", open.bracket)),
                    None => return Err(format!("`{character}` closes nothing")),
                }
                self.after_value = true;
            }
            ',' | ';' => {
                self.operators = 0;
                self.after_value = false;
            }
            '.' => self.after_value = false,
            // `:` and `=` (of `:=`, `==`, `<=`) join; what they join may be as deep as a chain of `+`.
            _ => {
                if next != Some('=') {
                    self.operators += 1;
                }
                self.after_value = false;
            }
        }
        Ok(())
    }
}
