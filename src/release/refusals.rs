//! Refusals before anything is attested: anybody can cause them, so they are counted in memory and
//! recorded as one decision for each workload, class of reason and minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::{Host, Refusal};
use crate::domain::Time;
use crate::domain::decision::{Decision, Outcome, WorkloadRef};
use crate::domain::state::WorkloadContext;
use crate::policy::{Input, Phase};
use crate::store::{Store, StoreError};

/// Records kept at once; there are few reasons, and each workload is one that exists.
const RECORDS: usize = 65_536;

/// Records of the present minute.
#[derive(Default)]
pub(super) struct Refusals {
    records: Mutex<HashMap<Key, Record>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    workload: Uuid,
    phase: Phase,
    class: &'static str,
    minute: i64,
}

struct Record {
    decision: Decision,
    unwritten: bool,
}

/// One refusal, before it is counted.
pub(super) struct Refused<'a> {
    /// Id of the record, should this be the first of its class and minute.
    pub(super) id: Uuid,
    pub(super) context: &'a WorkloadContext,
    pub(super) host: &'a Host,
    pub(super) phase: Phase,
    /// What is counted together: one of few, never anything that a host sent.
    pub(super) class: &'static str,
    /// Why, for the first of its class and minute.
    pub(super) reason: String,
    pub(super) input: Option<Input>,
    pub(super) policies: Vec<crate::domain::launch::BoundVerdict>,
}

impl Refusals {
    /// Counts a refusal; the id of the record that stands for it, which is written at once when it
    /// is the first of its minute.
    pub(super) fn note(&self, store: &dyn Store, refused: Refused<'_>, now: Time) -> Result<Uuid, Refusal> {
        let workload = &refused.context.registered.workload;
        let key = Key {
            workload: workload.uuid,
            phase: refused.phase,
            class: refused.class,
            minute: now.minute(),
        };
        let first = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(record) = records.get_mut(&key) {
                record.decision.count += 1;
                record.unwritten = true;
                return Ok(record.decision.id);
            }
            let decision = Decision {
                id: refused.id,
                time: now,
                owner: refused.context.owner.clone(),
                workload: WorkloadRef {
                    uuid: workload.uuid,
                    name: workload.name.clone(),
                },
                launch: None,
                phase: refused.phase,
                outcome: Outcome::Refused,
                reason: refused.reason,
                count: 1,
                address: refused.host.address.to_string(),
                secrets: Vec::new(),
                released: Vec::new(),
                hold: None,
                danger_weak_policy: workload.danger_weak_policy,
                input: refused.input,
                policies: refused.policies,
            };
            if records.len() < RECORDS {
                records.insert(
                    key,
                    Record {
                        decision: decision.clone(),
                        unwritten: true,
                    },
                );
            }
            decision
        };
        store.record_refusals(std::slice::from_ref(&first))?;
        Ok(first.id)
    }

    /// Writes counts that rose since they were last written, and forgets past minutes.
    ///
    /// What can't be written stays, for the next time.
    pub(super) fn flush(&self, store: &dyn Store) -> Result<(), StoreError> {
        let changed: Vec<Decision> = {
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let unwritten = records.values().filter(|record| record.unwritten);
            unwritten.map(|record| record.decision.clone()).collect()
        };
        if !changed.is_empty() {
            store.record_refusals(&changed)?;
        }
        let written: HashMap<Uuid, u64> = changed.iter().map(|record| (record.id, record.count)).collect();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = records.keys().map(|key| key.minute).max().unwrap_or(i64::MIN);
        records.retain(|key, record| {
            // One that rose again meanwhile has a higher count than was written.
            if written.get(&record.decision.id) == Some(&record.decision.count) {
                record.unwritten = false;
            }
            record.unwritten || key.minute >= latest
        });
        Ok(())
    }
}
