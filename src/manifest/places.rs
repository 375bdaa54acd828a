//! Where in manifests an object is written, so that what a server finds wrong with it can be shown there.

use std::path::PathBuf;
use std::sync::Arc;

use super::{OwnerManifest, TokenManifest, find, words};
use crate::domain::object::Object;
use crate::policy::Diagnostic;

/// Kinds whose documents hold no secret.
const HARMLESS: [&str; 8] = [
    "PolicyBundle",
    "KeySet",
    "Firmware",
    "Workload",
    "SigningKey",
    "Trust",
    "Owner",
    "Token",
];
/// What a document that may hold one has in it, whatever its letters' case. A backslash could spell any.
const TELLING: [&str; 5] = ["value", "base64", "opaque", "passphrase", "\\"];

/// What manifests say, and where.
#[derive(Default)]
pub struct Manifests {
    /// The objects, in the order in which they are written.
    pub objects: Vec<Object>,
    /// Owners, which administrators make.
    pub owners: Vec<OwnerManifest>,
    /// Tokens.
    pub tokens: Vec<TokenManifest>,
    places: Vec<Written>,
}

/// One object's document.
struct Written {
    /// Kind and name, as the server calls it.
    label: String,
    is_object: bool,
    text: Text,
    /// The folder of a policy bundle.
    folder: Option<PathBuf>,
}

impl Manifests {
    pub(super) fn push(&mut self, said: Said, text: Text, folder: Option<PathBuf>) {
        let (label, is_object) = match &said {
            Said::Object(object) => (object.label(), true),
            Said::Owner(owner) => (owner.label(), false),
            Said::Token(token) => (token.label(), false),
        };
        self.places.push(Written {
            label,
            is_object,
            text,
            folder,
        });
        match said {
            Said::Object(object) => self.objects.push(object),
            Said::Owner(owner) => self.owners.push(owner),
            Said::Token(token) => self.tokens.push(token),
        }
    }

    /// Notes where an object is named that is not read.
    pub(super) fn note(&mut self, label: String, text: Text) {
        self.places.push(Written {
            label,
            is_object: false,
            text,
            folder: None,
        });
    }

    /// Adds what other manifests say.
    pub fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.owners.extend(other.owners);
        self.tokens.extend(other.tokens);
        self.places.extend(other.places);
    }

    /// A complaint about an object (`Workload web`, or `objects[2]`), shown where it is written: at one of its
    /// members, where one is to blame (`images[0].vcpus`). Complaints about a file of a policy bundle keep their place in it, below the bundle's folder.
    ///
    /// Nothing, if no manifest says such an object.
    #[must_use]
    pub fn shown(&self, object: &str, member: Option<&str>, complaint: &Diagnostic) -> Option<Diagnostic> {
        let written = self.written(object)?;
        let object = &written.label;
        if !complaint.file.is_empty() {
            let folder = written.folder.as_ref()?;
            return Some(Diagnostic {
                file: folder.join(&complaint.file).display().to_string(),
                ..complaint.clone()
            });
        }
        let message = format!("{object}: {}", complaint.message);
        let text = &written.text;
        let place = member.and_then(|member| find::place(&text.text, text.number, member));
        let (line, column) = place.unwrap_or((text.begin(), 1));
        Some(Diagnostic {
            hint: complaint.hint.clone(),
            ..text.diagnostic(line, column, message)
        })
    }

    fn written(&self, object: &str) -> Option<&Written> {
        let number = object
            .strip_prefix("objects[")
            .and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        match number {
            Some(number) => self.places.iter().filter(|written| written.is_object).nth(number),
            None => self.places.iter().find(|written| written.label == object),
        }
    }
}

/// What one document says.
pub(super) enum Said {
    Object(Object),
    Owner(OwnerManifest),
    Token(TokenManifest),
}

/// One document's lines.
pub(super) struct Text {
    pub(super) path: PathBuf,
    /// The whole file.
    pub(super) text: Arc<str>,
    /// Which of the file's documents it is, from 0.
    pub(super) number: usize,
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
