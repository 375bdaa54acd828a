//! From a document to the object that it says: files are read in, a kernel and an initrd only as their SHA-256.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;

use super::places::Said;
use super::read::{Document, KINDS, Result};
use super::repository::repository;
use super::{
    FirmwareManifest, ImageManifest, KeySetManifest, OwnerManifest, PolicyBundleManifest, PublicKeyManifest,
    SecretManifest, SigningKeyManifest, TokenManifest, TrustManifest, ValueManifest, WorkloadManifest,
};
use crate::domain::bytes::Flex;
use crate::domain::object::{
    FirmwareObject, ImageObject, KeySetObject, Object, PolicyBundleObject, SecretBytes, SecretObject,
    SecretValue, SigningKeyObject, WorkloadObject,
};
use crate::domain::trust::Trust;
use crate::domain::{Base64Bytes, FlexDigest};

impl Document {
    /// What the document says, and the folder of a policy bundle.
    pub(super) fn said(
        &self,
        kind: &str,
        source: serde_yaml::Deserializer<'_>,
    ) -> Result<(Said, Option<PathBuf>)> {
        let object = match kind {
            "PolicyBundle" => {
                let manifest: PolicyBundleManifest = self.parse(source)?;
                let folder = manifest.path.as_ref().map(|path| self.beside(path));
                return Ok((Said::Object(self.bundle(manifest)?), folder));
            }
            "Owner" => {
                let mut owner: OwnerManifest = self.parse(source)?;
                owner.token_file = owner.token_file.map(|file| self.beside(&file));
                return Ok((Said::Owner(owner), None));
            }
            "Token" => {
                let mut token: TokenManifest = self.parse(source)?;
                token.token_file = token.token_file.map(|file| self.beside(&file));
                return Ok((Said::Token(token), None));
            }
            "Secret" => self.secret(self.parse(source)?)?,
            "KeySet" => {
                let KeySetManifest {
                    name,
                    secrets,
                    policies,
                    labels,
                    ..
                } = self.parse(source)?;
                Object::KeySet(KeySetObject {
                    name,
                    secrets,
                    policies,
                    labels,
                })
            }
            "Firmware" => {
                let FirmwareManifest {
                    name,
                    file,
                    sha256,
                    labels,
                    ..
                } = self.parse(source)?;
                if file.is_none() && sha256.is_none() {
                    return Err(self.wrong("", "missing member `file`".to_owned()));
                }
                let content = file.map(|file| self.file(&file)).transpose()?;
                Object::Firmware(FirmwareObject {
                    name,
                    content: content.map(Base64Bytes),
                    sha256,
                    labels,
                })
            }
            "Workload" => self.workload(self.parse(source)?)?,
            "SigningKey" => self.signing_key(self.parse(source)?)?,
            "Trust" => {
                let TrustManifest {
                    platforms,
                    enrolled,
                    refused,
                    ..
                } = self.parse(source)?;
                Object::Trust(Trust {
                    platforms,
                    enrolled,
                    refused,
                })
            }
            other => return Err(self.wrong(other, format!("`{other}` is no kind; {KINDS}"))),
        };
        Ok((Said::Object(object), None))
    }

    fn bundle(&self, manifest: PolicyBundleManifest) -> Result<Object> {
        let (digest, policies) = (manifest.digest, manifest.policies);
        let files = match (&manifest.path, digest) {
            (Some(path), None) => self.repository(path)?,
            (None, Some(_)) => BTreeMap::new(),
            (None, None) => return Err(self.wrong("", "missing member `path`".to_owned())),
            (Some(_), Some(_)) => {
                let why = "has both `path` and `digest`; leave one out".to_owned();
                return Err(self.wrong("digest:", why));
            }
        };
        Ok(Object::PolicyBundle(PolicyBundleObject {
            files,
            digest,
            policies,
        }))
    }

    fn repository(&self, path: &Path) -> Result<BTreeMap<String, Base64Bytes>> {
        let root = self.beside(path);
        let named = path.display().to_string();
        let packed = root.is_file() && root.extension().is_some_and(|ending| ending == "gz");
        if !root.is_dir() && !packed {
            return Err(self.wrong(&named, format!("{} is not a folder", root.display())));
        }
        let files: BTreeMap<_, _> = repository(&root)?
            .into_iter()
            .map(|(path, content)| (path, Base64Bytes(content)))
            .collect();
        if !files.keys().any(|name| name.ends_with(".rego")) {
            return Err(self.wrong(&named, format!("{} holds no .rego file", root.display())));
        }
        Ok(files)
    }

    fn secret(&self, manifest: SecretManifest) -> Result<Object> {
        let value = manifest.value.map(|value| self.value(value)).transpose()?;
        Ok(Object::Secret(SecretObject {
            name: manifest.name,
            kind: manifest.secret_type,
            guid: manifest.guid,
            value,
            policies: manifest.policies,
            labels: manifest.labels,
        }))
    }

    fn value(&self, manifest: ValueManifest) -> Result<SecretValue> {
        let ValueManifest {
            file,
            env,
            base64,
            generate,
        } = manifest;
        Ok(match (file, env, base64, generate) {
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
        })
    }

    fn signing_key(&self, manifest: SigningKeyManifest) -> Result<Object> {
        let public_key = match manifest.public_key {
            PublicKeyManifest {
                file: Some(file),
                pem: None,
            } => {
                let named = file.display().to_string();
                let not_text = |_| self.wrong(&named, format!("{named} is not PEM"));
                String::from_utf8(self.file(&file)?).map_err(not_text)?
            }
            PublicKeyManifest {
                file: None,
                pem: Some(pem),
            } => pem,
            _ => {
                let why = "`public_key` has exactly one of `file` and `pem`";
                return Err(self.wrong("public_key:", why.to_owned()));
            }
        };
        Ok(Object::SigningKey(SigningKeyObject {
            name: manifest.name,
            public_key,
            algorithm: manifest.algorithm,
            scope: manifest.scope,
            labels: manifest.labels,
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
            oca: manifest.oca,
            max_releases: manifest.max_releases,
            require_host_identity: manifest.require_host_identity,
            hosts: manifest.hosts,
            secrets: manifest.secrets,
            policies: manifest.policies,
            labels: manifest.labels,
        })))
    }

    fn image(&self, image: ImageManifest) -> Result<ImageObject> {
        Ok(ImageObject {
            kernel_hash: self.hash("kernel", image.kernel, image.kernel_hash)?,
            initrd_hash: self.hash("initrd", image.initrd, image.initrd_hash)?,
            name: image.name,
            firmware: image.firmware,
            firmware_hash: image.firmware_hash,
            cmdline: image.cmdline,
            cmdline_hash: image.cmdline_hash,
            vcpus: image.vcpus,
            vcpu_type: image.vcpu_type,
        })
    }

    /// The SHA-256 of a file, or the one that is named instead.
    fn hash(
        &self,
        member: &str,
        file: Option<PathBuf>,
        hash: Option<FlexDigest>,
    ) -> Result<Option<FlexDigest>> {
        match (file, hash) {
            (Some(_), Some(_)) => {
                let why = format!("an image has both `{member}` and `{member}_hash`; leave one out");
                Err(self.wrong(&format!("{member}_hash:"), why))
            }
            (Some(file), None) => Ok(Some(Flex(sha256(&self.file(&file)?)))),
            (None, named) => Ok(named),
        }
    }
}
