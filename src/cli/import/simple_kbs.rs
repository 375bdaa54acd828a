//! `import simple-kbs`: secrets, key sets, policies, report keys and files of a simple-kbs database.
//!
//! What is written is a folder for `keyward apply`: manifests, a policy bundle, values in files. What could not be carried
//! over is said, and whatever is in doubt denies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use openssl::sha::sha256;
use serde_json::{Value, json};
use serde_yaml::Mapping;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::database::{SecretRow, SimpleKbs};
use super::files::{Folder, read_within};
use super::policies::{Policies, Written};
use super::{postgres, sqlite};
use crate::cli::{Ended, output};
use crate::domain::Name;
use crate::domain::object::SecretKind;
use crate::release::register::unfit;
use crate::sev::secret_table;

/// Secrets that one workload may have.
const MOST: usize = 64;

#[derive(Args)]
#[command(group(clap::ArgGroup::new("default").required(true)))]
pub(in crate::cli) struct Import {
    /// The database: a SQLite file, or the URL of a PostgreSQL database, as in
    /// postgres://kbs@host/simple_kbs?sslmode=verify-full
    #[arg(long, value_name = "FILE|URL")]
    db: String,
    /// The file that the PostgreSQL user's password is in
    #[arg(long, value_name = "FILE")]
    db_password_file: Option<PathBuf>,
    /// The authority that signed PostgreSQL's certificate, PEM, if it is none that this machine trusts
    #[arg(long, value_name = "FILE")]
    db_ca: Option<PathBuf>,
    /// Folder to make. It holds secrets in clear, for your eyes only; destroy it once it is applied
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// simple-kbs's default_policy.json, which held for every release
    #[arg(long, value_name = "FILE", group = "default")]
    default_policy: Option<PathBuf>,
    /// simple-kbs had none: what has no policy of its own is held to the workload's launch digests
    #[arg(long, group = "default")]
    no_default_policy: bool,
    /// Folder that the paths of resources are relative to
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// Name of the workload that the secrets are given to
    #[arg(long, value_name = "NAME", default_value = "simple-kbs")]
    workload: Name,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let kbs = self.database()?;
        let default = self.default_policy.as_deref().map(default_policy).transpose()?;
        let folder = Folder::new(&self.out)?;
        let taken = Taken::from(&kbs, default.as_ref(), self.resources.as_deref(), &self.workload);
        taken.write(&folder)?;
        taken.tell(&self.out, &self.workload)?;
        Ok(Ended::Done)
    }

    fn database(&self) -> anyhow::Result<SimpleKbs> {
        if postgres::is_url(&self.db) {
            let place = postgres::Place {
                url: &self.db,
                password: self.db_password_file.as_deref(),
                ca: self.db_ca.as_deref(),
            };
            return place.read();
        }
        // What else is a URL may have a password, and is not repeated.
        if self.db.contains("://") {
            bail!(
                "--db: expected a SQLite file or postgres://…; of MySQL make a SQLite file first, as with `mysql2sqlite` (PyPI's mysql-to-sqlite3)"
            );
        }
        if self.db_password_file.is_some() || self.db_ca.is_some() {
            let why = "--db-password-file and --db-ca are for postgres://… in --db";
            return Err(output::Misused(why.to_owned()).into());
        }
        let path = Path::new(&self.db);
        if !path.is_file() {
            bail!("there is no file {}", path.display());
        }
        sqlite::read(path).with_context(|| path.display().to_string())
    }
}

