//! Manifests: YAML documents that say what an owner wants registered, with files named by path.
//!
//! Read here, on the owner's machine: paths are relative to the manifest, files are read in (a
//! kernel and an initrd only as their SHA-256), and what travels to the server is [`Object`]s.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use openssl::sha::sha256;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::bytes::Flex;
use crate::domain::object::{
    FirmwareObject, ImageObject, KeySetObject, Object, PolicyBundleObject, SecretBytes, SecretKind,
    SecretObject, SecretValue, WorkloadObject,
};
use crate::domain::{Base64Bytes, HexDigest, Name};
use crate::policy::Diagnostic;
use crate::sev::authority::Product;
use crate::sev::policy::Scheme;

/// Folders below a policy bundle that no policy is in.
const SKIPPED: [&str; 2] = ["node_modules", "target"];

/// One document of a manifest.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Manifest {
    /// A policy repository.
    PolicyBundle(PolicyBundleManifest),
    /// A secret.
    Secret(SecretManifest),
    /// A group of secrets.
    KeySet(KeySetManifest),
    /// A firmware file.
    Firmware(FirmwareManifest),
    /// What may be launched.
    Workload(WorkloadManifest),
}

/// `kind: PolicyBundle`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundleManifest {
    /// Always `PolicyBundle`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Folder of the repository.
    path: PathBuf,
    /// Policies that every release of the owner must satisfy. Left out: those bound now stay bound.
    #[serde(default)]
    policies: Option<Vec<String>>,
}

/// `kind: Secret`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretManifest {
    /// Always `Secret`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// What it is.
    #[serde(rename = "type")]
    secret_type: SecretKind,
    /// GUID of its entry in the secret table; `opaque` needs one.
    #[serde(default)]
    guid: Option<Uuid>,
    /// Where its value comes from.
    value: ValueManifest,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
}

/// Where a secret's value comes from: exactly one of these.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueManifest {
    /// A file, taken byte for byte.
    #[serde(default)]
    file: Option<PathBuf>,
    /// An environment variable.
    #[serde(default)]
    env: Option<String>,
    /// The bytes themselves. Whoever reads the manifest reads the secret.
    #[serde(default)]
    base64: Option<SecretBytes>,
    /// So many random bytes, drawn by the server when the secret is first registered.
    #[serde(default)]
    generate: Option<u16>,
}

/// `kind: KeySet`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySetManifest {
    /// Always `KeySet`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// The secrets in it.
    secrets: Vec<Name>,
    /// Policies bound to each of them.
    #[serde(default)]
    policies: Vec<String>,
}

/// `kind: Firmware`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareManifest {
    /// Always `Firmware`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// The file.
    file: PathBuf,
}

/// `kind: Workload`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadManifest {
    /// Always `Workload`.
    #[serde(default, rename = "kind", skip_serializing)]
    #[schemars(skip)]
    _kind: String,
    /// Its name.
    name: Name,
    /// Its UUID, the token for libvirt; the server draws one where it is left out.
    #[serde(default)]
    uuid: Option<Uuid>,
    /// The technology.
    scheme: Scheme,
    /// The SEV policy that every launch must have.
    #[serde(default)]
    policy: Option<u32>,
    /// The number of virtual CPUs it is held to.
    #[serde(default)]
    vcpus: Option<u32>,
    /// Processor generations it may run on; Naples only where it is named.
    #[serde(default)]
    products: Vec<Product>,
    /// Lets SEV policies without NODBG and NOKS pass.
    #[serde(default)]
    danger_weak_policy: bool,
    /// Launch digests that are accepted as they stand.
    #[serde(default)]
    launch_digests: Vec<HexDigest>,
    /// Images from which launch digests are computed.
    #[serde(default)]
    images: Vec<ImageManifest>,
    /// File of the only owner certificate authority (OCA) it may run under.
    #[serde(default)]
    cloud_cert: Option<PathBuf>,
    /// How often each secret may be released to it before an owner must confirm.
    #[serde(default)]
    max_releases: Option<u64>,
    /// Its secrets, in order.
    secrets: Vec<Name>,
    /// Policies bound to it.
    #[serde(default)]
    policies: Vec<String>,
}

/// An image of a workload.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Its name.
    name: Name,
    /// Name of a registered firmware.
    firmware: Name,
    /// File of the kernel.
    #[serde(default)]
    kernel: Option<PathBuf>,
    /// File of the initial RAM disk.
    #[serde(default)]
    initrd: Option<PathBuf>,
    /// The kernel's command line, as QEMU's `-append` gets it.
    #[serde(default)]
    cmdline: Option<String>,
    /// Numbers of virtual CPUs (SEV-ES).
    #[serde(default)]
    vcpus: Vec<u32>,
    /// QEMU's name of the CPU model (SEV-ES); without one, every model that is known.
    #[serde(default)]
    vcpu_type: Option<String>,
}

