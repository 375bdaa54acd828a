//! What is wrong and where: severity, file, line, column and the line itself.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

/// Longest source line that is kept for display, in characters.
const MAX_SHOWN_LINE: usize = 400;

/// How bad it is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The bundle is refused.
    #[default]
    Error,
    /// The bundle loads, and may not do what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`: a word of rustc's, GitHub's and SARIF's.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong with a bundle, and where.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it keeps the bundle from being loaded.
    #[serde(default)]
    pub severity: Severity,
    /// Path of the file inside the bundle; empty where the bundle as a whole is meant.
    pub file: String,
    /// Line, from 1; 0 where no line is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 where no column is meant.
    pub column: u32,
    /// What is wrong: what was expected and what came.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The source line, where there is one and it is short enough to show.
    pub source_line: Option<String>,
}

impl Diagnostic {
    /// A diagnostic on a whole file, or on the bundle if `file` is empty.
    pub fn on_file(file: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            message: message.into(),
            hint: None,
            source_line: None,
        }
    }

    /// A diagnostic at a byte offset of a text. Line and column are counted in the text itself, so they are
    /// the editor's, whatever a parser takes a tab for.
    pub fn at_offset(file: &str, text: &str, offset: usize, message: impl Into<String>) -> Diagnostic {
        let offset = floor_char_boundary(text, offset);
        let before = text.get(..offset).unwrap_or(text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or("").chars().count() + 1;
        Diagnostic::at_line(file, text, line, column, message)
    }

    /// A diagnostic at a line and column (both from 1) of a text.
    pub fn at_line(
        file: &str,
        text: &str,
        line: usize,
        column: usize,
        message: impl Into<String>,
    ) -> Diagnostic {
        let source_line = text
            .lines()
            .nth(line.saturating_sub(1))
            .filter(|shown| shown.chars().count() <= MAX_SHOWN_LINE)
            .map(str::to_owned);
        Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: message.into(),
            hint: None,
            source_line,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }

    /// All of it but the source line, in one line.
    pub fn in_one_line(&self) -> String {
        let place = match self.file.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.place()),
        };
        match &self.hint {
            Some(hint) => format!("{place}{} ({hint})", self.message),
            None => format!("{place}{}", self.message),
        }
    }

    /// `file:line:column`, as far as they are known.
    pub fn place(&self) -> String {
        match (self.file.is_empty(), self.line) {
            (true, _) => "bundle".to_owned(),
            (false, 0) => self.file.clone(),
            (false, line) => format!("{}:{line}:{}", self.file, self.column),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(source) = &self.source_line else {
            write!(
                formatter,
                "{}: {}\n --> {}",
                self.severity.as_str(),
                self.message,
                self.place()
            )?;
            return match &self.hint {
                Some(hint) => write!(formatter, "\n  = help: {hint}"),
                None => Ok(()),
            };
        };
        let at = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
        let start = source
            .char_indices()
            .nth(at)
            .map_or(source.len(), |(offset, _)| offset);
        // The whole name is marked where the place is a name's, else one character.
        let rest = source.get(start..).unwrap_or_default();
        let name = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(rest.len());
        let end = start + name.max(rest.chars().next().map_or(0, char::len_utf8));
        let snippet = Snippet::source(source.as_str())
            .line_start(usize::try_from(self.line).unwrap_or(1))
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(self.message.as_str()).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        formatter.write_str(&Renderer::plain().render(&[group]))
    }
}

impl std::error::Error for Diagnostic {}

/// The nearest of `known` to a misspelt name, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters; names are short, so one row is enough.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().take(256).enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        let mut next = vec![last];
        for (r, above) in right.iter().zip(row.iter().skip(1)) {
            let step = (diagonal + usize::from(l != *r)).min(above + 1).min(last + 1);
            diagonal = *above;
            last = step;
            next.push(step);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// The greatest character boundary that is not after `offset`.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while offset > 0 && !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