fn default_policy(path: &Path) -> anyhow::Result<Written> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// What is taken over.
struct Taken {
    manifests: Vec<Mapping>,
    policies: BTreeMap<String, String>,
    values: Vec<(String, Zeroizing<Vec<u8>>)>,
    counts: [(&'static str, usize); 4],
    notes: Vec<String>,
}

struct Taking<'a> {
    policies: Policies,
    resources: Option<&'a Path>,
    secrets: Vec<Name>,
    manifests: Vec<Mapping>,
    values: Vec<(String, Zeroizing<Vec<u8>>)>,
    notes: Vec<String>,
}

impl Taken {
    fn from(kbs: &SimpleKbs, default: Option<&Written>, resources: Option<&Path>, workload: &Name) -> Self {
        let mut taking = Taking {
            policies: Policies::of(&kbs.policies, default),
            resources,
            secrets: Vec::new(),
            manifests: Vec::new(),
            values: Vec::new(),
            notes: Vec::new(),
        };
        let policies = taking.policies.files.len();
        for row in &kbs.secrets {
            taking.take("secret", row, SecretKind::Opaque);
        }
        for row in &kbs.report_keys {
            taking.take("report key", row, SecretKind::ReportKey);
        }
        for row in &kbs.resources {
            let id = row.id.clone().unwrap_or_default();
            match taking.resource(&id, row.path.as_deref()) {
                Ok(value) => taking.put("resource", &id, SecretKind::Opaque, value, row.policy),
                Err(why) => taking
                    .notes
                    .push(format!("resource {id:?} is not carried over: {why}")),
            }
        }
        let secrets = taking.secrets.len();
        for row in &kbs.keysets {
            let id = row.id.clone().unwrap_or_default();
            if let Err(why) = taking.keyset(&id, row.keys.as_deref(), row.policy) {
                taking
                    .notes
                    .push(format!("key set {id:?} is not carried over: {why}"));
            }
        }
        let keysets = taking.manifests.len() - secrets;
        if kbs.connections > 0 {
            taking.notes.push(format!(
                "{} not carried over: guests that have one must be launched again",
                match kbs.connections {
                    1 => "one connection is".to_owned(),
                    n => format!("{n} connections are"),
                }
            ));
        }
        let workloads = taking.workloads(workload);
        let mut manifests = vec![manifest("PolicyBundle", vec![("path", json!("policy"))])];
        manifests.extend(taking.manifests);
        let counts = [
            ("policy", policies),
            ("secret", secrets),
            ("key set", keysets),
            ("workload", workloads.len()),
        ];
        manifests.extend(workloads);
        let (files, mut notes) = taking.policies.finished();
        notes.extend(taking.notes);
        if files.is_empty() {
            manifests.remove(0);
        }
        Self {
            manifests,
            policies: files,
            values: taking.values,
            counts,
            notes,
        }
    }

    fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        for (name, value) in &self.values {
            folder.write(name, value)?;
        }
        for (name, text) in &self.policies {
            folder.write(&format!("policy/{name}"), text.as_bytes())?;
        }
        let mut all = Vec::new();
        for manifest in &self.manifests {
            all.push(serde_yaml::to_string(manifest)?);
        }
        folder.write("manifests.yaml", all.join("---\n").as_bytes())
    }

    fn tell(&self, folder: &Path, workload: &Name) -> anyhow::Result<()> {
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(what, n)| match n {
                1 => format!("1 {what}"),
                n => format!("{n} {}", plural(what)),
            })
            .collect();
        output::line(&format!("{}: {}", folder.display(), counts.join(", ")))?;
        for note in &self.notes {
            output::line(&format!("- {note}"))?;
        }
        output::line(&format!(
            "Read manifests.yaml and policy/, then: keyward apply -f {}/manifests.yaml; serve {workload} under `simple_kbs` in keyward.yaml; and destroy the folder, which holds secrets in clear.",
            folder.display()
        ))
    }
}

