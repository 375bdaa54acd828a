//! Objects as they are shown: each as a manifest that registers it again, without its value, and what else is known
//! of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::RegisterError;
use super::draft::Draft;
use crate::domain::object::{Action, Change};
use crate::domain::revision::SigningKey;
use crate::domain::state::{FirmwareInfo, KeySet, OwnerState, RegisteredWorkload, SecretInfo};
use crate::domain::trust::Trust;
use crate::domain::{HexDigest, Labels, Name, applied};
use crate::policy::Bundle;

/// What is known of an object and no part of its manifest.
const STATUS: [&str; 6] = ["version", "bytes", "updated", "registered", "by", "rollback_of"];

/// An object as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Its kind.
    pub kind: String,
    /// Its name; of a policy bundle the digest.
    pub name: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// A manifest that registers it as it is. What it can't say, such as a secret's value, it leaves out, and stays.
    pub manifest: Value,
    /// What else is known of it, such as a secret's version.
    pub status: Value,
}

impl Shown {
    fn new(kind: &str, name: &str, labels: &Labels, document: &impl Serialize) -> Self {
        let mut status = Map::new();
        let mut manifest = Map::new();
        if let Ok(Value::Object(members)) = serde_json::to_value(document) {
            for (member, value) in members {
                let part = if STATUS.contains(&member.as_str()) {
                    &mut status
                } else {
                    &mut manifest
                };
                part.insert(member, value);
            }
        }
        pin(&mut manifest);
        manifest.insert("kind".to_owned(), json!(kind));
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            labels: labels.clone(),
            manifest: Value::Object(manifest),
            status: Value::Object(status),
        }
    }

    fn bundle(digest: HexDigest, policies: &[String], revision: u64) -> Self {
        let document = json!({"digest": digest, "policies": policies});
        Self {
            status: json!({"revision": revision}),
            ..Self::new("PolicyBundle", &digest.to_string(), &Labels::default(), &document)
        }
    }

    fn signing_key(key: &SigningKey) -> Self {
        let mut shown = Self::new("SigningKey", key.name.as_str(), &key.labels, key);
        if let Some(text) = shown.manifest.get_mut("public_key") {
            *text = json!({"pem": text.take()});
        }
        shown
    }

    fn trust(owner: &Name, trust: &Trust) -> Self {
        Self::new("Trust", owner.as_str(), &Labels::default(), trust)
    }

    fn secret(secret: &SecretInfo) -> Self {
        Self::new("Secret", secret.name.as_str(), &secret.labels, secret)
    }

    fn keyset(set: &KeySet) -> Self {
        Self::new("KeySet", set.name.as_str(), &set.labels, set)
    }

    fn firmware(firmware: &FirmwareInfo) -> Self {
        Self::new("Firmware", firmware.name.as_str(), &firmware.labels, firmware)
    }

    fn workload(registered: &RegisteredWorkload) -> Self {
        let workload = &registered.workload;
        Self {
            status: json!({"launch_digests": registered.candidates.len()}),
            ..Self::new("Workload", workload.name.as_str(), &workload.labels, workload)
        }
    }

    /// All that an owner has registered: what others refer to first.
    #[must_use]
    pub fn all(state: &OwnerState) -> Vec<Self> {
        let bundle = state
            .bundle
            .map(|digest| Self::bundle(digest, &state.policies, state.revision));
        let keys = state.signing_keys.iter().map(Self::signing_key);
        let trust = (!state.trust.is_silent()).then(|| Self::trust(&state.owner, &state.trust));
        let mut all: Vec<_> = keys.chain(bundle).chain(trust).collect();
        all.extend(state.secrets.iter().map(Self::secret));
        all.extend(state.keysets.iter().map(Self::keyset));
        all.extend(state.firmware.iter().map(Self::firmware));
        all.extend(state.workloads.iter().map(Self::workload));
        all
    }

    /// As it is compared: of a secret's value its version and length, which change when it does.
    fn compared(self) -> Value {
        let Value::Object(mut members) = self.manifest else {
            return Value::Null;
        };
        if self.kind == "Secret" {
            let said = |member| self.status.get(member).and_then(Value::as_u64).unwrap_or(0);
            let value = format!("version {}, {} bytes", said("version"), said("bytes"));
            members.insert("value".to_owned(), json!(value));
        }
        Value::Object(members)
    }
}

/// Writes the versions that are held fast where a manifest has them: as `name@version` in `secrets`.
fn pin(manifest: &mut Map<String, Value>) {
    let Some(Value::Object(pins)) = manifest.remove("pins") else {
        return;
    };
    let Some(Value::Array(secrets)) = manifest.get_mut("secrets") else {
        return;
    };
    for secret in secrets {
        if let Some(name) = secret.as_str()
            && let Some(version) = pins.get(name)
        {
            *secret = json!(format!("{name}@{version}"));
        }
    }
}

impl Draft<'_> {
    /// Says of each object that would change how it is and how it would be.
    pub(super) fn explain(&self, changes: &mut [Change]) -> Result<(), RegisterError> {
        for change in changes
            .iter_mut()
            .filter(|change| change.action != Action::Unchanged)
        {
            let (before, after) = if change.kind == "PolicyBundle" {
                self.bundles()?
            } else {
                (self.was(change), self.is(change))
            };
            change.members = match (&before, &after) {
                (Some(before), Some(after)) => applied::differing(before, after),
                _ => Vec::new(),
            };
            (change.before, change.after) = (before, after);
        }
        Ok(())
    }

    fn was(&self, change: &Change) -> Option<Value> {
        let mut all = Shown::all(&self.before).into_iter();
        let found = all.find(|shown| shown.kind == change.kind && shown.name == change.name);
        found.map(Shown::compared)
    }

    fn is(&self, change: &Change) -> Option<Value> {
        let name: Name = change.name.parse().ok()?;
        let shown = match change.kind.as_str() {
            "Secret" => Shown::secret(self.secrets.get(&name)?),
            "KeySet" => Shown::keyset(self.keysets.get(&name)?),
            "Firmware" => Shown::firmware(self.firmware.get(&name)?),
            "Workload" => Shown::workload(self.workloads.get(&name)?),
            "SigningKey" => Shown::signing_key(self.signing_keys.get(&name)?),
            "Trust" => Shown::trust(&name, &self.trust.as_ref()?.0),
            _ => return None,
        };
        Some(shown.compared())
    }

    /// The bundle with the text of its files, where they differ.
    fn bundles(&self) -> Result<(Option<Value>, Option<Value>), RegisterError> {
        let differ = self.before.bundle != self.bundle;
        let with_files = |digest: Option<HexDigest>, policies: &[String], archive: Option<Vec<u8>>| {
            let mut shown = Shown::bundle(digest?, policies, 0).compared();
            if let (true, Some(archive)) = (differ, archive) {
                let bundle = Bundle::from_archive(&archive).ok()?;
                let files = bundle.files();
                let files: BTreeMap<_, _> = files
                    .map(|(path, text)| (path.to_owned(), String::from_utf8_lossy(text).into_owned()))
                    .collect();
                shown.as_object_mut()?.insert("files".to_owned(), json!(files));
            }
            Some(shown)
        };
        let old = match self.before.bundle {
            Some(digest) if differ => self.service.store().bundle(&self.before.owner, digest)?,
            _ => None,
        };
        let new = self.activated.as_ref().map(|activated| activated.archive.clone());
        Ok((
            with_files(self.before.bundle, &self.before.policies, old),
            with_files(self.bundle, &self.policies, new),
        ))
    }
}
