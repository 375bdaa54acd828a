//! A bundle's `.manifest`, as OPA defines it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diagnostic::Diagnostic;

/// What a bundle says about itself. Members that OPA knows and the server has no use for are kept out of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The owner's name for this revision, such as a commit.
    #[serde(default)]
    pub revision: String,
    /// Paths under `data`, written with `/`, that the bundle's content stays within. Absent means everywhere.
    #[serde(default)]
    pub roots: Option<Vec<String>>,
    /// The version of Rego: 1, if given.
    #[serde(default)]
    pub rego_version: Option<u8>,
    /// Anything the owner wants to keep with it.
    #[serde(default)]
    pub metadata: Option<Value>,
}

impl Manifest {
    /// Reads a manifest.
    pub(super) fn parse(path: &str, text: &str) -> Result<Manifest, Diagnostic> {
        let manifest: Manifest = serde_json::from_str(text).map_err(|error| {
            Diagnostic::at_line(
                path,
                text,
                error.line(),
                error.column(),
                format!("not a manifest: {error}"),
            )
        })?;
        let at_member = |member: &str, message: String| {
            let offset = text.find(&format!("\"{member}\"")).unwrap_or(0);
            Diagnostic::at_offset(path, text, offset, message)
        };
        if let Some(version) = manifest.rego_version.filter(|version| *version != 1) {
            return Err(at_member(
                "rego_version",
                format!("rego_version is {version}; only 1 is accepted"),
            )
            .with_hint("`opa fmt --rego-v1` rewrites older policies"));
        }
        if let Some(roots) = &manifest.roots
            && roots.is_empty()
        {
            return Err(at_member(
                "roots",
                "roots is empty, so that nothing could be in the bundle".to_owned(),
            ));
        }
        Ok(manifest)
    }

    /// Whether a path under `data` lies within the roots.
    pub(crate) fn contains(&self, place: &[String]) -> bool {
        let Some(roots) = &self.roots else { return true };
        roots.iter().any(|root| {
            let mut parts = root.split('/').filter(|part| !part.is_empty());
            let mut place = place.iter();
            parts.all(|part| place.next().is_some_and(|name| name == part))
        })
    }

    /// Refuses data outside the roots.
    pub(super) fn check_place(&self, file: &str, place: &[String], value: &Value) -> Option<Diagnostic> {
        if self.contains(place) {
            return None;
        }
        // A file above a root is fine as long as each of its members leads into one.
        if let Value::Object(members) = value {
            let mut place = place.to_vec();
            for (name, member) in members {
                place.push(name.clone());
                if let Some(diagnostic) = self.check_place(file, &place, member) {
                    return Some(diagnostic);
                }
                place.pop();
            }
            return None;
        }
        Some(
            Diagnostic::on_file(
                file,
                format!("data.{} is outside the manifest's roots", place.join(".")),
            )
            .with_hint("list its path in `roots` of .manifest"),
        )
    }
}
