//! From a manifest's text to objects; every complaint has its place in the text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::places::{Manifests, Text};
use crate::domain::Name;
use crate::policy::Diagnostic;

pub(super) const KINDS: &str =
    "known are PolicyBundle, Secret, KeySet, Firmware, Workload, SigningKey, Trust, Owner and Token";

/// A manifest that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file or a folder can't be read.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder has no manifest in it.
    #[error("{0} holds no file that ends in .yaml or .yml")]
    Empty(PathBuf),
    /// Something in the text is wrong.
    #[error(transparent)]
    Text(Box<Diagnostic>),
}

pub(super) type Result<T, E = ManifestError> = std::result::Result<T, E>;

/// What a manifest calls an object.
pub struct Named {
    /// The object's kind.
    pub kind: String,
    /// Its name; a policy bundle and a trust have none.
    pub name: Option<Name>,
}

/// Reads a manifest, or every `.yaml` and `.yml` in a folder, in the order of their names.
///
/// # Errors
/// What can't be read or is not understood, with file, line and column.
pub fn read(path: &Path) -> Result<Manifests> {
    let mut all = Manifests::default();
    for file in files(path)? {
        let text: Arc<str> = fs::read_to_string(&file).map_err(unreadable(&file))?.into();
        // Two passes over the documents: which kind each is, then each as what it is. A tagged enum would
        // lose the place of an error.
        let kinds = values(&file, &text)?.into_iter();
        let sources = serde_yaml::Deserializer::from_str(&text);
        for (source, (document, value)) in sources.zip(kinds) {
            if value.is_null() {
                continue;
            }
            let (said, folder) = document.said(&document.kind(&value)?, source)?;
            all.push(said, document.text, folder);
        }
    }
    Ok(all)
}

/// Reads of a manifest, or of every one in a folder, only what it names, and where.
///
/// # Errors
/// As [`read`], but for what is not looked at.
pub fn named(path: &Path) -> Result<(Vec<Named>, Manifests)> {
    let (mut all, mut places) = (Vec::new(), Manifests::default());
    for file in files(path)? {
        let text: Arc<str> = fs::read_to_string(&file).map_err(unreadable(&file))?.into();
        for (document, value) in values(&file, &text)? {
            if value.is_null() {
                continue;
            }
            let kind = document.kind(&value)?;
            let name = value.get("name").and_then(serde_yaml::Value::as_str);
            let name = name.map(str::parse).transpose();
            let name = name.map_err(|error: crate::domain::NameError| {
                document.wrong("name:", format!("name: {error}"))
            })?;
            if name.is_none() && kind != "PolicyBundle" && kind != "Trust" {
                return Err(document.wrong("", "missing member `name`".to_owned()));
            }
            let label = name
                .as_ref()
                .map_or(kind.clone(), |name| format!("{kind} {name}"));
            places.note(label, document.text);
            all.push(Named { kind, name });
        }
    }
    Ok((all, places))
}

/// The manifests that a path names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable(path))? {
        let file = entry.map_err(unreadable(path))?.path();
        let yaml = file
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ManifestError::Empty(path.to_owned()));
    }
    Ok(files)
}

/// A file's documents.
fn values(path: &Path, text: &Arc<str>) -> Result<Vec<(Document, serde_yaml::Value)>> {
    let starts = starts(text);
    let mut values = Vec::new();
    for (number, source) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let document = Document {
            text: Text {
                path: path.to_owned(),
                text: text.clone(),
                number,
                first: starts.get(number).copied().unwrap_or(1),
                last: starts.get(number + 1).map_or(usize::MAX, |next| next - 1),
            },
        };
        let value = serde_yaml::Value::deserialize(source).map_err(|e| document.misread(None, &e))?;
        values.push((document, value));
    }
    Ok(values)
}

/// The line, from 1, on which each document begins.
fn starts(text: &str) -> Vec<usize> {
    let mut starts = vec![1];
    let mut content = false;
    for (line, number) in text.lines().zip(1..) {
        if line == "---" || line.starts_with("--- ") {
            // A marker before any content opens the first document, and does not end one.
            if content {
                starts.push(number);
            } else {
                starts = vec![number];
            }
            content = true;
        } else if !line.trim().is_empty() && !line.starts_with(['#', '%']) {
            content = true;
        }
    }
    starts
}

/// One document of a manifest.
pub(super) struct Document {
    text: Text,
}

impl Document {
    /// What the document says it is.
    fn kind(&self, value: &serde_yaml::Value) -> Result<String> {
        match value.get("kind").and_then(serde_yaml::Value::as_str) {
            Some(kind) => Ok(kind.to_owned()),
            None => Err(self.wrong("", format!("a document has no `kind`; {KINDS}"))),
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, source: serde_yaml::Deserializer<'_>) -> Result<T> {
        serde_path_to_error::deserialize(source).map_err(|error| {
            let mut keys = error.path().iter().filter_map(|step| match step {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            });
            let key = keys.next_back();
            self.misread(key.as_deref(), &error.into_inner())
        })
    }

    /// A path as the manifest means it.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.text.path.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn file(&self, file: &Path) -> Result<Vec<u8>> {
        fs::read(self.beside(file)).map_err(|error| {
            let named = file.display().to_string();
            self.wrong(&named, format!("{}: {error}", self.beside(file).display()))
        })
    }

    /// What is wrong with something the document says, at the first place that says it.
    pub(super) fn wrong(&self, said: &str, message: String) -> ManifestError {
        ManifestError::Text(Box::new(self.text.saying(said, message)))
    }

    /// serde's complaint, about what is said under `key` where that is known.
    fn misread(&self, key: Option<&str>, error: &serde_yaml::Error) -> ManifestError {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        let message = without_value(message)
            .replace("unknown field", "unknown member")
            .replace("missing field", "missing member")
            .replace(
                "struct ValueManifest",
                "one of `file`, `env`, `base64` and `generate`, such as `generate: 32`",
            )
            .replace("struct ImageManifest", "an image's members")
            .replace(
                "struct PublicKeyManifest",
                "`file` or `pem`, such as `file: key.pem`",
            )
            .replace("expected u32", "expected a whole number")
            .replace("expected a sequence", "expected a list");
        // Of what a type of ours refuses, the library knows no better place than the document's first line.
        let at = error
            .location()
            .filter(|at| (at.line(), at.column()) != (self.text.begin(), 1));
        match (at, key) {
            (Some(at), _) => {
                ManifestError::Text(Box::new(self.text.diagnostic(at.line(), at.column(), message)))
            }
            (None, Some(key)) if message.starts_with(key) => self.wrong(&format!("{key}:"), message),
            (None, Some(key)) => self.wrong(&format!("{key}:"), format!("{key}: {message}")),
            (None, None) => self.wrong("", message),
        }
    }
}

/// serde's message without the value that it quotes, which may be a secret.
fn without_value(message: &str) -> String {
    let quoted = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|words| message.find(words));
    match (quoted, message.rfind(", expected ")) {
        (Some(from), Some(to)) if from < to => {
            let kept = (message.get(..from), message.get(to + 2..));
            format!("{}{}", kept.0.unwrap_or_default(), kept.1.unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ManifestError + use<> {
    let path = path.to_owned();
    move |source| ManifestError::Unreadable { path, source }
}
