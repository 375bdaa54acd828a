//! simple-kbs's policies: one Rego module for all of them would hide which is meant, so each is a package with its lists
//! in the bundle's data.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::database::PolicyRow;

/// The package of what was deleted, or no longer counted: it denies.
pub(super) const WITHDRAWN: &str = "simple_kbs.withdrawn";

/// What was made of the policies.
#[derive(Default)]
pub(super) struct Policies {
    /// Package of each number; none: it is not there, or did not count.
    names: BTreeMap<i64, String>,
    /// The policy that held for every release.
    pub(super) default: Option<String>,
    /// Launch digests that any of them accepts, hex.
    pub(super) digests: Vec<String>,
    /// SEV policies that any of them accepts.
    pub(super) sev_policies: Vec<u32>,
    /// Path in the bundle to text.
    pub(super) files: BTreeMap<String, String>,
    /// What a person must know.
    pub(super) notes: Vec<String>,
    data: serde_json::Map<String, Value>,
    withdrawn: bool,
}

/// A policy as `default_policy.json` has it; the database holds the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    allowed_digests: Vec<String>,
    allowed_policies: Vec<u32>,
    min_fw_api_major: u32,
    min_fw_api_minor: u32,
    allowed_build_ids: Vec<u32>,
}

impl Policies {
    /// Takes over all that count.
    pub(super) fn of(rows: &[PolicyRow], default: Option<&Written>) -> Self {
        let mut all = Self::default();
        for row in rows {
            match read(row) {
                Ok(Some(written)) => {
                    let name = format!("policy_{}", row.id);
                    let package = all.put(&name, &format!("policy {}", row.id), &written);
                    all.names.insert(row.id, package);
                }
                Ok(None) => all.notes.push(format!(
                    "policy {} is marked as not valid: what was bound to it is bound to {WITHDRAWN}, which denies",
                    row.id
                )),
                Err(why) => all.notes.push(format!(
                    "policy {} can't be read ({why}): what was bound to it is bound to {WITHDRAWN}, which denies",
                    row.id
                )),
            }
        }
        if let Some(written) = default {
            all.default = Some(all.put("default_policy", "the default policy", written));
        }
        all
    }

    /// The policies that a thing is bound to. simple-kbs took a policy that was not there for none at all; here it denies.
    pub(super) fn bound(&mut self, what: &str, number: Option<i64>) -> Vec<String> {
        match number {
            None => Vec::new(),
            Some(number) => match self.names.get(&number) {
                Some(package) => vec![package.clone()],
                None => {
                    self.withdrawn = true;
                    self.notes.push(format!(
                        "{what} was bound to policy {number}, which does not count any more: simple-kbs released it as if there were none; it is bound to {WITHDRAWN}"
                    ));
                    vec![WITHDRAWN.to_owned()]
                }
            },
        }
    }

    /// The files, with the data of all policies.
    pub(super) fn finished(mut self) -> (BTreeMap<String, String>, Vec<String>) {
        if self.withdrawn {
            let text = "# What was bound to a policy that simple-kbs no longer had.\npackage simple_kbs.withdrawn\n\ndefault allow := false\n\ndeny contains \"its policy was deleted in simple-kbs, or did not count any more: bind another\"\n";
            self.files
                .insert("simple_kbs/withdrawn.rego".to_owned(), text.to_owned());
        }
        if !self.data.is_empty() {
            let data = format!("{:#}\n", Value::Object(self.data));
            self.files.insert("simple_kbs_lists/data.json".to_owned(), data);
        }
        (self.files, self.notes)
    }

    fn put(&mut self, name: &str, called: &str, written: &Written) -> String {
        let mut digests = Vec::new();
        for text in &written.allowed_digests {
            let bytes = STANDARD.decode(text).ok();
            match bytes.filter(|bytes| bytes.len() == 32) {
                Some(bytes) => digests.push(hex::encode(bytes)),
                None => self.notes.push(format!(
                    "{called} lists {text:?}, which is no launch digest in base64: left out"
                )),
            }
        }
        // A list of nothing but junk must not become the list that allows everything.
        let any_digest = written.allowed_digests.is_empty();
        let mut conditions = String::new();
        let list = format!("data.simple_kbs_lists.{name}");
        if any_digest {
            self.notes.push(format!(
                "{called} names no launch digests, which simple-kbs took for «any»: name those that may run in the workload's launch_digests"
            ));
        } else {
            let _ = writeln!(
                conditions,
                "\tinput.attested.launch_digest in {list}.allowed_digests"
            );
        }
        if !written.allowed_policies.is_empty() {
            let _ = writeln!(conditions, "\tinput.attested.policy in {list}.allowed_policies");
        }
        if !written.allowed_build_ids.is_empty() {
            let _ = writeln!(
                conditions,
                "\tinput.attested.build_id in {list}.allowed_build_ids"
            );
        }
        let package = format!("simple_kbs.{name}");
        let text = format!(
            "# {called} of simple-kbs. Its lists are in simple_kbs_lists/data.json.\npackage {package}\n\ndefault allow := false\n\nallow if {{\n{conditions}\trecent_firmware\n}}\n\nrecent_firmware if input.attested.api_major > {list}.min_fw_api_major\n\nrecent_firmware if {{\n\tinput.attested.api_major == {list}.min_fw_api_major\n\tinput.attested.api_minor >= {list}.min_fw_api_minor\n}}\n"
        );
        self.files.insert(format!("simple_kbs/{name}.rego"), text);
        let lists = json!({
            "allowed_digests": digests,
            "allowed_policies": written.allowed_policies,
            "min_fw_api_major": written.min_fw_api_major,
            "min_fw_api_minor": written.min_fw_api_minor,
            "allowed_build_ids": written.allowed_build_ids,
        });
        self.data.insert(name.to_owned(), lists);
        for digest in digests {
            if !self.digests.contains(&digest) {
                self.digests.push(digest);
            }
        }
        for policy in &written.allowed_policies {
            if !self.sev_policies.contains(policy) {
                self.sev_policies.push(*policy);
            }
        }
        package
    }
}

fn read(row: &PolicyRow) -> Result<Option<Written>, String> {
    if !row.valid {
        return Ok(None);
    }
    fn list<T: serde::de::DeserializeOwned>(name: &str, text: Option<&String>) -> Result<Vec<T>, String> {
        let text = text.ok_or_else(|| format!("{name} is null"))?;
        serde_json::from_str(text).map_err(|e| format!("{name}: {e}"))
    }
    let number = |name: &str, number: Option<i64>| {
        let number = number.ok_or_else(|| format!("{name} is null"))?;
        u32::try_from(number).map_err(|e| format!("{name}: {e}"))
    };
    Ok(Some(Written {
        allowed_digests: list("allowed_digests", row.allowed_digests.as_ref())?,
        allowed_policies: list("allowed_policies", row.allowed_policies.as_ref())?,
        min_fw_api_major: number("min_fw_api_major", row.min_fw_api_major)?,
        min_fw_api_minor: number("min_fw_api_minor", row.min_fw_api_minor)?,
        allowed_build_ids: list("allowed_build_ids", row.allowed_build_ids.as_ref())?,
    }))
}
