//! From a manifest's text to objects; every complaint has its place in the text.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::sha::sha256;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::places::{Manifests, Text};
use super::repository::repository;
use super::{
    FirmwareManifest, ImageManifest, KeySetManifest, PolicyBundleManifest, SecretManifest, ValueManifest,
    WorkloadManifest,
};
use crate::domain::Base64Bytes;
use crate::domain::bytes::Flex;
use crate::domain::object::{
    FirmwareObject, ImageObject, KeySetObject, Object, PolicyBundleObject, SecretBytes, SecretObject,
    SecretValue, WorkloadObject,
};
use crate::policy::Diagnostic;

const KINDS: &str = "known are PolicyBundle, Secret, KeySet, Firmware and Workload";

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

/// Reads a manifest, or every `.yaml` and `.yml` in a folder, in the order of their names.
///
/// # Errors
/// What can't be read or is not understood, with file, line and column.
pub fn read(path: &Path) -> Result<Manifests> {
    let mut files = Vec::new();
    if path.is_dir() {
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
    } else {
        files.push(path.to_owned());
    }
    let mut all = Manifests::default();
    for file in files {
        read_file(&file, &mut all)?;
    }
    Ok(all)
}

fn read_file(path: &Path, all: &mut Manifests) -> Result<()> {
    let text: Arc<str> = fs::read_to_string(path).map_err(unreadable(path))?.into();
    let starts = starts(&text);
    let document = |number: usize| Document {
        text: Text {
            path: path.to_owned(),
            text: text.clone(),
            first: starts.get(number).copied().unwrap_or(1),
            last: starts.get(number + 1).map_or(usize::MAX, |next| next - 1),
        },
    };
    // Two passes over the documents: which kind each is, then each as what it is. A tagged enum would
    // lose the place of an error.
    let mut kinds = Vec::new();
    for (number, source) in serde_yaml::Deserializer::from_str(&text).enumerate() {
        kinds.push(document(number).kind(source)?);
    }
    for (number, (source, kind)) in serde_yaml::Deserializer::from_str(&text).zip(kinds).enumerate() {
        let Some(kind) = kind else { continue };
        let document = document(number);
        let (object, folder) = document.object(&kind, source)?;
        all.push(object, document.text, folder);
    }
    Ok(())
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
struct Document {
    text: Text,
}

impl Document {
    /// What the document says it is; none if it is empty.
    fn kind(&self, source: serde_yaml::Deserializer<'_>) -> Result<Option<String>> {
        let value = serde_yaml::Value::deserialize(source).map_err(|e| self.misread(None, &e))?;
        if value.is_null() {
            return Ok(None);
        }
        match value.get("kind").and_then(serde_yaml::Value::as_str) {
            Some(kind) => Ok(Some(kind.to_owned())),
            None => Err(self.wrong("", format!("a document has no `kind`; {KINDS}"))),
        }
    }

    /// The object that the document says, and the folder of a policy bundle.
    fn object(&self, kind: &str, source: serde_yaml::Deserializer<'_>) -> Result<(Object, Option<PathBuf>)> {
        let object = match kind {
            "PolicyBundle" => {
                let manifest: PolicyBundleManifest = self.parse(source)?;
                let folder = self.beside(&manifest.path);
                return Ok((self.bundle(manifest)?, Some(folder)));
            }
            "Secret" => self.secret(self.parse(source)?)?,
            "KeySet" => {
                let KeySetManifest {
                    name,
                    secrets,
                    policies,
                    ..
                } = self.parse(source)?;
                Object::KeySet(KeySetObject {
                    name,
                    secrets,
                    policies,
                })
            }
            "Firmware" => {
                let FirmwareManifest { name, file, .. } = self.parse(source)?;
                Object::Firmware(FirmwareObject {
                    name,
                    content: Base64Bytes(self.file(&file)?),
                })
            }
            "Workload" => self.workload(self.parse(source)?)?,
            other => return Err(self.wrong(other, format!("`{other}` is no kind; {KINDS}"))),
        };
        Ok((object, None))
    }

    fn parse<T: DeserializeOwned>(&self, source: serde_yaml::Deserializer<'_>) -> Result<T> {
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
    fn beside(&self, path: &Path) -> PathBuf {
        self.text.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn file(&self, file: &Path) -> Result<Vec<u8>> {
        fs::read(self.beside(file)).map_err(|error| {
            let named = file.display().to_string();
            self.wrong(&named, format!("{}: {error}", self.beside(file).display()))
        })
    }

    fn bundle(&self, manifest: PolicyBundleManifest) -> Result<Object> {
        let root = self.beside(&manifest.path);
        let packed = root.is_file() && root.extension().is_some_and(|ending| ending == "gz");
        if !root.is_dir() && !packed {
            let named = manifest.path.display().to_string();
            return Err(self.wrong(&named, format!("{} is not a folder", root.display())));
        }
        let files: BTreeMap<_, _> = repository(&root)?
            .into_iter()
            .map(|(path, content)| (path, Base64Bytes(content)))
            .collect();
        if !files.keys().any(|name| name.ends_with(".rego")) {
            let named = manifest.path.display().to_string();
            return Err(self.wrong(&named, format!("{} holds no .rego file", root.display())));
        }
        Ok(Object::PolicyBundle(PolicyBundleObject {
            files,
            policies: manifest.policies,
        }))
    }

    fn secret(&self, manifest: SecretManifest) -> Result<Object> {
        let ValueManifest {
            file,
            env,
            base64,
            generate,
        } = manifest.value;
        let value = match (file, env, base64, generate) {
            (Some(file), None, None, None) => SecretValue::Base64(SecretBytes(self.file(&file)?)),
            (None, Some(name), None, None) => {
                let text = std::env::var(&name).map_err(|_| {
                    self.wrong(
                        &name,
                        format!("environment variable {name} is not set, or not UTF-8"),
                    )
                })?;
                SecretValue::Base64(SecretBytes(text.into_bytes()))
            }
            (None, None, Some(bytes), None) => SecretValue::Base64(bytes),
            (None, None, None, Some(length)) => SecretValue::Generate(length),
            _ => {
                let why = "`value` has exactly one of `file`, `env`, `base64` and `generate`";
                return Err(self.wrong("value:", why.to_owned()));
            }
        };
        Ok(Object::Secret(SecretObject {
            name: manifest.name,
            kind: manifest.secret_type,
            guid: manifest.guid,
            value,
            policies: manifest.policies,
        }))
    }

    fn workload(&self, manifest: WorkloadManifest) -> Result<Object> {
        let images = manifest
            .images
            .into_iter()
            .map(|image| self.image(image))
            .collect::<Result<_>>()?;
        let cloud_cert = manifest
            .cloud_cert
            .map(|file| self.file(&file).map(Base64Bytes))
            .transpose()?;
        Ok(Object::Workload(Box::new(WorkloadObject {
            name: manifest.name,
            uuid: manifest.uuid,
            scheme: manifest.scheme,
            policy: manifest.policy,
            vcpus: manifest.vcpus,
            products: manifest.products,
            danger_weak_policy: manifest.danger_weak_policy,
            launch_digests: manifest.launch_digests,
            images,
            cloud_cert,
            max_releases: manifest.max_releases,
            require_host_identity: manifest.require_host_identity,
            hosts: manifest.hosts,
            secrets: manifest.secrets,
            policies: manifest.policies,
        })))
    }

    fn image(&self, image: ImageManifest) -> Result<ImageObject> {
        let hash = |file: Option<PathBuf>| -> Result<_> {
            file.map(|file| self.file(&file).map(|bytes| Flex(sha256(&bytes))))
                .transpose()
        };
        Ok(ImageObject {
            name: image.name,
            firmware: image.firmware,
            kernel_hash: hash(image.kernel)?,
            initrd_hash: hash(image.initrd)?,
            cmdline: image.cmdline,
            vcpus: image.vcpus,
            vcpu_type: image.vcpu_type,
        })
    }

    /// What is wrong with something the document says, at the first place that says it.
    fn wrong(&self, said: &str, message: String) -> ManifestError {
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
