//! Refusals before anything is attested: anybody can cause them, so they are counted in memory and
//! recorded as one decision for each workload, class, reason and minute.
//!
//! Some reasons quote what a host sent, so that a host could make new ones without end: of each class a
//! minute has [`REASONS`], and one record «other reasons» for all that come after.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use openssl::sha::sha256;
use uuid::Uuid;

use super::meter::Reason;
use super::{Host, Refusal, Service};
use crate::domain::Time;
use crate::domain::decision::{Decision, Outcome, WorkloadRef};
use crate::domain::state::WorkloadContext;
use crate::policy::{Input, Phase};
use crate::store::{Store, StoreError};

/// Records kept at once; there are few reasons, and each workload is one that exists.
const RECORDS: usize = 65_536;
/// Reasons of one workload, phase, class and minute that have a record of their own.
const REASONS: usize = 16;
/// The reason of the record that stands for all further ones.
const OTHERS: &str = "other reasons";

/// Records of the present minute.
#[derive(Default)]
pub(super) struct Refusals {
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    groups: HashMap<Group, HashMap<Text, Record>>,
    kept: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Group {
    workload: Uuid,
    phase: Phase,
    class: Reason,
    minute: i64,
}

/// SHA-256 of a reason; none: of all that have no record of their own.
type Text = Option<[u8; 32]>;

struct Record {
    decision: Decision,
    /// The count that was written last; 0: none.
    written: u64,
    unwritten: bool,
}

/// One refusal, before it is counted.
pub(super) struct Refused<'a> {
    /// Id of the record, should this be the first of its reason and minute.
    pub(super) id: Uuid,
    pub(super) context: &'a WorkloadContext,
    pub(super) host: &'a Host,
    pub(super) phase: Phase,
    /// What is bounded together.
    pub(super) class: Reason,
    /// Why. What a host is given leads its owner to the record of this reason, and of no other.
    pub(super) reason: String,
    pub(super) input: Option<Input>,
    pub(super) policies: Vec<crate::domain::launch::BoundVerdict>,
}

impl Refusals {
    /// Counts a refusal; the id of the record that stands for it, which is written at once when it
    /// is the first of its minute.
    pub(super) fn note(&self, store: &dyn Store, refused: Refused<'_>, now: Time) -> Result<Uuid, Refusal> {
        let group = Group {
            workload: refused.context.registered.workload.uuid,
            phase: refused.phase,
            class: refused.class,
            minute: now.minute(),
        };
        let first = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            match records.count(group, refused, now) {
                Counted::Again(id) => return Ok(id),
                Counted::First(decision) => decision,
            }
        };
        store.record_refusals(std::slice::from_ref(first.as_ref()))?;
        Ok(first.id)
    }

    /// Writes counts that rose since they were last written, and forgets past minutes.
    ///
    /// Each count that is written is a record of the audit log, for ever, and hosts need no credential to be refused:
    /// within its minute a count is written again when it has doubled, and once when the minute is over, or the server
    /// ends (`now` is none). What can't be written stays, for the next time.
    pub(super) fn flush(&self, store: &dyn Store, now: Option<Time>) -> Result<(), StoreError> {
        let changed: Vec<Decision> = {
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let over = |group: &Group| now.is_none_or(|now| group.minute < now.minute());
            let due = |group: &Group, record: &Record| {
                record.unwritten && (over(group) || record.decision.count >= record.written.saturating_mul(2))
            };
            let all = records.groups.iter();
            let all = all.flat_map(|(group, reasons)| reasons.values().map(move |record| (group, record)));
            let due = all.filter(|(group, record)| due(group, record));
            due.map(|(_, record)| record.decision.clone()).collect()
        };
        if !changed.is_empty() {
            store.record_refusals(&changed)?;
        }
        let written: HashMap<Uuid, u64> = changed.iter().map(|record| (record.id, record.count)).collect();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.forget(&written);
        Ok(())
    }
}

impl Service {
    /// Counts a refusal; the id of the record that stands for it.
    pub(super) fn noted(&self, refused: Refused<'_>, now: Time) -> Result<Uuid, Refusal> {
        let (phase, class) = (refused.phase, refused.class);
        let id = self.refusals.note(self.store(), refused, now)?;
        self.meter.decided(phase, Outcome::Refused, class);
        Ok(id)
    }
}

enum Counted {
    First(Box<Decision>),
    Again(Uuid),
}

impl Records {
    fn count(&mut self, group: Group, refused: Refused<'_>, now: Time) -> Counted {
        let reasons = self.groups.entry(group).or_default();
        let mut reason = Some(sha256(refused.reason.as_bytes()));
        let own = reasons.keys().filter(|reason| reason.is_some()).count();
        if !reasons.contains_key(&reason) && own >= REASONS {
            reason = None;
        }
        if let Some(record) = reasons.get_mut(&reason) {
            record.decision.count += 1;
            record.unwritten = true;
            return Counted::Again(record.decision.id);
        }
        let decision = first(refused, reason.is_none(), now);
        if self.kept < RECORDS {
            self.kept += 1;
            let record = Record {
                decision: decision.clone(),
                written: 0,
                unwritten: true,
            };
            reasons.insert(reason, record);
        }
        Counted::First(Box::new(decision))
    }

    /// Forgets past minutes, but what has a higher count than was written.
    fn forget(&mut self, written: &HashMap<Uuid, u64>) {
        let latest = self
            .groups
            .keys()
            .map(|group| group.minute)
            .max()
            .unwrap_or(i64::MIN);
        self.groups.retain(|group, reasons| {
            reasons.retain(|_, record| {
                // One that rose again meanwhile has a higher count than was written.
                if written.get(&record.decision.id) == Some(&record.decision.count) {
                    record.unwritten = false;
                    record.written = record.decision.count;
                }
                record.unwritten || group.minute >= latest
            });
            !reasons.is_empty()
        });
        self.kept = self.groups.values().map(HashMap::len).sum();
    }
}

/// The record of the first refusal of its kind; one for `others` says nothing of this one in particular.
fn first(refused: Refused<'_>, others: bool, now: Time) -> Decision {
    let workload = &refused.context.registered.workload;
    let (reason, input, policies) = if others {
        (OTHERS.to_owned(), None, Vec::new())
    } else {
        (refused.reason, refused.input, refused.policies)
    };
    Decision {
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
        reason,
        count: 1,
        address: refused.host.address.to_string(),
        host_identity: refused.host.identity_for(&refused.context.owner),
        secrets: Vec::new(),
        released: Vec::new(),
        hold: None,
        danger_weak_policy: workload.danger_weak_policy,
        input,
        policies,
        counts: Vec::new(),
        connection: None,
    }
}