impl Taking<'_> {
    fn take(&mut self, what: &str, row: &SecretRow, kind: SecretKind) {
        let id = row.id.clone().unwrap_or_default();
        let value = row
            .value
            .as_ref()
            .and_then(|text| STANDARD.decode(text.as_bytes()).ok());
        match value.map(Zeroizing::new) {
            Some(value) => self.put(what, &id, kind, value, row.policy),
            None => self.notes.push(format!(
                "{what} {id:?} is not carried over: its value is no base64"
            )),
        }
    }

    fn put(
        &mut self,
        what: &str,
        id: &str,
        kind: SecretKind,
        value: Zeroizing<Vec<u8>>,
        policy: Option<i64>,
    ) {
        let Ok(name) = id.parse::<Name>() else {
            self.notes.push(format!(
                "{what} {id:?} is not carried over: a name has letters, digits and . _ - / inside; clients must ask for another"
            ));
            return;
        };
        if let Some(why) = unfit(kind, guid(&name), &value) {
            self.notes
                .push(format!("{what} {id:?} is not carried over: {why}"));
            return;
        }
        if self.secrets.contains(&name) {
            self.notes.push(format!(
                "{what} {id:?} is not carried over: another secret has that id, and here both are secrets"
            ));
            return;
        }
        let mut policies = self.policies.bound(&format!("{what} {id:?}"), policy);
        policies.extend(self.policies.default.clone());
        if policies.is_empty() {
            self.notes.push(format!(
                "{what} {id:?} had no policy of its own, and there was no default policy: it is bound to keyward.workload, which holds it to the workload's launch digests"
            ));
            policies.push("keyward.workload".to_owned());
        }
        let file = format!("values/{:04}", self.values.len() + 1);
        let members = vec![
            ("name", json!(name)),
            ("type", json!(kind)),
            ("guid", json!(guid(&name))),
            ("value", json!({"file": file})),
            ("policies", json!(policies)),
        ];
        self.manifests.push(manifest("Secret", members));
        self.values.push((file, value));
        self.secrets.push(name);
    }

    fn resource(&self, id: &str, path: Option<&str>) -> Result<Zeroizing<Vec<u8>>, String> {
        let folder = self.resources.ok_or("say with --resources where its file is")?;
        let path = path.filter(|path| !path.is_empty()).unwrap_or(id);
        read_within(folder, path, secret_table::MAX)
    }

    fn keyset(&mut self, id: &str, keys: Option<&str>, policy: Option<i64>) -> Result<(), String> {
        let name: Name = id
            .parse()
            .map_err(|_| "a name has letters, digits and . _ - / inside")?;
        let keys: Vec<String> =
            serde_json::from_str(keys.unwrap_or("[]")).map_err(|e| format!("its keys are no list: {e}"))?;
        let mut secrets = Vec::new();
        for key in keys {
            match self.secrets.iter().find(|name| name.as_str() == key) {
                Some(name) if !secrets.contains(name) => secrets.push(name.clone()),
                Some(_) => {}
                None => return Err(format!("there is no secret {key:?}, which it needs")),
            }
        }
        if secrets.is_empty() {
            return Err("it has no keys".to_owned());
        }
        let policies = self.policies.bound(&format!("key set {id:?}"), policy);
        let mut members = vec![("name", json!(name)), ("secrets", json!(secrets))];
        if !policies.is_empty() {
            members.push(("policies", json!(policies)));
        }
        self.manifests.push(manifest("KeySet", members));
        Ok(())
    }

    /// One workload for each technology that the SEV policies ask for.
    fn workloads(&mut self, name: &Name) -> Vec<Mapping> {
        let digests = self.policies.digests.clone();
        let mut secrets = self.secrets.clone();
        if secrets.len() > MOST {
            for left in secrets.split_off(MOST) {
                self.notes.push(format!(
                    "secret {left} is registered but in no workload, which has at most {MOST}: give it one"
                ));
            }
        }
        let sev = self.policies.sev_policies.clone();
        for weak in sev.iter().filter(|policy| *policy & 3 != 3) {
            self.notes.push(format!(
                "SEV policy {weak:#06x} was accepted and is denied here: it lets the host read the guest (NODBG and NOKS must be set)"
            ));
        }
        let (es, plain): (Vec<u32>, Vec<u32>) = sev.iter().copied().partition(|policy| policy & 4 != 0);
        let kinds = match (es.is_empty(), plain.is_empty()) {
            (false, true) => vec![("amd-sev-es", es)],
            (false, false) => vec![("amd-sev", plain), ("amd-sev-es", es)],
            _ => vec![("amd-sev", plain)],
        };
        let several = kinds.len() > 1;
        let made = kinds.into_iter().map(|(scheme, policies)| {
            let name = if several && scheme == "amd-sev-es" {
                format!("{name}-es")
            } else {
                name.to_string()
            };
            let mut members = vec![("name", json!(name)), ("scheme", json!(scheme))];
            if let [one] = policies.as_slice() {
                members.push(("policy", json!(one)));
            }
            members.push(("launch_digests", json!(digests)));
            members.push(("secrets", json!(secrets)));
            manifest("Workload", members)
        });
        let made: Vec<_> = made.collect();
        if several {
            self.notes.push(format!(
                "guests with and without SEV-ES were accepted: there are two workloads, {name} and {name}-es, to be served both"
            ));
        }
        if digests.is_empty() {
            self.notes.push(
                "no policy names a launch digest: apply refuses the workload until its launch_digests or images say what may run"
                    .to_owned(),
            );
        }
        made
    }
}

/// A manifest whose members stand in this order.
fn manifest(kind: &str, members: Vec<(&str, Value)>) -> Mapping {
    let kind = [("kind", json!(kind))].into_iter();
    let members = kind.chain(members).map(|(name, value)| {
        // What is a JSON value is a YAML value.
        let value = serde_yaml::to_value(value).unwrap_or_default();
        (serde_yaml::Value::from(name), value)
    });
    members.collect()
}

fn plural(what: &str) -> String {
    match what.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{what}s"),
    }
}

/// A GUID that is always the same for this name; clients of simple-kbs name their own.
fn guid(name: &Name) -> Uuid {
    let digest = sha256(&[b"keyward/simple-kbs/", name.as_str().as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
