//! Where in manifests an object is written, so that what a server finds wrong with it can be shown there.

use std::path::PathBuf;
use std::sync::Arc;

use super::words;
use crate::domain::object::Object;
use crate::policy::Diagnostic;

/// Kinds whose documents hold no secret.
const HARMLESS: [&str; 4] = ["PolicyBundle", "KeySet", "Firmware", "Workload"];
/// What a document that may hold one has in it, whatever its letters' case. A backslash could spell any.
const TELLING: [&str; 5] = ["value", "base64", "opaque", "passphrase", "\\"];

/// What manifests say, and where.
#[derive(Default)]
pub struct Manifests {
    /// The objects, in the order in which they are written.
    pub objects: Vec<Object>,
    places: Vec<Written>,
}

/// One object's document.
struct Written {
    /// Kind and name, as the server calls it.
    label: String,
    text: Text,
    /// The folder of a policy bundle.
    folder: Option<PathBuf>,
}

impl Manifests {
    pub(super) fn push(&mut self, object: Object, text: Text, folder: Option<PathBuf>) {
        self.places.push(Written {
            label: object.label(),
            text,
            folder,
        });
        self.objects.push(object);
    }

    /// Adds what other manifests say.
    pub fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.places.extend(other.places);
    }

    /// A complaint about an object (`Workload web`), shown where it is written: at a word that one of its members
    /// says, where one is to blame (`policies`, `release.web`). Complaints about a file of a policy bundle keep their place in it, below the bundle's folder.
    ///
    /// Nothing, if no manifest says such an object.
    #[must_use]
    pub fn shown(
        &self,
        object: &str,
        said: Option<(&str, &str)>,
        complaint: &Diagnostic,
    ) -> Option<Diagnostic> {
        let written = self.places.iter().find(|written| written.label == object)?;
        if !complaint.file.is_empty() {
            let folder = written.folder.as_ref()?;
            return Some(Diagnostic {
                file: folder.join(&complaint.file).display().to_string(),
                ..complaint.clone()
            });
        }
        let message = format!("{object}: {}", complaint.message);
        let text = &written.text;
        let place = said.and_then(|(member, word)| words::place(text.lines(), member, word));
        let (line, column) = place.unwrap_or((text.begin(), 1));
        Some(Diagnostic {
            hint: complaint.hint.clone(),
            ..text.diagnostic(line, column, message)
        })
    }
}

/// One document's lines.
pub(super) struct Text {
    pub(super) path: PathBuf,
    /// The whole file.
    pub(super) text: Arc<str>,
    /// First and last line of the document, from 1.
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Text {
    /// A complaint about something the document says, at the first place that says it.
    pub(super) fn saying(&self, said: &str, message: String) -> Diagnostic {
        let found = self.lines().find_map(|(line, number)| {
            let at = line.find(said).filter(|_| !line.trim_start().starts_with('#'))?;
            Some((number, line.get(..at)?.chars().count() + 1))
        });
        let (line, column) = match found {
            Some(place) if !said.is_empty() => place,
            _ => (self.begin(), 1),
        };
        self.diagnostic(line, column, message)
    }

    /// The document's lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (&str, usize)> {
        let lines = self.text.lines().zip(1..).skip(self.first - 1);
        lines.take_while(|(_, number)| *number <= self.last)
    }

    /// The first line that says something.
    pub(super) fn begin(&self) -> usize {
        let says = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']) && line != "---";
        self.lines()
            .find(|(line, _)| says(line))
            .map_or(self.first, |(_, number)| number)
    }

    /// The line itself is shown, except where it may hold a secret: only of a document that says in so many
    /// words that it is of another kind, and nowhere speaks of a secret's value. An escape could spell either.
    pub(super) fn diagnostic(&self, line: usize, column: usize, message: String) -> Diagnostic {
        let file = self.path.display().to_string();
        let mut found = Diagnostic::at_line(&file, &self.text, line, column, message);
        let harmless = self
            .lines()
            .any(|(line, _)| HARMLESS.iter().any(|kind| words::has(line, kind)));
        let tells = |line: &str| {
            let lower = line.to_lowercase();
            line.contains("Secret") || TELLING.iter().any(|word| lower.contains(word))
        };
        // `kind: …` alone on its line says nothing else, whatever it is misspelt.
        let kind_alone = found
            .source_line
            .as_deref()
            .is_some_and(|line| line.strip_prefix("kind: ").is_some_and(words::is_one));
        if !kind_alone && (!harmless || self.lines().any(|(line, _)| tells(line))) {
            found.source_line = None;
        }
        found
    }
}