/// Reads a manifest, or every `.yaml` and `.yml` in a folder, in the order of their names.
///
/// # Errors
/// What can't be read or is not understood, with file, line and column.
pub fn read(path: &Path) -> anyhow::Result<Vec<Object>> {
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        for entry in entries {
            let file = entry?.path();
            let yaml = file
                .extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml");
            if yaml && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            bail!("{} holds no .yaml file", path.display());
        }
    } else {
        files.push(path.to_owned());
    }
    let mut objects = Vec::new();
    for file in files {
        objects.extend(read_file(&file)?);
    }
    Ok(objects)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Object>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut objects = Vec::new();
    // Two passes over the documents: which kind each is, then each as what it is. A tagged enum would
    // lose the place of an error.
    let kinds: Vec<Option<String>> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| {
            let value = serde_yaml::Value::deserialize(document).map_err(|e| diagnostic(path, &text, &e))?;
            if value.is_null() {
                return Ok(None);
            }
            match value.get("kind").and_then(serde_yaml::Value::as_str) {
                Some(kind) => Ok(Some(kind.to_owned())),
                None => bail!("{}: a document has no `kind`; {KINDS}", path.display()),
            }
        })
        .collect::<anyhow::Result<_>>()?;
    for (document, kind) in serde_yaml::Deserializer::from_str(&text).zip(kinds) {
        let Some(kind) = kind else { continue };
        let parsed = Parsed {
            path,
            text: &text,
            folder,
        };
        objects.push(match kind.as_str() {
            "PolicyBundle" => parsed.bundle(parsed.read(document)?)?,
            "Secret" => parsed.secret(parsed.read(document)?)?,
            "KeySet" => {
                let KeySetManifest {
                    name,
                    secrets,
                    policies,
                    ..
                } = parsed.read(document)?;
                Object::KeySet(KeySetObject {
                    name,
                    secrets,
                    policies,
                })
            }
            "Firmware" => {
                let FirmwareManifest { name, file, .. } = parsed.read(document)?;
                Object::Firmware(FirmwareObject {
                    name,
                    content: Base64Bytes(parsed.file(&file)?),
                })
            }
            "Workload" => parsed.workload(parsed.read(document)?)?,
            other => bail!("{}: unknown `kind: {other}`; {KINDS}", path.display()),
        });
    }
    Ok(objects)
}

const KINDS: &str = "known are PolicyBundle, Secret, KeySet, Firmware and Workload";

struct Parsed<'a> {
    path: &'a Path,
    text: &'a str,
    folder: &'a Path,
}

impl Parsed<'_> {
    fn read<T: DeserializeOwned>(&self, document: serde_yaml::Deserializer<'_>) -> anyhow::Result<T> {
        T::deserialize(document).map_err(|e| diagnostic(self.path, self.text, &e))
    }

    fn file(&self, file: &Path) -> anyhow::Result<Vec<u8>> {
        let file = self.folder.join(file);
        fs::read(&file).with_context(|| format!("{}: {}", self.path.display(), file.display()))
    }

    fn bundle(&self, manifest: PolicyBundleManifest) -> anyhow::Result<Object> {
        let root = self.folder.join(&manifest.path);
        if !root.is_dir() {
            bail!("{}: {} is not a folder", self.path.display(), root.display());
        }
        let mut files = BTreeMap::new();
        collect(&root, &root, &mut files)?;
        Ok(Object::PolicyBundle(PolicyBundleObject {
            files,
            policies: manifest.policies,
        }))
    }

    fn secret(&self, manifest: SecretManifest) -> anyhow::Result<Object> {
        let ValueManifest {
            file,
            env,
            base64,
            generate,
        } = manifest.value;
        let value = match (file, env, base64, generate) {
            (Some(file), None, None, None) => SecretValue::Base64(SecretBytes(self.file(&file)?)),
            (None, Some(name), None, None) => {
                let text = std::env::var(&name).with_context(|| {
                    format!(
                        "{}: secret {}: environment variable {name}",
                        self.path.display(),
                        manifest.name
                    )
                })?;
                SecretValue::Base64(SecretBytes(text.into_bytes()))
            }
            (None, None, Some(bytes), None) => SecretValue::Base64(bytes),
            (None, None, None, Some(length)) => SecretValue::Generate(length),
            _ => bail!(
                "{}: secret {}: `value` has exactly one of `file`, `env`, `base64` and `generate`",
                self.path.display(),
                manifest.name
            ),
        };
        Ok(Object::Secret(SecretObject {
            name: manifest.name,
            kind: manifest.secret_type,
            guid: manifest.guid,
            value,
            policies: manifest.policies,
        }))
    }

    fn workload(&self, manifest: WorkloadManifest) -> anyhow::Result<Object> {
        let images = manifest
            .images
            .into_iter()
            .map(|image| self.image(image))
            .collect::<Result<_, _>>()?;
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
            secrets: manifest.secrets,
            policies: manifest.policies,
        })))
    }

    fn image(&self, image: ImageManifest) -> anyhow::Result<ImageObject> {
        let hash = |file: Option<PathBuf>| -> anyhow::Result<_> {
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
}

/// The files of a policy repository that a bundle is made of. Hidden files but `.manifest` are not.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Base64Bytes>) -> anyhow::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .collect::<Result<_, _>>()
        .with_context(|| folder.display().to_string())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, files)?;
            }
            continue;
        }
        let rego = path.extension().is_some_and(|ending| ending == "rego") && !name.starts_with('.');
        if rego || ["data.json", "data.yaml", "data.yml", ".manifest"].contains(&name.as_str()) {
            let inside = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.insert(
                inside,
                Base64Bytes(fs::read(&path).with_context(|| path.display().to_string())?),
            );
        }
    }
    Ok(())
}

fn diagnostic(path: &Path, text: &str, error: &serde_yaml::Error) -> anyhow::Error {
    let file = path.display().to_string();
    let message = error.to_string();
    match error.location() {
        Some(location) => {
            let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
            anyhow::Error::msg(
                Diagnostic::at_line(&file, text, location.line(), location.column(), message).to_string(),
            )
        }
        None => anyhow::anyhow!("{file}: {message}"),
    }
}
