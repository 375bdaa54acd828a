//! `audit export --opa`: decisions as OPA's decision log events
//! (<https://www.openpolicyagent.org/docs/management-decision-logs>), for tools that read those.
//!
//! OPA's event is one policy's answer, a decision here has one of each policy that was asked: events of one decision
//! have its id in common. A request that was refused before any policy was asked is an event without a bundle.

use std::io::Write;
use std::str::FromStr;

use serde_json::{Value, json};

use super::source::Source;
use crate::domain::decision::Decision;

/// The path of a decision that no policy was asked for.
const NONE: &str = "keyward";
/// What of an event may be masked.
const MASKABLE: [&str; 3] = ["input", "result", "requested_by"];

/// A JSON pointer to what is left out of every event.
#[derive(Clone, Debug)]
pub(super) struct Mask {
    text: String,
    /// Of what holds it.
    parent: String,
    /// The member or the array's index, without escapes.
    last: String,
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a JSON pointer into `/input`, `/result` or `/requested_by`, such as /input/host/address";
        let first = text.strip_prefix('/').and_then(|rest| rest.split('/').next());
        let (parent, last) = text.rsplit_once('/').ok_or_else(expected)?;
        if !first.is_some_and(|first| MASKABLE.contains(&first)) {
            return Err(expected().to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            parent: parent.to_owned(),
            last: last.replace("~1", "/").replace("~0", "~"),
        })
    }
}

impl Mask {
    /// Takes it out of an event; whether it was there.
    fn erase(&self, event: &mut Value) -> bool {
        match event.pointer_mut(&self.parent) {
            Some(Value::Object(members)) => members.remove(&self.last).is_some(),
            Some(Value::Array(items)) => {
                let found = self.last.parse().ok().and_then(|at: usize| items.get_mut(at));
                found.map(Value::take).is_some()
            }
            _ => false,
        }
    }
}

/// Writes the events of every decision, newest first, one on each line; how many.
pub(super) fn write(source: &Source, masks: &[Mask], mut out: impl Write) -> anyhow::Result<u64> {
    let mut written = 0;
    source.decisions(&mut |decision| {
        for mut event in events(&decision)? {
            let erased = masks.iter().filter(|mask| mask.erase(&mut event));
            let erased: Vec<_> = erased.map(|mask| mask.text.as_str()).collect();
            if !erased.is_empty() {
                let erased = json!(erased);
                event
                    .as_object_mut()
                    .map(|members| members.insert("erased".to_owned(), erased));
            }
            writeln!(out, "{event}")?;
            written += 1;
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(written)
}

fn events(decision: &Decision) -> anyhow::Result<Vec<Value>> {
    let event = |path: &str, bundles: Value, result: Value| {
        json!({
            "labels": {
                "app": "keyward",
                "version": env!("CARGO_PKG_VERSION"),
                "owner": decision.owner,
                "workload": decision.workload.uuid,
                "outcome": decision.outcome,
            },
            "decision_id": decision.id,
            "bundles": bundles,
            "path": path,
            "input": decision.input,
            "result": result,
            "requested_by": decision.address,
            "timestamp": decision.time,
        })
    };
    if decision.policies.is_empty() {
        let result = json!({"allow": false, "reason": decision.reason, "count": decision.count});
        return Ok(vec![event(NONE, json!({}), result)]);
    }
    let answers = decision.policies.iter().map(|asked| {
        let bundles = match &asked.bundle {
            Some(digest) => json!({decision.owner.as_str(): {"revision": digest}}),
            None => json!({}),
        };
        let mut result = serde_json::to_value(&asked.verdict)?;
        if let Some(members) = result.as_object_mut() {
            members.remove("policy");
        }
        Ok(event(&asked.verdict.policy.replace('.', "/"), bundles, result))
    });
    answers.collect()
}
